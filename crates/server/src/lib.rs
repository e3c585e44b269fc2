//! The server `tidewire` around the library: configuration, tokens, command line.
//!
//! `config`: files, environment and flags into one checked configuration. `token`: who a token says a client is, and
//! whether that can be believed. `outgoing`: the one HTTP client, for token keys and for the command line. `cli`: the
//! subcommands.

pub mod cli;
pub mod config;
pub mod outgoing;
pub mod token;
