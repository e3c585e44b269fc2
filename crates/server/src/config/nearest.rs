//! Which known name an unknown one was probably meant to be.

use super::keys::{self, Section};
use super::settings::normal;

/// What to say of a key nobody knows: the nearest known name, in this table or, if better, elsewhere.
pub(super) fn unknown_key(siblings: &Section, path: &str, name: &str) -> String {
    let sibling = siblings.keys().map(|known| (strsim::osa_distance(known, name), *known)).min();
    let limit = tolerance(name);
    if let Some((distance, known)) = sibling
        && distance <= limit
    {
        return format!("unknown key; did you mean {known}?");
    }
    if let Some(elsewhere) = elsewhere(path, name) {
        return format!("unknown key here; did you mean {elsewhere}?");
    }
    match sibling {
        Some((_, known)) => format!("unknown key; the nearest known name is {known}"),
        None => "unknown key".into(),
    }
}

/// As [`unknown_key`], for a whole path.
pub(super) fn unknown_path(path: &str) -> String {
    let paths = keys::all().iter().map(|key| key.path.as_str()).filter(|known| !known.contains("[]"));
    match paths.map(|known| (strsim::osa_distance(known, path), known)).min() {
        Some((_, known)) => format!("unknown key; the nearest known name is {known}"),
        None => "unknown key".into(),
    }
}

fn tolerance(name: &str) -> usize {
    (name.chars().count() / 3).clamp(1, 4)
}

/// A key of another table: one whose last words are these (a name of an older Centrifugo, such as
/// `token_hmac_secret_key`), or whose last name is nearly this one.
fn elsewhere(path: &str, name: &str) -> Option<String> {
    let place = normal(path).replace(['.'], "_").replace("[]", "");
    let flat = if place.is_empty() { name.to_owned() } else { format!("{place}_{name}") };
    let fits = |path: &str| {
        let joined = path.replace("[]", "").replace('.', "_");
        joined.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')) || joined == flat
    };
    // A list of tables is named by what stands before its members.
    let names = keys::all().iter().enumerate().flat_map(|(place, key)| {
        let list = key.path.split_once("[]").map(|(list, _)| list);
        let names = std::iter::once(key.path.as_str()).chain(list);
        names.map(move |path| (!key.support.works(), path.matches('.').count(), place, path))
    });
    if let Some((.., path)) = names.filter(|(.., path)| fits(path)).min() {
        return Some(path.to_owned());
    }
    let section =
        keys::tree().keys().find(|section| strsim::osa_distance(section, name) <= 1 && !path.is_empty());
    if let Some(section) = section {
        return Some((*section).to_owned());
    }
    let last = |key: &keys::Key| key.path.rsplit('.').next().map(|last| strsim::osa_distance(last, name));
    let best =
        keys::all().iter().filter_map(|key| Some((last(key)?, !key.support.works(), key.path.len(), key)));
    best.min_by_key(|(distance, unsupported, length, _)| (*distance, *unsupported, *length))
        .filter(|(distance, ..)| *distance <= 1)
        .map(|(.., key)| key.path.clone())
}

/// The variable of these nearest to a name, if any is near.
pub(super) fn variable<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|known| (strsim::osa_distance(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, known)| known)
}
