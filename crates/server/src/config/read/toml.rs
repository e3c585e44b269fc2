//! TOML with lines, from the spans of the `toml` crate.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{SyntaxError, node};
use crate::config::tree::{Node, Value};

pub(super) fn read(file: &Arc<str>, text: &str) -> Result<Node, SyntaxError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| SyntaxError {
        line: error.span().map_or(1, |span| lines.line(span.start)),
        text: error.message().to_owned(),
    })?;
    let value = Reader { file, lines: &lines }.table(table.get_ref());
    Ok(node(value, file, 1))
}

struct Reader<'t> {
    file: &'t Arc<str>,
    lines: &'t Lines,
}

impl Reader<'_> {
    fn table(&self, table: &DeTable<'_>) -> Value {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let place = self.lines.line(key.span().start);
            (name.clone().into_owned(), node(self.value(value.get_ref()), self.file, place), key.span().start)
        };
        let mut entries: Vec<_> = table.iter().map(entry).collect();
        entries.sort_by_key(|(_, _, start)| *start);
        Value::Table(entries.into_iter().map(|(key, value, _)| (key, value)).collect())
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Text(number.as_str().to_owned()), Value::Integer),
            DeValue::Float(number) => {
                number.as_str().parse().map_or_else(|_| Value::Text(number.as_str().to_owned()), Value::Float)
            }
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(moment) => Value::Text(moment.to_string()),
            DeValue::Array(items) => {
                let item = |item: &Spanned<DeValue<'_>>| {
                    node(self.value(item.get_ref()), self.file, self.lines.line(item.span().start))
                };
                Value::List(items.iter().map(item).collect())
            }
            DeValue::Table(table) => self.table(table),
        }
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.0.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }
}
