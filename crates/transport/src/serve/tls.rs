//! Certificates, and what handshakes go by while a listener serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate file holds no certificate, or something else.
    #[error("certificate cannot be read: {0}")]
    Certificate(String),
    /// The key file holds no private key. The reason never holds key material.
    #[error("private key cannot be read: {0}")]
    Key(String),
    /// The authorities for client certificates are none.
    #[error("certificates of client authorities cannot be read: {0}")]
    Authorities(String),
    /// They are no pair.
    #[error("certificate and private key do not belong together")]
    Mismatch,
    /// They are of a kind that is not supported.
    #[error("certificate and key cannot be used")]
    Pair(#[source] rustls::Error),
    /// The system gives no randomness for the keys of session tickets.
    #[error("session tickets cannot be made")]
    Tickets(#[source] rustls::Error),
}

/// What the handshakes of a listener go by. Clones share it: keep one to change certificates while the listener serves.
#[derive(Debug, Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RwLock<Arc<ServerConfig>>,
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
}

/// Handshakes so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// With a certificate and a key exchange.
    pub full: u64,
    /// That resumed an earlier session.
    pub resumed: u64,
    /// That came to no end: refused, given up, or a peer that only looked whether the port is open.
    pub failed: u64,
}

/// A configuration from a certificate chain and its key in PEM, for TLS 1.2 and 1.3, with HTTP/1.1 and HTTP/2. It brings its
/// own crypto provider and installs none for the process.
///
/// # Errors
/// When either cannot be read or they do not fit.
pub fn server_config(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    config(certificate_pem, key_pem, None)
}

/// As [`server_config`], and clients must show a certificate that one of `authorities_pem` has signed.
///
/// # Errors
/// As [`server_config`], and when the authorities cannot be read.
pub fn server_config_for_clients(
    certificate_pem: &[u8],
    key_pem: &[u8],
    authorities_pem: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    config(certificate_pem, key_pem, Some(authorities_pem))
}

fn config(
    certificate_pem: &[u8],
    key_pem: &[u8],
    authorities_pem: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate_pem).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match authorities_pem {
        Some(pem) => {
            builder.with_client_cert_verifier(client_verifier(pem, provider).map_err(TlsError::Authorities)?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
        other => TlsError::Pair(other),
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Clients keep their own tickets, so resumption takes no memory here however many come back at once. The keys are
    // this configuration's own: nobody resumes past a change of certificates or of who may connect.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Tickets)?;
    Ok(Arc::new(config))
}

fn client_verifier(pem: &[u8], provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(pem)? {
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| error.to_string())
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no certificate in it".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

// === impl ServerTls ===

impl ServerTls {
    /// Begins with this configuration.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        let config = RwLock::new(config);
        let shared = Shared { config, full: 0.into(), resumed: 0.into(), failed: 0.into() };
        Self { shared: Arc::new(shared) }
    }

    /// Lets handshakes from now on go by another configuration. Those under way and open connections keep theirs.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.shared.config.write() = config;
    }

    /// How handshakes went, of all configurations together.
    pub fn handshakes(&self) -> Handshakes {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Shared { full, resumed, failed, .. } = &*self.shared;
        Handshakes { full: read(full), resumed: read(resumed), failed: read(failed) }
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.config.read())
    }

    pub(super) fn count_done(&self, resumed: bool) {
        let count = if resumed { &self.shared.resumed } else { &self.shared.full };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl From<Arc<ServerConfig>> for ServerTls {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(config)
    }
}
