//! Memberships in groups, revocations and tickets in Redis. Who reads the log of revocations lives in `control`.

mod scripts;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker_core::{Member, Registry, Revocation, Revoked, Subject, Tenant, Topic, Unavailable, unix_ms};
use broker_resp::{Command, Value};
use bytes::Bytes;

use crate::{
    failure::Failure,
    keys::{Group, Keys},
    script::{Call, Script},
    servers::{Lane, Servers},
};

/// Most revocations that are kept at a time. A further one is refused: what was promised is never forgotten before its time.
const REVOCATIONS_MAX: u32 = 1_000_000;
/// Most groups of a user.
const GROUPS_MAX: u32 = 10_000;

/// What the server has said of users and tokens, for all nodes.
pub struct RedisRegistry {
    servers: Servers,
    keys: Keys,
    /// The names of all revocations: one call looks at those of a user, a token and groups.
    revocations: Group,
    timeout: Duration,
}

/// How far the log of revocations was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    life: Arc<str>,
    number: u64,
}

/// A part of the log of revocations.
pub(crate) struct Page {
    pub(crate) seen: Seen,
    pub(crate) revocations: Vec<Revocation>,
    pub(crate) is_last: bool,
}

impl RedisRegistry {
    /// A registry in these servers; a call takes at most so long.
    pub(crate) fn new(servers: Servers, keys: Keys, timeout: Duration) -> Self {
        let revocations = keys.group("the revocations");
        Self { servers, keys, revocations, timeout }
    }

    /// Revocations after those that were seen.
    pub(crate) async fn revocations_since(&self, seen: &Seen, limit: usize) -> Result<Page, Failure> {
        let keys = ["log", "meta"].map(|suffix| self.revocations.key(suffix));
        let call = scripts::SINCE.call(keys).arg(seen.number).arg(&*seen.life).arg(limit).arg(candidate());
        let answer = self.servers.eval(Lane::Read, &self.revocations, &scripts::SINCE, &call, self.timeout).await?;
        let unexpected = Failure::Unexpected("no log of revocations");
        let Some([life, number, last, entries]) = answer.values() else { return Err(unexpected) };
        let (Some(life), Some(number), Some(last), Some(entries)) = (life.text(), number.integer(), last.integer(), entries.values())
        else {
            return Err(unexpected);
        };
        let read = |entry: &Value| {
            let read = entry.bytes().and_then(|bytes| rmp_serde::from_slice::<Revocation>(bytes).ok());
            if read.is_none() {
                tracing::error!("a revocation was written in a way that this node does not understand, it is not done here");
            }
            read
        };
        let revocations = entries.iter().filter_map(read).collect();
        Ok(Page { seen: Seen { life: life.into(), number: number as u64 }, revocations, is_last: number >= last })
    }

    /// Runs a script that bears being run again.
    async fn eval(&self, lane: Lane, group: &Group, script: &Script, call: Call) -> Result<Value, Failure> {
        self.servers.eval_until(lane, group, script, |_| call.clone(), self.timeout).await
    }

    fn member(&self, member: &Member) -> Group {
        // Neither part holds a space, so no two members share a name.
        let tenant = member.tenant.as_ref().map_or("", Tenant::as_str);
        self.keys.group(&format!("member {tenant} {}", Topic::encode_level(member.user.as_str())))
    }

    fn ticket(&self, ticket: &str) -> Group {
        // Whoever can list names cannot use the tickets.
        self.keys.group(&format!("ticket {}", sha1_smol::Sha1::from(ticket).digest()))
    }

