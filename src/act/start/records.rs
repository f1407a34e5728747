//! How a start ends: its claim given back, its record settled or forgotten, what it began undone.

use super::Story;
use crate::act::context::Act;
use crate::act::hunt::{self, Caught, Hunt};
use crate::act::outcome::Started;
use crate::events::EventKind;
use crate::family::trace::Traces;
use crate::logs;
use crate::state::pidfile;
use crate::state::record::{Claim, Instance, Phase};
use crate::sys::proc::{Identity, Stat};
use serde_json::json;
use std::rc::Rc;

impl Story {
    pub(super) async fn hunt(
        &self,
        traces: Traces,
        first: Vec<Stat>,
        leader: Option<Identity>,
        recorded: bool,
        why: &'static str,
    ) -> Caught {
        let service = self.service();
        let mut hunt = Hunt {
            label: self.id().to_string(),
            traces,
            first,
            leader,
            schedule: service.schedule.clone(),
            scope: service.stop_scope,
            kill_at: None,
            give_up_at: None,
            recorded,
            already_signalled: false,
            why,
        };
        Box::pin(hunt::end(&self.act, &mut hunt)).await
    }

    /// Removes record and PID file of an instance that has been ended; the claim stays.
    pub(super) async fn forget_instance(&self, token: &str, pid: i32) {
        let (id, token) = (self.id().to_string(), token.to_string());
        let Ok(journal) = self.act.journal() else {
            return;
        };
        let removed = journal.update(move |transaction| {
            let entry = transaction.ledger.entries.get_mut(&id);
            if let Some(entry) = entry.filter(|entry| {
                entry
                    .instance
                    .as_ref()
                    .is_some_and(|instance| instance.token == token)
            }) {
                entry.instance = None;
                // Of a stop that died: what it began is done.
                entry.stopper = None;
            }
            pidfile::remove(transaction.folder, &id, &[pid])
        });
        if let Ok(Err(why)) | Err(why) = removed.await {
            self.note(format!("its PID file or record cannot be removed: {why}"));
        }
    }

    /// Records that it is ready, led by `leader`. False where a `stop` has come in between.
    pub(super) async fn settle(
        &self,
        instance: &Instance,
        leader: Identity,
        family: &[Identity],
    ) -> bool {
        let settled = settle(&self.act, self.id(), instance, leader, family).await;
        settled.unwrap_or_else(|why| {
            self.note(why);
            true
        })
    }

    /// Gives our claim back, with the reason where it failed.
    pub(super) async fn release(&self, failure: Option<String>) {
        let (shared, id) = (self.act.clone(), self.id().to_string());
        let Ok(journal) = self.act.journal() else {
            return;
        };
        // If it cannot be written, the claim ends with us.
        let _ = journal
            .update(move |transaction| {
                let me = shared.claim();
                if let Some(entry) = transaction
                    .ledger
                    .entries
                    .get_mut(&id)
                    .filter(|entry| entry.starter.as_ref() == Some(&me))
                {
                    entry.starter = None;
                    entry.failure = failure;
                }
            })
            .await;
    }

    /// Ends whom the traces show of an instance that came to nothing, and forgets it. The error names who
    /// lives still; then its record stays.
    pub(super) async fn end_instance(
        &self,
        instance: &Instance,
        traces: Traces,
    ) -> Result<(), String> {
        let leader = Some(instance.leader.identity());
        let caught = self
            .hunt(traces, Vec::new(), leader, true, "its start failed")
            .await;
        if !caught.survivors.is_empty() {
            let left = caught.survivors.join(", ");
            return Err(format!("what it left could not be stopped: {left}"));
        }
        self.forget_instance(&instance.token, instance.leader.pid)
            .await;
        Ok(())
    }

    /// Fails, after ending what `running` holds.
    pub(super) async fn give_up(
        &self,
        why: String,
        attempts: u32,
        running: Option<&Instance>,
    ) -> Started {
        let mut why = why;
        let mut log_lines = Vec::new();
        if let Some(instance) = running {
            let traces = Traces::of(instance, &self.act.place);
            if let Err(trouble) = self.end_instance(instance, traces).await {
                why = format!("{why}; {trouble}");
            }
            log_lines = last_lines(instance);
        }
        self.release(Some(why.clone())).await;
        self.act.event(
            EventKind::StartFailed,
            self.id(),
            None,
            why.clone(),
            &[("attempts", json!(attempts))],
        );
        Started {
            log_lines,
            ..self.failed(why, attempts)
        }
    }

    pub(super) async fn is_cancelled(&self) -> bool {
        let (shared, id) = (self.act.clone(), self.id().to_string());
        let Ok(journal) = self.act.journal() else {
            return false;
        };
        let ours = journal.update(move |transaction| {
            let me = shared.claim();
            transaction
                .ledger
                .entries
                .get(&id)
                .is_some_and(|entry| entry.starter.as_ref() == Some(&me))
        });
        !ours.await.unwrap_or(true)
    }

    pub(super) fn cancelled(&self, attempts: u32) -> Started {
        self.act.event(
            EventKind::Cancelled,
            self.id(),
            None,
            "stopped by another command",
            &[],
        );
        Started {
            cancelled: true,
            ..self.failed("stopped by another command".to_string(), attempts)
        }
    }
}

/// Records that an instance is ready, led by `leader`: the one it began with, or whom a command that
/// went to the background has left. False where a `stop` has come in between.
pub(in crate::act) async fn settle(
    act: &Rc<Act>,
    id: &str,
    instance: &Instance,
    leader: Identity,
    family: &[Identity],
) -> Result<bool, String> {
    let (shared, id, token) = (act.clone(), id.to_string(), instance.token.clone());
    let (family, old) = (family.to_vec(), instance.leader.pid);
    let Ok(journal) = act.journal() else {
        return Ok(true);
    };
    let settled = journal.update(move |transaction| {
        let me = shared.claim();
        let Some(entry) = transaction.ledger.entries.get_mut(&id) else {
            return Ok(false);
        };
        let Some(instance) = entry
            .instance
            .as_mut()
            .filter(|instance| instance.token == token)
        else {
            return Ok(false);
        };
        if entry
            .stopper
            .as_ref()
            .is_some_and(|claim| crate::family::verdict::is_at_work(claim, &shared.place))
        {
            return Ok(false);
        }
        let instance = Rc::make_mut(instance);
        instance.phase = Phase::Ready;
        if entry.starter.as_ref() == Some(&me) {
            entry.starter = None;
        }
        if !family.is_empty() {
            instance.members = family
                .iter()
                .map(|member| (member.pid, member.start_time))
                .collect();
        }
        if leader.pid != old {
            instance.leader = Claim::new(leader, &shared.place);
            instance.followed = true;
            pidfile::write(transaction.folder, &id, leader.pid)?;
        }
        Ok::<bool, std::io::Error>(true)
    });
    match settled.await {
        Ok(Ok(settled)) => Ok(settled),
        Ok(Err(error)) => Err(format!("its PID file cannot be written: {error}")),
        Err(why) => Err(format!("its record cannot be written: {why}")),
    }
}

/// How many of an attempt's last lines are shown when it fails.
const LINES_SHOWN: usize = 10;

/// The last lines of the instance's own part of its log, harmless on a terminal.
pub(super) fn last_lines(instance: &Instance) -> Vec<String> {
    let log = &instance.log;
    let lines = logs::tail::tail_from(&log.path, log.begin, LINES_SHOWN).unwrap_or_default();
    lines
        .iter()
        .map(|line| logs::sanitize::sanitize(line))
        .collect()
}
