//! Patches of strangers, and patches of our own between any two payloads.
#![no_main]

use tidewire_delta::{Limits, apply, create, create_bounded};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (source, rest) = rest.split_at(rest.len().min(8 * usize::from(length)));

    let limits = Limits { target_bytes_max: 1 << 16 };
    if let Ok(target) = apply(source, rest, limits) {
        assert!(target.len() <= limits.target_bytes_max);
        lead_there(source, &target);
    }
    lead_there(source, rest);
    lead_there(rest, source);
});

/// The patch between the two makes the target again, is text if the target is, and is bounded as asked.
fn lead_there(source: &[u8], target: &[u8]) {
    let mut patch = Vec::new();
    create(source, target, &mut patch);
    let limits = Limits { target_bytes_max: target.len() };
    assert_eq!(apply(source, &patch, limits).as_deref(), Ok(target));
    if std::str::from_utf8(target).is_ok() {
        assert!(std::str::from_utf8(&patch).is_ok());
    }
    let bounded = create_bounded(source, target, target.len());
    assert_eq!(bounded, (patch.len() < target.len()).then_some(patch));
}
