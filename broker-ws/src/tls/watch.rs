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
            Ok(true) => tracing::info!("the TLS certificate was replaced; new connections are shown the new one"),
            Ok(false) => {}
            Err(error) => {
                if self.is_news(error.to_string()) {
                    tracing::error!(%error, hint = error.hint(), "the new TLS certificate is not used, the one before stays");
                }
                return;
            }
        }
        self.trouble = None;
    }

    /// Whether this trouble is to be told: it was there at the last look, and was not told then.
    fn is_news(&mut self, text: String) -> bool {
        match &mut self.trouble {
            Some((known, is_told)) if *known == text => !std::mem::replace(is_told, true),
            trouble => {
                *trouble = Some((text, false));
                false
            }
        }
    }

    fn beware(&mut self, caution: Option<TlsCaution>) {
        if let Some(caution) = caution.filter(|caution| self.caution.as_ref().map(discriminant) != Some(discriminant(caution))) {
            tracing::warn!(hint = "renew it and replace the files; they are read again by themselves", "{caution}");
        }
        self.caution = caution;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn trouble_is_told_once_and_only_if_it_stays() {
        let mut memory = Memory::default();
        let mut look = |text: &str| memory.is_news(text.to_owned());
        assert_eq!(
            [look("a"), look("b"), look("a"), look("a"), look("a"), look("b"), look("b")],
            [false, false, false, true, false, false, true]
        );
        memory.note(Ok(false));
        assert!(!memory.is_news("b".to_owned()) && memory.is_news("b".to_owned()), "it came back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_to_the_files_is_shown_soon() {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        let write = || {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            fs::write(&cert, made.cert.pem()).unwrap();
            made.cert.der().clone()
        };
        let shown = |tls: &Tls| tls.shown.0.load().key.cert[0].clone();
        let first = write();
        let tls = Tls::from_files(&cert, &key).unwrap();
        let watching = tls.clone();
        tokio::spawn(async move { watching.watch().await });
        assert_eq!(shown(&tls), first);
        fs::write(&cert, "half").unwrap();
        tokio::time::sleep(3 * LOOK_INTERVAL).await;
        assert_eq!(shown(&tls), first);
        let second = write();
        tokio::time::sleep(3 * LOOK_INTERVAL).await;
        assert_eq!(shown(&tls), second);
    }
}
