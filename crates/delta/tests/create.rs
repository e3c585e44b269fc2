//! What patches look like, and that they lead from source to target whatever these are.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{LIMITS, patch, table, with_value};
use tidewire_delta::{apply, create, create_bounded};

fn text_patch(source: &str, target: &str) -> String {
    String::from_utf8(patch(source.as_bytes(), target.as_bytes())).expect("text by text is text")
}

#[test]
fn patches_of_small_payloads_are_exactly_these() {
    let examples = [
        ("", "", "0\n0;"),
        ("", "a", "1\n1:a1X0000;"),
        ("anything", "", "0\n0;"),
        ("0123456789", "0123456789", "A\nA@0,2ScrXf;"),
        // Too short to be worth a copy.
        ("abc", "abd", "3\n3:abd1XObG0;"),
        (
            r#"{"price": 100, "currency": "EUR"}"#,
            r#"{"price": 101, "currency": "EUR"}"#,
            "X\nC@0,1:1K@D,3yHMxL;",
        ),
    ];
    for (source, target, expected) in examples {
        assert_eq!(text_patch(source, target), expected, "{source} to {target}");
    }
}

#[test]
fn a_patch_is_appended_to_what_is_there() {
    let mut out = b"before".to_vec();
    create(b"abc", b"", &mut out);
    assert_eq!(out, b"before0\n0;");
}

#[test]
fn one_changed_value_in_a_json_payload_takes_a_few_dozen_bytes() {
    for bytes in [512, 1 << 10, 16 << 10, 256 << 10] {
        let old = table(bytes, 1);
        let row = old.matches("price").count() / 2;
        for value in ["1.5", "12345.67", "null"] {
            let new = with_value(&old, row, "price", value);
            let length = text_patch(&old, &new).len();
            assert!(length <= 40, "{length} bytes for one value of {bytes}");
        }
    }
}

#[test]
fn changes_far_apart_cost_what_each_costs() {
    let old = table(16 << 10, 1);
    let mut new = with_value(&old, 0, "version", "1700000000999");
    for row in [3, 50, 51, 200] {
        new = with_value(&new, row, "price", "777777");
    }
    let length = text_patch(&old, &new).len();
    assert!(length <= 120, "{length} bytes for five values");
}

#[test]
fn a_row_put_in_front_moves_the_others_without_repeating_them() {
    let old = table(16 << 10, 1);
    let row = r#"{"id":999,"symbol":"NEW1","price":3.21,"open":true},"#;
    let new = old.replacen("[{", &format!("[{row}{{"), 1);
    let length = text_patch(&old, &new).len();
    assert!(length <= 2 * row.len(), "{length} bytes for a row of {}", row.len());
}

#[test]
fn parts_that_change_places_are_copied() {
    let (first, second) = (table(2000, 1), table(3000, 99));
    let length = text_patch(&format!("{first}{second}"), &format!("{second}{first}")).len();
    assert!(length <= 40, "{length} bytes for two blocks swapped");
}

#[test]
fn a_change_inside_a_character_leaves_the_patch_text() {
    let old = "{\"text\":\"Это предложение довольно длинное, чтобы его стоило копировать: б\"}";
    let new = old.replace(": б", ": а").replace("довольно", "весьма");
    text_patch(old, &new);
    // The same bytes at both ends of a character: only its middle differs.
    text_patch(
        &"\u{1f600}".repeat(20),
        &"\u{1f600}".repeat(10).chars().chain(['\u{1f640}']).collect::<String>(),
    );
}

#[test]
fn equal_bytes_by_the_megabyte_take_no_time_to_speak_of() {
    // Quadratic work would be some 10^11 steps here, and the test would not end.
    let mut source = vec![b'a'; 1 << 20];
    let target = [vec![b'b'], vec![b'a'; 1 << 20], vec![b'b']].concat();
    assert!(patch(&source, &target).len() < 40);
    // Windows that all have candidates, none of which is long.
    for (number, byte) in source.iter_mut().enumerate() {
        *byte = if number % 48 < 16 { b'a' } else { (number / 48 % 251) as u8 };
    }
    let target: Vec<u8> = source.chunks(16).rev().flatten().copied().collect();
    patch(&source, &target);
}

#[test]
fn a_bounded_patch_is_below_the_bound_or_not_made() {
    let (old, new) = (table(1 << 10, 1), table(1 << 10, 2));
    let whole = patch(old.as_bytes(), new.as_bytes());
    let bounded = |max_len| create_bounded(old.as_bytes(), new.as_bytes(), max_len);
    assert_eq!(bounded(whole.len() + 1).as_ref(), Some(&whole));
    assert_eq!(bounded(usize::MAX).as_ref(), Some(&whole));
    for max_len in 0..=whole.len() {
        assert_eq!(bounded(max_len), None, "below {max_len}");
    }
}

