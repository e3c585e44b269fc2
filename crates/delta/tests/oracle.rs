//! Ours against npm fossil-delta, both ways: it applies our patches, we apply its.
//!
//! Needs node and what `tests/oracle/package.json` names; `scripts/delta-oracle` installs it and runs this.

mod support;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::{LIMITS, patch, table, with_value};
use tidewire_delta::apply;

/// A source and its target.
type Pair = (Vec<u8>, Vec<u8>);

/// What the oracle says of one of our patches.
struct Judgement {
    applied: Vec<u8>,
    own_patch: Vec<u8>,
}

fn hex(bytes: &[u8]) -> String {
    match bytes {
        [] => "-".into(),
        _ => bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("strings take everything");
            text
        }),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("a hex digit") as u8;
    match text {
        "-" => Vec::new(),
        _ => text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect(),
    }
}

/// Runs the oracle over all `cases`, a pair and our patch each.
fn judge(cases: &[(Pair, Vec<u8>)]) -> Vec<Judgement> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/oracle.mjs");
    let mut node = Command::new("node")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is on the PATH");
    let mut input = node.stdin.take().expect("stdin is piped");
    let lines: Vec<_> = cases
        .iter()
        .map(|((source, target), patch)| [source, target, patch].map(|field| hex(field)).join(" "))
        .collect();
    // From a thread of its own: the oracle answers while it reads, and neither pipe holds everything.
    let writer = std::thread::spawn(move || lines.iter().try_for_each(|line| writeln!(input, "{line}")));
    let answers = BufReader::new(node.stdout.take().expect("stdout is piped")).lines();
    let judgements = answers.map(|answer| judgement(&answer.expect("the oracle writes text"))).collect();
    writer.join().expect("the writer ends").expect("the oracle reads everything");
    assert!(node.wait().expect("node was started").success());
    judgements
}

fn judgement(answer: &str) -> Judgement {
    let (applied, own_patch) = answer.split_once(' ').expect("two fields");
    assert_ne!(applied, "!", "refused our patch: {own_patch}");
    Judgement { applied: unhex(applied), own_patch: unhex(own_patch) }
}

/// Checks both directions for all `pairs`; returns the bytes of our patches and of the oracle's.
fn agree(pairs: Vec<Pair>) -> (usize, usize) {
    let cases: Vec<_> = pairs
        .into_iter()
        .map(|(source, target)| {
            let patch = patch(&source, &target);
            ((source, target), patch)
        })
        .collect();
    let judgements = judge(&cases);
    assert_eq!(judgements.len(), cases.len());
    let (mut ours, mut theirs) = (0, 0);
    for (((source, target), patch), judgement) in cases.iter().zip(&judgements) {
        assert!(
            judgement.applied == *target,
            "our patch {:?} made another target",
            String::from_utf8_lossy(patch)
        );
        assert_eq!(apply(source, &judgement.own_patch, LIMITS).as_ref(), Ok(target));
        ours += patch.len();
        theirs += judgement.own_patch.len();
    }
    (ours, theirs)
}

/// `count` values of `strategy`, the same ones every time.
fn values<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("nothing is filtered").current()).collect()
}

#[test]
#[ignore = "needs node and npm fossil-delta: scripts/delta-oracle"]
fn inv_d6_the_oracle_agrees_on_bytes_of_any_kind() {
    let bytes = || prop_oneof![vec(any::<u8>(), 0..200), vec(0u8..3, 0..600)];
    let mut pairs = values((bytes(), bytes()), 1000);
    // Sources that share a part, and the edges of the 16-byte blocks.
    pairs.extend(
        values((bytes(), bytes(), bytes(), bytes()), 1000)
            .into_iter()
            .map(|(a, b, c, d)| ([a.as_slice(), &b, &c].concat(), [c.as_slice(), &a, &d, &b].concat())),
    );
    let block: Vec<u8> = (0..64).collect();
    pairs.extend(
        (0..64)
            .flat_map(|from| [15, 16, 17, 31, 32, 33].map(|to| (from, to)))
            .map(|(from, to)| (block[..from].to_vec(), block[..to].to_vec())),
    );
    agree(pairs);
}

#[test]
#[ignore = "needs node and npm fossil-delta: scripts/delta-oracle"]
fn inv_d6_the_oracle_agrees_on_text_of_many_scripts() {
    let text = || "([a-c]|[а-в]|[一-丂]|[\u{1f600}-\u{1f602}]){0,120}";
    let pairs = values((text(), text(), text(), text()), 1000)
        .into_iter()
        .map(|(a, b, c, d)| (format!("{a}{b}{c}").into_bytes(), format!("{a}{d}{c}{b}").into_bytes()));
    agree(pairs.collect());
}

#[test]
#[ignore = "needs node and npm fossil-delta: scripts/delta-oracle"]
fn inv_d6_the_oracle_agrees_on_json_updates_and_its_patches_are_no_shorter() {
    let mut pairs = Vec::new();
    for bytes in [300, 1 << 10, 4 << 10, 16 << 10, 100 << 10] {
        for seed in 1..10 {
            let old = table(bytes, seed);
            let rows = old.matches("price").count();
            let one = with_value(&old, rows / 2, "price", "4711.25");
            let two = with_value(&with_value(&old, 0, "version", "1700000000999"), rows - 1, "open", "false");
            let many =
                (0..rows).step_by(3).fold(old.clone(), |text, row| with_value(&text, row, "price", "17.5"));
            let front =
                old.replacen("[{", "[{\"id\":999,\"symbol\":\"NEW1\",\"price\":3.21,\"open\":true},{", 1);
            let other = table(bytes, seed + 100);
            pairs.extend(
                [one, two, many, front, other].map(|new| (old.clone().into_bytes(), new.into_bytes())),
            );
        }
    }
    let (ours, theirs) = agree(pairs);
    assert!(ours <= theirs + theirs / 20, "ours take {ours} bytes, the oracle's {theirs}");
}
