//! JSON with lines: `serde_json` reads, and a counter in the byte stream tells where it is.

use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::rc::Rc;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{SyntaxError, node};
use crate::config::tree::{Node, Value};

pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Node, SyntaxError> {
    let line = Rc::new(Cell::new(1));
    let bytes = CountedBytes { left: text.as_bytes(), line: Rc::clone(&line) };
    let mut reader = serde_json::Deserializer::from_reader(bytes);
    let seed = NodeSeed { file, line: &line };
    let tree = seed.deserialize(&mut reader).map_err(syntax_error)?;
    reader.end().map_err(syntax_error)?;
    Ok(tree)
}

fn syntax_error(error: serde_json::Error) -> SyntaxError {
    // Column 0 is the end of the line before.
    let line = if error.column() == 0 { error.line().saturating_sub(1).max(1) } else { error.line() };
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    SyntaxError { line: u32::try_from(line).unwrap_or(u32::MAX), text: text.to_owned() }
}

/// Hands out one byte at a time, so that the line is the one of the byte the parser looks at, at most one byte ahead.
struct CountedBytes<'t> {
    left: &'t [u8],
    line: Rc<Cell<u32>>,
}

impl Read for CountedBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (Some((first, rest)), Some(slot)) = (self.left.split_first(), buffer.first_mut()) else {
            return Ok(0);
        };
        *slot = *first;
        self.left = rest;
        if *first == b'\n' {
            self.line.set(self.line.get().saturating_add(1));
        }
        Ok(1)
    }
}

struct NodeSeed<'s> {
    file: &'s Arc<str>,
    line: &'s Cell<u32>,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        // The parser has looked at the value's first byte and no further.
        let line = self.line.get();
        let file = self.file;
        deserializer.deserialize_any(self).map(|value| node(value, file, line))
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(NodeSeed { ..self })? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let line = self.line.get();
            let value = entries.next_value_seed(NodeSeed { ..self })?;
            table.push((key, node(value.value, self.file, line)));
        }
        Ok(Value::Table(table))
    }
}
