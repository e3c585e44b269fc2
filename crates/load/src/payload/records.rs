//! Filler that compresses about as well as what applications send: keys that come again, numbers and words that hardly do.

const NAMES: [&str; 16] = [
    "ann", "bela", "chidi", "dora", "emre", "farid", "grace", "hugo", "ines", "jun", "kofi", "lena", "mira",
    "noor", "otto", "priya",
];
const KINDS: [&str; 4] = ["message", "reaction", "edited", "joined"];
const WORDS: [&str; 64] = [
    "about",
    "after",
    "again",
    "answer",
    "because",
    "before",
    "between",
    "bridge",
    "change",
    "channel",
    "city",
    "close",
    "could",
    "country",
    "different",
    "during",
    "early",
    "enough",
    "every",
    "family",
    "first",
    "follow",
    "garden",
    "great",
    "harbour",
    "house",
    "idea",
    "large",
    "learn",
    "letter",
    "light",
    "little",
    "market",
    "meeting",
    "minute",
    "morning",
    "mountain",
    "never",
    "number",
    "often",
    "order",
    "paper",
    "people",
    "place",
    "point",
    "price",
    "question",
    "reach",
    "river",
    "school",
    "second",
    "small",
    "start",
    "story",
    "street",
    "table",
    "thing",
    "ticket",
    "today",
    "train",
    "water",
    "weather",
    "without",
    "year",
];

/// Random by its seed alone.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound.max(1)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.get(self.below(of.len() as u64) as usize).copied().unwrap_or_default()
    }
}

/// Appends a list of records and a text, so that `out` ends a JSON object at `end`, or later if that is too near.
pub(super) fn append(seed: u64, end: usize, out: &mut Vec<u8>) {
    let mut dice = Dice(seed);
    out.extend_from_slice(b"\"r\":[");
    let mut first = true;
    loop {
        let record = record(&mut dice, first);
        // What follows the list: `],"e":""}`.
        if out.len() + record.len() + 9 > end {
            break;
        }
        out.extend_from_slice(record.as_bytes());
        first = false;
    }
    out.extend_from_slice(b"],\"e\":\"");
    let mut text = String::new();
    let room = end.saturating_sub(out.len() + 2);
    while text.len() < room {
        text.push_str(dice.one(&WORDS));
        text.push(' ');
    }
    out.extend(text.bytes().take(room));
    out.extend_from_slice(b"\"}");
}

fn record(dice: &mut Dice, first: bool) -> String {
    let comma = if first { "" } else { "," };
    let (id, user, kind) = (dice.below(100_000_000), dice.one(&NAMES), dice.one(&KINDS));
    let at = 1_800_000_000_000 + dice.below(1_000_000_000);
    let words: Vec<&str> = (0..3 + dice.below(8)).map(|_| dice.one(&WORDS)).collect();
    let text = words.join(" ");
    format!(r#"{comma}{{"id":{id},"user":"{user}","kind":"{kind}","at":{at},"text":"{text}"}}"#)
}
