//! Is the process of that PID the recorded one? Ours, not ours, or not to be told; never two answers
//! in one.

use crate::state::record::{Claim, Instance};
use crate::sys::boot::Place;
use crate::sys::lock;
use crate::sys::proc::{self, Stat};

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The recorded process, alive.
    Ours(Stat),
    /// Ended, or its PID is another's by now.
    NotOurs,
    CannotTell(String),
}

/// The leader of an instance.
pub fn of_leader(instance: &Instance, place: &Place) -> Verdict {
    let leader = &instance.leader;
    if leader.boot_id != place.boot_id {
        return Verdict::NotOurs;
    }
    if leader.pid_namespace != place.pid_namespace {
        // Its PID means nothing here, but its log tells whether anybody of it lives.
        let log = &instance.log;
        let held = log
            .lock
            .and_then(|offset| lock::is_marked_at(&log.path, (log.device, log.inode), offset));
        return match held {
            Some(false) => Verdict::NotOurs,
            Some(true) => Verdict::CannotTell(format!(
                "PID {} belongs to another PID namespace (a container?) and its log is still held there",
                leader.pid
            )),
            None => Verdict::NotOurs,
        };
    }
    of_process(leader)
}

/// A process that a record names, of this boot and PID namespace.
fn of_process(claim: &Claim) -> Verdict {
    match proc::alive(claim.identity()) {
        Ok(Some(stat)) => Verdict::Ours(stat),
        Ok(None) => Verdict::NotOurs,
        Err(error) => {
            Verdict::CannotTell(format!("/proc/{}/stat cannot be read: {error}", claim.pid))
        }
    }
}

/// Is the command that made this claim still at work? One of another PID namespace cannot be seen and
/// is not waited for: its lock and the records keep the two apart.
pub fn is_at_work(claim: &Claim, place: &Place) -> bool {
    claim.is_here(place) && matches!(of_process(claim), Verdict::Ours(_) | Verdict::CannotTell(_))
}
