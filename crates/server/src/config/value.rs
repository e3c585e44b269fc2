//! Values of their kind: parsed once from a file, a variable or a flag, and trusted after.

use std::time::Duration;

use super::keys::Kind;
use super::secret::Secret;
use super::tree::{Node, Value};

/// A value that fits the kind of its key.
#[derive(Clone, PartialEq)]
pub enum Typed {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] and [`Kind::Port`]; never negative.
    Int(i64),
    /// Of [`Kind::Count`]; `None`: unlimited.
    Count(Option<usize>),
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Text`], [`Kind::Regex`], [`Kind::Pem`] and [`Kind::Enum`].
    Text(String),
    /// Of [`Kind::Secret`].
    Secret(Secret),
    /// Of [`Kind::List`].
    List(Vec<String>),
    /// Of [`Kind::Map`] and [`Kind::Any`], which nothing here reads.
    Opaque,
}

/// Parses the value of a file. Numbers and truth values may be written as text and numbers may stand for text, as
/// existing files do; nothing that would lose information is guessed.
///
/// # Errors
/// What was expected and what kind of value was found, in words, without the value of a secret.
pub fn from_node(kind: &Kind, node: &Node) -> Result<Typed, String> {
    match (kind, &node.value) {
        (Kind::Map, Value::Table(_)) | (Kind::Any, _) => Ok(Typed::Opaque),
        (Kind::Bool, Value::Bool(value)) => Ok(Typed::Bool(*value)),
        (Kind::Int | Kind::Port | Kind::Count, Value::Integer(number)) => whole(kind, *number),
        (Kind::Duration, Value::Integer(0)) => Ok(Typed::Duration(Duration::ZERO)),
        (Kind::List, Value::List(items)) => {
            items.iter().map(list_item).collect::<Result<_, _>>().map(Typed::List)
        }
        (Kind::List, Value::Text(text)) => Ok(Typed::List(vec![text.clone()])),
        (Kind::Text, Value::Integer(number)) => Ok(Typed::Text(number.to_string())),
        (Kind::Text, Value::Bool(value)) => Ok(Typed::Text(value.to_string())),
        (Kind::Secret, Value::Integer(_)) => {
            Err("put the secret in quotes, or digits of it may be lost".into())
        }
        (Kind::List | Kind::Map, _) => {
            Err(format!("expected {}, found {}", expected(kind), node.value.kind()))
        }
        (_, Value::Text(text)) => from_text(kind, text),
        (_, value) => Err(format!("expected {}, found {}", expected(kind), value.kind())),
    }
}

fn list_item(item: &Node) -> Result<String, String> {
    match &item.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        value => Err(format!("expected a list of texts, found {} in it", value.kind())),
    }
}

/// Parses the text of a variable or a flag: lists are separated by spaces (or a JSON array), tables are JSON.
///
/// # Errors
/// What was expected, in words, without the value of a secret.
pub fn from_text(kind: &Kind, text: &str) -> Result<Typed, String> {
    let wrong = || format!("expected {}, found {}", expected(kind), shown(text));
    match kind {
        Kind::Bool => match text {
            "true" | "1" => Ok(Typed::Bool(true)),
            "false" | "0" => Ok(Typed::Bool(false)),
            _ => Err(wrong()),
        },
        Kind::Count if text == "unlimited" => Ok(Typed::Count(None)),
        Kind::Int | Kind::Port | Kind::Count => whole(kind, text.parse().map_err(|_| wrong())?),
        Kind::Duration => parse_duration(text).map(Typed::Duration).ok_or_else(wrong),
        Kind::Secret => Ok(Typed::Secret(Secret::new(text))),
        Kind::Text | Kind::Pem => Ok(Typed::Text(text.to_owned())),
        Kind::Regex => match regex::Regex::new(text) {
            Ok(_) => Ok(Typed::Text(text.to_owned())),
            Err(error) => Err(format!("not a regular expression: {}", one_line(&error.to_string()))),
        },
        Kind::Enum { works, known } => {
            match text.is_empty() || works.contains(&text) || known.contains(&text) {
                true => Ok(Typed::Text(text.to_owned())),
                false => Err(wrong()),
            }
        }
        Kind::List if text.trim_start().starts_with('[') => match serde_json::from_str(text) {
            Ok(items) => Ok(Typed::List(items)),
            Err(_) => Err(wrong()),
        },
        Kind::List => Ok(Typed::List(text.split_whitespace().map(str::to_owned).collect())),
        Kind::Map | Kind::Any => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(Typed::Opaque),
            Err(_) => Err(wrong()),
        },
    }
}

fn whole(kind: &Kind, number: i64) -> Result<Typed, String> {
    match kind {
        Kind::Port if number > i64::from(u16::MAX) => Err(format!("{number} is not a port: at most 65535")),
        Kind::Count if number == 0 => Err("0 is not a limit: write \"unlimited\" to have none".into()),
        _ if number < 0 => Err(format!("{number} is negative")),
        Kind::Count => {
            usize::try_from(number).map(|count| Typed::Count(Some(count))).map_err(|_| "too large".into())
        }
        _ => Ok(Typed::Int(number)),
    }
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        "nothing".into()
    } else {
        format!("{:?}", text.chars().take(40).collect::<String>())
    }
}

fn one_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What a kind takes, in words.
pub fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".into(),
        Kind::Int => "a whole number".into(),
        Kind::Port => "a port".into(),
        Kind::Count => "a whole number from 1, or \"unlimited\"".into(),
        Kind::Duration => "a time with a unit, such as \"25s\"".into(),
        Kind::Text | Kind::Secret | Kind::Pem => "text".into(),
        Kind::Regex => "a regular expression".into(),
        Kind::List => "a list of texts".into(),
        Kind::Map => "a table of texts".into(),
        Kind::Any => "a value".into(),
        Kind::Enum { works, known } => format!("one of {}", [works.as_slice(), known].concat().join(", ")),
    }
}

/// Whether a value of a file says no more than the default does.
pub fn is_default(kind: &Kind, default: &str, node: &Node) -> bool {
    if default.is_empty() || matches!(default, "0" | "[]" | "{}") {
        return node.value.is_zero();
    }
    match (from_node(kind, node), from_text(kind, default)) {
        (Ok(Typed::Opaque), _) | (Err(_), _) | (_, Err(_)) => false,
        (Ok(value), Ok(default)) => value == default,
    }
}

/// Parses a time as Go writes it: numbers with units, such as `1h30m`, `1.5s` or `200ms`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, left) = after.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanoseconds = nanoseconds.checked_add(whole.checked_mul(unit)?)?;
        let mut place = unit;
        for digit in fraction.chars() {
            place /= 10;
            nanoseconds = nanoseconds.checked_add(u128::from(digit.to_digit(10)?) * place)?;
        }
        rest = left;
    }
    // As Go: what does not fit 63 bits of nanoseconds (292 years) is not a time.
    u64::try_from(nanoseconds)
        .ok()
        .filter(|nanoseconds| i64::try_from(*nanoseconds).is_ok())
        .map(Duration::from_nanos)
}

/// Writes a time as [`parse_duration`] reads it, in the largest unit that keeps it whole.
pub fn show_duration(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    let units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
    ];
    for (unit, name) in units {
        if nanoseconds >= unit && nanoseconds.is_multiple_of(unit) {
            return format!("{}{name}", nanoseconds / unit);
        }
    }
    if nanoseconds == 0 { "0s".into() } else { format!("{nanoseconds}ns") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let table = [
            ("25s", Some(25_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("1000ms", Some(1_000_000_000)),
            (".5s", Some(500_000_000)),
            ("720h", Some(2_592_000_000_000_000)),
            ("3us", Some(3_000)),
            ("3µs", Some(3_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("25", None),
            ("s", None),
            (".s", None),
            ("-1s", None),
            ("1 s", None),
            ("1d", None),
            ("1s2", None),
            ("1..5s", None),
            ("9999999999h", None),
            ("340282366920938463463374607431768211456h", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn a_written_time_reads_back_as_itself() {
        for nanoseconds in [0, 1, 999, 1_000, 1_500_000, 25_000_000_000, 90_000_000_000, 7_200_000_000_000] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!(parse_duration(&show_duration(time)), Some(time));
        }
    }
}
