//! What became of each service: the values that are reported, and that the exit code is folded from.

use crate::sys::proc::Identity;
use crate::sys::signal::Signal;
use serde::Serialize;
use std::time::SystemTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StartOutcome {
    Started,
    AlreadyRunning,
    Failed,
    Skipped,
}

#[derive(Clone, Debug, Serialize)]
pub struct Started {
    pub id: String,
    pub outcome: StartOutcome,
    pub pid: Option<i32>,
    pub attempts: u32,
    pub ready_ms: Option<u64>,
    pub detail: Option<String>,
    /// The last lines of the attempt's log; for people.
    #[serde(skip)]
    pub log_lines: Vec<String>,
    /// Told beside the result: a stale file removed, a takeover, a change since the start.
    #[serde(skip)]
    pub notes: Vec<String>,
    #[serde(skip)]
    pub cancelled: bool,
}

impl Started {
    pub fn new(id: &str, outcome: StartOutcome, pid: Option<i32>) -> Started {
        Started {
            id: id.to_string(),
            outcome,
            pid,
            attempts: 0,
            ready_ms: None,
            detail: None,
            log_lines: Vec::new(),
            notes: Vec::new(),
            cancelled: false,
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(
            self.outcome,
            StartOutcome::Started | StartOutcome::AlreadyRunning
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopOutcome {
    Stopped,
    Killed,
    NotRunning,
    StaleRemoved,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct Stopped {
    pub id: String,
    pub outcome: StopOutcome,
    pub pid: Option<i32>,
    #[serde(serialize_with = "names")]
    pub signals: Vec<Signal>,
    pub processes: usize,
    pub elapsed_ms: u64,
    pub detail: Option<String>,
    pub receipts: Vec<Receipt>,
    /// Everybody that was found of its family.
    #[serde(skip)]
    pub members: Vec<(Identity, String)>,
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Stopped {
    pub fn new(id: &str, outcome: StopOutcome, pid: Option<i32>) -> Stopped {
        Stopped {
            id: id.to_string(),
            outcome,
            pid,
            signals: Vec::new(),
            processes: 0,
            elapsed_ms: 0,
            detail: None,
            receipts: Vec::new(),
            members: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub fn failed(id: &str, pid: Option<i32>, detail: String) -> Stopped {
        Stopped {
            detail: Some(detail),
            ..Stopped::new(id, StopOutcome::Failed, pid)
        }
    }
}

fn names<S: serde::Serializer>(signals: &[Signal], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(signals.iter().map(Signal::to_string))
}

fn name<S: serde::Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(signal)
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// One signal sent to one process, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    pub pid: i32,
    /// Ticks since boot.
    pub start_time: u64,
    pub command: String,
    #[serde(serialize_with = "name")]
    pub signal: Signal,
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    pub result: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Not known yet.
    Sent,
    /// It had ended before the signal arrived.
    Gone,
    /// It ended after this signal and before the next.
    Ended,
    /// It lived on.
    Survived,
    /// pidctl may not signal it.
    Denied,
}
