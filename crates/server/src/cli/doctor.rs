//! `tidewire doctor`: would this configuration serve on this machine, and what should be mended?

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use tidewire_engine_redis::RedisEngine;

use super::output::{self, Failure};
use super::sources::{self, ConfigArgs};
use crate::config::Config;
use crate::config::model::{Listen, Tls};
use crate::config::report::Severity;
use crate::config::tree::Origin;
use crate::outgoing::{Outgoing, Rules};
use crate::serve::{certificates, redis_trouble};

/// Open files below which a server for many clients is not worth starting.
const FILES_WANTED: u64 = 65_536;
/// Open files a server needs for itself.
const FILES_OWN: u64 = 100;

const HELP: &str = "\
Run it where the server will run, as the user it will run as, and while it does not run: its ports are looked at too.
Each finding says what to do. Exit code 0 without errors, 1 with; 2 if the configuration itself does not hold.

Examples:
  tidewire doctor --config config.json
  sudo -u tidewire tidewire doctor --config /etc/tidewire/config.yaml";

/// Looks at the configuration and the machine: file limits, ports, certificates, keys, secrets, insecure options.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// What was found.
enum Finding {
    Good(String),
    Warning(String),
    Error(String),
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (config, report) = sources::load(&args.config.sources(Vec::new()))?;
    let mut findings = vec![Finding::Good("the configuration holds".into())];
    for problem in report.problems() {
        let text = match &problem.origin {
            Origin::Default => format!("{}: {}", problem.key, problem.text),
            origin => format!("{}: {} ({origin})", problem.key, problem.text),
        };
        findings.push(match problem.severity {
            Severity::Error => Finding::Error(text),
            Severity::Warning => Finding::Warning(text),
        });
    }
    findings.extend(args.config.file().and_then(file_of_secrets));
    findings.push(file_limit(rlimit::getrlimit(rlimit::Resource::NOFILE).ok(), wanted_connections(&config)));
    findings.extend(ports(&config));
    findings.extend(certificates(&config));
    findings.push(super::block_on(engine(&config))?);
    findings.extend(super::block_on(published_keys(&config))?);
    findings.extend(origins(&config));

    let mut errors = 0;
    for finding in findings {
        match finding {
            Finding::Good(text) => output::line(&format!("ok       {text}"))?,
            Finding::Warning(text) => output::line(&format!("warning  {text}"))?,
            Finding::Error(text) => {
                errors += 1;
                output::line(&format!("error    {text}"))?;
            }
        }
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted_connections(config: &Config) -> Option<u64> {
    config.admission.connection_limit.and_then(|limit| u64::try_from(limit.get()).ok())
}

/// Every client is an open file; the soft limit is raised at the start, the hard one is not ours to raise.
fn file_limit(limits: Option<(u64, u64)>, connections: Option<u64>) -> Finding {
    let Some((_, hard)) = limits else {
        return Finding::Warning("the limit of open files cannot be read".into());
    };
    let wanted = connections.map_or(FILES_WANTED, |connections| connections.saturating_add(FILES_OWN));
    if hard >= wanted {
        return Finding::Good(format!("{hard} files may be open, one for each client"));
    }
    let text = format!(
        "only {hard} files may be open, one for each client, and {wanted} are wanted: raise the limit \
         (LimitNOFILE= of systemd, --ulimit nofile= of a container, or ulimit -Hn)"
    );
    // A limit that was asked for and cannot be kept is an error; our own idea of many is not.
    if connections.is_some() { Finding::Error(text) } else { Finding::Warning(text) }
}

fn file_of_secrets(file: &str) -> Option<Finding> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
        if mode & 0o004 != 0 {
            let text =
                format!("{file} can be read by everyone on this machine: if it holds secrets, chmod 640 it");
            return Some(Finding::Warning(text));
        }
    }
    Some(Finding::Good(format!("{file} cannot be read by everyone")))
}

fn ports(config: &Config) -> Vec<Finding> {
    let server = &config.http_server;
    let mut listeners = vec![(&server.external, "http_server.port")];
    listeners.extend(server.internal.iter().map(|internal| (internal, "http_server.internal_port")));
    listeners.into_iter().map(|(listen, key)| port(listen, key)).collect()
}

fn port(listen: &Listen, key: &str) -> Finding {
    let host = listen.host.as_deref().unwrap_or("0.0.0.0");
    let host = host.trim_matches(['[', ']']);
    let shown = format!("{host}:{}", listen.port);
    let addresses: Vec<SocketAddr> = match (host, listen.port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Finding::Error(format!("{shown} is no address: {error}; change http_server.address"));
        }
    };
    match TcpListener::bind(addresses.as_slice()) {
        Ok(_) => Finding::Good(format!("{shown} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Finding::Error(format!("{shown} is in use: stop what listens there, or change {key}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::Error(format!("{shown} may not be used by this user: choose a {key} from 1024"))
        }
        Err(error) => Finding::Error(format!("{shown} cannot be used: {error}; change http_server.address")),
    }
}

