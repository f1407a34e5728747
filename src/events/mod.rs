//! What happened to the services, and why: `logs/events.jsonl`, one JSON object a line.

pub mod tell;
pub mod write;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Prepare,
    Start,
    Ready,
    StartFailed,
    /// A start was ended by somebody's stop or Ctrl-C.
    Cancelled,
    Signal,
    Escalation,
    Exit,
    Stopped,
    StopFailed,
    FoundGone,
    StaleRemoved,
    PortFreed,
    Adopted,
    /// The command went to the background; the PID is that of what remains.
    Followed,
}

/// One event. Of `more`, these keys are told in words: `signal` (`SIGTERM`), `status` (`exit 1`,
/// `SIGKILL`), `elapsed_ms`, `port`; any others as they are. The keys of every event (`time`, `event`,
/// `service`, `pid`, `why`) are not taken from `more`.
#[derive(Clone, Debug)]
pub struct Event {
    pub event: EventKind,
    pub service: Option<String>,
    pub pid: Option<i32>,
    pub why: String,
    pub more: Map<String, Value>,
}

#[cfg(test)]
impl Event {
    pub fn new(event: EventKind, why: impl Into<String>) -> Event {
        Event {
            event,
            service: None,
            pid: None,
            why: why.into(),
            more: Map::new(),
        }
    }

    pub fn service(mut self, id: &str) -> Event {
        self.service = Some(id.to_owned());
        self
    }

    pub fn pid(mut self, pid: i32) -> Event {
        self.pid = Some(pid);
        self
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Event {
        self.more.insert(key.to_owned(), value.into());
        self
    }
}
