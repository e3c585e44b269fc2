//! Which of several servers, or parts, a channel belongs to.

/// One of `count`, by jump consistent hashing (Lamping and Veach, 2014): with one more, only the share of the new one
/// moves. The same on every node and in every version.
pub(crate) fn shard_of(channel: &str, count: usize) -> usize {
    jump(fnv(channel.as_bytes()), count)
}

fn jump(mut key: u64, count: usize) -> usize {
    let (mut found, mut next) = (0, 0.0);
    while next < count as f64 {
        found = next as u64;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = (found + 1) as f64 * ((1_u64 << 31) as f64 / ((key >> 33) + 1) as f64);
    }
    found as usize
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn channels_spread_evenly_and_one_server_more_takes_only_its_share() {
        let names: Vec<String> = (0..30_000).map(|n| format!("channel:{n}")).collect();
        let mut counts = [0; 3];
        let mut moved = 0;
        for name in &names {
            let of_three = shard_of(name, 3);
            counts[of_three] += 1;
            match shard_of(name, 4) {
                of_four if of_four == of_three => {}
                3 => moved += 1,
                other => panic!("{name} moved from {of_three} to {other}"),
            }
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert!((7_000..8_000).contains(&moved), "{moved}");
    }

    #[test]
    fn where_channels_are_never_changes() {
        let found: Vec<usize> = ["a", "news", "user:42", ""].iter().map(|c| shard_of(c, 128)).collect();
        assert_eq!(found, FOREVER);
    }

    /// By another implementation.
    const FOREVER: [usize; 4] = [31, 81, 105, 90];
}
