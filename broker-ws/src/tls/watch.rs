//! Looks after certificate files while a server runs: takes what is new, tells once what is wrong or about to be.

use std::{mem::discriminant, time::Duration};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};

use super::{Tls, TlsCaution, TlsError};

/// Time between two looks. What the files hold is compared, not when they were written: that misses nothing, and costs two small reads.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What was found and said before.
#[derive(Debug, Default)]
struct Memory {
    /// What is wrong with the files, and whether it was said. A pair that is just being written looks broken once; it is said if it stays so.
    trouble: Option<(String, bool)>,
    caution: Option<TlsCaution>,
}

impl Tls {
    /// Looks for ever, or not at all where there are no files. Cancel-safe.
    pub(crate) async fn watch(&self) {
        if self.files.is_none() {
            return;
        }
        let mut memory = Memory::default();
        memory.beware(self.caution());
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let tls = self.clone();
            // Files may lie on a disk that does not answer; accepting goes on.
            let Ok(found) = spawn_blocking(move || tls.reload()).await else { return };
            memory.note(found);
            memory.beware(self.caution());
        }
    }
}

impl Memory {
    /// Says what changed, once.
    fn note(&mut self, found: Result<bool, TlsError>) {
        match found {
            Ok(is_new) => {
                if is_new {
                    tracing::info!("the TLS certificate was replaced; new connections are shown the new one");
                }
                self.trouble = None;
            }
            Err(error) => {
                let (text, hint) = (error.to_string(), error.hint());
                match &mut self.trouble {
                    Some((known, is_told)) if *known == text => {
                        if !*is_told {
                            tracing::error!(error = %text, hint, "the new TLS certificate is not used, the one before stays");
                        }
                        *is_told = true;
                    }
                    trouble => *trouble = Some((text, false)),
                }
            }
        }
    }

    fn beware(&mut self, caution: Option<TlsCaution>) {
        let kind = |caution: &Option<TlsCaution>| caution.as_ref().map(discriminant);
        if let Some(caution) = caution.filter(|caution| kind(&self.caution) != Some(discriminant(caution))) {
            tracing::warn!(hint = "renew it and replace the files; they are read again by themselves", "{caution}");
        }
        self.caution = caution;
    }
}
