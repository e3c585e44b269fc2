//! Certificates of the listeners, read again when their files change or the operator asks for it (SIGHUP).
//!
//! Open connections do not notice. What cannot be used is told and changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tidewire::transport::serve::tls::{self, Handshakes, ServerTls};
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use crate::config::model::{PemSource, Tls};

/// How often the files are looked at. Looking is a few system calls.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Every listener with TLS.
#[derive(Default)]
pub(super) struct Certificates {
    watched: Vec<Watched>,
    figures: Arc<Figures>,
}

/// What is counted of TLS.
#[derive(Debug, Default)]
pub struct Figures {
    listeners: parking_lot::Mutex<Vec<ServerTls>>,
    reloads: AtomicU64,
    failures: AtomicU64,
}

struct Watched {
    /// The section of the configuration.
    section: &'static str,
    source: Tls,
    used: ServerTls,
    /// The files when they were last read.
    seen: Vec<Option<Stamp>>,
}

/// What changes when a file is written or another takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: (u64, u64),
}

// === impl Certificates ===

impl Certificates {
    /// Reads the certificates of a listener; from now on they are watched.
    ///
    /// # Errors
    /// Why they cannot be used, in words without key material.
    pub(super) fn add(&mut self, section: &'static str, source: &Tls) -> Result<ServerTls, String> {
        let seen = stamps(source);
        let used = ServerTls::new(load(source)?);
        self.figures.listeners.lock().push(used.clone());
        self.watched.push(Watched { section, source: source.clone(), used: used.clone(), seen });
        Ok(used)
    }

    pub(super) fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Keeps them current until `stop`: when `hangup` comes, and when files change.
    pub(super) async fn keep(mut self, mut hangup: Option<Signal>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = next(&mut hangup) => true,
                _ = looks.tick() => false,
            };
            if asked && self.watched.is_empty() {
                tracing::info!("SIGHUP: there are no certificates to read again");
            }
            // Files may be on a disk that keeps one waiting.
            let read = tokio::task::spawn_blocking(move || {
                self.read_again(asked);
                self
            });
            match read.await {
                Ok(certificates) => self = certificates,
                Err(error) => return tracing::error!(%error, "certificates are not watched any more"),
            }
        }
    }

    /// Reads again what has changed, or everything.
    fn read_again(&mut self, everything: bool) {
        for Watched { section, source, used, seen } in &mut self.watched {
            let now = stamps(source);
            if !everything && now == *seen {
                continue;
            }
            *seen = now;
            match load(source) {
                Ok(config) => {
                    used.replace(config);
                    self.figures.reloads.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(section, "certificates were read again");
                }
                Err(problem) => {
                    self.figures.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(
                        section,
                        "certificates cannot be used, those before stay in use: {problem}"
                    );
                }
            }
        }
    }
}

/// The next signal, or never.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

fn stamps(source: &Tls) -> Vec<Option<Stamp>> {
    let files = [Some(&source.certificate), Some(&source.key), source.client_authorities.as_ref()];
    let stamp = |source: &PemSource| match source {
        // Follows links: what mounts of secrets change is where a link points.
        PemSource::File(path) => std::fs::metadata(path).ok().map(|metadata| Stamp {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }),
        PemSource::Text(_) => None,
    };
    files.into_iter().flatten().map(stamp).collect()
}

/// What the files hold, if it can be used; else what is wrong with them.
pub(crate) fn load(tls: &Tls) -> Result<Arc<rustls::ServerConfig>, String> {
    let certificate = tls.certificate.read().map_err(|error| format!("cert_pem cannot be read: {error}"))?;
    let key = tls.key.read().map_err(|error| format!("key_pem cannot be read: {error}"))?;
    let authorities = tls.client_authorities.as_ref().map(|source| source.read()).transpose();
    let authorities = authorities.map_err(|error| format!("client_ca_pem cannot be read: {error}"))?;
    let config = match authorities {
        Some(authorities) => tls::server_config_for_clients(&certificate, &key, &authorities),
        None => tls::server_config(&certificate, &key),
    };
    config.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    })
}

// === impl Figures ===

impl Figures {
    /// Handshakes of all listeners.
    pub fn handshakes(&self) -> Handshakes {
        let each = self.listeners.lock();
        each.iter().map(ServerTls::handshakes).fold(Handshakes::default(), |sum, one| Handshakes {
            full: sum.full + one.full,
            resumed: sum.resumed + one.resumed,
            failed: sum.failed + one.failed,
        })
    }

    /// How often certificates were read again, and how often what was there could not be used.
    pub fn reloads(&self) -> (u64, u64) {
        (self.reloads.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_again_when_they_change_and_only_then() {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let first = make();
        std::fs::write(&certificate, first.cert.pem()).unwrap();
        std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        let source = Tls {
            certificate: PemSource::File(certificate.clone()),
            key: PemSource::File(key.clone()),
            client_authorities: None,
        };
        let mut certificates = Certificates::default();
        certificates.add("http_server.tls", &source).unwrap();
        let mut look = |everything| {
            certificates.read_again(everything);
            certificates.figures.reloads()
        };
        assert_eq!(look(false), (0, 0));
        assert_eq!(look(true), (1, 0));

        // As tools for certificates do: another file takes the place, first of the one, then of the other.
        let second = make();
        let replace = |path: &std::path::Path, text: String| {
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        };
        replace(&certificate, second.cert.pem());
        assert_eq!(look(false), (1, 1), "no pair yet");
        assert_eq!(look(false), (1, 1), "told once");
        replace(&key, second.signing_key.serialize_pem());
        assert_eq!(look(false), (2, 1));
        assert_eq!(look(false), (2, 1));

        std::fs::remove_file(&key).unwrap();
        assert_eq!(look(false), (2, 2));
        assert_eq!(look(false), (2, 2));
        std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        assert_eq!(look(false), (3, 2));
    }
}
