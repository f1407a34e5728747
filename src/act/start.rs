//! Bringing services up: each one's story, told side by side with the others'.

use super::context::Act;
use super::hunt::{self, Caught, Hunt};
use super::launch::{self, Attempt, NotRun};
use super::outcome::{StartOutcome, Started};
use super::port::{self, Judged};
use super::ready::{self, Awaited, Verdict};
use crate::config::{Service, Takeover};
use crate::environment::{self, Environment};
use crate::events::EventKind;
use crate::family::trace::Traces;
use crate::logs;
use crate::observe::{self, Scene};
use crate::plan::{self, StartStep};
use crate::reactor::{self, Permit, Watch};
use crate::state::pidfile;
use crate::state::record::{Claim, Entry, Instance, Phase};
use crate::sys::boot;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::wait;
use serde_json::json;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub no_wait: bool,
    pub takeover: Option<Takeover>,
    pub ready_timeout: Option<Duration>,
}

/// How many of the attempt's last lines are shown when it fails.
const LINES_SHOWN: usize = 10;
/// Between attempts; doubled each time, up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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
            entry.failure = None;
        }
        steps
    });
    match claimed.await {
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
                StartStep::AlreadyRunning { leader, recorded } => {
                    return Box::pin(self.already_running(leader, recorded)).await;
                }
                StartStep::Start { leftovers, stale } => {
                    self.act
                        .starting
                        .change(|ids| ids.insert(self.id().to_string()));
                    let started = Box::pin(self.bring_up(leftovers, stale)).await;
                    self.act.starting.change(|ids| ids.remove(self.id()));
                    return started;
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

    async fn await_stop(&self) {
        let _shown = self
            .act
            .show(self.id(), "until another command has stopped it", None, "");
        let act = &self.act;
        let Some(stopper) = act
            .records()
            .see(|ledger| ledger.entries.get(self.id())?.stopper.clone())
        else {
            return;
        };
        let gone = act.records().until(|ledger| {
            let still = ledger
                .entries
                .get(self.id())
                .and_then(|entry| entry.stopper.as_ref())
                == Some(&stopper);
            (!still).then_some(())
        });
        let over = reactor::race(gone, ended(stopper.identity()));
        let _ = reactor::race(
            over,
            act.interrupts.until(|seen| (seen.count > 0).then_some(())),
        )
        .await;
    }

    /// Another command starts it, or has left it before it was ready. `None`: nobody is starting it any
    /// more and nothing of it is there; it is ours to start.
    async fn join(&self, mut pid: Option<i32>) -> Option<Started> {
        let act = &self.act;
        let until = Instant::now() + self.ready_timeout;
        let service = self.service();
        let _shown = act.show(
            self.id(),
            "until it is ready (another command starts it)",
            Some(until),
            "it fails",
        );
        let records = act.records();
        loop {
            let entry: Option<Entry> = records.see(|ledger| ledger.entries.get(self.id()).cloned());
            let starter = entry.as_ref().and_then(|entry| entry.starter.clone());
            let starter =
                starter.filter(|claim| crate::family::verdict::is_at_work(claim, &act.place));
            let instance = entry.as_ref().and_then(|entry| entry.instance.clone());
            pid = instance
                .as_ref()
                .map(|instance| instance.leader.pid)
                .or(pid);
            match (&starter, instance) {
                (_, Some(instance)) if instance.phase == Phase::Ready => {
                    return Some(self.joined(instance.leader.identity()).await);
                }
                (None, None) => {
                    return entry.and_then(|entry| entry.failure).map(|why| {
                        self.failed(format!("another command's start failed: {why}"), 0)
                    });
                }
                // Its start has gone in the middle of it.
                (None, Some(instance)) if instance.phase == Phase::Preparing => return None,
                (None, Some(instance)) => {
                    if self.no_wait {
                        return Some(self.joined(instance.leader.identity()).await);
                    }
                    return Box::pin(self.await_joined(instance, until)).await;
                }
                (Some(_), _) if self.no_wait => {
                    return Some(Started {
                        pid,
                        ..Started::new(self.id(), StartOutcome::AlreadyRunning, pid)
                    });
                }
                (Some(_), _) => {}
            }
            let Some(starter) = starter else { continue };
            let changed = records
                .until(|ledger| (ledger.entries.get(&service.id) != entry.as_ref()).then_some(()));
            let event = reactor::race(changed, ended(starter.identity()));
            let interrupted = act.interrupts.until(|seen| (seen.count > 0).then_some(()));
            match reactor::race(reactor::by(until, event), interrupted).await {
                reactor::Either::First(Some(_)) => {}
                reactor::Either::First(None) => {
                    return Some(self.failed(
                        "not ready in time; another command is still starting it".to_string(),
                        0,
                    ));
                }
                reactor::Either::Second(()) => {
                    return Some(self.failed("interrupted".to_string(), 0));
                }
            }
            if let Ok(folder) = &act.folder {
                // The end of the starter changes no file.
                if let Ok(ledger) = crate::state::ledger::Ledger::read(folder) {
                    records.change(|records| *records = Rc::new(ledger));
                }
            }
        }
    }

    /// Readiness of an instance that nobody is starting any more; never undone. `None`: it ended instead.
    async fn await_joined(&self, instance: Instance, until: Instant) -> Option<Started> {
        let environment = match Environment::of(self.service()) {
            Ok(environment) => environment,
            Err(why) => return Some(self.failed(why, 0)),
        };
        let awaited = Awaited {
            act: &self.act,
            service: self.service(),
            environment: &environment,
            instance: &instance,
            is_child: false,
            seen: RefCell::new(BTreeMap::new()),
        };
        let verdict = awaited
            .verdict(until.saturating_duration_since(Instant::now()))
            .await;
        Some(match verdict {
            Verdict::Ready => {
                let leader = instance.leader.identity();
                self.settle(&instance, leader, &[]).await;
                self.joined(leader).await
            }
            Verdict::Followed { leader, family } => {
                self.settle(&instance, leader, &family).await;
                self.joined(leader).await
            }
            Verdict::Exited(_) => return None,
            Verdict::TimedOut(why) => self.failed(format!("not ready in time: {why}"), 0),
            Verdict::Interrupted => self.failed("interrupted".to_string(), 0),
            Verdict::Cancelled => self.failed("stopped by another command".to_string(), 0),
        })
    }

    async fn joined(&self, leader: Identity) -> Started {
        Started::new(self.id(), StartOutcome::AlreadyRunning, Some(leader.pid))
    }

    async fn already_running(&self, leader: Identity, recorded: bool) -> Started {
        let service = self.service();
        let (shared, index) = (self.act.clone(), self.index);
        let restored = match self.act.journal() {
            Ok(journal) => {
                let change = move |transaction: &mut super::journal::Transaction<'_>| {
                    restore(&shared, index, leader, recorded, transaction)
                };
                journal
                    .update(change)
                    .await
                    .unwrap_or_else(|why| (Vec::new(), None, Some(why)))
            }
            Err(why) => (Vec::new(), None, Some(why)),
        };
        let (notes, instance, trouble) = restored;
        notes.into_iter().for_each(|note| self.note(note));
        if let Some(why) = trouble {
            self.note(format!("its PID file or record cannot be put right: {why}"));
        }
        let family: Vec<i32> = observe::by_ancestry(leader)
            .iter()
            .map(|stat| stat.pid)
            .collect();
        let token = instance
            .as_ref()
            .map_or("", |instance| instance.token.as_str());
        let mut told: Vec<String> = changes(&self.act, service, instance.as_ref())
            .into_iter()
            .map(|what| format!("the {what} has changed since its start (restart applies it)"))
            .collect();
        if let Err(why) = ready::is_healthy(&self.act, service, token, &family).await {
            told.push(format!("unhealthy: {why}"));
        }
        let detail = (!told.is_empty()).then(|| told.join("; "));
        Started {
            detail,
            ..Started::new(self.id(), StartOutcome::AlreadyRunning, Some(leader.pid))
        }
    }

    async fn bring_up(&self, leftovers: Vec<Stat>, stale: Option<String>) -> Started {
        if let Some(why) = &stale {
            match Box::pin(self.remove_stale()).await {
                Ok(()) => {
                    self.act
                        .event(EventKind::StaleRemoved, self.id(), None, why.clone(), &[]);
                    self.note(format!("stale PID file removed: {why}"));
                }
                Err(trouble) => {
                    return self
                        .give_up(
                            format!("its stale PID file ({why}) cannot be removed: {trouble}"),
                            0,
                            None,
                        )
                        .await;
                }
            }
        }
        for &dependency in &self.service().depends_on {
            let Some(end) = self.ends.get(&dependency) else {
                continue;
            };
            let name = &self.act.table.services[dependency].id;
            let shown = self
                .act
                .show(self.id(), format!("until {name} is ready"), None, "");
            let ready = end.until(|end| *end);
            let up = reactor::race(ready, self.act.claim_lost(self.id())).await;
            drop(shown);
            match up {
                reactor::Either::First(true) => {}
                reactor::Either::First(false) => {
                    self.release(None).await;
                    let detail = Some(format!("{name}, which it depends on, is not up"));
                    return Started {
                        detail,
                        ..Started::new(self.id(), StartOutcome::Skipped, None)
                    };
                }
                reactor::Either::Second(()) => return self.cancelled(0),
            }
        }
        if self.act.interrupts() > 0 {
            return Box::pin(self.give_up("interrupted".to_string(), 0, None)).await;
        }
        if !leftovers.is_empty() {
            match Box::pin(self.deal_with_leftovers(leftovers)).await {
                Ok(None) => {}
                Ok(Some(started)) => return started,
                Err(why) => return Box::pin(self.give_up(why, 0, None)).await,
            }
        }
        let permit = self.act.launches.take().await;
        Box::pin(self.launch(permit)).await
    }

    /// From the port to the end. The permit is given back once the command runs.
    async fn launch(&self, permit: Permit) -> Started {
        let environment = match Environment::of(self.service()) {
            Ok(environment) => environment,
            Err(why) => return Box::pin(self.give_up(why, 0, None)).await,
        };
        if let Err(why) = Box::pin(self.clear_port()).await {
            return Box::pin(self.give_up(why, 0, None)).await;
        }
        let token = match boot::random_token() {
            Ok(token) => token,
            Err(error) => {
                return self
                    .give_up(format!("no random numbers: {error}"), 0, None)
                    .await;
            }
        };
        let log = self.act.table.log_file(self.id());
        if let Err(error) =
            logs::rotate::rotate(&log, self.service().log_max_size, self.service().log_keep)
        {
            return self
                .give_up(format!("its log cannot be rotated: {error}"), 0, None)
                .await;
        }
        if let Err(started) = Box::pin(self.prepare(&environment, &token)).await {
            return started;
        }
        if let Err(why) = environment.ensure_command_is_found(self.service()) {
            return Box::pin(self.give_up(why, 0, None)).await;
        }
        Box::pin(self.attempts(&environment, &token, permit)).await
    }

    async fn remove_stale(&self) -> Result<(), String> {
        let id = self.id().to_string();
        let change = move |transaction: &mut super::journal::Transaction<'_>| match pidfile::read(
            transaction.folder,
            &id,
        ) {
            pidfile::PidFile::Pid { pid, .. } => pidfile::remove(transaction.folder, &id, &[pid]),
            _ => pidfile::remove(transaction.folder, &id, &[]),
        };
        self.act.journal()?.update(change).await?
    }

    /// What a leader that is gone has left: a healthy command that went to the background is followed,
    /// all else is stopped. `Some`: it runs.
    async fn deal_with_leftovers(&self, leftovers: Vec<Stat>) -> Result<Option<Started>, String> {
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

    async fn clear_port(&self) -> Result<(), String> {
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

    /// Runs `prepare` where one is due. `Err` is the outcome of a start that ends here.
    async fn prepare(&self, environment: &Environment, token: &str) -> Result<(), Started> {
        let service = self.service();
        let Some(command) = &service.prepare else {
            return Ok(());
        };
        if service.creates.as_ref().is_some_and(|path| path.exists()) {
            return Ok(());
        }
        let attempt = Attempt {
            index: self.index,
            service,
            environment,
            command,
            phase: Phase::Preparing,
            token,
        };
        let running = match Box::pin(launch::run(&self.act, &attempt)).await {
            Ok(running) => running,
            Err(NotRun::Cancelled) => return Err(self.cancelled(0)),
            Err(NotRun::Failed(why)) => {
                return Err(Box::pin(self.give_up(format!("prepare: {why}"), 0, None)).await);
            }
            Err(NotRun::Exec { instance, why }) => {
                return Err(
                    Box::pin(self.give_up(format!("prepare: {why}"), 0, Some(&instance))).await,
                );
            }
        };
        let leader = running.leader.identity();
        self.act.event(
            EventKind::Prepare,
            self.id(),
            Some(leader.pid),
            "before its command",
            &[],
        );
        let shown = self
            .act
            .show(self.id(), "until prepare has ended", None, "");
        let unwanted = reactor::race(
            self.act
                .interrupts
                .until(|seen| (seen.count > 0).then_some(())),
            self.act.claim_lost(self.id()),
        );
        let exit = reactor::race(self.act.children.exited(leader.pid), unwanted).await;
        drop(shown);
        match exit {
            reactor::Either::First(wait::Exit::Code(0)) => Ok(()),
            reactor::Either::First(exit) => {
                if self.is_cancelled().await {
                    return Err(self.cancelled(0));
                }
                Err(self
                    .give_up(format!("prepare failed: {exit}"), 0, Some(&running))
                    .await)
            }
            reactor::Either::Second(reactor::Either::First(())) => Err(self
                .give_up("interrupted".to_string(), 0, Some(&running))
                .await),
            reactor::Either::Second(reactor::Either::Second(())) => Err(self.cancelled(0)),
        }
    }

    async fn attempts(&self, environment: &Environment, token: &str, permit: Permit) -> Started {
        let service = self.service();
        let mut back_off = BACK_OFF.0;
        let mut permit = Some(permit);
        let mut attempt_number = 0;
        loop {
            attempt_number += 1;
            let attempt = Attempt {
                index: self.index,
                service,
                environment,
                command: &service.command,
                phase: Phase::Starting,
                token,
            };
            let began = Instant::now();
            let instance = match Box::pin(launch::run(&self.act, &attempt)).await {
                Ok(instance) => instance,
                Err(NotRun::Cancelled) => return self.cancelled(attempt_number),
                Err(NotRun::Failed(why)) => {
                    return Box::pin(self.give_up(why, attempt_number, None)).await;
                }
                Err(NotRun::Exec { instance, why }) => {
                    return Box::pin(self.give_up(why, attempt_number, Some(&instance))).await;
                }
            };
            drop(permit.take());
            let leader = instance.leader.identity();
            let why = if attempt_number == 1 {
                "asked for".to_string()
            } else {
                format!("attempt {attempt_number}")
            };
            self.act
                .event(EventKind::Start, self.id(), Some(leader.pid), why, &[]);
            if self.no_wait && !service.daemonizes {
                self.release(None).await;
                return Started {
                    attempts: attempt_number,
                    ..Started::new(self.id(), StartOutcome::Started, Some(leader.pid))
                };
            }
            let awaited = Awaited {
                act: &self.act,
                service,
                environment,
                instance: &instance,
                is_child: true,
                seen: RefCell::new(BTreeMap::new()),
            };
            let verdict = Box::pin(awaited.verdict(self.ready_timeout)).await;
            let ready_ms = Some(began.elapsed().as_millis() as u64);
            let started = |pid: i32| Started {
                attempts: attempt_number,
                ready_ms,
                ..Started::new(self.id(), StartOutcome::Started, Some(pid))
            };
            let why = match verdict {
                Verdict::Ready => {
                    if !self.settle(&instance, leader, &[]).await {
                        return self.cancelled(attempt_number);
                    }
                    self.act.event(
                        EventKind::Ready,
                        self.id(),
                        Some(leader.pid),
                        "healthy",
                        &[("elapsed_ms", json!(ready_ms))],
                    );
                    return started(leader.pid);
                }
                Verdict::Followed {
                    leader: followed,
                    family,
                } => {
                    if !self.settle(&instance, followed, &family).await {
                        return self.cancelled(attempt_number);
                    }
                    let why = format!("its command (PID {}) went to the background", leader.pid);
                    self.act
                        .event(EventKind::Followed, self.id(), Some(followed.pid), why, &[]);
                    self.act.event(
                        EventKind::Ready,
                        self.id(),
                        Some(followed.pid),
                        "healthy",
                        &[("elapsed_ms", json!(ready_ms))],
                    );
                    return started(followed.pid);
                }
                Verdict::Cancelled => return self.cancelled(attempt_number),
                Verdict::Interrupted => "interrupted".to_string(),
                Verdict::TimedOut(why) => format!(
                    "not ready in {}: {why}",
                    humantime::format_duration(self.ready_timeout)
                ),
                Verdict::Exited(exit) => {
                    if self.is_cancelled().await {
                        return self.cancelled(attempt_number);
                    }
                    let how = exit.map_or("it ended".to_string(), |exit| exit.to_string());
                    self.act.event(
                        EventKind::Exit,
                        self.id(),
                        Some(leader.pid),
                        "before it was ready",
                        &[("status", json!(how))],
                    );
                    if attempt_number < service.start_attempts && self.act.interrupts() == 0 {
                        if let Err(why) = Box::pin(self.undo(&awaited)).await {
                            return Box::pin(self.give_up(why, attempt_number, None)).await;
                        }
                        let until = Instant::now() + back_off;
                        let _shown = self.act.show(
                            self.id(),
                            format!("{how}; before attempt {}", attempt_number + 1),
                            Some(until),
                            "it is tried again",
                        );
                        let woken = reactor::race(
                            self.act
                                .interrupts
                                .until(|seen| (seen.count > 0).then_some(())),
                            self.act.claim_lost(self.id()),
                        );
                        let _ = reactor::by(until, woken).await;
                        back_off = (back_off * 2).min(BACK_OFF.1);
                        if self.act.interrupts() > 0 {
                            return self
                                .give_up("interrupted".to_string(), attempt_number, None)
                                .await;
                        }
                        continue;
                    }
                    format!("{how} before it was ready")
                }
            };
            let undone = Box::pin(self.undo(&awaited)).await;
            let why = match undone {
                Ok(()) => why,
                Err(trouble) => format!("{why}; {trouble}"),
            };
            let lines = logs::tail::tail_from(&instance.log.path, instance.log.begin, LINES_SHOWN)
                .unwrap_or_default();
            let mut started = Box::pin(self.give_up(why, attempt_number, None)).await;
            started.log_lines = lines
                .iter()
                .map(|line| logs::sanitize::sanitize(line))
                .collect();
            return started;
        }
    }

    /// Ends an attempt that came to nothing, with all that it started.
    async fn undo(&self, awaited: &Awaited<'_>) -> Result<(), String> {
        let instance = awaited.instance;
        let caught = self
            .hunt(
                awaited.traces(),
                Vec::new(),
                Some(instance.leader.identity()),
                true,
                "its start failed",
            )
            .await;
        if !caught.survivors.is_empty() {
            return Err(format!(
                "what it left could not be stopped: {}",
                caught.survivors.join(", ")
            ));
        }
        self.forget_instance(&instance.token, instance.leader.pid)
            .await;
        Ok(())
    }

    async fn hunt(
        &self,
        traces: Traces,
        first: Vec<Stat>,
        leader: Option<Identity>,
        recorded: bool,
        why: &'static str,
    ) -> Caught {
        let service = self.service();
        let hunt = Hunt {
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
        Box::pin(hunt::end(&self.act, hunt)).await
    }

    /// Removes record and PID file of an instance that has been ended; the claim stays.
    async fn forget_instance(&self, token: &str, pid: i32) {
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
    async fn settle(&self, instance: &Instance, leader: Identity, family: &[Identity]) -> bool {
        let (shared, id, token) = (
            self.act.clone(),
            self.id().to_string(),
            instance.token.clone(),
        );
        let (family, old) = (family.to_vec(), instance.leader.pid);
        let Ok(journal) = self.act.journal() else {
            return true;
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
            instance.phase = Phase::Ready;
            if entry.starter.as_ref() == Some(&me) {
                entry.starter = None;
            }
            if leader.pid != old {
                instance.leader = Claim::new(leader, &shared.place);
                instance.followed = true;
                instance.members = family
                    .iter()
                    .map(|member| (member.pid, member.start_time))
                    .collect();
                pidfile::write(transaction.folder, &id, leader.pid)?;
            }
            Ok::<bool, std::io::Error>(true)
        });
        match settled.await {
            Ok(Ok(settled)) => settled,
            Ok(Err(error)) => {
                self.note(format!("its PID file cannot be written: {error}"));
                true
            }
            Err(why) => {
                self.note(format!("its record cannot be written: {why}"));
                true
            }
        }
    }

    /// Gives our claim back, with the reason where it failed.
    async fn release(&self, failure: Option<String>) {
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

    /// Fails, after ending what `running` holds.
    async fn give_up(&self, why: String, attempts: u32, running: Option<&Instance>) -> Started {
        let mut why = why;
        let mut lines = Vec::new();
        if let Some(instance) = running {
            let traces = Traces::of(instance, &self.act.place);
            let caught = self
                .hunt(
                    traces,
                    Vec::new(),
                    Some(instance.leader.identity()),
                    true,
                    "its start failed",
                )
                .await;
            if caught.survivors.is_empty() {
                self.forget_instance(&instance.token, instance.leader.pid)
                    .await;
            } else {
                why = format!(
                    "{why}; what it left could not be stopped: {}",
                    caught.survivors.join(", ")
                );
            }
            lines = logs::tail::tail_from(&instance.log.path, instance.log.begin, LINES_SHOWN)
                .unwrap_or_default();
        }
        self.release(Some(why.clone())).await;
        self.act.event(
            EventKind::StartFailed,
            self.id(),
            None,
            why.clone(),
            &[("attempts", json!(attempts))],
        );
        let log_lines = lines
            .iter()
            .map(|line| logs::sanitize::sanitize(line))
            .collect();
        Started {
            log_lines,
            ..self.failed(why, attempts)
        }
    }

    async fn is_cancelled(&self) -> bool {
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

    fn cancelled(&self, attempts: u32) -> Started {
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

/// Until that process has ended; pidctl commands that are at work on the same service.
async fn ended(identity: Identity) {
    match crate::sys::pidfd::Pidfd::hold(identity) {
        Ok(Some((pidfd, _))) => {
            let _ = reactor::readable(&pidfd).await;
        }
        Ok(None) => {}
        Err(_) => {
            while proc::alive(identity).is_ok_and(|alive| alive.is_some()) {
                reactor::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

type Restored = (Vec<String>, Option<Instance>, Option<String>);

/// A running service whose PID file was removed or names another gets it back; one that only a PID file
/// proves gets a record.
fn restore(
    act: &Act,
    index: usize,
    leader: Identity,
    recorded: bool,
    transaction: &mut super::journal::Transaction<'_>,
) -> Restored {
    let service = &act.table.services[index];
    let mut notes = Vec::new();
    let mut trouble = None;
    if !recorded && let Ok(environment) = Environment::of(service) {
        let instance = launch::adopted(act, service, &environment, leader);
        let entry = transaction.ledger.entry(&service.id, &act.table.file);
        entry.instance = Some(instance);
        entry.stopper = None;
    }
    let instance = transaction
        .ledger
        .entries
        .get(&service.id)
        .and_then(|entry| entry.instance.clone());
    let names_leader = matches!(pidfile::read(transaction.folder, &service.id), pidfile::PidFile::Pid { pid, .. } if pid == leader.pid);
    if !names_leader {
        match pidfile::write(transaction.folder, &service.id, leader.pid) {
            Ok(()) => notes.push(format!("its PID file was put right: PID {}", leader.pid)),
            Err(error) => trouble = Some(error.to_string()),
        }
    }
    (notes, instance, trouble)
}

/// What has changed since the instance was started: "table", "executable".
pub fn changes(act: &Act, service: &Service, instance: Option<&Instance>) -> Vec<&'static str> {
    let Some(instance) = instance else {
        return Vec::new();
    };
    let mut changed = Vec::new();
    if instance.digest != environment::digest(&act.table, service) {
        changed.push("table");
    }
    let executable = instance.executable.as_ref();
    if executable.is_some_and(|recorded| launch::executable(&recorded.0).as_ref() != Some(recorded))
    {
        changed.push("executable");
    }
    changed
}
