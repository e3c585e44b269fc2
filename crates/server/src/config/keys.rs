//! Every key this server knows, from `keys.table`: its type, default, meaning, and what will not work if it is set.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A known key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its path, such as `channel.namespaces[].presence`.
    pub path: String,
    /// What values it takes.
    pub kind: Kind,
    /// Its default as text; empty: the zero of its type.
    pub default: &'static str,
    /// Whether this server does what it says.
    pub support: Support,
    /// What it does.
    pub meaning: &'static str,
    /// What will not work if it is set, or set to a value of an [`Kind::Enum`] that is known only.
    pub lacking: &'static str,
}

/// What values a key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number from 0.
    Int,
    /// A port, 0 to 65535.
    Port,
    /// A limit of our own: a whole number from 1, or `"unlimited"`.
    Count,
    /// A time with a unit, such as `"25s"`.
    Duration,
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// A regular expression.
    Regex,
    /// A certificate or key: a file, PEM text, or PEM text in base64.
    Pem,
    /// A list of texts.
    List,
    /// A table of texts.
    Map,
    /// Anything; only for keys that have no effect here.
    Any,
    /// One of some words.
    Enum {
        /// Words that work.
        works: Vec<&'static str>,
        /// Words of Centrifugo that do not work here.
        known: Vec<&'static str>,
    },
}

/// How far a key is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// As in Centrifugo.
    Yes,
    /// A key of ours.
    Ours,
    /// A key of Centrifugo that has no effect here.
    No,
    /// A key of Centrifugo's paid edition that has no effect here.
    Paid,
}

impl Support {
    /// Whether the key has an effect.
    pub fn works(self) -> bool {
        matches!(self, Self::Yes | Self::Ours)
    }
}

/// The known keys as a tree.
#[derive(Debug)]
pub enum Item {
    /// A table with known members.
    Section(Section),
    /// A list of tables with known members.
    Tables(Section),
    /// A key.
    Key(Key),
}

/// Members by name.
pub type Section = BTreeMap<&'static str, Item>;

const TABLE: &str = include_str!("keys.table");

/// All keys, in the order of the table.
pub fn all() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| Rows::of(TABLE).keys())
}

/// The key with this path, if known.
pub fn find(path: &str) -> Option<&'static Key> {
    static BY_PATH: OnceLock<BTreeMap<&'static str, &'static Key>> = OnceLock::new();
    BY_PATH.get_or_init(|| all().iter().map(|key| (key.path.as_str(), key)).collect()).get(path).copied()
}

/// The known keys as a tree.
pub fn tree() -> &'static Section {
    static TREE: OnceLock<Section> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut root = Section::new();
        for key in all() {
            insert(&mut root, &key.path, key);
        }
        root
    })
}

fn insert(section: &mut Section, path: &'static str, key: &Key) {
    let Some((name, rest)) = path.split_once('.') else {
        section.insert(path, Item::Key(key.clone()));
        return;
    };
    let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
    let below = section.entry(name).or_insert_with(|| match is_list {
        true => Item::Tables(Section::new()),
        false => Item::Section(Section::new()),
    });
    match below {
        Item::Section(below) | Item::Tables(below) => insert(below, rest, key),
        Item::Key(_) => unreachable!("keys.table: {} lies below a key", key.path),
    }
}

// === reading the table ===

#[derive(Clone, Copy)]
struct Row {
    path: &'static str,
    kind: &'static str,
    default: &'static str,
    support: &'static str,
    meaning: &'static str,
    lacking: &'static str,
}

struct Rows {
    groups: BTreeMap<&'static str, Vec<Row>>,
    top: Vec<Row>,
}

