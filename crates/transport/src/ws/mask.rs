//! Masking (RFC 6455 §5.3).

/// Masks or unmasks `payload` in place, which is the same operation. `offset` is how many bytes of the same frame came before.
pub fn apply_mask(payload: &mut [u8], key: [u8; 4], offset: u64) {
    let mut key = key;
    // The remainder is below 4, so it always fits.
    key.rotate_left(usize::try_from(offset % 4).unwrap_or(0));
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Eight bytes at a time in a shape the compiler turns into vector instructions.
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= mask;
    }
}
