//! Where the blocks of a source are, by a hash of their bytes.

/// Bytes of a block, and of the window that is slid over the target to find one.
pub(crate) const BLOCK: usize = 16;

/// Blocks looked at for one window. What it costs: a source of many equal blocks may hide the best of them.
const CANDIDATES_MAX: usize = 32;

/// The end of a chain. Block numbers are stored one up.
const NONE: u32 = 0;

/// The 16-byte blocks of a source, at multiples of 16. Takes at most three quarters of the source's size.
pub(crate) struct Index {
    /// The first block of each bucket.
    heads: Vec<u32>,
    /// For each block the next one of its bucket.
    next: Vec<u32>,
    /// Keeps the top bits of a hash, as many as number a bucket.
    shift: u32,
}

impl Index {
    /// Indexes `source`, or as much of it as 32 bits can number.
    pub(crate) fn of(source: &[u8]) -> Index {
        let blocks = source.as_chunks::<BLOCK>().0;
        let blocks = &blocks[..blocks.len().min(u32::MAX as usize - 1)];
        // At least two buckets: a shift by the whole width would overflow.
        let buckets = blocks.len().next_power_of_two().max(2);
        let shift = u64::BITS - buckets.trailing_zeros();
        let mut index = Index { heads: vec![NONE; buckets], next: vec![NONE; blocks.len()], shift };
        let mut hash_after = None;
        // Backwards, so that a chain begins with the block of the lowest offset.
        for (number, block) in blocks.iter().enumerate().rev() {
            let hash = hash(block);
            let head = &mut index.heads[(hash >> shift) as usize];
            // Of a run of equal blocks the first is enough: a match with it goes on through the run.
            let repeats = hash_after == Some(hash);
            index.next[number] = if repeats { index.next[number + 1] } else { *head };
            *head = number as u32 + 1;
            hash_after = Some(hash);
        }
        index
    }

    /// Offsets in the source at which `window` may stand, lowest first: few, but never one that is out of bounds.
    pub(crate) fn candidates(&self, window: &[u8; BLOCK]) -> impl Iterator<Item = usize> {
        let mut block = self.heads[(hash(window) >> self.shift) as usize];
        std::iter::from_fn(move || {
            let number = block.checked_sub(1)? as usize;
            block = self.next[number];
            Some(number * BLOCK)
        })
        .take(CANDIDATES_MAX)
    }
}

/// Multiply-shift over the two words of a block: good in its top bits. Cheaper at every position than updating a sum
/// by the byte that enters and the byte that leaves, and a block needs one step where a sum needs sixteen.
fn hash(block: &[u8; BLOCK]) -> u64 {
    let words = u128::from_le_bytes(*block);
    let (low, high) = (words as u64, (words >> 64) as u64);
    low.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(high.wrapping_mul(0xd1b5_4a32_d192_ed03))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(source: &[u8], window: &[u8; BLOCK]) -> Vec<usize> {
        Index::of(source).candidates(window).collect()
    }

    #[test]
    fn blocks_are_found_at_multiples_of_sixteen_lowest_first() {
        let source = b"first block 0000second block 000first block 0000tail";
        assert_eq!(candidates(source, b"first block 0000"), [0, 32]);
        assert!(candidates(source, b"second block 000").contains(&16));
    }

    #[test]
    fn a_run_of_equal_blocks_is_one_candidate() {
        assert_eq!(candidates(&[b'a'; 4096], &[b'a'; BLOCK]), [0]);
    }

    #[test]
    fn candidates_are_few_however_often_a_block_occurs() {
        let source = [[b'a'; BLOCK], [b'b'; BLOCK]].concat().repeat(1000);
        assert_eq!(candidates(&source, &[b'a'; BLOCK]).len(), CANDIDATES_MAX);
    }

    #[test]
    fn a_source_shorter_than_a_block_has_no_candidates() {
        assert_eq!(candidates(b"", &[0; BLOCK]), [0; 0]);
        assert_eq!(candidates(&[0; BLOCK - 1], &[0; BLOCK]), [0; 0]);
    }
}
