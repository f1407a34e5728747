//! Ending services: all at once, dependents before what they depend on.

use super::context::Act;
use super::gauge::Gauge;
use super::hunt::{self, Caught, Hunt};
use super::outcome::{StopOutcome, Stopped};
use super::port::{self, Judged};
use crate::config::{Schedule, Service, StopScope, Takeover};
use crate::events::EventKind;
use crate::family::holders;
use crate::family::trace::Traces;
use crate::observe::{Observation, Scene};
use crate::plan::{self, StopStep};
use crate::reactor::{self, Watch};
use crate::selection;
use crate::state::pidfile::{self, PidFile};
use crate::state::record::Instance;
use crate::sys::boot;
use crate::sys::proc::{Identity, Stat};
use serde_json::json;
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

/// Of a deadline's slice, so much is kept for SIGKILL and the proof.
const KILL_SHARE: u32 = 4;
const KILL_SHARE_MOST: Duration = Duration::from_secs(1);

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
            ticks: ticks_now(),
        };
        let (ends, told) = (ends.clone(), told.clone());
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
            let mut stopped = story.tell(look).await;
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

/// Start times that are smaller belong to processes that were there before us.
pub fn ticks_now() -> u64 {
    (boot::uptime() * boot::ticks_per_second() as f64) as u64
}

/// How many levels of services come after a service's own, itself included.
struct Levels {
    depth: HashMap<usize, u32>,
    deepest: u32,
}

impl Levels {
    fn left(&self, index: usize) -> u32 {
        self.deepest - self.depth.get(&index).copied().unwrap_or(0) + 1
    }
}

