//! Typed reading of what was set, with the defaults of the key table.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::keys;
use super::report::Report;
use super::secret::Secret;
use super::settings::{Settings, normal};
use super::tree::Origin;
use super::value::{self, Typed};

/// What was set, and where problems with it go.
pub(super) struct Reader<'r> {
    /// What was set.
    pub(super) settings: &'r Settings,
    /// Where problems go.
    pub(super) report: &'r mut Report,
}

impl Reader<'_> {
    fn value(&self, path: &str) -> Option<Typed> {
        if let Some(setting) = self.settings.get(path) {
            return Some(setting.value.clone());
        }
        let key = keys::find(&normal(path)).unwrap_or_else(|| unreachable!("{path} is not in keys.table"));
        if key.default.is_empty() { None } else { value::from_text(&key.kind, key.default).ok() }
    }

    /// A truth value; unset: false.
    pub(super) fn bool(&self, path: &str) -> bool {
        matches!(self.value(path), Some(Typed::Bool(true)))
    }

    /// A text; unset: empty.
    pub(super) fn text(&self, path: &str) -> String {
        match self.value(path) {
            Some(Typed::Text(text)) => text,
            _ => String::new(),
        }
    }

    /// A text that is not empty.
    pub(super) fn some_text(&self, path: &str) -> Option<String> {
        Some(self.text(path)).filter(|text| !text.is_empty())
    }

    /// A secret that is not empty.
    pub(super) fn secret(&self, path: &str) -> Option<Secret> {
        match self.value(path) {
            Some(Typed::Secret(secret)) => Some(secret).filter(|secret| !secret.is_empty()),
            _ => None,
        }
    }

    /// A list; unset: empty.
    pub(super) fn list(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Typed::List(items)) => items,
            _ => Vec::new(),
        }
    }

    /// A time; unset: zero.
    pub(super) fn duration(&self, path: &str) -> Duration {
        match self.value(path) {
            Some(Typed::Duration(time)) => time,
            _ => Duration::ZERO,
        }
    }

    /// A whole number; unset: 0.
    pub(super) fn int(&self, path: &str) -> i64 {
        match self.value(path) {
            Some(Typed::Int(number)) => number,
            _ => 0,
        }
    }

    /// A size; unset: 0.
    pub(super) fn size(&self, path: &str) -> usize {
        usize::try_from(self.int(path)).unwrap_or(usize::MAX)
    }

    /// A limit of Centrifugo, where 0 means that there is none.
    pub(super) fn limit(&self, path: &str) -> Option<NonZeroUsize> {
        NonZeroUsize::new(self.size(path))
    }

    /// A limit of ours; unset or unlimited: `None`.
    pub(super) fn count(&self, path: &str) -> Option<usize> {
        match self.value(path) {
            Some(Typed::Count(count)) => count,
            _ => None,
        }
    }

    /// Whether anyone set it.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.settings.get(path).is_some()
    }

    /// Reports an error at a key.
    pub(super) fn error(&mut self, path: &str, text: impl Into<String>) {
        self.report.error(self.settings.origin(path), path, text);
    }

    /// Reports a warning at a key.
    pub(super) fn warning(&mut self, path: &str, text: impl Into<String>) {
        self.report.warning(self.settings.origin(path), path, text);
    }

    /// Whether the `--dev` flag set it.
    pub(super) fn is_dev(&self, path: &str) -> bool {
        self.settings.origin(path) == Origin::Flag(super::dev::FLAG.to_owned())
    }
}
