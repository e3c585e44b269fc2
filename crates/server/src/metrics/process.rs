//! What the operating system says about this process (`/proc`, so Linux only; elsewhere nothing is said).

/// One look at the process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// Processor time used so far, user and system.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_files: u64,
    /// How many there may be.
    pub open_files_max: u64,
    /// Threads.
    pub threads: u64,
}

/// The unit of `/proc/self/stat`, `USER_HZ`, which is 100 on every architecture of Linux that Rust's standard library
/// supports.
const TICKS_PER_SECOND: f64 = 100.0;

// === impl Process ===

impl Process {
    /// Looks now; `None` where there is nothing to look at.
    pub fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        Some(Self {
            resident_bytes: field(&status, "VmRSS:")? * 1024,
            cpu_seconds: cpu_ticks(&stat)? / TICKS_PER_SECOND,
            // The directory that is read is one of them.
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
            open_files_max: open_files_max(),
            threads: field(&status, "Threads:")?,
        })
    }
}

impl From<Process> for tidewire::ProcessUse {
    fn from(process: Process) -> Self {
        Self { cpu_seconds: process.cpu_seconds, resident_bytes: process.resident_bytes }
    }
}

/// How many file descriptors this process may have.
pub fn open_files_max() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or(0)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, fields 14 and 15. The second field, the name, may hold anything but ends with the last `)`.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_sees_itself() {
        let before = Process::now().unwrap();
        let held: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let after = Process::now().unwrap();
        // Other tests of this binary open and close files and use memory at the same time.
        assert!(after.open_files >= held.len() as u64 && after.open_files <= after.open_files_max);
        assert!(after.resident_bytes > memory.len() as u64);
        assert!(after.cpu_seconds >= before.cpu_seconds && after.threads >= 1);
    }

    #[test]
    fn a_name_with_odd_characters_does_not_shift_the_fields() {
        assert_eq!(cpu_ticks("1 (a b) c) S 0 0 0 0 0 0 0 0 0 0 7 5 0"), Some(12.0));
    }
}
