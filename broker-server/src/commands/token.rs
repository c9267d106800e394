//! `broker token create`, `inspect` and `verify`. No secret is printed.

use std::{
    io::{Read as _, stdin},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use broker_auth::{Claims, HmacTokens, InvalidInfo, SubscriptionClaims, TokenOptions, inspect};
use broker_core::{Identity, Refusal, SessionId, Subject, Topic, TopicPattern, UserId, Verb};
use serde_json::json;

use super::client;
use crate::{
    cli::{CreateToken, TokenCommand, TokenText, VerifyToken, token::settings},
    config::{Client, Secret, TokenKeys, parse_duration},
};

/// Most bytes of a token that are read from standard input.
const STDIN_MAX: u64 = 64 << 10;

pub(super) fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(flags) => create(&flags),
        TokenCommand::Inspect(text) => explain(&text),
        TokenCommand::Verify(flags) => verify(&flags),
    }
}

fn create(flags: &CreateToken) -> anyhow::Result<ExitCode> {
    let client = match super::load(&settings(flags.config.as_ref())) {
        Ok(loaded) => loaded.config.client,
        Err(code) => return Ok(code),
    };
    let (section, keys) = if flags.subscribe.is_some() { subscription_keys(&client) } else { ("client.token", &client.token) };
    let secret = flags.secret.as_deref().or(keys.hmac_secret.as_ref().map(Secret::expose));
    let Some(secret) = secret else {
        bail!("there is no secret to sign with: set hmac_secret in [{section}] (`broker init` makes one), or give --secret")
    };
    let tokens = HmacTokens::new(secret, keys.options(section)).context("this secret cannot sign tokens")?;
    let now = SystemTime::now();
    let expires_at = match flags.expires.as_str() {
        "never" => None,
        text => Some(now + parse_duration(text).with_context(|| format!("--expires {text:?}: write 10m, 12h, 7d, or never"))?),
    };
    let token = if let Some(topic) = &flags.subscribe {
        let _: Topic = topic.parse().with_context(|| format!("--subscribe {topic:?}"))?;
        let mut claims = SubscriptionClaims::new(&flags.user, topic);
        claims.expires_at = expires_at;
        claims.tenant.clone_from(&flags.tenant);
        claims.issuer.clone_from(&keys.issuer);
        claims.audience = keys.audience.first().cloned();
        if let Some(info) = &flags.info {
            claims = claims.info(info).map_err(|error| named("--info", error))?;
        }
        tokens.create_for_subscription(&claims)
    } else {
        let token = tokens.create(&claims(flags, keys, expires_at, now)?);
        // What would be refused is told here, where it can be put right.
        tokens.verify(&token, now).map_err(|refusal| anyhow::anyhow!("{}", in_words(&refusal)))?;
        token
    };
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

fn claims(flags: &CreateToken, keys: &TokenKeys, expires_at: Option<SystemTime>, now: SystemTime) -> anyhow::Result<Claims> {
    let mut claims = Claims::user(&flags.user).issued_at(now);
    claims.expires_at = expires_at;
    claims.issuer.clone_from(&keys.issuer);
    claims.audience = keys.audience.first().cloned();
    claims.groups.clone_from(&flags.group);
    claims.channels.clone_from(&flags.channel);
    claims.tenant.clone_from(&flags.tenant);
    claims.token_id.clone_from(&flags.id);
    if keys.user_claim.as_deref().is_some_and(|claim| claim != "sub") && !flags.user.is_empty() {
        bail!("the configuration reads the user from another claim than `sub` (user_claim); tokens for it are made by the application");
    }
    if let Some(info) = &flags.info {
        claims = claims.info(info).map_err(|error| named("--info", error))?;
    }
    if let Some(meta) = &flags.meta {
        claims = claims.meta(meta).map_err(|error| named("--meta", error))?;
    }
    if !flags.cap.is_empty() {
        let caps = flags.cap.iter().map(|cap| capability(cap)).collect::<anyhow::Result<Vec<_>>>()?;
        claims = claims.capabilities(&serde_json::Value::from(caps).to_string()).map_err(|error| named("--cap", error))?;
    }
    Ok(claims)
}

/// `sub,pub=chat:*` as an entry of `caps`.
fn capability(text: &str) -> anyhow::Result<serde_json::Value> {
    let (verbs, pattern) = text.split_once('=').with_context(|| format!("--cap {text:?}: write it like 'sub,pub=chat:*'"))?;
    let verbs: Vec<&str> = verbs.split(',').map(str::trim).collect();
    if let Some(unknown) = verbs.iter().find(|verb| !Verb::ALL.iter().any(|known| known.word() == **verb)) {
        bail!("--cap {text:?}: {unknown:?} is no verb; sub, pub, hst and prs are");
    }
    Ok(json!({"channels": [pattern], "match": "wildcard", "allow": verbs}))
}

fn named(flag: &str, error: InvalidInfo) -> anyhow::Error {
    anyhow::anyhow!("{flag}: {error}")
}

fn explain(text: &TokenText) -> anyhow::Result<ExitCode> {
    let inspected = match inspect(&read(text)?, &TokenOptions::default().token_max_bytes(STDIN_MAX as usize), SystemTime::now()) {
        Ok(inspected) => inspected,
        Err(refusal) => bail!("this is no token: {}", in_words(&refusal)),
    };
    println!("header  {:#}\nclaims  {:#}\n", inspected.header, inspected.claims);
    if let Ok(identity) = &inspected.identity {
        println!("it says: {}", bearer(identity));
    }
    for mistake in &inspected.mistakes {
        println!("it would be refused: {mistake}");
    }
    for remark in &inspected.remarks {
        println!("note: {remark}");
    }
    println!("its signature was not looked at: `broker token verify` does");
    Ok(ExitCode::SUCCESS)
}

fn verify(flags: &VerifyToken) -> anyhow::Result<ExitCode> {
    let client = match super::load(&settings(flags.config.as_ref())) {
        Ok(loaded) => loaded.config.client,
        Err(code) => return Ok(code),
    };
    let token = read(&flags.token)?;
    if let Some((subject, topic)) = of_subscription(&token, &client)? {
        return verify_subscription(&token, &client, &subject, &topic);
    }
    let keys = client.token;
    if keys.is_empty() {
        bail!("there is no key to verify with: [client.token] has none (a broker that runs with it makes a random secret at each start)");
    }
    let verdict = client::runtime()?.block_on(async {
        let tokens = keys.tokens("client.token", None)?;
        anyhow::Ok(tokens.verify(&token, SystemTime::now()).await)
    })?;
    match verdict {
        Ok(identity) => {
            println!("accepted ({}): {}", identity.rule, bearer(&identity));
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            eprintln!("refused: {}", in_words(&refusal));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Keys of subscription tokens: their own section's, or those of connection tokens.
fn subscription_keys(client: &Client) -> (&'static str, &TokenKeys) {
    if client.subscription_token.is_empty() {
        ("client.token", &client.token)
    } else {
        ("client.subscription_token", &client.subscription_token)
    }
}

/// Whose token of which subscription it claims to be; `None`: of none.
fn of_subscription(token: &str, client: &Client) -> anyhow::Result<Option<(Subject, Topic)>> {
    let (section, keys) = subscription_keys(client);
    let options = keys.options(section);
    // What cannot be taken apart is refused with the reason when it is verified.
    let Ok(inspected) = inspect(token, &options, SystemTime::now()) else { return Ok(None) };
    let text = |claim: &str| inspected.claims.get(claim).and_then(serde_json::Value::as_str);
    let Some(channel) = text("channel") else { return Ok(None) };
    let topic: Topic = channel.parse().context("the token's claim `channel` is no topic")?;
    let identity = Identity::user(text(&options.user_claim).unwrap_or_default());
    Ok(Some((Subject::new(SessionId::from_random(0), &identity), topic)))
}

fn verify_subscription(token: &str, client: &Client, subject: &Subject, topic: &Topic) -> anyhow::Result<ExitCode> {
    let (section, keys) = subscription_keys(client);
    if keys.is_empty() {
        bail!("there is no key to verify with: neither [client.subscription_token] nor [client.token] has one");
    }
    let verdict = client::runtime()?.block_on(async {
        let tokens = keys.tokens(section, None)?;
        anyhow::Ok(tokens.verify_subscription(token, subject, topic, SystemTime::now()).await)
    })?;
    match verdict {
        Ok(grant) => {
            println!(
                "accepted (the token of a subscription): {} may subscribe to {topic}, {}",
                named_user(&subject.user),
                lasting(grant.expires_at)
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            eprintln!("refused: {}", in_words(&refusal));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn named_user(user: &UserId) -> String {
    if user.is_anonymous() { "nobody in particular".to_owned() } else { format!("user {:?}", user.as_str()) }
}

fn lasting(ends_at: Option<SystemTime>) -> String {
    match ends_at.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default()) {
        Some(left) => format!("for {} min more", left.as_secs().div_ceil(60)),
        None => "without an end".to_owned(),
    }
}

fn read(text: &TokenText) -> anyhow::Result<String> {
    if text.token != "-" {
        return Ok(text.token.trim().to_owned());
    }
    let mut token = String::new();
    stdin().take(STDIN_MAX).read_to_string(&mut token).context("standard input is no text")?;
    Ok(token.trim().to_owned())
}

/// Whom a token makes of its bearer, in a sentence.
fn bearer(identity: &Identity) -> String {
    let mut parts = vec![named_user(&identity.user)];
    if let Some(tenant) = &identity.tenant {
        parts.push(format!("of tenant {tenant}"));
    }
    if !identity.groups.is_empty() {
        parts.push(format!("in groups {}", identity.groups.join(", ")));
    }
    if !identity.subscriptions.is_empty() {
        let topics: Vec<&str> = identity.subscriptions.iter().map(|subscription| subscription.topic.as_str()).collect();
        parts.push(format!("subscribed to {}", topics.join(", ")));
    }
    for capability in &identity.capabilities {
        let verbs: Vec<&str> = Verb::ALL.into_iter().filter(|verb| capability.allow.has(*verb)).map(Verb::word).collect();
        let patterns: Vec<&str> = capability.topics.iter().map(TopicPattern::as_str).collect();
        parts.push(format!("may {} {}", verbs.join(","), patterns.join(", ")));
    }
    parts.push(lasting(identity.expires_at));
    if let Some(issued) = identity.issued_at.filter(|at| *at > UNIX_EPOCH) {
        let age = SystemTime::now().duration_since(issued).unwrap_or(Duration::ZERO);
        parts.push(format!("issued {} min ago", age.as_secs() / 60));
    }
    parts.join(", ")
}

/// A refusal with how to put it right, and what the operator can do.
fn in_words(refusal: &Refusal) -> String {
    let more: Vec<&str> = refusal.hint.iter().chain(&refusal.rule).map(AsRef::as_ref).collect();
    if more.is_empty() { refusal.to_string() } else { format!("{refusal} ({})", more.join("; ")) }
}
