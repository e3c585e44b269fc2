//! How far two runs of bytes agree, from the front or from the back.

/// How many bytes `a` and `b` have in common at their beginning.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    // Payloads agree for long stretches: wide steps first, then the step in which they part.
    same += whole_steps::<128>(&a[same..], &b[same..]);
    same += whole_steps::<8>(&a[same..], &b[same..]);
    same + a[same..].iter().zip(&b[same..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes `a` and `b` have in common at their end.
pub(crate) fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    same += whole_steps_back::<128>(&a[..a.len() - same], &b[..b.len() - same]);
    same += whole_steps_back::<8>(&a[..a.len() - same], &b[..b.len() - same]);
    let (a, b) = (&a[..a.len() - same], &b[..b.len() - same]);
    same + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Bytes in the leading steps of `N` bytes that are equal.
fn whole_steps<const N: usize>(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (a.as_chunks::<N>().0, b.as_chunks::<N>().0);
    N * a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Bytes in the trailing steps of `N` bytes that are equal.
fn whole_steps_back<const N: usize>(a: &[u8], b: &[u8]) -> usize {
    let (a, b) = (a.as_rchunks::<N>().1, b.as_rchunks::<N>().1);
    N * a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_ends_at_the_first_difference_wherever_it_is() {
        let a: Vec<u8> = (0..200).collect();
        for at in 0..a.len() {
            let mut b = a.clone();
            b[at] ^= 0x80;
            assert_eq!(common_prefix(&a, &b), at);
            assert_eq!(common_suffix(&a, &b), a.len() - at - 1);
        }
    }

    #[test]
    fn agreement_ends_with_the_shorter_run() {
        let a: Vec<u8> = (0..200).collect();
        for length in 0..a.len() {
            assert_eq!(common_prefix(&a, &a[..length]), length);
            assert_eq!(common_prefix(&a[..length], &a), length);
            assert_eq!(common_suffix(&a, &a[length..]), a.len() - length);
            assert_eq!(common_suffix(&a[length..], &a), a.len() - length);
        }
    }
}
