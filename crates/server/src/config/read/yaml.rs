//! YAML events into the tree, plain scalars by the core schema of YAML 1.2.

use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::{SyntaxError, node};
use crate::config::tree::{Node, Value};

/// Aliases can make a small file a huge tree; no configuration has this many values.
const NODES_MAX: usize = 100_000;
/// Nesting that no configuration has.
const DEPTH_MAX: usize = 64;

pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { events: Parser::new_from_str(text), file, anchors: HashMap::new(), nodes: 0 };
    reader.document()
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    file: &'t Arc<str>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, u32), SyntaxError> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, line_of(&span))),
            Some(Err(error)) => Err(SyntaxError {
                line: u32::try_from(error.marker().line()).unwrap_or(u32::MAX),
                text: error.info().to_owned(),
            }),
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut tree = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => return Ok(tree.unwrap_or_else(|| node(Value::Null, self.file, 1))),
                _ if tree.is_some() => {
                    return Err(SyntaxError { line, text: "a second document; keep one per file".into() });
                }
                event => tree = Some(self.value(event, line, 0)?),
            }
        }
    }

    fn value(&mut self, event: Event<'t>, line: u32, depth: usize) -> Result<Node, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError { line, text: format!("nested deeper than {DEPTH_MAX} levels") });
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(&text, style, tag.as_deref()), anchor),
            Event::SequenceStart(anchor, _) => (self.list(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.table(depth)?, anchor),
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned();
                let target =
                    target.ok_or(SyntaxError { line, text: "an alias inside its own anchor".into() })?;
                self.count(size_of(&target), line)?;
                return Ok(node(target.value, self.file, line));
            }
            _ => return Err(SyntaxError { line, text: "a value is missing".into() }),
        };
        self.count(1, line)?;
        let read = node(value, self.file, line);
        if anchor != 0 {
            self.anchors.insert(anchor, read.clone());
        }
        Ok(read)
    }

    fn count(&mut self, more: usize, line: u32) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > NODES_MAX {
            return Err(SyntaxError { line, text: format!("more than {NODES_MAX} values") });
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.value(event, line, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(SyntaxError { line, text: "a key must be plain text".into() }),
            };
            let (event, value_line) = self.next()?;
            let value = self.value(event, value_line, depth + 1)?;
            match (key.as_str(), value.value) {
                // The merge key of YAML 1.1, which files shared with Go programs use.
                ("<<", Value::Table(base)) => merged.extend(base),
                (_, value) => entries.push((key, node(value, self.file, line))),
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(own, _)| *own == key) {
                entries.push((key, value));
            }
        }
        Ok(Value::Table(entries))
    }
}

fn line_of(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn size_of(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        Value::Table(entries) => 1 + entries.iter().map(|(_, value)| size_of(value)).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    if style != ScalarStyle::Plain || is_text {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix =
        |prefix, radix| text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok());
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| text.parse().ok()) {
        return Value::Integer(number);
    }
    let looks_like_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
    match text.parse() {
        Ok(number) if looks_like_number => Value::Float(number),
        _ => Value::Text(text.to_owned()),
    }
}
