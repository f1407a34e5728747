//! What pidctl remembers of an instance besides its PID, and of the commands at work on it.

use crate::config::{Schedule, StopScope};
use crate::sys::boot::Place;
use crate::sys::proc::Identity;
use crate::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// One id: its instance, and who is starting or stopping it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Entry {
    pub id: String,
    /// The canonical path of the table it was made from.
    pub table: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Rc<Instance>>,
    /// The command that is starting it. A `stop` takes it away: that start is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starter: Option<Claim>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopper: Option<Claim>,
    /// The command that has stopped it and is about to start it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarter: Option<Claim>,
    /// Why the last start failed, for those who waited for it beside the command that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Entry {
    pub fn new(id: &str, table: &std::path::Path) -> Entry {
        Entry {
            id: id.to_string(),
            table: table.to_path_buf(),
            instance: None,
            starter: None,
            stopper: None,
            restarter: None,
            failure: None,
        }
    }

    /// Nothing is left that anybody needs to know.
    pub fn is_empty(&self) -> bool {
        self.instance.is_none()
            && self.starter.is_none()
            && self.stopper.is_none()
            && self.restarter.is_none()
            && self.failure.is_none()
    }
}

/// A process as a record names it: PID, start time, and where that means something.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claim {
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    pub pid_namespace: u64,
}

impl Claim {
    pub fn new(identity: Identity, place: &Place) -> Claim {
        Claim {
            pid: identity.pid,
            start_time: identity.start_time,
            boot_id: place.boot_id.clone(),
            pid_namespace: place.pid_namespace,
        }
    }

    pub fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            start_time: self.start_time,
        }
    }

    pub fn is_here(&self, place: &Place) -> bool {
        self.boot_id == place.boot_id && self.pid_namespace == place.pid_namespace
    }
}

/// How far an instance has come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The leader is the `prepare` command.
    Preparing,
    /// Its command runs; not ready yet.
    Starting,
    /// It was ready once.
    Ready,
}

/// One start of a service.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Instance {
    pub leader: Claim,
    /// Ticks since boot: nobody of the family is older.
    pub since: u64,
    /// In the environment of everything the instance starts. Empty where it was adopted.
    pub token: String,
    pub phase: Phase,
    /// The leader is what a command that went to the background left, or was adopted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub followed: bool,
    /// pidctl made its session: the leader's first PID is the number of session and process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<i32>,
    /// Family that ancestry showed once and perhaps nothing shows any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<(i32, u64)>,
    /// Stopped (SIGSTOP) for the kill: the next command ends what this one began.
    #[serde(default, skip_serializing_if = "is_false")]
    pub frozen: bool,
    pub log: Log,
    pub port: Option<u16>,
    /// The user it runs as.
    pub uid: u32,
    /// For an instance whose entry has left the table.
    pub stop_schedule: Vec<(i32, u64)>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub stop_leader_only: bool,
    pub ready_timeout_ms: u64,
    /// Digest of the table's entry, and the executable's device, inode and mtime at the start.
    pub digest: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<(PathBuf, u64, u64, i64)>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Where the instance's output began, and the lock that marks the open file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Log {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// Bytes that were in it before.
    pub begin: u64,
    /// Offset of the instance's lock; `None` where the file system has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<u64>,
}

impl Instance {
    pub fn schedule(&self) -> Schedule {
        let steps = self.stop_schedule.iter();
        Schedule {
            steps: steps
                .filter_map(|(number, ms)| {
                    Some((Signal::from_number(*number)?, Duration::from_millis(*ms)))
                })
                .filter(|(signal, _)| *signal != Signal::KILL)
                .collect(),
        }
    }

    pub fn scope(&self) -> StopScope {
        if self.stop_leader_only {
            StopScope::Leader
        } else {
            StopScope::Family
        }
    }

    pub fn members(&self) -> impl Iterator<Item = Identity> + '_ {
        self.members
            .iter()
            .map(|&(pid, start_time)| Identity { pid, start_time })
    }
}

/// A schedule as a record keeps it: signal numbers and milliseconds.
pub fn recorded(schedule: &Schedule) -> Vec<(i32, u64)> {
    schedule
        .steps
        .iter()
        .map(|(signal, wait)| (signal.number(), wait.as_millis() as u64))
        .collect()
}