impl Rows {
    fn of(table: &'static str) -> Self {
        let mut rows = Self { groups: BTreeMap::new(), top: Vec::new() };
        for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut columns = line.split('|').map(str::trim);
            let mut column = || columns.next().unwrap_or("");
            let mut row = Row {
                path: column(),
                kind: column(),
                default: column(),
                support: column(),
                meaning: column(),
                lacking: column(),
            };
            match row.path.split_once('.') {
                Some((group, path)) if group.starts_with('@') => {
                    row.path = path;
                    rows.groups.entry(group).or_default().push(row);
                }
                _ => rows.top.push(row),
            }
        }
        rows
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for row in &self.top {
            self.expand("", *row, &mut keys);
        }
        keys
    }

    fn expand(&self, above: &str, row: Row, keys: &mut Vec<Key>) {
        let path = if above.is_empty() { row.path.to_owned() } else { format!("{above}.{}", row.path) };
        let Some(group) = self.groups.get(row.kind) else {
            keys.push(Key {
                path,
                kind: Kind::of(row.kind),
                default: row.default,
                support: Support::of(row.support),
                meaning: row.meaning,
                lacking: row.lacking,
            });
            return;
        };
        for member in group {
            let mut member = *member;
            if member.support.is_empty() {
                (member.support, member.lacking) = (row.support, row.lacking);
            }
            self.expand(&path, member, keys);
        }
    }
}

impl Kind {
    fn of(text: &'static str) -> Self {
        match text {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "port" => Self::Port,
            "count" => Self::Count,
            "dur" => Self::Duration,
            "text" => Self::Text,
            "secret" => Self::Secret,
            "regex" => Self::Regex,
            "pem" => Self::Pem,
            "list" => Self::List,
            "map" => Self::Map,
            "any" => Self::Any,
            _ => {
                let words = text.strip_prefix("enum(").and_then(|words| words.strip_suffix(')'));
                let words = words.unwrap_or_else(|| unreachable!("keys.table: no such type as {text}"));
                let (known, works) = words.split(';').partition::<Vec<_>, _>(|word| word.starts_with('!'));
                Self::Enum {
                    works,
                    known: known.into_iter().map(|word| word.trim_start_matches('!')).collect(),
                }
            }
        }
    }
}

impl Support {
    fn of(text: &str) -> Self {
        match text {
            "yes" => Self::Yes,
            "ours" => Self::Ours,
            "no" => Self::No,
            "paid" => Self::Paid,
            _ => unreachable!("keys.table: no such support as {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_centrifugo_is_known_with_its_default() {
        let theirs = include_str!("../../tests/data/centrifugo-v6-keys.tsv");
        let mut missing = Vec::new();
        for line in theirs.lines().skip(1) {
            let mut columns = line.split('\t');
            let (path, kind, default) =
                (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap_or(""));
            // Lists of tables stand in our table by their members.
            if matches!(path, "channel.namespaces" | "rpc.namespaces" | "proxies") {
                assert!(all().iter().any(|key| key.path.starts_with(&format!("{path}[]."))), "{path}");
                continue;
            }
            let Some(key) = find(path) else {
                missing.push(path);
                continue;
            };
            assert!(fits(&key.kind, kind), "{path} is {:?}, there {kind}", key.kind);
            let same = key.default == default || (key.default == "0" && default.is_empty());
            assert!(same, "{path} defaults to {:?}, there {default:?}", key.default);
            assert!(!matches!(key.support, Support::Ours | Support::Paid), "{path} is a key of theirs");
        }
        assert!(missing.is_empty(), "not in keys.table: {missing:#?}");
    }

    fn fits(kind: &Kind, theirs: &str) -> bool {
        match theirs {
            "bool" => *kind == Kind::Bool,
            "int" | "int64" => matches!(kind, Kind::Int | Kind::Port),
            "Duration" => *kind == Kind::Duration,
            "string" => matches!(kind, Kind::Text | Kind::Secret | Kind::Regex | Kind::Enum { .. }),
            "PEMData" => *kind == Kind::Pem,
            "[]string" | "[]centrifuge.DeltaType" => *kind == Kind::List,
            "MapStringString" => *kind == Kind::Map,
            _ => *kind == Kind::Any,
        }
    }

    #[test]
    fn every_key_says_what_it_means_or_what_will_not_work() {
        for key in all() {
            let text = if key.support.works() { key.meaning } else { key.lacking };
            assert!(!text.is_empty(), "{} says nothing", key.path);
            if let Kind::Enum { known, .. } = &key.kind {
                assert!(
                    known.is_empty() || !key.lacking.is_empty(),
                    "{} has words that do not work",
                    key.path
                );
            }
        }
        let mut paths: Vec<_> = all().iter().map(|key| &key.path).collect();
        paths.sort();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count, "a path stands in the table twice");
    }
}
