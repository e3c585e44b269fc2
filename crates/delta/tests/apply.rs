//! What `apply` takes and what it refuses.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{LIMITS, patch, table, with_value};
use tidewire_delta::{DeltaError, Limits, apply};

const SOURCE: &[u8] = b"The quick brown fox jumps over the lazy dog";

/// A patch for [`SOURCE`] that is fine, as its checksum by another implementation says: a copy, a literal, a copy.
const GOOD: &str = "Q\nA@0,3:redD@7,3U587j;";

fn applied(patch: &str) -> Result<Vec<u8>, DeltaError> {
    apply(SOURCE, patch.as_bytes(), LIMITS)
}

#[test]
fn commands_are_carried_out_in_order() {
    assert_eq!(applied(GOOD).as_deref(), Ok(&b"The quick redck brown fox "[..]));
}

#[test]
fn commands_of_no_bytes_and_leading_zeros_do_no_harm() {
    assert_eq!(applied("0\n0;").as_deref(), Ok(&b""[..]));
    assert_eq!(applied("01\n0:0@0,001:a0@g,1X0000;").as_deref(), Ok(&b"a"[..]));
}

#[test]
fn malformed_patches_are_refused_with_their_reason() {
    use DeltaError::*;
    let table: &[(&str, DeltaError)] = &[
        ("", Truncated),
        ("1", Truncated),
        ("\n", BadNumber { at: 0 }),
        (";", BadNumber { at: 0 }),
        ("-1\n0;", BadNumber { at: 0 }),
        ("\u{e9}\n0;", BadNumber { at: 0 }),
        ("1 0;", UnknownCommand { at: 1 }),
        ("0\n", Truncated),
        ("0\n;", BadNumber { at: 2 }),
        ("0\n0", Truncated),
        ("0\n0?", UnknownCommand { at: 3 }),
        ("0\n0:", Truncated),
        ("0\n0;0;", TrailingBytes { at: 4 }),
        ("0\n0;\n", TrailingBytes { at: 4 }),
        ("0\n1;", WrongChecksum),
        ("1\n0;", WrongSize { announced: 1 }),
        ("1\n2:ab0;", WrongSize { announced: 1 }),
        ("1\n2@0,0;", WrongSize { announced: 1 }),
        ("2\n1:a1X0000;", WrongSize { announced: 2 }),
        ("1\n1:a1X0001;", WrongChecksum),
        ("1\n1:b1X0000;", WrongChecksum),
        ("5\n5:ab", Truncated),
        ("1\n1@", Truncated),
        ("1\n1@0", Truncated),
        ("1\n1@,", BadNumber { at: 4 }),
        ("1\n1@0;", UnknownCommand { at: 5 }),
        ("1\n1@g,", OutsideSource { at: 6 }),
        ("2\n2@f,", OutsideSource { at: 6 }),
        ("1\n1@F~~~~~~~~~~,", OutsideSource { at: 16 }),
        ("1\nF~~~~~~~~~~@0,", OutsideSource { at: 16 }),
        ("1\nF~~~~~~~~~~@F~~~~~~~~~~,", OutsideSource { at: 26 }),
        ("1\nF~~~~~~~~~~:", Truncated),
        ("1\nG0000000000@0,", BadNumber { at: 2 }),
        ("1\n1:aF~~~~~~~~~~;", WrongChecksum),
        ("1\n1:aG0000000000;", BadNumber { at: 5 }),
        // The sum of "a" and 2^32: nothing is cut to 32 bits.
        ("1\n1:a5X0000;", WrongChecksum),
    ];
    for (patch, reason) in table {
        assert_eq!(applied(patch), Err(*reason), "{patch:?}");
    }
}

#[test]
fn a_patch_for_another_source_is_refused() {
    let old = table(1 << 10, 1);
    let patch = patch(old.as_bytes(), with_value(&old, 5, "price", "1").as_bytes());
    let other = with_value(&old, 2, "open", "null");
    assert_eq!(apply(other.as_bytes(), &patch, LIMITS), Err(DeltaError::WrongChecksum));
    assert!(matches!(apply(&old.as_bytes()[..100], &patch, LIMITS), Err(DeltaError::OutsideSource { .. })));
}

#[test]
fn every_cut_and_every_changed_byte_of_a_patch_is_refused() {
    for length in 0..GOOD.len() {
        applied(&GOOD[..length]).expect_err("the patch is cut");
    }
    for at in 0..GOOD.len() {
        for byte in (0..=255).filter(|byte| *byte != GOOD.as_bytes()[at]) {
            let mut bytes = GOOD.as_bytes().to_vec();
            bytes[at] = byte;
            apply(SOURCE, &bytes, LIMITS).expect_err("the patch is damaged");
        }
    }
}

#[test]
fn inv_b2_a_target_above_the_limit_is_refused_before_it_is_made() {
    let limits = Limits { target_bytes_max: 26 };
    assert!(apply(SOURCE, GOOD.as_bytes(), limits).is_ok());
    let limits = Limits { target_bytes_max: 25 };
    assert_eq!(apply(SOURCE, GOOD.as_bytes(), limits), Err(DeltaError::TooLarge { size: 26, max: 25 }));
    assert_eq!(applied("10001\n"), Err(DeltaError::TooLarge { size: (1 << 24) + 1, max: 1 << 24 }));
    // 43 bytes a command, as often as one likes: it ends where the announced size is passed.
    let bomb = format!("f\n{}", "g@0,".repeat(100_000));
    assert_eq!(applied(&bomb), Err(DeltaError::WrongSize { announced: 42 }));
}

/// Bytes that get far: mostly those of which patches are made.
fn patch_byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => prop::sample::select(b"0123456789ABG~@:;,\n".to_vec()),
        1 => any::<u8>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn inv_g6_no_patch_makes_it_panic_or_exceed_the_limit(source in vec(any::<u8>(), 0..80), patch in vec(patch_byte(), 0..120)) {
        let limits = Limits { target_bytes_max: 50 };
        if let Ok(target) = apply(&source, &patch, limits) {
            prop_assert!(target.len() <= 50);
        }
    }

    #[test]
    fn inv_g6_no_damage_to_a_patch_makes_it_panic_or_give_another_size_than_announced(
        seed in 1..1000u64, at in any::<prop::sample::Index>(), bytes in vec(patch_byte(), 0..6), removed in 0..6usize,
    ) {
        let (old, new) = (table(600, seed), table(600, seed + 1));
        let mut patch = patch(old.as_bytes(), new.as_bytes());
        let at = at.index(patch.len());
        patch.splice(at..patch.len().min(at + removed), bytes);
        if let Ok(target) = apply(old.as_bytes(), &patch, LIMITS) {
            let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";
            let announced = patch.iter().map_while(|byte| digits.iter().position(|digit| digit == byte));
            prop_assert_eq!(target.len(), announced.fold(0, |number, digit| number * 64 + digit));
        }
    }
}