#[test]
fn a_payload_with_nothing_in_common_has_no_patch_below_its_length() {
    let target = "no sixteen bytes of this occur there";
    assert_eq!(create_bounded(table(1 << 10, 1).as_bytes(), target.as_bytes(), target.len()), None);
    assert_eq!(create_bounded(b"", target.as_bytes(), target.len()), None);
    assert_eq!(create_bounded(b"", b"", 0), None);
}

/// What was done to a source to get its target.
#[derive(Clone, Debug)]
enum Edit<T> {
    Insert(usize, Vec<T>),
    Remove(usize, usize),
    Duplicate(usize, usize, usize),
}

fn edits<T: Clone + std::fmt::Debug + 'static>(
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<Edit<T>>> {
    let place = || 0..5000usize;
    let edit = prop_oneof![
        (place(), vec(item, 1..40)).prop_map(|(at, items)| Edit::Insert(at, items)),
        (place(), 1..60usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        (place(), 1..300usize, place()).prop_map(|(from, count, to)| Edit::Duplicate(from, count, to)),
    ];
    vec(edit, 0..6)
}

fn edited<T: Clone>(source: &[T], edits: &[Edit<T>]) -> Vec<T> {
    let mut target = source.to_vec();
    for edit in edits {
        let place = |at: usize, target: &[T]| at % (target.len() + 1);
        match edit {
            Edit::Insert(at, items) => {
                let at = place(*at, &target);
                target.splice(at..at, items.iter().cloned());
            }
            Edit::Remove(at, count) => {
                let at = place(*at, &target);
                target.drain(at..target.len().min(at + count));
            }
            Edit::Duplicate(from, count, to) => {
                let from = place(*from, &target);
                let items = target[from..target.len().min(from + count)].to_vec();
                let to = place(*to, &target);
                target.splice(to..to, items);
            }
        }
    }
    target
}

/// Characters of one, two, three and four bytes, many with the same leading or trailing bytes.
fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::char::range('a', 'e'),
        prop::char::range('а', 'я'),
        prop::char::range('一', '俿'),
        prop::char::range('\u{1f600}', '\u{1f64f}'),
        any::<char>(),
    ]
}

fn assert_bounded_agrees(source: &[u8], target: &[u8], patch: &[u8]) {
    let bounded = create_bounded(source, target, target.len());
    assert_eq!(bounded.as_deref(), (patch.len() < target.len()).then_some(patch));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn inv_d6_unrelated_bytes_come_back_as_they_were(source in vec(any::<u8>(), 0..600), target in vec(any::<u8>(), 0..600)) {
        let patch = patch(&source, &target);
        prop_assert!(patch.len() <= target.len() + 24);
        assert_bounded_agrees(&source, &target, &patch);
    }

    #[test]
    fn inv_d6_bytes_of_a_tiny_alphabet_come_back_as_they_were(
        source in vec(0u8..3, 0..900), target in vec(0u8..3, 0..900),
    ) {
        let patch = patch(&source, &target);
        assert_bounded_agrees(&source, &target, &patch);
    }

    #[test]
    fn inv_d6_edited_bytes_come_back_as_they_were(source in vec(any::<u8>(), 0..3000), edits in edits(any::<u8>())) {
        let target = edited(&source, &edits);
        let patch = patch(&source, &target);
        assert_bounded_agrees(&source, &target, &patch);
    }

    #[test]
    fn inv_d6_edited_text_comes_back_as_it_was_by_a_patch_that_is_text(
        source in vec(character(), 0..1000), edits in edits(character()),
    ) {
        let target: String = edited(&source, &edits).into_iter().collect();
        let source: String = source.into_iter().collect();
        let patch = patch(source.as_bytes(), target.as_bytes());
        prop_assert!(std::str::from_utf8(&patch).is_ok());
    }

    #[test]
    fn inv_d6_identical_payloads_take_a_copy(bytes in vec(any::<u8>(), 8..2000)) {
        prop_assert!(patch(&bytes, &bytes).len() <= 16);
    }

    #[test]
    fn inv_d6_a_patch_for_another_source_never_gives_another_size(
        source in vec(any::<u8>(), 0..600), other in edits(any::<u8>()), edits in edits(any::<u8>()),
    ) {
        let target = edited(&source, &edits);
        let patch = patch(&source, &target);
        // The checksum is 32 bits wide and blind to words that change places, so a wrong target of the same sum is
        // possible; every other one is refused, and the size is exact in any case.
        if let Ok(got) = apply(&edited(&source, &other), &patch, LIMITS) {
            prop_assert_eq!(got.len(), target.len());
        }
    }
}
