//! What a stop removes and writes: PID file, record and its own claim.

use super::Story;
use crate::act::outcome::{StopOutcome, Stopped};
use crate::events::EventKind;
use crate::state::pidfile;
use crate::state::record::Instance;
use std::rc::Rc;

impl Story {
    pub(super) async fn remove_stale(
        &self,
        why: String,
        pid: Option<i32>,
        instance: &Option<Rc<Instance>>,
    ) -> Stopped {
        let pids: Vec<i32> = pid.into_iter().collect();
        match self.clean_up(instance, &pids).await {
            Ok(()) => {
                self.act
                    .event(EventKind::StaleRemoved, &self.id, pid, why.clone(), &[]);
                Stopped {
                    detail: Some(why),
                    ..Stopped::new(&self.id, StopOutcome::StaleRemoved, None)
                }
            }
            Err(trouble) => {
                Stopped::failed(&self.id, pid, format!("stale PID file ({why}): {trouble}"))
            }
        }
    }

    /// Removes PID file and record of what has ended. `pids`: whom the PID file may name.
    pub(super) async fn clean_up(
        &self,
        instance: &Option<Rc<Instance>>,
        pids: &[i32],
    ) -> Result<(), String> {
        let Ok(journal) = self.act.journal() else {
            return Ok(());
        };
        let (shared, id, pids) = (self.act.clone(), self.id.clone(), pids.to_vec());
        let ended = instance
            .as_ref()
            .map(|instance| (instance.token.clone(), instance.leader.clone()));
        let restarting = self.options.restarting;
        let removed = journal.update(move |transaction| {
            let me = shared.claim();
            if let Some(entry) = transaction.ledger.entries.get_mut(&id) {
                let is_it = entry.instance.as_ref().is_some_and(|instance| {
                    ended.as_ref().is_some_and(|(token, leader)| {
                        instance.token == *token
                            && (!token.is_empty() || instance.leader == *leader)
                    })
                });
                if is_it {
                    entry.instance = None;
                    entry.restarter = restarting.then(|| me.clone());
                }
                if entry.stopper.as_ref() == Some(&me) {
                    entry.stopper = None;
                }
                if entry.instance.is_some() {
                    // A start that came after has its own PID file there.
                    return Ok(());
                }
            }
            pidfile::remove(transaction.folder, &id, &pids)
        });
        removed.await?
    }

    pub(super) async fn give_claim_back(&self) {
        let (shared, id) = (self.act.clone(), self.id.clone());
        let Ok(journal) = self.act.journal() else {
            return;
        };
        // If it cannot be written, the claim ends with us.
        let _ = journal
            .update(move |transaction| {
                let me = shared.claim();
                if let Some(entry) = transaction.ledger.entries.get_mut(&id)
                    && entry.stopper.as_ref() == Some(&me)
                {
                    entry.stopper = None;
                    // Whom it could freeze it has killed: who is left runs on.
                    if let Some(instance) = entry.instance.as_mut().filter(|one| one.frozen) {
                        Rc::make_mut(instance).frozen = false;
                    }
                }
            })
            .await;
    }
}
