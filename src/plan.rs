//! What is to be done about what is there: pure decisions, which `start` and `stop` carry out and
//! `--dry-run` prints.

use crate::observe::{Found, Observation};
use crate::state::pidfile::PidFile;
use crate::state::record::{Instance, Phase};
use crate::sys::proc::{Identity, Stat};
use std::path::PathBuf;
use std::rc::Rc;

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
        instance: Option<Rc<Instance>>,
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
    if let Found::Elsewhere(table) = &observation.found {
        let table = table.display();
        return StartStep::Fail(format!(
            "its id is recorded for another table: {table}; stop it there first"
        ));
    }
    if observation.stopper_at_work {
        return StartStep::AwaitStop;
    }
    let instance = observation
        .entry
        .as_ref()
        .and_then(|entry| entry.instance.as_ref());
    let frozen = instance.is_some_and(|instance| instance.frozen);
    let half_stopped = observation
        .entry
        .as_ref()
        .is_some_and(|entry| entry.stopper.is_some());
    let preparing = instance.is_some_and(|instance| instance.phase == Phase::Preparing);
    match observation.found {
        Found::Unknown(why) => StartStep::Fail(why),
        Found::Elsewhere(_) => StartStep::Fail("it is another table's".to_string()),
        // A stop died after it may have sent its signal, or between freezing the family and killing it:
        // what it began is finished. A start died and its `prepare` lives on: it is not the service.
        Found::Running {
            leader,
            recorded: true,
        } if (frozen || preparing || half_stopped) && !observation.starter_at_work => {
            StartStep::Start {
                leftovers: vec![leader],
                stale: None,
            }
        }
        Found::Running { leader, recorded } => {
            if observation.starter_at_work
                || instance.is_some_and(|instance| instance.phase != Phase::Ready)
            {
                return StartStep::Join {
                    pid: Some(leader.pid),
                };
            }
            let named =
                matches!(observation.pid_file, PidFile::Pid { pid, .. } if pid == leader.pid);
            let instance = instance.filter(|_| recorded).cloned();
            StartStep::AlreadyRunning {
                leader: leader.identity(),
                instance,
                named,
            }
        }
        _ if observation.starter_at_work => StartStep::Join { pid: None },
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
