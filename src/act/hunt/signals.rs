//! Each signal that is sent, and what became of whom it was sent to.

use super::{Caught, Chase};
use crate::act::outcome::{Effect, Receipt};
use crate::events::EventKind;
use crate::sys::proc::{self, Identity};
use crate::sys::signal::Signal;
use serde_json::json;
use std::collections::HashSet;
use std::time::SystemTime;

impl Chase<'_> {
    pub(super) fn send(&mut self, signal: Signal, targets: &[usize]) {
        // Most families have one member: room for four would be most of a thousand of them.
        self.caught.receipts.reserve_exact(targets.len());
        for &number in targets {
            self.send_one(signal, number);
            // A stopped process acts on nothing else before SIGCONT.
            if self.family.get(number).was_stopped && signal != Signal::KILL {
                self.send_one(Signal::CONT, number);
            }
        }
        if !targets.is_empty() && !self.caught.signals.contains(&signal) {
            self.caught.signals.push(signal);
        }
    }

    /// Lets go on who was stopped since it was first seen, so that the signal reaches it.
    pub(super) fn wake_stopped(&mut self) {
        for number in self.targets() {
            let member = self.family.get(number);
            let is_stopped = proc::stat(member.identity.pid)
                .is_ok_and(|stat| stat.identity() == member.identity && stat.is_stopped());
            if is_stopped {
                self.send_one(Signal::CONT, number);
            }
        }
    }

    pub(super) fn send_one(&mut self, signal: Signal, number: usize) {
        if let Some(gauge) = self.gauge {
            gauge.signalled();
        }
        let member = self.family.get(number);
        let result = match member.pidfd.send(signal) {
            Ok(true) => Effect::Sent,
            Ok(false) => Effect::Gone,
            Err(_) => {
                self.denied.insert(number);
                Effect::Denied
            }
        };
        self.note_receipt(signal, number, result);
    }

    pub(super) fn note_receipt(&mut self, signal: Signal, number: usize, result: Effect) {
        let member = self.family.get(number);
        let (pid, start_time) = (member.identity.pid, member.identity.start_time);
        let command = member.comm.clone();
        self.caught.killed |= signal == Signal::KILL && result == Effect::Sent;
        if signal != Signal::STOP {
            let more = [
                ("signal", json!(signal.to_string())),
                ("command", json!(command)),
                ("start_time", json!(start_time)),
                ("result", json!(result)),
            ];
            self.act.event(
                EventKind::Signal,
                &self.hunt.label,
                Some(pid),
                self.hunt.why,
                &more,
            );
        }
        self.caught.receipts.push(Receipt {
            pid,
            start_time,
            command,
            signal,
            time: SystemTime::now(),
            result,
        });
    }

    pub(super) fn finish(mut self) -> Caught {
        let living: HashSet<Identity> = self
            .family
            .living()
            .map(|(_, member)| member.identity)
            .collect();
        let mut last_of = HashSet::new();
        for receipt in self
            .caught
            .receipts
            .iter_mut()
            .rev()
            .filter(|receipt| receipt.result == Effect::Sent)
        {
            let identity = Identity {
                pid: receipt.pid,
                start_time: receipt.start_time,
            };
            // These end nobody: what ended it is the signal that they froze it for, or woke it for.
            let ends = !matches!(receipt.signal, Signal::STOP | Signal::CONT);
            let is_last = ends && last_of.insert(identity);
            receipt.result = if is_last && !living.contains(&identity) {
                Effect::Ended
            } else {
                Effect::Survived
            };
        }
        for (number, member) in self.family.living() {
            let state = match proc::stat(member.identity.pid) {
                Ok(stat) => stat.state_name(),
                Err(_) => "unknown",
            };
            let may_not = if self.denied.contains(&number) {
                ", pidctl may not signal it"
            } else {
                ""
            };
            self.caught.survivors.push(format!(
                "{} ({}, {state}{may_not})",
                member.identity.pid, member.comm
            ));
        }
        for member in self.family.all() {
            self.caught
                .members
                .push((member.identity, member.comm.clone()));
        }
        // Without a proof there may be others.
        self.caught.survivors.extend(self.trouble.take());
        self.caught
    }
}
