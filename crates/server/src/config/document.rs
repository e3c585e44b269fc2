//! The keys for people: every supported key with its meaning, and a file of defaults.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::keys::{self, Key, Kind, Support};
use super::value::{self, Typed};

/// Every supported key with type, default and meaning, as text of at most 120 columns per entry's head.
pub fn reference() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in keys::all().iter().filter(|key| key.support.works()) {
        let top = key.path.split(['.', '[']).next().unwrap_or_default();
        if top != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            let _ = write!(text, "{gap}## {top}\n\n");
            section = top;
        }
        let ours = if key.support == Support::Ours { " (not a key of Centrifugo)" } else { "" };
        let _ = write!(
            text,
            "{}: {}{}{ours}\n    {}\n",
            key.path,
            type_name(&key.kind),
            default(key),
            key.meaning
        );
        if let Kind::Enum { known, .. } = &key.kind
            && !known.is_empty()
        {
            let _ = writeln!(text, "    Accepted with a warning: {}; {}.", known.join(", "), key.lacking);
        }
    }
    text
}

fn type_name(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "bool".into(),
        Kind::Int => "int".into(),
        Kind::Port => "port".into(),
        Kind::Count => "int or \"unlimited\"".into(),
        Kind::Duration => "duration".into(),
        Kind::Text => "string".into(),
        Kind::Secret => "secret".into(),
        Kind::Regex => "regular expression".into(),
        Kind::Pem => "PEM".into(),
        Kind::List => "list of strings".into(),
        Kind::Map | Kind::Any => "table".into(),
        Kind::Enum { works, .. } => works.join(" | "),
    }
}

fn default(key: &Key) -> String {
    match default_value(key) {
        Value::Null => String::new(),
        default => format!(" = {default}"),
    }
}

/// A configuration file in JSON that says what an empty one means; without the lists of namespaces.
pub fn defaults() -> Value {
    let mut root = Map::new();
    for key in keys::all().iter().filter(|key| key.support.works() && !key.path.contains("[]")) {
        let value = default_value(key);
        if value != Value::Null {
            insert(&mut root, &key.path, value);
        }
    }
    for list in ["channel.namespaces", "rpc.namespaces"] {
        insert(&mut root, list, Value::Array(Vec::new()));
    }
    Value::Object(root)
}

fn insert(table: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((name, rest)) => {
            let below = table.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                insert(below, rest, value);
            }
        }
    }
}

fn default_value(key: &Key) -> Value {
    if key.default.is_empty() {
        return match key.kind {
            Kind::Bool => Value::Bool(false),
            Kind::Int | Kind::Port => Value::from(0),
            Kind::Duration => Value::from("0s"),
            Kind::List => Value::Array(Vec::new()),
            Kind::Count | Kind::Map | Kind::Any => Value::Null,
            _ => Value::from(""),
        };
    }
    match value::from_text(&key.kind, key.default) {
        Ok(Typed::Bool(value)) => Value::Bool(value),
        Ok(Typed::Int(number)) => Value::from(number),
        Ok(Typed::Count(Some(count))) => Value::from(count),
        Ok(Typed::Duration(time)) => Value::from(value::show_duration(time)),
        Ok(Typed::List(items)) => Value::from(items),
        Ok(Typed::Secret(_)) => Value::from(super::Secret::MASK),
        _ => Value::from(key.default),
    }
}
