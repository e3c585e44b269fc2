//! Names and addresses of this machine.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tidewire::transport::serve::tls::ServerTls;
use tidewire::transport::{HttpOptions, Listener};

use super::StartError;
use super::certificates::Certificates;
use crate::config::model::Listen;

/// Which listener is meant, in the words of the configuration.
pub(super) struct Names {
    pub(super) address_key: &'static str,
    pub(super) port_key: &'static str,
    pub(super) port_variable: &'static str,
    pub(super) tls_section: &'static str,
}

pub(super) const EXTERNAL: Names = Names {
    address_key: "http_server.address",
    port_key: "http_server.port",
    port_variable: "TIDEWIRE_HTTP_SERVER_PORT",
    tls_section: "http_server.tls",
};

pub(super) const INTERNAL: Names = Names {
    address_key: "http_server.internal_address",
    port_key: "http_server.internal_port",
    port_variable: "TIDEWIRE_HTTP_SERVER_INTERNAL_PORT",
    tls_section: "http_server.internal_tls",
};

/// Binds a listener. Without a host it is every address of the machine, IPv6 and IPv4.
pub(super) async fn bind(
    listen: &Listen,
    names: &Names,
    certificates: &mut Certificates,
) -> Result<Listener, StartError> {
    let tls = listen.tls.as_ref().map(|tls| certificates.add(names.tls_section, tls)).transpose();
    let tls = tls.map_err(|problem| StartError::Tls { key: names.tls_section, problem })?;
    let bound = match &listen.host {
        Some(host) => bind_host(host, listen.port, tls).await,
        None => bind_everywhere(listen.port, tls).await,
    };
    bound.map_err(|source| {
        let host = listen.host.as_deref().unwrap_or("all addresses");
        let address = format!("port {} of {host}", listen.port);
        if source.kind() == io::ErrorKind::AddrInUse {
            return StartError::InUse { address, key: names.port_key, variable: names.port_variable };
        }
        StartError::Listen { address, key: names.address_key, source }
    })
}

async fn bind_host(host: &str, port: u16, tls: Option<ServerTls>) -> io::Result<Listener> {
    let mut addresses = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await?;
    let address = addresses.next().ok_or_else(|| io::Error::other("the name has no address"))?;
    Listener::bind(address, tls, HttpOptions::default()).await
}

async fn bind_everywhere(port: u16, tls: Option<ServerTls>) -> io::Result<Listener> {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match Listener::bind(v6, tls.clone(), HttpOptions::default()).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            // A machine without IPv6.
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            Listener::bind(v4, tls, HttpOptions::default()).await
        }
        bound => bound,
    }
}

/// A name for this node: the machine's and the port.
pub(super) fn node_name(port: u16) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "tidewire",
        host => host,
    };
    format!("{host}_{port}")
}
