//! The running server: its HTTP API, health, metrics, logs, and how it starts and stops.
//!
//! `api`, `bad_requests`: the API on a node in this process. The others start the real binary.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure with a place")]

#[path = "../../../tidewire/tests/common/mod.rs"]
mod client;
mod support;

mod api;
mod bad_requests;
mod demo;
mod descriptors;
mod health;
mod http_layer;
mod listeners;
mod logs;
mod metrics;
mod redis;
mod stopping;
mod tls;
