//! How many connections there may be unless the configuration says so: by open files and by memory.

use std::path::{Path, PathBuf};

use crate::metrics::process;

/// File descriptors that are not for client sockets: listeners, logs, the engine, API calls on their way.
const DESCRIPTORS_KEPT: u64 = 100;

/// Memory that a connection is reckoned with: 4 KiB of its socket in the kernel, 2 KiB of its own (6 KiB with TLS), the
/// rest for its subscriptions and what waits to be written. An idle one takes half of it, a slow one up to
/// `client.queue_max_size`: not all can be slow at a time.
const CONNECTION_BYTES: u64 = 16 << 10;

/// The part of the memory that is for connections; the rest is for history, presence and the system.
const SHARE: (u64, u64) = (3, 4);

/// What this machine lets this process have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    /// Open files.
    descriptors: u64,
    /// Bytes of memory, if the system says.
    memory: Option<u64>,
}

// === impl Capacity ===

impl Capacity {
    /// Raises the limit of open files as far as this process may, and looks at the memory. Both go to the log.
    pub(super) fn take() -> Self {
        let descriptors =
            rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|_| process::open_files_max());
        let capacity = Self { descriptors, memory: memory_of(Path::new("/")) };
        let memory_mib = capacity.memory.map(|bytes| bytes >> 20);
        let connections = capacity.connections(None);
        tracing::info!(open_files = descriptors, memory_mib, connections, "connections that fit");
        if descriptors < 4096 {
            tracing::warn!(
                open_files = descriptors,
                connections,
                "few files may be open, and every connection is one: raise the limit (ulimit -n)"
            );
        }
        capacity
    }

    /// How many connections there may be. Memory counts where nothing is configured; open files always do.
    pub(super) fn connections(&self, configured: Option<usize>) -> usize {
        let by_memory = || self.memory.map_or(u64::MAX, connections_in);
        let wanted = configured.map_or_else(by_memory, |limit| limit as u64);
        usize::try_from(wanted.min(connections_of(self.descriptors))).unwrap_or(usize::MAX)
    }
}

/// Connections that fit into the limit of open files.
fn connections_of(descriptors: u64) -> u64 {
    descriptors.saturating_sub(DESCRIPTORS_KEPT).max(descriptors / 2)
}

/// Connections that fit into this many bytes.
fn connections_in(memory: u64) -> u64 {
    (memory / SHARE.1 * SHARE.0 / CONNECTION_BYTES).max(1)
}

/// The memory this process may have: the machine's, or less if a control group says so. `root` is where the system's
/// files are.
fn memory_of(root: &Path) -> Option<u64> {
    let limits = limit_files(root).into_iter().filter_map(|file| {
        // Version 2 says `max` where there is no limit, version 1 a number near 2^63.
        std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
    });
    limits.chain(installed(root)).min()
}

/// The machine's memory in bytes.
fn installed(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Where the limits of this process's control groups and of those around them stand, in version 1 and 2 (cgroups(7)).
fn limit_files(root: &Path) -> Vec<PathBuf> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the group's own path may not be there; the mount is the group then.
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(root.join(mount).join(group).join(file));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn memory(files: &[(&str, &str)]) -> Option<u64> {
        memory_of(system(files).path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16384 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_narrowest_limit_of_memory_counts() {
        let machine = 16 << 20;
        assert_eq!(memory(&[]), None, "a system that does not say");
        assert_eq!(memory(&[MEMINFO]), Some(machine));
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let second = "sys/fs/cgroup/a/b/memory.max";
        assert_eq!(memory(&[MEMINFO, group, (second, "max\n")]), Some(machine));
        assert_eq!(memory(&[MEMINFO, group, (second, "8388608\n")]), Some(8 << 20));
        let around = ("sys/fs/cgroup/a/memory.max", "4194304\n");
        assert_eq!(memory(&[MEMINFO, group, (second, "8388608\n"), around]), Some(4 << 20));
        // In a container: the mount is the group.
        assert_eq!(memory(&[MEMINFO, group, ("sys/fs/cgroup/memory.max", "2097152")]), Some(2 << 20));
        let first = ("proc/self/cgroup", "9:name=systemd:/\n4:memory:/x\n1:cpu:/\n0::/\n");
        let file = "sys/fs/cgroup/memory/x/memory.limit_in_bytes";
        assert_eq!(memory(&[MEMINFO, first, (file, "9223372036854771712\n")]), Some(machine));
        assert_eq!(memory(&[MEMINFO, first, (file, "1048576\n")]), Some(1 << 20));
        assert_eq!(memory(&[("proc/meminfo", "odd"), ("proc/self/cgroup", "odd\n::\n")]), None);
    }

    #[test]
    fn connections_are_bounded_by_files_and_unless_configured_by_memory() {
        let of = |descriptors, memory| Capacity { descriptors, memory };
        let gib = |count: u64| Some(count << 30);
        for (capacity, configured, connections) in [
            (of(20_000, gib(24)), None, 19_900),
            (of(1 << 20, gib(24)), None, (1 << 20) - 100),
            (of(1 << 30, gib(24)), None, 1_179_648),
            (of(1 << 20, gib(1)), None, 49_152),
            (of(1 << 20, None), None, (1 << 20) - 100),
            (of(120, gib(24)), None, 60),
            // What the operator says is his affair, as far as there are files for it.
            (of(1 << 20, gib(1)), Some(500_000), 500_000),
            (of(1 << 20, gib(1)), Some(10), 10),
            (of(1_000, gib(1)), Some(500_000), 900),
        ] {
            assert_eq!(capacity.connections(configured), connections, "{capacity:?} {configured:?}");
        }
    }

    #[test]
    fn this_machine_says_how_much_memory_it_has() {
        let memory = memory_of(Path::new("/")).unwrap();
        assert!(memory > 64 << 20, "{memory}");
    }
}
