//! The OS room: thin, named as the manual pages name things, and the only place for `unsafe`.
//! It imports nothing from above.
#![allow(unsafe_code)]

pub mod cgroup;
pub mod fds;
pub mod holders;
mod inet_diag;
pub mod interrupt;
pub mod listeners;
pub mod local_time;
pub mod manager;
mod netlink;
mod procnet;
pub mod signal;