fn certificates(config: &Config) -> Vec<Finding> {
    let server = &config.http_server;
    let internal = server.internal.as_ref().map(|listen| (listen, "http_server, internal port"));
    let listeners = std::iter::once((&server.external, "http_server.tls")).chain(internal);
    let mut findings: Vec<Finding> =
        listeners.filter_map(|(listen, section)| Some(certificate(listen.tls.as_ref()?, section))).collect();
    let on_this_machine = matches!(server.external.host.as_deref(), Some("127.0.0.1" | "::1" | "localhost"));
    if server.external.tls.is_none() && !on_this_machine {
        let text = "clients are served without TLS: put a proxy with TLS in front, or set http_server.tls";
        findings.push(Finding::Warning(text.into()));
    }
    findings
}

/// Reads what the server would read, as it would.
fn certificate(tls: &Tls, section: &str) -> Finding {
    match certificates::load(tls) {
        Ok(_) => Finding::Good(format!("{section}: the certificate and its private key can be used")),
        Err(problem) => Finding::Error(format!("{section}: {problem}")),
    }
}

/// Connects as the server would.
async fn engine(config: &Config) -> Finding {
    let Some(options) = &config.redis else {
        let text = "the engine is this node's memory: nothing to reach, and nothing outlives a restart";
        return Finding::Good(text.into());
    };
    let engine = match RedisEngine::start(options) {
        Ok(engine) => engine,
        Err(error) => return Finding::Error(redis_trouble(&error)),
    };
    let used = match engine.connected(Duration::from_secs(5)).await {
        Ok(()) => engine.writable().await,
        refused => refused,
    };
    match used {
        Ok(()) => Finding::Good(
            "Redis answers, takes the login, is what the configuration says, and can be written to".into(),
        ),
        Err(error) => Finding::Error(redis_trouble(&error)),
    }
}

async fn published_keys(config: &Config) -> Vec<Finding> {
    let rules = std::iter::once(&config.tokens.connection).chain(&config.tokens.subscription);
    let mut findings = Vec::new();
    for endpoint in rules.filter_map(|rules| rules.jwks.as_ref()) {
        let (url, allowed) = (&endpoint.url, endpoint.allow_private);
        let rules = Rules {
            allow_plain: allowed,
            allow_private: allowed,
            timeout: Duration::from_secs(3),
            body_bytes_max: 256 << 10,
        };
        let Ok(address) = url.parse() else { continue };
        findings.push(match Outgoing::default().get(&address, &rules).await {
            Ok(_) => Finding::Good(format!("token keys can be fetched from {url}")),
            Err(error) => Finding::Error(format!("token keys cannot be fetched from {url}: {error}")),
        });
    }
    findings
}

fn origins(config: &Config) -> Option<Finding> {
    match config.admission.allowed_origins.as_slice() {
        [] => Some(Finding::Warning(
            "client.allowed_origins is empty: browsers cannot connect; list the origins of your pages".into(),
        )),
        origins if origins.iter().any(|origin| origin == "*") => Some(Finding::Warning(
            "client.allowed_origins holds \"*\": pages of strangers may connect from their visitors' browsers".into(),
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::config::model::PemSource;

    #[test]
    fn a_limit_of_files_is_judged_by_the_connections_that_were_asked_for() {
        assert!(matches!(file_limit(Some((1024, 100_000)), None), Finding::Good(_)));
        assert!(matches!(file_limit(Some((1024, 4096)), None), Finding::Warning(_)));
        assert!(matches!(file_limit(Some((1024, 4096)), Some(2000)), Finding::Good(_)));
        assert!(matches!(file_limit(Some((1024, 4096)), Some(4096)), Finding::Error(_)));
        assert!(matches!(file_limit(None, None), Finding::Warning(_)));
    }

    #[test]
    fn bad_c2_a_certificate_that_the_server_could_not_use_is_found() {
        let [ours, other] =
            [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
        let (pem, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
        for (certificate_text, key_text, expected) in [
            (pem.clone(), key.clone(), None),
            (pem.clone(), other.signing_key.serialize_pem(), Some("do not belong together")),
            (String::new(), key.clone(), Some("certificate cannot be read")),
            (pem, "-----BEGIN".into(), Some("private key cannot be read")),
        ] {
            let text = |text: String| PemSource::Text(Secret::new(text));
            let tls =
                Tls { certificate: text(certificate_text), key: text(key_text), client_authorities: None };
            match (certificate(&tls, "http_server.tls"), expected) {
                (Finding::Good(_), None) => {}
                (Finding::Error(told), Some(expected)) => {
                    assert!(told.contains("http_server.tls") && told.contains(expected), "{told}");
                }
                (Finding::Good(told) | Finding::Warning(told) | Finding::Error(told), _) => panic!("{told}"),
            }
        }
    }

    #[test]
    fn a_port_in_use_is_found() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port_of = taken.local_addr().unwrap().port();
        let listen = |host: &str, port| Listen { host: Some(host.into()), port, tls: None };
        assert!(
            matches!(port(&listen("127.0.0.1", port_of), "k"), Finding::Error(text) if text.contains("in use"))
        );
        drop(taken);
        assert!(matches!(port(&listen("127.0.0.1", port_of), "k"), Finding::Good(_)));
        assert!(matches!(port(&listen("not a host", 1), "k"), Finding::Error(_)));
    }
}
