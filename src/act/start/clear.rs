//! What must be out of the way before a service starts: a stale PID file, leftovers, who is on its port.

use super::Story;
use crate::act::outcome::{StartOutcome, Started};
use crate::act::port::{self, Judged};
use crate::act::ready;
use crate::events::EventKind;
use crate::family::trace::Traces;
use crate::observe;
use crate::state::pidfile;
use crate::state::record::Phase;
use crate::sys::proc::{Identity, Stat};
use serde_json::json;

impl Story {
    pub(super) async fn remove_stale(&self) -> Result<(), String> {
        let id = self.id().to_string();
        let change =
            move |transaction: &mut crate::act::journal::Transaction<'_>| match pidfile::read(
                transaction.folder,
                &id,
            ) {
                pidfile::PidFile::Pid { pid, .. } => {
                    pidfile::remove(transaction.folder, &id, &[pid])
                }
                _ => pidfile::remove(transaction.folder, &id, &[]),
            };
        self.act.journal()?.update(change).await?
    }

    /// What a leader that is gone has left: a healthy command that went to the background is followed,
    /// all else is stopped. `Some`: it runs.
    pub(super) async fn deal_with_leftovers(
        &self,
        leftovers: Vec<Stat>,
    ) -> Result<Option<Started>, String> {
        let service = self.service();
        let entry = self
            .act
            .records()
            .see(|ledger| ledger.entries.get(self.id()).cloned());
        let half_stopped = entry.as_ref().is_some_and(|entry| entry.stopper.is_some());
        let Some(instance) = entry.and_then(|entry| entry.instance) else {
            return Err("the record of what is left of it cannot be read".to_string());
        };
        // What `prepare` or a stop that died has left is never the service.
        let followable = !instance.frozen
            && instance.phase != Phase::Preparing
            && !half_stopped
            && !leftovers
                .iter()
                .any(|stat| stat.identity() == instance.leader.identity());
        if followable && observe::may_be_followed(service) {
            let pids: Vec<i32> = leftovers.iter().map(|stat| stat.pid).collect();
            if ready::is_healthy(&self.act, service, &instance.token, &pids)
                .await
                .is_ok()
                && let Some(leader) = observe::new_leader(&leftovers, service.port)
            {
                let family: Vec<Identity> = leftovers.iter().map(Stat::identity).collect();
                self.settle(&instance, leader, &family).await;
                let detail = Some("its command went to the background; it is followed".to_string());
                return Ok(Some(Started {
                    detail,
                    ..Started::new(self.id(), StartOutcome::AlreadyRunning, Some(leader.pid))
                }));
            }
        }
        let names = leftovers
            .iter()
            .map(port::name)
            .collect::<Vec<_>>()
            .join(", ");
        self.act.event(
            EventKind::FoundGone,
            self.id(),
            Some(instance.leader.pid),
            "its leader was gone, others of its family were not",
            &[],
        );
        let traces = Traces::of(&instance, &self.act.place);
        let caught = self
            .hunt(
                traces,
                leftovers,
                None,
                true,
                "left over from an earlier start",
            )
            .await;
        if !caught.survivors.is_empty() {
            return Err(format!(
                "leftovers of it could not be stopped: {}",
                caught.survivors.join(", ")
            ));
        }
        self.note(format!("stopped what was left of it: {names}"));
        self.forget_instance(&instance.token, instance.leader.pid)
            .await;
        Ok(None)
    }

    pub(super) async fn clear_port(&self) -> Result<(), String> {
        let service = self.service();
        let Some(port) = service.port else {
            return Ok(());
        };
        match port::judge(&self.act, service, port, self.takeover)? {
            Judged::Free => Ok(()),
            Judged::Refused(why) | Judged::Unseen(why) => Err(why),
            Judged::Stoppable { roots, named } => {
                let pid = roots.first().map(|root| root.pid);
                let caught = Box::pin(port::take_over(
                    &self.act,
                    self.id(),
                    roots,
                    service.schedule.clone(),
                    "it held the service's port",
                ))
                .await;
                if !caught.survivors.is_empty() {
                    return Err(format!(
                        "port {port} is held by {named}, which could not be stopped: {}",
                        caught.survivors.join(", ")
                    ));
                }
                self.act.event(
                    EventKind::PortFreed,
                    self.id(),
                    pid,
                    "taken over",
                    &[("port", json!(port))],
                );
                self.note(format!("port {port} was held by {named}: stopped"));
                Ok(())
            }
        }
    }
}
