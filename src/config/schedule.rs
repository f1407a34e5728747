//! The escalation as data: signals and the waits after them, as start-stop-daemon writes them.

use crate::sys::signal::Signal;
use std::time::Duration;

/// Signals and how long to wait after each. SIGKILL follows the last wait; it is never in `steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Empty means SIGKILL at once.
    pub steps: Vec<(Signal, Duration)>,
}
