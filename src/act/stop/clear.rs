//! The service's port, once the service has ended.

use super::Story;
use crate::act::outcome::{StopOutcome, Stopped};
use crate::act::port::{self, Judged};
use crate::events::EventKind;
use crate::family::holders;
use serde_json::json;

impl Story {
    /// The port, after the service: a holder that takeover allows and that was there before is stopped
    /// too; a stranger is told.
    pub(super) async fn clear_port(&self, stopped: &mut Stopped) {
        let Some(service) = self.service() else {
            return;
        };
        let Some(port) = service.port else { return };
        if holders::listeners_on(port).is_ok_and(|listeners| listeners.is_empty()) {
            return;
        }
        let which = self.options.takeover.unwrap_or(service.takeover);
        match port::judge(&self.act, service, port, which) {
            Ok(Judged::Free) => {}
            Err(why) | Ok(Judged::Refused(why) | Judged::Unseen(why)) => self.note(why),
            Ok(Judged::Stoppable { roots, named })
                if roots.iter().all(|root| root.start_time <= self.ticks) =>
            {
                let pid = roots.first().map(|root| root.pid);
                let caught = Box::pin(port::take_over(
                    &self.act,
                    &self.id,
                    roots,
                    self.options.schedule(Some(service), None),
                    "it held the service's port",
                ))
                .await;
                if !caught.survivors.is_empty() {
                    stopped.outcome = StopOutcome::Failed;
                    stopped.detail = Some(format!(
                        "port {port} is held by {named}, which could not be stopped: {}",
                        caught.survivors.join(", ")
                    ));
                    stopped.receipts.extend(caught.receipts);
                    return;
                }
                self.act.event(
                    EventKind::PortFreed,
                    &self.id,
                    pid,
                    "taken over",
                    &[("port", json!(port))],
                );
                self.note(format!("port {port} was held by {named}: stopped"));
                if matches!(
                    stopped.outcome,
                    StopOutcome::NotRunning | StopOutcome::StaleRemoved | StopOutcome::Stopped
                ) {
                    stopped.outcome = if caught.killed {
                        StopOutcome::Killed
                    } else {
                        StopOutcome::Stopped
                    };
                }
                stopped.pid = stopped.pid.or(pid);
                stopped.processes += caught.members.len();
                stopped.elapsed_ms += caught.elapsed.as_millis() as u64;
                stopped.receipts.extend(caught.receipts);
                for signal in caught.signals {
                    if !stopped.signals.contains(&signal) {
                        stopped.signals.push(signal);
                    }
                }
            }
            Ok(Judged::Stoppable { named, .. }) => {
                self.note(format!(
                    "port {port} is held by {named}, which came after this stop began"
                ));
            }
        }
    }
}
