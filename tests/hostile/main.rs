//! Hostile ground: pidctl killed at any instant, every system call made to fail, chaos, PIDs reused,
//! and callers and services that do their worst. Short forms run in `cargo test`; docs/RELIABILITY.md
//! has the command of each long form and its last result.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

#[path = "../../src/hostile.rs"]
#[allow(dead_code)]
mod bytes;
mod callers;
mod chaos;
mod died;
mod every_call_fails;
mod files;
mod ground;
mod killed;
mod old_kernel;
mod protocol;
mod reused;
mod reused_meanwhile;
mod services;
mod setuid;
mod shortage;
mod tracer;
