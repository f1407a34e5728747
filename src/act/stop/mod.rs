//! Ending services: all at once, dependents before what they depend on.

mod claim;
mod clear;
mod end;
mod levels;
mod records;

use self::claim::{Look, claim};
use self::levels::{Slice, levels};
use super::context::Act;
use super::gauge::Gauge;
use super::outcome::{StopOutcome, Stopped};
use crate::config::{Schedule, Service, Takeover};
use crate::observe;
use crate::plan::StopStep;
use crate::reactor::{self, Watch};
use crate::selection;
use crate::state::record::Instance;
use crate::sys::boot;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// SIGKILL at once.
    pub force: bool,
    /// In place of the table's waits.
    pub timeout: Option<Duration>,
    /// The whole command ends within this.
    pub deadline: Option<Duration>,
    pub takeover: Option<Takeover>,
    /// It will be started again: who watches it need not give it up.
    pub restarting: bool,
    /// Who is measured, by id.
    pub gauges: Rc<HashMap<String, Rc<Gauge>>>,
}

impl Options {
    /// The table's schedule, the record's where the entry is gone, the options over both.
    pub fn schedule(&self, service: Option<&Service>, instance: Option<&Instance>) -> Schedule {
        let schedule = match (service, instance) {
            _ if self.force => return Schedule { steps: Vec::new() },
            (Some(service), _) => service.schedule.clone(),
            (None, Some(instance)) => instance.schedule(),
            (None, None) => Schedule { steps: Vec::new() },
        };
        match self.timeout {
            Some(timeout) => schedule.with_timeout(timeout),
            None => schedule,
        }
    }
}

/// What is to be ended: entries of the table, and records of it whose entry is gone.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub indices: Vec<usize>,
    pub gone: Vec<String>,
}

/// Ends the targets. `told` is called as each outcome is known.
pub async fn stop(
    act: &Rc<Act>,
    targets: &Targets,
    options: &Options,
    told: impl Fn(&Stopped) + 'static,
) -> Vec<Stopped> {
    let began = Instant::now();
    let claimed = claim(act, targets).await;
    let dependents = selection::dependents(&act.table, &targets.indices);
    let ends: Rc<HashMap<usize, Rc<Watch<bool>>>> = Rc::new(
        targets
            .indices
            .iter()
            .map(|&index| (index, Watch::new(false)))
            .collect(),
    );
    let levels = levels(&dependents);
    let told = Rc::new(told);
    let mut tasks = Vec::new();
    let ids = targets
        .indices
        .iter()
        .map(|&index| (Some(index), act.table.services[index].id.clone()));
    for ((index, id), look) in ids
        .chain(targets.gone.iter().map(|id| (None, id.clone())))
        .zip(claimed)
    {
        let story = Story {
            act: act.clone(),
            index,
            id,
            options: options.clone(),
            notes: RefCell::default(),
            slice: options.deadline.map(|deadline| Slice {
                began,
                deadline,
                left: index.map_or(1, |index| levels.left(index)),
            }),
            ticks: boot::ticks_now(),
        };
        let (ends, told, look) = (ends.clone(), told.clone(), Box::new(look));
        let waits_for: Vec<Rc<Watch<bool>>> = index
            .and_then(|index| dependents.get(&index))
            .into_iter()
            .flatten()
            .filter_map(|dependent| ends.get(dependent).cloned())
            .collect();
        tasks.push(reactor::spawn(async move {
            for end in waits_for {
                end.until(|ended| ended.then_some(())).await;
            }
            let mut stopped = Box::pin(story.tell(look)).await;
            stopped.notes.splice(0..0, story.notes.take());
            told(&stopped);
            if let Some(end) = story.index.and_then(|index| ends.get(&index)) {
                end.change(|ended| *ended = true);
            }
            stopped
        }));
    }
    let mut stopped = Vec::new();
    for task in tasks {
        stopped.push(task.await);
    }
    stopped
}

struct Story {
    act: Rc<Act>,
    index: Option<usize>,
    id: String,
    options: Options,
    notes: RefCell<Vec<String>>,
    slice: Option<Slice>,
    ticks: u64,
}

impl Story {
    fn service(&self) -> Option<&Service> {
        self.index.map(|index| &self.act.table.services[index])
    }

    fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().push(note.into());
    }

    async fn tell(&self, look: Box<Look>) -> Stopped {
        if look.cancelled_start {
            self.note("a start by another command was cancelled");
        }
        let pid = look
            .instance
            .as_ref()
            .map(|instance| instance.leader.pid)
            .or(look.pid_file_pid);
        let mut stopped = match look.step {
            StopStep::Fail(why) => Stopped::failed(&self.id, pid, why),
            StopStep::NotRunning => {
                if look.instance.is_some() {
                    let _ = self.clean_up(&look.instance, &[]).await;
                }
                Stopped::new(&self.id, StopOutcome::NotRunning, None)
            }
            StopStep::NotOurs(table) => return self.not_ours(&table),
            StopStep::RemoveStale(why) => self.remove_stale(why, pid, &look.instance).await,
            StopStep::End { leader, first } => {
                let (instance, already) = (&look.instance, look.already_stopping);
                Box::pin(self.end(leader, first, instance, already, pid)).await
            }
        };
        if stopped.outcome != StopOutcome::Failed {
            Box::pin(self.clear_port(&mut stopped)).await;
        }
        if let Some(trouble) = look.trouble
            && stopped.outcome != StopOutcome::NotRunning
        {
            stopped.outcome = StopOutcome::Failed;
            let before = match stopped.detail.take() {
                // It is why nothing could be done at all.
                Some(detail) if detail == trouble => String::new(),
                Some(detail) => format!("{detail}; "),
                None => String::new(),
            };
            stopped.detail = Some(format!(
                "{before}PID file and record could not be changed: {trouble}"
            ));
        }
        stopped
    }

    fn not_ours(&self, table: &std::path::Path) -> Stopped {
        Stopped {
            detail: Some(observe::elsewhere(table)),
            ..Stopped::new(&self.id, StopOutcome::NotRunning, None)
        }
    }
}
