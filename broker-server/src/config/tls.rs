//! `[server.tls]`: the certificate of the listener for clients, and a look at its files.

use std::path::{Path, PathBuf};

use broker::{Tls, TlsError};

use super::{Loaded, field::file, mistake::Mistake, visit::Visitor};

/// The certificate of the listener for clients; without one it speaks no TLS.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The certificate chain, PEM, the server's own first.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM, without a passphrase.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Both files, where both are named.
    pub fn pair(&self) -> Option<(&Path, &Path)> {
        Some((self.cert.as_deref()?, self.key.as_deref()?))
    }

    pub(super) fn keys(&mut self, keys: &mut dyn Visitor) {
        keys.key(
            "cert",
            "The certificate chain, the server's own certificate first. It is read again when it changes.",
            &mut file(&mut self.cert, "/etc/broker/cert.pem"),
        );
        keys.key("key", "The private key of the certificate, without a passphrase.", &mut file(&mut self.key, "/etc/broker/key.pem"));
    }
}

impl Loaded {
    /// Looks at the files that the settings name, and adds what is wrong with them to the report.
    pub fn look_at_files(&mut self) {
        self.look_at_certificate();
        if let Some(file) = &self.config.backplane.ca
            && let Err(error) = super::backplane::ca(file)
        {
            self.report.mistakes.push(Mistake::new(self.origin("backplane.ca"), format!("{error:#}")));
        }
        self.report.sort();
    }

    fn look_at_certificate(&mut self) {
        let Some((cert, key)) = self.config.server.tls.pair() else { return };
        match Tls::from_files(cert, key) {
            Err(error) => {
                let place = if blames_the_key(&error, key) { "server.tls.key" } else { "server.tls.cert" };
                let mistake = Mistake::new(self.origin(place), format!("`{place}`: {error}")).help(error.hint());
                self.report.mistakes.push(mistake);
            }
            Ok(tls) => {
                if let Some(caution) = tls.caution() {
                    let warning = Mistake::new(self.origin("server.tls.cert"), format!("`server.tls.cert`: {caution}"));
                    self.report.warnings.push(warning.help("renew it and replace the files; they are read again by themselves"));
                }
                if is_readable_by_others(key) {
                    let message = format!("`server.tls.key`: every user of this machine can read {}", key.display());
                    let help = format!("chmod o-rwx {}", key.display());
                    self.report.warnings.push(Mistake::new(self.origin("server.tls.key"), message).help(help));
                }
            }
        }
    }
}

fn blames_the_key(error: &TlsError, key: &Path) -> bool {
    matches!(error, TlsError::Mismatch { .. }) || error.file() == Some(key)
}

#[cfg(unix)]
fn is_readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}
