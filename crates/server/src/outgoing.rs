//! The one HTTP client of the server: for token keys, where the other side is trusted with nothing, and for the command
//! line. One connection per request; no redirects, no cookies, no compression, a bound on time and bytes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A cheap handle on the client; certificate authorities are loaded once, when first needed.
#[derive(Clone, Default)]
pub struct Outgoing {
    tls: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// What a request may do.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `http` addresses too.
    pub allow_plain: bool,
    /// Addresses that are not of the public internet too.
    pub allow_private: bool,
    /// Time for everything, from name resolution to the last byte.
    pub timeout: Duration,
    /// Largest answer.
    pub body_bytes_max: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The rules forbid the address.
    #[error("{0}")]
    Forbidden(String),
    /// The answer is not one to be used.
    #[error("unusable answer: {0}")]
    Answer(String),
    /// Nobody answers there, or not in a way that is understood.
    #[error("no answer: {0}")]
    Network(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
}

/// A connection to a server, with or without TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

// === impl FetchError ===

impl FetchError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Timeout)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Network(error.to_string())
    }
}

// === impl Outgoing ===

impl Outgoing {
    /// Fetches a document; only status 200 counts.
    ///
    /// # Errors
    /// See [`FetchError`]; a status from 500 may pass, any other but 200 may not.
    pub async fn get(&self, url: &Uri, rules: &Rules) -> Result<Bytes, FetchError> {
        let request = Request::get(url.clone()).body(Bytes::new());
        let answer =
            self.send(request.map_err(|error| FetchError::Forbidden(error.to_string()))?, rules).await?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            status @ 300..400 => {
                Err(FetchError::Answer(format!("status {status}, and redirects are not followed")))
            }
            status @ 500.. => Err(FetchError::Network(format!("status {status}"))),
            status => Err(FetchError::Answer(format!("status {status}"))),
        }
    }

    /// Sends a request and reads the answer, whatever its status. The request's address is absolute.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn send(&self, request: Request<Bytes>, rules: &Rules) -> Result<Response<Bytes>, FetchError> {
        tokio::time::timeout(rules.timeout, self.exchange(request, rules))
            .await
            .map_err(|_| FetchError::Timeout)?
    }

    async fn exchange(&self, request: Request<Bytes>, rules: &Rules) -> Result<Response<Bytes>, FetchError> {
        let (parts, body) = request.into_parts();
        let stream = self.connect(&parts.uri, rules).await?;
        let network = |error: hyper::Error| FetchError::Network(error.to_string());
        let builder = hyper::client::conn::http1::Builder::new();
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(network)?;
        let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(parts.method).uri(path).header(header::HOST, host);
        if let Some(headers) = request.headers_mut() {
            headers.extend(parts.headers);
            headers.entry(header::USER_AGENT).or_insert(http::HeaderValue::from_static("tidewire"));
        }
        let request =
            request.body(Full::new(body)).map_err(|error| FetchError::Forbidden(error.to_string()))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(network)?;
            let (parts, body) = answer.into_parts();
            let body = Limited::new(body, rules.body_bytes_max).collect().await.map_err(|error| {
                match error.is::<http_body_util::LengthLimitError>() {
                    true => FetchError::Answer(format!("more than {} bytes", rules.body_bytes_max)),
                    false => FetchError::Network(error.to_string()),
                }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        // The connection is driven here and dropped with this future: nothing of it outlives the request.
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// Opens a connection to the server of an address, with TLS for `https` and `wss`.
    ///
    /// # Errors
    /// See [`FetchError`]; of several addresses of a name, each must be allowed.
    pub async fn connect(&self, url: &Uri, rules: &Rules) -> Result<Box<dyn Stream>, FetchError> {
        let secure = match url.scheme_str() {
            Some("https" | "wss") => true,
            Some("http" | "ws") if rules.allow_plain => false,
            Some("http" | "ws") => return Err(FetchError::Forbidden("plain HTTP is not allowed".into())),
            _ => return Err(FetchError::Forbidden("not an http or https address".into())),
        };
        let host = url.host().ok_or_else(|| FetchError::Forbidden("the address names no host".into()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // Connecting to what was checked, and not to the name again, leaves no room for an answer that changes.
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        if let Some(inside) =
            addresses.iter().find(|address| !rules.allow_private && !is_public(address.ip()))
        {
            return Err(FetchError::Forbidden(format!(
                "{} is not an address of the public internet",
                inside.ip()
            )));
        }
        let stream = TcpStream::connect(addresses.as_slice()).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| FetchError::Forbidden("not a host name".into()))?;
        Ok(Box::new(TlsConnector::from(self.tls()?).connect(name, stream).await?))
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, FetchError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let text =
                "this machine has no certificate authorities to trust; install the package ca-certificates";
            return Err(FetchError::Forbidden(text.into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| FetchError::Network(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

/// Whether an address can belong to somebody else's server on the internet, and not to this machine, its network or a
/// cloud's metadata service (the special-purpose registries of IANA, RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(p, q, r, s))
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match a {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) carry an IPv4 address.
        0x64 if b == 0xff9b && [c, d, e, f] == [0; 4] => embedded(g, h),
        0x2002 => embedded(b, c),
        // Teredo, ORCHID and documentation; otherwise global unicast is 2000::/3 and nothing else.
        0x2001 => b >= 0x200 && b != 0xdb8,
        _ => (0x2000..0x4000).contains(&a) && a != 0x3fff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_not_public() {
        let inside = [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "3fff::1",
        ];
        for address in inside {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let outside = [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "2606:4700::1",
            "2001:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ];
        for address in outside {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
