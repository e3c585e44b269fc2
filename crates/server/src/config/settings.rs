//! What was set, by key: files first, then environment, then flags, each overriding the one before.

use std::collections::BTreeMap;

use super::keys::{self, Item, Key, Kind, Section};
use super::nearest;
use super::report::Report;
use super::tree::{Node, Origin, Value};
use super::value::{self, Typed};

/// What was set. Paths name list members by number: `channel.namespaces[0].presence`.
#[derive(Default)]
pub(super) struct Settings {
    values: BTreeMap<String, Setting>,
    /// Length of each list of tables.
    lists: BTreeMap<String, usize>,
}

/// A value and where it was set.
#[derive(Clone)]
pub(super) struct Setting {
    /// The value.
    pub(super) value: Typed,
    /// Where it was set.
    pub(super) origin: Origin,
}

impl Settings {
    /// Reads a file's tree, checking every key and every value.
    pub(super) fn read_file(&mut self, tree: &Node, report: &mut Report) {
        match &tree.value {
            Value::Table(entries) => self.section(keys::tree(), "", entries, report),
            Value::Null => {}
            other => report.error(
                tree.origin.clone(),
                "",
                format!("the file must hold a table of keys, found {}", other.kind()),
            ),
        }
    }

    fn section(&mut self, known: &Section, path: &str, entries: &[(String, Node)], report: &mut Report) {
        let mut seen: BTreeMap<&str, &Origin> = BTreeMap::new();
        for (name, node) in entries {
            let here = join(path, name);
            if let Some(first) = seen.insert(name, &node.origin) {
                report.error(node.origin.clone(), here, format!("set twice, first at {first}"));
                continue;
            }
            match known.get(name.as_str()) {
                None => report.error(node.origin.clone(), &here, nearest::unknown_key(known, path, name)),
                Some(Item::Key(key)) => self.key(key, here, node, report),
                Some(Item::Section(below)) => match &node.value {
                    Value::Table(entries) => self.section(below, &here, entries, report),
                    Value::Null => {}
                    other => {
                        let text = format!("expected a table of keys, found {}", other.kind());
                        report.error(node.origin.clone(), here, text);
                    }
                },
                Some(Item::Tables(below)) => self.tables(below, &here, node, report),
            }
        }
    }

    fn tables(&mut self, known: &Section, path: &str, node: &Node, report: &mut Report) {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Null => &[],
            other => {
                let text = format!("expected a list of tables, found {}", other.kind());
                return report.error(node.origin.clone(), path, text);
            }
        };
        self.drop_list(path);
        self.lists.insert(path.to_owned(), items.len());
        for (index, item) in items.iter().enumerate() {
            let here = format!("{path}[{index}]");
            match &item.value {
                Value::Table(entries) => self.section(known, &here, entries, report),
                other => {
                    let text = format!("expected a table, found {}", other.kind());
                    report.error(item.origin.clone(), here, text);
                }
            }
        }
    }

    fn drop_list(&mut self, path: &str) {
        let below = format!("{path}[");
        self.values.retain(|key, _| !key.starts_with(&below));
        self.lists.remove(path);
    }

    fn key(&mut self, key: &Key, path: String, node: &Node, report: &mut Report) {
        if node.value == Value::Null {
            return;
        }
        let parsed = value::from_node(&key.kind, node);
        let is_default = value::is_default(&key.kind, key.default, node);
        self.put(key, path, parsed, is_default, node.origin.clone(), report);
    }

    /// Sets a key from the text of a variable or a flag.
    pub(super) fn put_text(
        &mut self,
        key: &Key,
        path: String,
        text: &str,
        origin: Origin,
        report: &mut Report,
    ) {
        let parsed = value::from_text(&key.kind, text);
        let node = Node { value: Value::Text(text.to_owned()), origin: origin.clone() };
        let is_default = match &parsed {
            Ok(Typed::Bool(value)) => !value,
            Ok(Typed::Int(number)) if key.default.is_empty() => *number == 0,
            _ => value::is_default(&key.kind, key.default, &node),
        };
        self.put(key, path, parsed, is_default, origin, report);
    }

    fn put(
        &mut self,
        key: &Key,
        path: String,
        parsed: Result<Typed, String>,
        is_default: bool,
        origin: Origin,
        report: &mut Report,
    ) {
        let value = match parsed {
            Ok(value) => value,
            Err(text) if key.support.works() => return report.error(origin, path, text),
            // A value that cannot be read must not open what it was meant to close.
            Err(_) if key.kind == Kind::Bool => Typed::Bool(true),
            Err(_) => Typed::Opaque,
        };
        let known_only = match (&key.kind, &value) {
            (Kind::Enum { known, .. }, Typed::Text(word)) => known.contains(&word.as_str()).then_some(word),
            _ => None,
        };
        if let Some(word) = known_only {
            report.warning(origin.clone(), &path, format!("\"{word}\" is not supported: {}", key.lacking));
        } else if !key.support.works() && !is_default {
            report.warning(origin.clone(), &path, format!("not supported: {}", key.lacking));
        }
        self.values.insert(path, Setting { value, origin });
    }

    /// Replaces a list of tables by as many empty ones.
    pub(super) fn reset_list(&mut self, path: &str, length: usize) {
        self.drop_list(path);
        self.lists.insert(path.to_owned(), length);
    }

    /// Replaces a list of tables by the one of a JSON text.
    pub(super) fn put_tables(&mut self, known: &Section, path: &str, node: &Node, report: &mut Report) {
        self.tables(known, path, node, report);
    }

    /// The length of a list of tables.
    pub(super) fn length(&self, path: &str) -> usize {
        self.lists.get(path).copied().unwrap_or(0)
    }

    /// What was set at a path, if anything.
    pub(super) fn get(&self, path: &str) -> Option<&Setting> {
        self.values.get(path)
    }

    /// Where a path was set.
    pub(super) fn origin(&self, path: &str) -> Origin {
        self.values.get(path).map_or(Origin::Default, |setting| setting.origin.clone())
    }
}

/// A path without the numbers of list members, as in the table of keys.
pub(super) fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => {
                inside = false;
                normal.push_str("[]");
            }
            c if !inside => normal.push(c),
            _ => {}
        }
    }
    normal
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
