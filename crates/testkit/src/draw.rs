//! Seeded choices.

use std::time::Duration;

/// A stream of choices. Its own few lines rather than a library's, so that a seed means the same for ever.
///
/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The choices of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Independent choices for one part of the world, so that a part that draws more does not disturb the others.
    pub fn fork(&self, label: &str) -> Self {
        let mixed = label.bytes().fold(self.0 ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut fork = Self(mixed);
        fork.number();
        fork
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The bias of the remainder is far below anything a simulation could notice.
        self.number().checked_rem(n).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.number() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// One of the items.
    ///
    /// # Panics
    /// If there are none.
    #[allow(clippy::indexing_slicing, reason = "the index is below the length")]
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Whole microseconds between two numbers of milliseconds.
    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// Mostly much shorter than `mean`, now and then much longer: the time between independent events.
    pub fn around(&mut self, mean: Duration) -> Duration {
        let unit = ((self.number() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        mean.mul_f64(-unit.ln())
    }

    /// Thirty-two bytes, as seeds of other generators.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let mut draw = Draw::new(1);
        assert_eq!([draw.number(), draw.number()], [0x910a_2dec_8902_5cc1, 0xbeeb_8da1_658e_ec67]);
    }

    #[test]
    fn choices_keep_their_bounds() {
        let mut draw = Draw::new(7);
        for _ in 0..1000 {
            assert!((3..=5).contains(&draw.between(3, 5)));
            assert!(draw.below(2) < 2);
        }
        assert!(!draw.chance(0.0));
        assert!(draw.chance(1.0));
        let often = (0..10_000).filter(|_| draw.chance(0.3)).count();
        assert!((2_500..3_500).contains(&often), "{often}");
    }
}
