//! File descriptors: how many this process may have.

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but clients.
const OTHERS: u64 = 300;

/// Makes room for as many sockets, as far as the system allows.
///
/// # Errors
/// It does not allow as many.
pub fn make_room(sockets: usize) -> anyhow::Result<()> {
    let needed = sockets as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= needed),
        "{sockets} connections need {needed} file descriptors and this process may have {}; run several processes",
        maximum.unwrap_or_default()
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .context("raising the limit of open files")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_allow_is_refused_with_the_numbers() {
        make_room(10).unwrap();
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let error = make_room(usize::MAX >> 8).unwrap_err().to_string();
            assert!(error.contains("file descriptors"), "{error}");
        }
    }
}
