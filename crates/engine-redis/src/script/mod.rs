//! The steps that must be atomic. Each is a file of its own; what several share stands before them.

use std::fmt::Write;
use std::sync::LazyLock;

use sha1::{Digest, Sha1};

use crate::resp::Command;

/// A script a server runs by its hash.
pub(crate) struct Script {
    text: String,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident: $($file:literal)*;)*) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(concat!($(include_str!($file)),*)));)*

        /// Loads every script into a server.
        pub(crate) fn loading() -> Vec<Command> {
            vec![$($name.load(),)*]
        }
    };
}

scripts! {
    PUBLISH: "stream.lua" "publish.lua";
    DELIVER: "deliver.lua";
    HISTORY: "stream.lua" "history.lua";
    PRESENCE_ADD: "presence.lua" "presence_add.lua";
    PRESENCE_REMOVE: "presence.lua" "presence_remove.lua";
    PRESENCE_LIST: "presence.lua" "presence_list.lua";
    PRESENCE_STATS: "presence.lua" "presence_stats.lua";
    LEASE: "lease.lua";
}

// === impl Script ===

impl Script {
    fn new(text: &str) -> Self {
        let mut hash = String::with_capacity(40);
        for byte in Sha1::digest(text) {
            let _ = write!(hash, "{byte:02x}");
        }
        Self { text: text.to_owned(), hash }
    }

    fn load(&self) -> Command {
        Command::words(&["SCRIPT", "LOAD", &self.text])
    }

    /// The call of this script. Every key it touches is among `keys`.
    pub(crate) fn call(&self, keys: &[String], arguments: &[&[u8]]) -> Command {
        let count = keys.len().to_string();
        let mut parts: Vec<&[u8]> = vec![b"EVALSHA", self.hash.as_bytes(), count.as_bytes()];
        parts.extend(keys.iter().map(String::as_bytes));
        parts.extend_from_slice(arguments);
        Command::new(&parts)
    }
}
