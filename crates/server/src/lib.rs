//! The server `tidewire` around the library: configuration, tokens, command line.
//!
//! `config`: files, environment and flags into one checked configuration. `token`: who a token says a client is, and
//! whether that can be believed. `outgoing`: the one HTTP client, for token keys and for the command line. `cli`: the
//! subcommands. `serve`: the running server, with `api` (what backends call), `health`, `metrics` and `logs`.

pub mod api;
pub mod cli;
pub mod config;
pub mod health;
pub mod logs;
pub mod metrics;
pub mod outgoing;
pub mod serve;
pub mod token;
