//! Bringing services up: each one's story, told side by side with the others'.

mod attempt;
mod clear;
mod others;
mod records;

pub use others::changes;
pub(super) use others::ended;
pub(super) use records::settle;

use super::context::Act;
use super::outcome::{StartOutcome, Started};
use crate::config::{Service, Takeover};
use crate::observe::Scene;
use crate::plan::{self, StartStep};
use crate::reactor::{self, Watch};
use crate::sys::wait;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub no_wait: bool,
    pub takeover: Option<Takeover>,
    pub ready_timeout: Option<Duration>,
}

type Ends = HashMap<usize, Rc<Watch<Option<bool>>>>;

/// Starts `order`, which holds each service after what it depends on. `told` is called as each
/// outcome is known; the outcomes come back in the same order.
pub async fn start(
    act: &Rc<Act>,
    order: &[usize],
    options: &Options,
    told: impl Fn(&Started) + 'static,
) -> Vec<Started> {
    // Commands that go to the background stay in sight. If it is refused, they are followed by their
    // traces alone.
    let _ = wait::become_subreaper();
    let ends: Rc<Ends> = Rc::new(
        order
            .iter()
            .map(|&index| (index, Watch::new(None)))
            .collect(),
    );
    let needed: HashSet<usize> = order
        .iter()
        .flat_map(|&index| act.table.services[index].depends_on.clone())
        .collect();
    let steps = claim(act, order).await;
    let told = Rc::new(told);
    let mut tasks = Vec::new();
    for (&index, step) in order.iter().zip(steps) {
        let story = Story {
            act: act.clone(),
            index,
            no_wait: options.no_wait && !(needed.contains(&index) && order.len() > 1),
            takeover: options
                .takeover
                .unwrap_or(act.table.services[index].takeover),
            ready_timeout: options
                .ready_timeout
                .unwrap_or(act.table.services[index].ready_timeout),
            ends: ends.clone(),
            notes: RefCell::default(),
        };
        let told = told.clone();
        tasks.push(reactor::spawn(async move {
            let end = story.ends.get(&story.index).cloned();
            let mut started = story.tell(step).await;
            started.notes.splice(0..0, story.notes.take());
            told(&started);
            if let Some(end) = end {
                end.change(|end| *end = Some(started.is_up()));
            }
            started
        }));
    }
    let mut started = Vec::new();
    for task in tasks {
        started.push(task.await);
    }
    started
}

/// Looks at all of them at once under the lock, and claims those that are to be started.
async fn claim(act: &Rc<Act>, order: &[usize]) -> Vec<StartStep> {
    let shared = act.clone();
    let indices = order.to_vec();
    let journal = match act.journal() {
        Ok(journal) => journal,
        Err(why) => return order.iter().map(|_| StartStep::Fail(why.clone())).collect(),
    };
    let claimed = journal.update(move |transaction| {
        let scene = Scene::with(
            &shared.place,
            &shared.table,
            transaction.folder,
            transaction.ledger,
        );
        let step = |&index: &usize| {
            let service = &shared.table.services[index];
            plan::start(scene.observe(&service.id, Some(service)))
        };
        let steps: Vec<StartStep> = indices.iter().map(step).collect();
        let me = shared.claim();
        let claimed = indices
            .iter()
            .zip(&steps)
            .filter(|(_, step)| matches!(step, StartStep::Start { .. }));
        for (&index, _) in claimed {
            let entry = transaction
                .ledger
                .entry(&shared.table.services[index].id, &shared.table.file);
            if entry.instance.is_none() {
                entry.table.clone_from(&shared.table.file);
            }
            entry.starter = Some(me.clone());
            entry.restarter = None;
            entry.failure = None;
        }
        steps
    });
    let claimed = claimed.await;
    // Older records would say that the claim is lost.
    if act.watches_records() {
        act.refresh_records();
    }
    match claimed {
        Ok(steps) => steps,
        Err(why) => order.iter().map(|_| StartStep::Fail(why.clone())).collect(),
    }
}

/// One service on its way up.
struct Story {
    act: Rc<Act>,
    index: usize,
    no_wait: bool,
    takeover: Takeover,
    ready_timeout: Duration,
    ends: Rc<Ends>,
    notes: RefCell<Vec<String>>,
}

impl Story {
    fn service(&self) -> &Service {
        &self.act.table.services[self.index]
    }

    fn id(&self) -> &str {
        &self.service().id
    }

    fn note(&self, note: impl Into<String>) {
        self.notes.borrow_mut().push(note.into());
    }

    async fn tell(&self, mut step: StartStep) -> Started {
        loop {
            match step {
                StartStep::Fail(why) => return self.failed(why, 0),
                StartStep::AwaitStop => {
                    Box::pin(self.await_stop()).await;
                    if self.act.interrupts() > 0 {
                        return self.failed("interrupted".to_string(), 0);
                    }
                }
                StartStep::Join { pid } => {
                    if let Some(started) = Box::pin(self.join(pid)).await {
                        return started;
                    }
                }
                StartStep::AlreadyRunning {
                    leader,
                    instance,
                    named,
                } => {
                    return Box::pin(self.already_running(leader, instance, named)).await;
                }
                StartStep::Start { leftovers, stale } => {
                    return Box::pin(self.bring_up(leftovers, stale)).await;
                }
            }
            // What was in the way has gone: look again.
            step = claim(&self.act, &[self.index])
                .await
                .pop()
                .unwrap_or(StartStep::Fail("not looked at".to_string()));
        }
    }

    fn failed(&self, why: String, attempts: u32) -> Started {
        Started {
            detail: Some(why),
            attempts,
            ..Started::new(self.id(), StartOutcome::Failed, None)
        }
    }
}