    fn revocation(&self, tenant: Option<&Tenant>, whose: &Revoked) -> String {
        let tenant = tenant.map_or("", Tenant::as_str);
        let (kind, name) = match whose {
            Revoked::User(user) => ('u', user.as_str()),
            Revoked::Token(id) => ('t', &**id),
            Revoked::Group(name) => ('g', &**name),
        };
        self.revocations.key(&format!("{kind} {tenant} {name}"))
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn join(&self, member: &Member, group: &str, keep: Duration) -> Result<(), Unavailable> {
        let of = self.member(member);
        let call = scripts::JOIN.call([of.key("groups")]).arg(group).arg(ms(keep)).arg(GROUPS_MAX);
        Ok(self.eval(Lane::Publish, &of, &scripts::JOIN, call).await.map(drop)?)
    }

    async fn leave(&self, member: &Member, group: &str) -> Result<(), Unavailable> {
        let of = self.member(member);
        let call = scripts::LEAVE.call([of.key("groups")]).arg(group);
        Ok(self.eval(Lane::Publish, &of, &scripts::LEAVE, call).await.map(drop)?)
    }

    async fn groups_of(&self, member: &Member) -> Result<Vec<Box<str>>, Unavailable> {
        let of = self.member(member);
        let answer = self.eval(Lane::Read, &of, &scripts::GROUPS, scripts::GROUPS.call([of.key("groups")])).await?;
        let groups = answer.values().ok_or(Failure::Unexpected("no groups"))?;
        Ok(groups.iter().filter_map(Value::text).map(Into::into).collect())
    }

    async fn revoke(&self, revocation: &Revocation, keep: Duration) -> Result<(), Unavailable> {
        let written = rmp_serde::to_vec_named(revocation).map_err(|_| Failure::Unexpected("a revocation that cannot be written"))?;
        let name = self.revocation(revocation.tenant.as_ref(), &revocation.whose);
        let call = scripts::REVOKE
            .call([name, self.revocations.key("log"), self.revocations.key("meta")])
            .arg(unix_ms(revocation.before))
            .arg(ms(keep))
            .arg(written)
            .arg(REVOCATIONS_MAX)
            .arg(candidate());
        Ok(self.eval(Lane::Publish, &self.revocations, &scripts::REVOKE, call).await.map(drop)?)
    }

    async fn revocation_of(&self, subject: &Subject) -> Result<Option<Revocation>, Unavailable> {
        let named: Vec<Revoked> = Revoked::naming(subject).collect();
        let names: Vec<String> = named.iter().map(|whose| self.revocation(subject.tenant(), whose)).collect();
        let answer = self.eval(Lane::Read, &self.revocations, &scripts::REVOKED, scripts::REVOKED.call(names)).await?;
        let moments = answer.values().filter(|moments| moments.len() == named.len()).ok_or(Failure::Unexpected("no revocations"))?;
        for (whose, moments) in named.into_iter().zip(moments) {
            for before_ms in moments.values().unwrap_or_default().iter().filter_map(Value::integer) {
                let before = std::time::UNIX_EPOCH + Duration::from_millis(before_ms as u64);
                let revocation = Revocation::now(whose.clone()).before(before).tenant(subject.tenant().cloned());
                if revocation.means(subject) {
                    return Ok(Some(revocation));
                }
            }
        }
        Ok(None)
    }

    async fn put_ticket(&self, ticket: &str, content: Bytes, keep: Duration) -> Result<(), Unavailable> {
        let of = self.ticket(ticket);
        let call = scripts::PUT.call([of.key("content")]).arg(content).arg(ms(keep));
        Ok(self.eval(Lane::Publish, &of, &scripts::PUT, call).await.map(drop)?)
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, Unavailable> {
        let of = self.ticket(ticket);
        let command = Command::new("GETDEL").arg(of.key("content"));
        // Once: a second try after one without an answer would find nothing, and say that there was no such ticket.
        let content = self.servers.call(Lane::Publish, &of, &command, self.timeout).await.map_err(Unavailable::from)?;
        Ok(content.bytes().map(|content| Bytes::copy_from_slice(content)))
    }
}

/// At least a millisecond: what is kept for no time at all cannot be said.
fn ms(time: Duration) -> u64 {
    time.as_millis().clamp(1, 1 << 42) as u64
}

/// The name of the data's life where it has none.
fn candidate() -> String {
    broker_core::Epoch::from_random(fastrand::u64(..)).as_str().to_owned()
}
