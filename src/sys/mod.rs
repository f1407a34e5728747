//! The OS room: thin, named as the manual pages name things, and the only place for `unsafe`.
//! It imports nothing from above.
#![allow(unsafe_code)]

pub mod boot;
pub mod capability;
pub mod cgroup;
pub mod fds;
pub mod files;
pub mod holders;
#[cfg(test)]
mod hostile;
mod inet_diag;
pub mod interrupt;
pub mod listeners;
pub mod local_time;
pub mod lock;
pub mod manager;
pub mod netlink;
pub mod pidfd;
pub mod proc;
mod procnet;
pub mod shell;
pub mod signal;
pub mod spawn;
pub mod startup;
pub mod terminal;
pub mod users;
pub mod wait;
