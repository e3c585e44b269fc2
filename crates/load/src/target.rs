//! Where the load goes: an address, a host name and a path out of a URL.
//!
//! Load belongs on one's own machine: a target elsewhere must be asked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use http::Uri;

/// A resolved target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
    /// Host and port as in the URL.
    pub authority: String,
    /// The host alone, without brackets.
    pub host: String,
    /// Path and query, never empty.
    pub path: String,
    /// `wss` or `https`.
    pub is_tls: bool,
}

/// Why a URL is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No URL, or not of a scheme that is spoken here.
    #[error("{url:?} is not a URL like {example}")]
    Url {
        /// As given.
        url: String,
        /// A right one.
        example: &'static str,
    },
    /// The name has no address.
    #[error("{host:?} cannot be resolved: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Another machine.
    #[error("{0} is not this machine; add --allow-remote if it is yours and may be put under load")]
    Remote(IpAddr),
}

// === impl Target ===

impl Target {
    /// The target of a `ws` or `wss` URL.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn websocket(url: &str, allow_remote: bool) -> Result<Self, TargetError> {
        Self::resolve(url, ["ws", "wss"], "ws://127.0.0.1:8000/connection/websocket", allow_remote)
    }

    /// The target of an `http` URL.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn http(url: &str, allow_remote: bool) -> Result<Self, TargetError> {
        Self::resolve(url, ["http", "http"], "http://127.0.0.1:8000/api", allow_remote)
    }

    fn resolve(
        url: &str,
        [plain, tls]: [&str; 2],
        example: &'static str,
        allow_remote: bool,
    ) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url { url: url.to_owned(), example };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().ok_or_else(wrong)?;
        if scheme != plain && scheme != tls {
            return Err(wrong());
        }
        let is_tls = scheme == tls && tls != plain;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let resolved = (&*host, port).to_socket_addrs();
        let addresses: Vec<_> =
            resolved.map_err(|cause| TargetError::Resolve { host: host.clone(), cause })?.collect();
        // Only IPv4 has many loopback addresses to come from, so it is preferred.
        let address = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let address = *address.ok_or_else(wrong)?;
        if !allow_remote && !address.ip().is_loopback() {
            return Err(TargetError::Remote(address.ip()));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, authority: authority.as_str().to_owned(), host, path, is_tls })
    }

    /// The address that connection `number` comes from, so that no address runs out of ports: a quarter of the ports of
    /// each are used at most, and processes begin with different ones, since what a process before this one used rests
    /// for a minute. `None` leaves it to the system.
    pub fn source(&self, number: usize) -> Option<IpAddr> {
        const PER_ADDRESS: usize = 7_000;
        match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                let first = std::process::id() as usize * 5;
                let last = 1 + (first + number / PER_ADDRESS) % 250;
                Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last as u8)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_address_host_and_path() {
        let target = Target::websocket("ws://127.0.0.1:8000/connection/websocket?a=b", false).unwrap();
        assert_eq!(target.address, "127.0.0.1:8000".parse().unwrap());
        assert_eq!((&*target.authority, &*target.path), ("127.0.0.1:8000", "/connection/websocket?a=b"));
        assert!(!target.is_tls);
        let target = Target::websocket("wss://[::1]", false).unwrap();
        assert_eq!((target.address, target.is_tls), ("[::1]:443".parse().unwrap(), true));
        assert_eq!((&*target.host, &*target.path), ("::1", "/"));
    }

    #[test]
    fn another_machine_must_be_asked_for() {
        let refused = Target::websocket("ws://192.0.2.1:8000/", false);
        assert!(matches!(refused, Err(TargetError::Remote(_))), "{refused:?}");
        assert!(Target::websocket("ws://192.0.2.1:8000/", true).is_ok());
    }

    #[test]
    fn what_is_no_url_of_the_kind_is_refused() {
        for url in ["", "127.0.0.1:8000", "http://127.0.0.1/", "ws:///path", "ws://a b/"] {
            assert!(matches!(Target::websocket(url, true), Err(TargetError::Url { .. })), "{url}");
        }
        assert!(matches!(Target::http("ws://127.0.0.1/", true), Err(TargetError::Url { .. })));
    }

    #[test]
    fn many_connections_come_from_several_loopback_addresses() {
        let target = Target::websocket("ws://127.0.0.1:1/", false).unwrap();
        let mut sources: Vec<_> = (0..30_000).map(|number| target.source(number)).collect();
        sources.dedup();
        assert_eq!(sources.len(), 5);
        assert_eq!(Target::websocket("ws://[::1]:1/", false).unwrap().source(9), None);
    }
}
