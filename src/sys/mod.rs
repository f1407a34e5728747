//! The OS room: thin, named as the manual pages name things, and the only place for `unsafe`.
//! It imports nothing from above.
#![allow(unsafe_code)]

pub mod interrupt;
pub mod local_time;
pub mod signal;
