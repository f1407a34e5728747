//! Ending a family, and what is said of it.

use super::Story;
use super::levels::Slice;
use crate::act::hunt::{self, Caught, Hunt};
use crate::act::outcome::{StopOutcome, Stopped};
use crate::config::StopScope;
use crate::events::EventKind;
use crate::family::trace::Traces;
use crate::state::record::Instance;
use crate::sys::proc::{Identity, Stat};
use serde_json::json;
use std::rc::Rc;

impl Story {
    pub(super) async fn end(
        &self,
        leader: Option<Identity>,
        first: Vec<Stat>,
        instance: &Option<Rc<Instance>>,
        already_signalled: bool,
        pid: Option<i32>,
    ) -> Stopped {
        if leader.is_none() {
            self.act.event(
                EventKind::FoundGone,
                &self.id,
                pid,
                "its leader was gone, others of its family were not",
                &[],
            );
        }
        let traces = match instance {
            Some(instance) => Traces::of(instance, &self.act.place),
            None => Traces::of_processes(leader.into_iter().collect()),
        };
        let scope = match (self.service(), instance) {
            (Some(service), _) => service.stop_scope,
            (None, Some(instance)) => instance.scope(),
            (None, None) => StopScope::Family,
        };
        let (kill_at, give_up_at) = self.slice.as_ref().map(Slice::times).unzip();
        let mut hunt = Hunt {
            label: self.id.clone(),
            traces,
            first,
            leader,
            schedule: self.options.schedule(self.service(), instance.as_deref()),
            scope,
            kill_at,
            give_up_at,
            recorded: instance.is_some(),
            already_signalled,
            why: "stop",
        };
        let gauge = self.options.gauges.get(&self.id);
        let caught = Box::pin(hunt::end_measured(&self.act, &mut hunt, gauge)).await;
        let mut pids: Vec<i32> = pid
            .into_iter()
            .chain(leader.map(|leader| leader.pid))
            .collect();
        pids.extend(caught.members.iter().map(|(identity, _)| identity.pid));
        let mut stopped = self.outcome(leader.map(|leader| leader.pid).or(pid), caught);
        if stopped.outcome == StopOutcome::Failed {
            self.give_claim_back().await;
            let why = stopped.detail.clone().unwrap_or_default();
            self.act
                .event(EventKind::StopFailed, &self.id, stopped.pid, why, &[]);
            return stopped;
        }
        if let Err(trouble) = self.clean_up(instance, &pids).await {
            stopped.outcome = StopOutcome::Failed;
            stopped.detail = Some(format!("all its processes have ended, but {trouble}"));
        }
        let outcome = json!(stopped.outcome);
        let more = [
            ("outcome", outcome),
            ("elapsed_ms", json!(stopped.elapsed_ms)),
            ("processes", json!(stopped.processes)),
        ];
        self.act.event(
            EventKind::Stopped,
            &self.id,
            stopped.pid,
            "nobody of its family is left",
            &more,
        );
        stopped
    }

    fn outcome(&self, pid: Option<i32>, caught: Caught) -> Stopped {
        let outcome = match (caught.survivors.is_empty(), caught.killed) {
            (false, _) => StopOutcome::Failed,
            (true, true) => StopOutcome::Killed,
            (true, false) => StopOutcome::Stopped,
        };
        let detail = (!caught.survivors.is_empty()).then(|| {
            format!(
                "could not be stopped, still there: {}",
                caught.survivors.join(", ")
            )
        });
        Stopped {
            signals: caught.signals,
            processes: caught.members.len(),
            elapsed_ms: caught.elapsed.as_millis() as u64,
            detail,
            receipts: caught.receipts,
            members: caught.members,
            ..Stopped::new(&self.id, outcome, pid)
        }
    }
}