/// The length of the longest chain of dependents before each service.
fn levels(dependents: &HashMap<usize, Vec<usize>>) -> Levels {
    let mut depth: HashMap<usize, u32> = dependents.keys().map(|&index| (index, 0)).collect();
    // Each round settles one more level; there are no cycles.
    loop {
        let mut changed = false;
        for (index, before) in dependents {
            let deeper = before
                .iter()
                .filter_map(|dependent| depth.get(dependent))
                .max()
                .map_or(0, |most| most + 1);
            if depth.get(index) != Some(&deeper) {
                depth.insert(*index, deeper);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let deepest = depth.values().copied().max().unwrap_or(0);
    Levels { depth, deepest }
}

/// A deadline as one service sees it.
struct Slice {
    began: Instant,
    deadline: Duration,
    /// Levels that must still end in what is left of it.
    left: u32,
}

impl Slice {
    /// When SIGKILL comes, and when no wait goes on.
    fn times(&self) -> (Instant, Instant) {
        let end = self.began + self.deadline;
        let now = Instant::now();
        let share = end.saturating_duration_since(now) / self.left;
        let kept = (share / KILL_SHARE).min(KILL_SHARE_MOST);
        (now + share - kept, now + share)
    }
}

/// What was found of one id, and whether another `stop` is at it already.
struct Look {
    step: StopStep,
    instance: Option<Instance>,
    pid_file_pid: Option<i32>,
    already_stopping: bool,
    /// A start that this stop cancels.
    cancelled_start: bool,
    /// Where the records could not be changed: told, and no reason to leave a process running.
    trouble: Option<String>,
}

fn look(observation: Observation) -> Look {
    let instance = observation
        .entry
        .as_ref()
        .and_then(|entry| entry.instance.clone());
    let step = match plan::stop(&observation) {
        // What ancestry shows now may be all that ever shows it.
        StopStep::End {
            leader: Some(leader),
            first,
        } => {
            let family = crate::observe::by_ancestry(leader);
            let first = if family.is_empty() { first } else { family };
            StopStep::End {
                leader: Some(leader),
                first,
            }
        }
        step => step,
    };
    Look {
        instance,
        pid_file_pid: match &observation.pid_file {
            PidFile::Pid { pid, .. } => Some(*pid),
            _ => None,
        },
        already_stopping: observation.stopper_at_work,
        cancelled_start: observation.starter_at_work,
        trouble: None,
        step,
    }
}

/// Looks at all of them at once under the lock, takes the claims of those who start them, and says
/// that they are being stopped and whom that means.
async fn claim(act: &Rc<Act>, targets: &Targets) -> Vec<Look> {
    let services: Vec<(String, Option<usize>)> = targets
        .indices
        .iter()
        .map(|&index| (act.table.services[index].id.clone(), Some(index)))
        .chain(targets.gone.iter().map(|id| (id.clone(), None)))
        .collect();
    let shared = act.clone();
    let wanted = services.clone();
    let trouble = match act.journal() {
        Ok(journal) => {
            let claimed = journal.update(move |transaction| {
                let scene = Scene::with(
                    &shared.place,
                    &shared.table,
                    transaction.folder,
                    transaction.ledger,
                );
                let looks: Vec<Look> = wanted
                    .iter()
                    .map(|(id, index)| look(observe(&shared, &scene, id, *index)))
                    .collect();
                let me = shared.claim();
                for ((id, _), look) in wanted.iter().zip(&looks) {
                    if matches!(look.step, StopStep::NotOurs(_)) {
                        continue;
                    }
                    // What its PID file alone proves has no entry yet; a start must learn of this stop.
                    if matches!(look.step, StopStep::End { .. }) {
                        transaction.ledger.entry(id, &shared.table.file);
                    }
                    let Some(entry) = transaction.ledger.entries.get_mut(id) else {
                        continue;
                    };
                    entry.starter = None;
                    entry.restarter = None;
                    entry.failure = None;
                    if let StopStep::End { first, leader } = &look.step
                        && !look.already_stopping
                    {
                        entry.stopper = Some(me.clone());
                        let Some(instance) = &mut entry.instance else {
                            continue;
                        };
                        let known: Vec<(i32, u64)> = first
                            .iter()
                            .map(|stat| (stat.pid, stat.start_time))
                            .collect();
                        if known.len() > 1 || leader.is_none() {
                            instance.members = known;
                        }
                    }
                }
                looks
            });
            match claimed.await {
                Ok(looks) => return looks,
                Err(why) => Some(why),
            }
        }
        // Nothing was ever started from here.
        Err(_) if matches!(act.folder, Err(crate::state::folder::Refused::Missing)) => None,
        Err(why) => Some(why),
    };
    // Without the lock: what is proven ours is ended all the same.
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let looks = services
        .iter()
        .map(|(id, index)| look(observe(act, &scene, id, *index)));
    looks
        .map(|look| Look {
            trouble: trouble.clone(),
            ..look
        })
        .collect()
}

fn observe(act: &Act, scene: &Scene<'_>, id: &str, index: Option<usize>) -> Observation {
    scene.observe(id, index.map(|index| &act.table.services[index]))
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

    /// The table's schedule, the record's where the entry is gone, the options over both.
    fn schedule(&self, instance: Option<&Instance>) -> Schedule {
        let schedule = match (self.service(), instance) {
            (Some(service), _) => service.schedule.clone(),
            (None, Some(instance)) => instance.schedule(),
            (None, None) => Schedule { steps: Vec::new() },
        };
        if self.options.force {
            return Schedule { steps: Vec::new() };
        }
        match self.options.timeout {
            Some(timeout) => schedule.with_timeout(timeout),
            None => schedule,
        }
    }

    async fn tell(&self, look: Look) -> Stopped {
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
                self.end(leader, first, &look.instance, look.already_stopping, pid)
                    .await
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
        let detail = format!("its id is recorded for another table: {}", table.display());
        Stopped {
            detail: Some(detail),
            ..Stopped::new(&self.id, StopOutcome::NotRunning, None)
        }
    }

    async fn remove_stale(
        &self,
        why: String,
        pid: Option<i32>,
        instance: &Option<Instance>,
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

    async fn end(
        &self,
        leader: Option<Identity>,
        first: Vec<Stat>,
        instance: &Option<Instance>,
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
        let hunt = Hunt {
            label: self.id.clone(),
            traces,
            first,
            leader,
            schedule: self.schedule(instance.as_ref()),
            scope,
            kill_at,
            give_up_at,
            recorded: instance.is_some(),
            already_signalled,
            why: "stop",
        };
        let gauge = self.options.gauges.get(&self.id);
        let caught = Box::pin(hunt::end_measured(&self.act, hunt, gauge)).await;
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

    /// Removes PID file and record of what has ended. `pids`: whom the PID file may name.
    async fn clean_up(&self, instance: &Option<Instance>, pids: &[i32]) -> Result<(), String> {
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

    async fn give_claim_back(&self) {
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
                }
            })
            .await;
    }

    /// The port, after the service: a holder that takeover allows and that was there before is stopped
    /// too; a stranger is told.
    async fn clear_port(&self, stopped: &mut Stopped) {
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
                    self.schedule(None),
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
