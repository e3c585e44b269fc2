//! Memory and processor time of a process, as the system sees them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// By how much the coarse number may be wrong: two parts of it are rounded to a hundredth of a second, at both ends.
const COARSE_ERROR: Duration = Duration::from_millis(20);

/// A process on this machine.
#[derive(Debug, Clone)]
pub struct Process(PathBuf);

/// Figures of a process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory in bytes: what it has of the machine's memory, shared pages included.
    pub rss: u64,
    /// Resident memory in bytes that is neither shared nor of a file.
    pub anonymous: u64,
    /// Processor time by thread, and of the whole process in the coarser units of the system.
    cpu: (BTreeMap<String, Duration>, Duration),
}

/// The files of a process cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read ({what}); is it a process of yours on this machine?")]
pub struct ProcessError {
    path: String,
    what: String,
}

// === impl Process ===

impl Process {
    /// The process with this id.
    pub fn new(pid: u32) -> Self {
        Self(Path::new("/proc").join(pid.to_string()))
    }

    /// This process.
    pub fn this() -> Self {
        Self::new(std::process::id())
    }

    /// Its figures now.
    ///
    /// # Errors
    /// It is gone or somebody else's.
    pub fn sample(&self) -> Result<Sample, ProcessError> {
        let status = self.read("status")?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes
                .map(|kibibytes| kibibytes << 10)
                .ok_or_else(|| self.error("status", format!("no {name}")))
        };
        Ok(Sample {
            rss: bytes("VmRSS:")?,
            anonymous: bytes("RssAnon:")?,
            cpu: (self.threads(), self.coarse()?),
        })
    }

    /// Nanoseconds that each thread has run. One that ends while this is read is left out.
    fn threads(&self) -> BTreeMap<String, Duration> {
        let Ok(entries) = std::fs::read_dir(self.0.join("task")) else { return BTreeMap::new() };
        let ran = |thread: std::fs::DirEntry| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let nanos = text.split_whitespace().next()?.parse().ok()?;
            Some((thread.file_name().to_string_lossy().into_owned(), Duration::from_nanos(nanos)))
        };
        entries.flatten().filter_map(ran).collect()
    }

    /// Time in user and kernel mode, in ticks of a hundredth of a second.
    fn coarse(&self) -> Result<Duration, ProcessError> {
        let stat = self.read("stat")?;
        // The name may hold spaces and parentheses; what counts comes after the last one.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks =
            |index| fields.split_whitespace().nth(index).and_then(|field: &str| field.parse::<u64>().ok());
        match (ticks(11), ticks(12)) {
            (Some(user), Some(kernel)) => Ok(Duration::from_millis((user + kernel) * 10)),
            _ => Err(self.error("stat", "no times".into())),
        }
    }

    fn read(&self, file: &str) -> Result<String, ProcessError> {
        std::fs::read_to_string(self.0.join(file)).map_err(|error| self.error(file, error.to_string()))
    }

    fn error(&self, file: &str, what: String) -> ProcessError {
        ProcessError { path: self.0.join(file).display().to_string(), what }
    }
}

// === impl Sample ===

impl Sample {
    /// Processor time since an earlier sample.
    pub fn cpu_since(&self, earlier: &Self) -> Duration {
        let ((threads, coarse), (before, coarse_before)) = (&self.cpu, &earlier.cpu);
        let coarse = coarse.saturating_sub(*coarse_before);
        let since = |(thread, ran): (&String, &Duration)| {
            ran.saturating_sub(before.get(thread).copied().unwrap_or_default())
        };
        let exact = threads.iter().map(since).sum();
        // What a thread that has ended ran is in the coarse number only. One that did next to nothing, such as a worker
        // that went for want of work, need not cost the others' precision.
        let has_ended = before.keys().any(|thread| !threads.contains_key(thread));
        if threads.is_empty() || (has_ended && coarse.abs_diff(exact) > COARSE_ERROR) {
            coarse
        } else {
            exact
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let before = Process::this().sample().unwrap();
        let mut work = vec![1_u64; 4 << 20];
        let busy = std::time::Instant::now();
        while busy.elapsed() < Duration::from_millis(50) {
            work.iter_mut().for_each(|value| *value = std::hint::black_box(value.wrapping_mul(3)));
        }
        let after = Process::this().sample().unwrap();
        assert!(after.anonymous >= before.anonymous + (16 << 20), "{before:?} {after:?}");
        assert!(after.rss >= after.anonymous);
        let cpu = after.cpu_since(&before);
        assert!(cpu > Duration::from_millis(5) && cpu < Duration::from_secs(60), "{cpu:?}");
        drop(work);
    }

    #[test]
    fn what_a_thread_did_that_has_ended_is_counted() {
        let (start, started) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            started.recv().unwrap();
            let ran = || {
                let time = clock_gettime(ClockId::ThreadCPUTime);
                Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
            };
            while ran() < Duration::from_millis(200) {}
        });
        let before = Process::this().sample().unwrap();
        start.send(()).unwrap();
        thread.join().unwrap();
        let cpu = Process::this().sample().unwrap().cpu_since(&before);
        assert!(cpu >= Duration::from_millis(170), "{cpu:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_that_says_so() {
        let error = Process::new(u32::MAX).sample().unwrap_err();
        assert!(error.to_string().contains("process"), "{error}");
    }
}
