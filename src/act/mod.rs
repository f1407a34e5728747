//! Doing: services are started and stopped side by side, each as one story of awaited steps.
//! Whatever goes wrong with one is its outcome and never ends another's.

pub mod adopt;
pub mod children;
pub mod context;
pub mod drill;
pub mod foreground;
pub mod free;
pub mod freed;
pub mod gauge;
mod health;
pub mod helper;
pub mod holder;
pub mod hunt;
pub mod journal;
pub mod judge;
mod last_words;
pub mod launch;
pub mod outcome;
pub mod port;
pub mod ready;
pub mod start;
pub mod stop;
pub mod walker;
