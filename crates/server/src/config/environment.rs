//! Environment variables: `TIDEWIRE_` and, with lower rank, `CENTRIFUGO_` before the path in upper case, joined by `_`.
//!
//! Lists of named tables (`channel.namespaces`, `rpc.namespaces`, `proxies`) are a JSON array or names separated by
//! spaces; a member's option is then the list's variable, the member's name and the option's.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{self, Item, Key, Section};
use super::nearest;
use super::read::{self, Format};
use super::report::Report;
use super::settings::Settings;
use super::tree::Origin;
use super::value::Typed;

/// Prefixes, the one that wins last.
const PREFIXES: [&str; 2] = ["CENTRIFUGO_", "TIDEWIRE_"];

/// Variables with our prefix that are not keys: the command line reads them.
const OWN_VARIABLES: [&str; 5] =
    ["TIDEWIRE_CONFIG", "TIDEWIRE_URL", "TIDEWIRE_API_URL", "TIDEWIRE_API_KEY", "TIDEWIRE_TOKEN"];

/// Applies variables on top of what files set. Those without our prefixes are not looked at; an empty value is none.
pub(super) fn apply(variables: &[(String, String)], settings: &mut Settings, report: &mut Report) {
    for prefix in PREFIXES {
        let ours: BTreeMap<&str, &str> = variables
            .iter()
            .filter(|(name, value)| !value.is_empty() && !OWN_VARIABLES.contains(&name.as_str()))
            .filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
            .collect();
        Variables { prefix, left: ours.keys().copied().collect(), values: ours }.apply(settings, report);
    }
}

struct Variables<'v> {
    prefix: &'static str,
    values: BTreeMap<&'v str, &'v str>,
    left: BTreeSet<&'v str>,
}

impl<'v> Variables<'v> {
    fn apply(mut self, settings: &mut Settings, report: &mut Report) {
        for key in keys::all().iter().filter(|key| !key.path.contains("[]")) {
            if let Some((name, text)) = self.take(&variable_of(&key.path)) {
                settings.put_text(key, key.path.clone(), text, self.origin(name), report);
            }
        }
        self.lists(keys::tree(), "", settings, report);
        let names: Vec<String> = keys::all().iter().map(|key| variable_of(&key.path)).collect();
        for name in &self.left {
            let nearest = nearest::variable(name, names.iter().map(String::as_str));
            let hint =
                nearest.map_or(String::new(), |known| format!("; did you mean {}{known}?", self.prefix));
            let name = format!("{}{name}", self.prefix);
            report.warning(Origin::Environment(name.clone()), name, format!("no such key{hint}"));
        }
    }

    fn take(&mut self, name: &str) -> Option<(&'v str, &'v str)> {
        let (name, text) = self.values.get_key_value(name)?;
        self.left.remove(name);
        Some((name, text))
    }

    fn origin(&self, name: &str) -> Origin {
        Origin::Environment(format!("{}{name}", self.prefix))
    }

    fn lists(&mut self, section: &Section, path: &str, settings: &mut Settings, report: &mut Report) {
        for (name, item) in section {
            let here = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            match item {
                Item::Section(below) => self.lists(below, &here, settings, report),
                Item::Tables(below) => self.list(below, &here, settings, report),
                Item::Key(_) => {}
            }
        }
    }

    fn list(&mut self, members: &Section, path: &str, settings: &mut Settings, report: &mut Report) {
        let variable = variable_of(path);
        if let Some((name, text)) = self.take(&variable) {
            let origin = self.origin(name);
            if text.trim_start().starts_with('[') {
                match read::read(Format::Json, "", text) {
                    Ok(mut tree) => {
                        set_origin(&mut tree, &origin);
                        settings.put_tables(members, path, &tree, report);
                    }
                    Err(error) => report.error(origin, path, format!("not JSON: {}", error.text)),
                }
            } else {
                let names: Vec<&str> = text.split_whitespace().collect();
                settings.reset_list(path, names.len());
                if let Some(Item::Key(key)) = members.get("name") {
                    for (index, name) in names.iter().enumerate() {
                        settings.put_text(key, format!("{path}[{index}].name"), name, origin.clone(), report);
                    }
                }
            }
        }
        for index in 0..settings.length(path) {
            let Some(name) = settings.get(&format!("{path}[{index}].name")) else { continue };
            let Typed::Text(name) = &name.value else { continue };
            let prefix = format!("{variable}_{}", variable_of(name));
            self.members(members, &prefix, &format!("{path}[{index}]"), settings, report);
        }
    }

    fn members(
        &mut self,
        members: &Section,
        variable: &str,
        path: &str,
        settings: &mut Settings,
        report: &mut Report,
    ) {
        let mut options: Vec<(String, String, &Key)> = Vec::new();
        collect(members, variable, path, &mut options);
        for (variable, path, key) in options {
            if let Some((name, text)) = self.take(&variable) {
                let origin = self.origin(name);
                settings.put_text(key, path, text, origin, report);
            }
        }
    }
}

fn collect<'k>(section: &'k Section, variable: &str, path: &str, into: &mut Vec<(String, String, &'k Key)>) {
    for (name, item) in section {
        let (variable, path) = (format!("{variable}_{}", variable_of(name)), format!("{path}.{name}"));
        match item {
            Item::Key(key) => into.push((variable, path, key)),
            Item::Section(below) | Item::Tables(below) => collect(below, &variable, &path, into),
        }
    }
}

fn variable_of(path: &str) -> String {
    path.replace("[]", "").replace(['.', '-'], "_").to_ascii_uppercase()
}

fn set_origin(node: &mut super::tree::Node, origin: &Origin) {
    use super::tree::Value;
    node.origin = origin.clone();
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| set_origin(item, origin)),
        Value::Table(entries) => entries.iter_mut().for_each(|(_, value)| set_origin(value, origin)),
        _ => {}
    }
}
