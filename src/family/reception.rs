//! How would a process take a signal? By its masks in /proc, which say what it does by now.

use crate::sys::proc;
use crate::sys::signal::Signal;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reception {
    /// It has a handler.
    Catches,
    /// By the kernel's default: at once, without a word.
    #[serde(rename = "default")]
    Obeys,
    /// Will need SIGKILL.
    Ignores,
    /// It may take it by sigwait or signalfd, or not at all.
    Blocks,
    /// Its masks may not be read.
    Unknown,
}

impl Reception {
    pub fn of(pid: i32, signal: Signal) -> Reception {
        let Ok(status) = proc::status(pid) else {
            return Reception::Unknown;
        };
        let bit = 1u64 << (signal.number() - 1);
        if status.ignored & bit != 0 {
            Reception::Ignores
        } else if status.blocked & bit != 0 {
            Reception::Blocks
        } else if status.caught & bit != 0 {
            Reception::Catches
        } else {
            Reception::Obeys
        }
    }
}
