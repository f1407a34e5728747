//! What is to be done about what is there: pure decisions, which `start` and `stop` carry out and
//! `--dry-run` prints.

use crate::observe::{self, Found, Observation};
use crate::state::pidfile::PidFile;
use crate::state::record::{Instance, Phase};
use crate::sys::proc::{Identity, Stat};
use std::path::PathBuf;

/// The step of `start` for one service.
#[derive(Debug)]
pub enum StartStep {
    Fail(String),
    /// Another command is stopping it: after that it is looked at again.
    AwaitStop,
    /// Another command is starting it, or left it before it was ready: its readiness is awaited.
    Join {
        pid: Option<i32>,
    },
    AlreadyRunning {
        leader: Identity,
        /// `None`: only its PID file tells of it.
        instance: Option<Box<Instance>>,
        /// Its PID file names it.
        named: bool,
    },
    /// What a crashed leader left is followed where it is healthy, else stopped before the start.
    Start {
        leftovers: Vec<Stat>,
        stale: Option<String>,
    },
}

/// The step of `stop` for one id.
#[derive(Debug)]
pub enum StopStep {
    Fail(String),
    NotRunning,
    /// Another table's, which alone may stop it.
    NotOurs(PathBuf),
    RemoveStale(String),
    End {
        leader: Option<Identity>,
        first: Vec<Stat>,
    },
}

pub fn start(observation: Observation) -> StartStep {
    let Observation {
        found,
        pid_file,
        entry,
        starter_at_work,
        stopper_at_work,
    } = observation;
    let instance = entry.as_ref().and_then(|entry| entry.instance.as_ref());
    let frozen = instance.is_some_and(|instance| instance.frozen);
    let half_stopped = entry.as_ref().is_some_and(|entry| entry.stopper.is_some());
    let preparing = instance.is_some_and(|instance| instance.phase == Phase::Preparing);
    match found {
        Found::Elsewhere(table) => {
            let why = observe::elsewhere(&table);
            StartStep::Fail(format!("{why}; stop it there first"))
        }
        _ if stopper_at_work => StartStep::AwaitStop,
        Found::Unknown(why) => StartStep::Fail(why),
        // A stop died after it may have sent its signal, or between freezing the family and killing it:
        // what it began is finished. A start died and its `prepare` lives on: it is not the service.
        Found::Running {
            leader,
            recorded: true,
        } if (frozen || preparing || half_stopped) && !starter_at_work => StartStep::Start {
            leftovers: vec![leader],
            stale: None,
        },
        Found::Running { leader, recorded } => {
            if starter_at_work || instance.is_some_and(|instance| instance.phase != Phase::Ready) {
                return StartStep::Join {
                    pid: Some(leader.pid),
                };
            }
            let named = matches!(pid_file, PidFile::Pid { pid, .. } if pid == leader.pid);
            let instance = instance.filter(|_| recorded).cloned().map(Box::new);
            StartStep::AlreadyRunning {
                leader: leader.identity(),
                instance,
                named,
            }
        }
        _ if starter_at_work => StartStep::Join { pid: None },
        Found::Orphaned(leftovers) => StartStep::Start {
            leftovers,
            stale: None,
        },
        Found::Stale(why) => StartStep::Start {
            leftovers: Vec::new(),
            stale: Some(why),
        },
        Found::Stopped => StartStep::Start {
            leftovers: Vec::new(),
            stale: None,
        },
    }
}

pub fn stop(observation: &Observation) -> StopStep {
    match &observation.found {
        Found::Unknown(why) => StopStep::Fail(why.clone()),
        Found::Elsewhere(table) => StopStep::NotOurs(table.clone()),
        Found::Running { leader, .. } => StopStep::End {
            leader: Some(leader.identity()),
            first: vec![leader.clone()],
        },
        Found::Orphaned(family) => StopStep::End {
            leader: None,
            first: family.clone(),
        },
        Found::Stale(why) if observation.pid_file != PidFile::Missing => {
            StopStep::RemoveStale(why.clone())
        }
        Found::Stale(_) | Found::Stopped => StopStep::NotRunning,
    }
}
