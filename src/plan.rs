//! What is to be done about what is there: pure decisions, which `start` and `stop` carry out and
//! `--dry-run` prints.

use crate::observe::{self, Found, Observation};
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
            let instance = instance.filter(|_| recorded).cloned();
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

/// The same once `stop` has succeeded. Another table's is not ended by it.
pub fn start_once_stopped(observation: Observation) -> StartStep {
    match observation.found {
        Found::Elsewhere(_) => start(observation),
        _ => StartStep::Start {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::record::{Claim, Entry, Log};
    use std::rc::Rc;
    use std::time::SystemTime;

    const LEADER: i32 = 42;

    fn stat(pid: i32) -> Stat {
        Stat {
            pid,
            comm: "web".into(),
            state: b'S',
            ppid: 1,
            pgrp: pid,
            session: pid,
            tty_nr: 0,
            flags: 0,
            num_threads: 1,
            start_time: 7,
            rss: 0,
        }
    }

    fn claim(pid: i32) -> Claim {
        Claim {
            pid,
            start_time: 7,
            boot_id: "boot".into(),
            pid_namespace: 1,
        }
    }

    fn instance(phase: Phase) -> Instance {
        Instance {
            leader: claim(LEADER),
            since: 7,
            token: "token".into(),
            phase,
            followed: false,
            session: Some(LEADER),
            members: Vec::new(),
            frozen: false,
            log: Log {
                path: "web.log".into(),
                device: 0,
                inode: 0,
                begin: 0,
                lock: None,
            },
            port: None,
            uid: 0,
            stop_schedule: Vec::new(),
            stop_leader_only: false,
            ready_timeout_ms: 0,
            digest: 0,
            executable: None,
        }
    }

    /// Nothing but what was found.
    fn seen(found: Found) -> Observation {
        Observation {
            found,
            pid_file: PidFile::Missing,
            entry: None,
            starter_at_work: false,
            stopper_at_work: false,
        }
    }

    /// A record of that phase beside it, and the PID file that goes with it.
    fn recorded(found: Found, phase: Phase) -> Observation {
        let entry = Entry {
            instance: Some(instance(phase).into()),
            ..Entry::new("web", "/t".as_ref())
        };
        let written = SystemTime::UNIX_EPOCH;
        Observation {
            pid_file: PidFile::Pid {
                pid: LEADER,
                written,
            },
            entry: Some(entry),
            ..seen(found)
        }
    }

    fn running() -> Found {
        Found::Running {
            leader: stat(LEADER),
            recorded: true,
        }
    }

    fn by_pid_file() -> Observation {
        let leader = stat(LEADER);
        let recorded = false;
        let written = SystemTime::UNIX_EPOCH;
        Observation {
            pid_file: PidFile::Pid {
                pid: LEADER,
                written,
            },
            ..seen(Found::Running { leader, recorded })
        }
    }

    fn starting(observation: Observation) -> Observation {
        Observation {
            starter_at_work: true,
            ..observation
        }
    }

    fn stopping(observation: Observation) -> Observation {
        Observation {
            stopper_at_work: true,
            ..observation
        }
    }

    fn with(mut observation: Observation, change: impl FnOnce(&mut Entry)) -> Observation {
        change(
            observation
                .entry
                .get_or_insert(Entry::new("web", "/t".as_ref())),
        );
        observation
    }

    fn frozen(entry: &mut Entry) {
        if let Some(instance) = &mut entry.instance {
            Rc::make_mut(instance).frozen = true;
        }
    }

    /// A stop that has died.
    fn half_stopped(entry: &mut Entry) {
        entry.stopper = Some(claim(99));
    }

    fn start_in_words(step: StartStep) -> String {
        match step {
            StartStep::Fail(why) => format!("fail: {why}"),
            StartStep::AwaitStop => "await the stop".into(),
            StartStep::Join { pid } => format!("join {pid:?}"),
            StartStep::AlreadyRunning {
                leader,
                instance,
                named,
            } => format!(
                "already running {}, recorded {}, named {named}",
                leader.pid,
                instance.is_some()
            ),
            StartStep::Start { leftovers, stale } => {
                let pids: Vec<i32> = leftovers.iter().map(|stat| stat.pid).collect();
                format!("start, leftovers {pids:?}, stale {stale:?}")
            }
        }
    }

    fn stop_in_words(step: StopStep) -> String {
        match step {
            StopStep::Fail(why) => format!("fail: {why}"),
            StopStep::NotRunning => "not running".into(),
            StopStep::NotOurs(table) => format!("of {}", table.display()),
            StopStep::RemoveStale(why) => format!("remove stale: {why}"),
            StopStep::End { leader, first } => {
                let pids: Vec<i32> = first.iter().map(|stat| stat.pid).collect();
                format!("end {:?}, first {pids:?}", leader.map(|leader| leader.pid))
            }
        }
    }

    #[test]
    fn what_start_does_about_what_is_there() {
        use Phase::{Preparing, Ready, Starting};
        let gone = || Found::Stale("PID 42 is gone".into());
        let left = || Found::Orphaned(vec![stat(43), stat(44)]);
        let unknown = || Found::Unknown("why".into());
        let elsewhere = || Found::Elsewhere("/other".into());
        let fresh = "start, leftovers [], stale None";
        let half = "start, leftovers [42], stale None";
        let joined = "join Some(42)";
        let runs = "already running 42, recorded true, named true";
        let theirs = "fail: its id is recorded for another table: /other; stop it there first";
        for (observation, expected) in [
            (seen(Found::Stopped), fresh),
            (recorded(Found::Stopped, Ready), fresh),
            (starting(seen(Found::Stopped)), "join None"),
            (stopping(seen(Found::Stopped)), "await the stop"),
            (stopping(starting(seen(Found::Stopped))), "await the stop"),
            (with(seen(Found::Stopped), half_stopped), fresh),
            (
                seen(gone()),
                "start, leftovers [], stale Some(\"PID 42 is gone\")",
            ),
            (starting(seen(gone())), "join None"),
            (
                recorded(left(), Ready),
                "start, leftovers [43, 44], stale None",
            ),
            (starting(recorded(left(), Ready)), "join None"),
            (stopping(recorded(left(), Ready)), "await the stop"),
            (recorded(running(), Ready), runs),
            (recorded(running(), Starting), joined),
            (starting(recorded(running(), Starting)), joined),
            (starting(recorded(running(), Ready)), joined),
            (stopping(recorded(running(), Ready)), "await the stop"),
            // What a command that died has left half done is ended first.
            (recorded(running(), Preparing), half),
            (starting(recorded(running(), Preparing)), joined),
            (with(recorded(running(), Ready), frozen), half),
            (with(recorded(running(), Ready), half_stopped), half),
            (
                starting(with(recorded(running(), Ready), half_stopped)),
                joined,
            ),
            (
                by_pid_file(),
                "already running 42, recorded false, named true",
            ),
            (
                Observation {
                    pid_file: PidFile::Missing,
                    ..recorded(running(), Ready)
                },
                "already running 42, recorded true, named false",
            ),
            (seen(unknown()), "fail: why"),
            (starting(seen(unknown())), "fail: why"),
            (stopping(seen(unknown())), "await the stop"),
            (seen(elsewhere()), theirs),
            // Another table's stop is nothing to wait for.
            (stopping(starting(seen(elsewhere()))), theirs),
        ] {
            let shown = format!("{observation:?}");
            assert_eq!(start_in_words(start(observation)), expected, "{shown}");
        }
    }

    #[test]
    fn what_stop_does_about_what_is_there() {
        let gone = || Found::Stale("PID 42 is gone".into());
        let left = || Found::Orphaned(vec![stat(43), stat(44)]);
        let ended = "end Some(42), first [42]";
        for (observation, expected) in [
            (seen(Found::Stopped), "not running"),
            (recorded(Found::Stopped, Phase::Ready), "not running"),
            (starting(seen(Found::Stopped)), "not running"),
            // A record alone has no file to remove.
            (seen(gone()), "not running"),
            (
                recorded(gone(), Phase::Ready),
                "remove stale: PID 42 is gone",
            ),
            (recorded(running(), Phase::Ready), ended),
            (recorded(running(), Phase::Preparing), ended),
            (starting(recorded(running(), Phase::Starting)), ended),
            (stopping(recorded(running(), Phase::Ready)), ended),
            (with(recorded(running(), Phase::Ready), frozen), ended),
            (by_pid_file(), ended),
            (recorded(left(), Phase::Ready), "end None, first [43, 44]"),
            (seen(Found::Unknown("why".into())), "fail: why"),
            (seen(Found::Elsewhere("/other".into())), "of /other"),
        ] {
            assert_eq!(
                stop_in_words(stop(&observation)),
                expected,
                "{observation:?}"
            );
        }
    }
}
