//! The two encodings from outside: against the schema, against frozen examples, against each other, and against peers
//! that send anything at all.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bad_input;
mod examples;
mod lawful;
mod reading;
mod round_trip;
mod schema;
mod support;
mod writing;
