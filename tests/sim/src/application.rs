//! The application around the simulated node: hooks that answer, wait, hang, panic or refuse.

use std::{
    panic::resume_unwind,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use broker_core::{EngineBuilder, Grant, Identity, Payload, Refusal, RefusalKind, SnapshotFailed, Topic};
use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::world::{World, moment};

/// A user that may not listen to [`FORBIDDEN`].
pub(crate) const STRANGER: &str = "u0";
/// What [`STRANGER`] may not listen to.
pub(crate) const FORBIDDEN: &str = "cut:b";

/// The hooks' state.
pub(crate) struct Application {
    rng: Mutex<Rng>,
    is_calm: AtomicBool,
    started: Instant,
}

/// What a token of the simulation says: who, since when, and for how long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Token {
    /// The user.
    pub(crate) user: String,
    /// When it was made, in milliseconds since the simulation began.
    pub(crate) issued_ms: u64,
    /// How long it holds; 0: for ever.
    pub(crate) ttl_ms: u64,
}

impl Token {
    /// As it goes over the wire.
    pub(crate) fn text(&self) -> String {
        format!("{}/{}/{}", self.user, self.issued_ms, self.ttl_ms)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let user = parts.next()?.to_owned();
        Some(Self { user, issued_ms: parts.next()?.parse().ok()?, ttl_ms: parts.next()?.parse().ok()? })
    }
}

impl Application {
    /// Hooks with faults.
    pub(crate) fn new(rng: Rng, started: Instant) -> Self {
        Self { rng: Mutex::new(rng), is_calm: AtomicBool::new(false), started }
    }

    /// Every hook answers from here on.
    pub(crate) fn calm_down(&self) {
        self.is_calm.store(true, Relaxed);
    }

    /// Gives a node its hooks.
    pub(crate) fn hook_into(self: Arc<Self>, builder: EngineBuilder, world: &Arc<World>) -> EngineBuilder {
        let (connect, subscribe, publish) = (self.clone(), self.clone(), self.clone());
        let builder = ["shot", "shotbare", "shotrows"].into_iter().fold(builder, |builder, namespace| {
            let (application, world) = (self.clone(), Arc::downgrade(world));
            builder.snapshot(namespace, move |topic| {
                let (application, world) = (application.clone(), world.clone());
                async move { application.state_of(topic, world).await }
            })
        });
        builder
            .on_connect(move |request| {
                let application = connect.clone();
                async move {
                    application.trouble(6).await?;
                    let token = request.connect.token.as_deref().and_then(Token::read);
                    let Some(token) = token else { return Err(Refusal::unauthorized("no token")) };
                    application.identity(&token)
                }
            })
            .on_subscribe(move |request| {
                let application = subscribe.clone();
                async move {
                    application.trouble(3).await?;
                    if request.subject.info.user.as_str() == STRANGER && request.subscribe.topic.as_str() == FORBIDDEN {
                        return Err(Refusal::permission_denied("planted"));
                    }
                    Ok(Grant::plain())
                }
            })
            .on_publish(move |request| {
                let application = publish.clone();
                async move {
                    application.trouble(5).await?;
                    Ok(request.publish)
                }
            })
            .on_disconnect(move |_| {
                let application = self.clone();
                async move {
                    // Nobody waits for it; a hang or a panic costs nothing.
                    let _ = application.trouble(10).await;
                }
            })
    }

    /// What the application knows of a topic: everything that was published before it was asked, and perhaps more.
    async fn state_of(&self, topic: Topic, world: Weak<World>) -> Result<Option<Payload>, SnapshotFailed> {
        let failed = |_| SnapshotFailed::new("planted");
        let early = self.rng.lock().bool();
        if !early {
            self.trouble(10).await.map_err(failed)?;
        }
        let world = world.upgrade().ok_or_else(|| SnapshotFailed::new("the simulation is over"))?;
        let reflected = match world.promise(&topic) {
            Some(promise) if promise.snapshot && promise.bare => world.truth.bare_len(&topic).to_string(),
            Some(promise) if promise.snapshot => {
                let top = world.bus().top(&topic).await.ok_or_else(|| SnapshotFailed::new("there is no backplane"))?;
                format!("\"{top}\"")
            }
            _ => return Ok(None),
        };
        drop(world);
        if early {
            self.trouble(10).await.map_err(failed)?;
        }
        Ok(Some(Payload::json(format!(r#"{{"snap":{reflected},"t":"{topic}"}}"#))))
    }

    fn identity(&self, token: &Token) -> Result<Identity, Refusal> {
        let identity = Identity::user(token.user.clone()).issued_at(moment(token.issued_ms)).group("all");
        if token.ttl_ms == 0 {
            return Ok(identity);
        }
        let age_ms = (self.started.elapsed().as_millis() as u64).saturating_sub(token.issued_ms);
        if age_ms >= token.ttl_ms {
            return Err(Refusal::new(RefusalKind::TokenExpired, "planted"));
        }
        // The engine reads the real clock twice; half a millisecond keeps what comes of it in one tick of the timer.
        let left = Duration::from_millis(token.ttl_ms - age_ms) + Duration::from_micros(500);
        Ok(identity.expires_at(SystemTime::now() + left))
    }

    /// Waits, hangs, panics or refuses, each with this likeliness in percent; mostly nothing.
    async fn trouble(&self, percent: u32) -> Result<(), Refusal> {
        if self.is_calm.load(Relaxed) {
            return Ok(());
        }
        let (draw, wait_ms) = {
            let mut rng = self.rng.lock();
            (rng.u32(0..100), rng.u64(1..40))
        };
        match draw / percent {
            0..=2 => sleep(Duration::from_millis(wait_ms)).await,
            3 => std::future::pending().await,
            // As a panic, without its message.
            4 => resume_unwind(Box::new("planted")),
            5 => return Err(Refusal::unavailable("planted")),
            _ => {}
        }
        Ok(())
    }
}
