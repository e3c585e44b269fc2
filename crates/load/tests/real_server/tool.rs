//! `tidewire-load` as a child process.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) const SECRET: &str = "a secret for the tests of the load tool";
pub(crate) const API_KEY: &str = "a key for the tests of the load tool";

/// `tidewire-load` with the secrets of the test servers.
pub(crate) fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire-load"));
    command.args(args).env("LOAD_API_KEY", API_KEY).stdin(Stdio::null());
    if args.first() != Some(&"publish") && args.first() != Some(&"floor") {
        command.env("LOAD_TOKEN_HMAC_SECRET", SECRET);
    }
    command
}

pub(crate) fn run(args: &[&str]) -> (Option<i32>, Value) {
    let output = tool(args).arg("--json").output().unwrap();
    let result = serde_json::from_slice(&output.stdout);
    (output.status.code(), result.unwrap_or_else(|_| panic!("no JSON: {}", written(&output))))
}

pub(crate) fn written(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A figure of a result.
pub(crate) fn figure(result: &Value, name: &str) -> f64 {
    result["figures"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {result:#}"))
}

/// Twenty clients of two channels were cut again and again, and everything arrived in the end: each is in one channel.
pub(crate) fn assert_recovered((code, result): &(Option<i32>, Value)) {
    assert_eq!(*code, Some(0), "{result:#}");
    assert_eq!(result["checker"]["clean"], true);
    assert!(figure(result, "cuts") >= 40.0, "{result:#}");
    assert!(figure(result, "recovered") >= 40.0, "{result:#}");
    assert_eq!(figure(result, "not_recovered"), 0.0);
    assert_eq!(figure(result, "deliveries"), figure(result, "publications") * 10.0, "{result:#}");
}
