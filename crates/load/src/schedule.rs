//! When things should happen, whether or not they could.
//!
//! A load that waits for slow answers before it goes on measures too few of them: coordinated omission. So every
//! publication has a time at which it is due, fixed beforehand, and latency counts from there.

use std::time::{Duration, Instant};

/// Times at a fixed rate, in bursts, shared out among workers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    start: Instant,
    /// Items a second, all workers together.
    rate: f64,
    /// Items due at the same moment.
    burst: u64,
}

// === impl Schedule ===

impl Schedule {
    /// A schedule that begins at `start`. A rate below one a day, or no burst, are taken as those.
    pub fn new(start: Instant, rate: f64, burst: u64) -> Self {
        Self { start, rate: rate.max(1.0 / 86_400.0), burst: burst.max(1) }
    }

    /// When item `index` is due.
    pub fn due(&self, index: u64) -> Instant {
        let whole_bursts = index / self.burst * self.burst;
        self.start + Duration::from_secs_f64(whole_bursts as f64 / self.rate)
    }

    /// How many items are due in this time.
    pub fn items(&self, during: Duration) -> u64 {
        let bursts = (during.as_secs_f64() * self.rate / self.burst as f64 - 1e-9).ceil();
        bursts.max(0.0) as u64 * self.burst
    }
}

/// Waits until a moment more exactly than a runtime's timers, which count milliseconds.
#[derive(Debug)]
pub struct Pacer {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

// === impl Pacer ===

#[cfg(target_os = "linux")]
impl Pacer {
    /// A timer of this runtime.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn new() -> std::io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for what may not own its descriptor; this owns it"
        )]
        let timer = tokio::io::unix::AsyncFd::new(timer)?;
        Ok(Self { timer })
    }

    /// Waits; returns at once if the moment has passed. May be dropped and called again.
    ///
    /// # Errors
    /// Of the operating system.
    pub async fn until(&mut self, moment: Instant) -> std::io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        loop {
            let rest = moment.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let it_value = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: rest.subsec_nanos().into() };
            let once = Itimerspec { it_interval: zero, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            let mut ready = self.timer.readable().await?;
            // What is read is how often it ran out; that it did is all that matters.
            let _ = rustix::io::read(&self.timer, &mut [0; 8]);
            ready.clear_ready();
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Pacer {
    /// A timer of this runtime.
    ///
    /// # Errors
    /// None.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits; returns at once if the moment has passed.
    ///
    /// # Errors
    /// None.
    pub async fn until(&mut self, moment: Instant) -> std::io::Result<()> {
        tokio::time::sleep_until(moment.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_due_at_the_rate_in_bursts() {
        let start = Instant::now();
        let after = |schedule: &Schedule, index| schedule.due(index).duration_since(start).as_millis();
        let even = Schedule::new(start, 100.0, 1);
        assert_eq!([0, 1, 2, 50].map(|index| after(&even, index)), [0, 10, 20, 500]);
        let bursts = Schedule::new(start, 100.0, 10);
        assert_eq!([0, 9, 10, 19, 20].map(|index| after(&bursts, index)), [0, 0, 100, 100, 200]);
    }

    #[test]
    fn as_many_items_fit_a_time_as_are_due_before_its_end() {
        let start = Instant::now();
        for (rate, burst, millis, items) in
            [(100.0, 1, 1_000, 100), (100.0, 10, 1_000, 100), (3.0, 1, 500, 2), (1.0, 5, 0, 0)]
        {
            let schedule = Schedule::new(start, rate, burst);
            let during = Duration::from_millis(millis);
            assert_eq!(schedule.items(during), items, "{rate} {burst} {millis}");
            assert!(items == 0 || schedule.due(items - 1) < start + during);
            assert!(schedule.due(items) >= start + during);
        }
    }

    #[tokio::test]
    async fn a_pacer_waits_until_the_moment_and_not_for_one_that_is_over() {
        let mut pacer = Pacer::new().unwrap();
        for micros in [300, 1_700, 2_500] {
            let moment = Instant::now() + Duration::from_micros(micros);
            pacer.until(moment).await.unwrap();
            assert!(Instant::now() >= moment);
        }
        pacer.until(Instant::now()).await.unwrap();
    }
}
