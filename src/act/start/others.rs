//! A service that is up already, or that another command is at work on.

use super::Story;
use crate::act::context::Act;
use crate::act::journal::Transaction;
use crate::act::launch;
use crate::act::outcome::{StartOutcome, Started};
use crate::act::ready::{self, Awaited, Verdict};
use crate::config::Service;
use crate::environment::{self, Environment};
use crate::observe;
use crate::reactor;
use crate::state::ledger::Ledger;
use crate::state::pidfile;
use crate::state::record::{Entry, Instance, Phase};
use crate::sys::proc::{self, Identity};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

impl Story {
    pub(super) async fn await_stop(&self) {
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
        let _ = reactor::race(over, act.interrupted()).await;
    }

    /// Another command starts it, or has left it before it was ready. `None`: nobody is starting it any
    /// more and nothing of it is there; it is ours to start.
    pub(super) async fn join(&self, mut pid: Option<i32>) -> Option<Started> {
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
            match reactor::race(reactor::by(until, event), act.interrupted()).await {
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
                if let Ok(ledger) = Ledger::read(folder) {
                    records.change(|records| *records = ledger);
                }
            }
        }
    }

    /// Readiness of an instance that nobody is starting any more; never undone. `None`: it ended instead.
    pub(super) async fn await_joined(
        &self,
        instance: Rc<Instance>,
        until: Instant,
    ) -> Option<Started> {
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
        let left = until.saturating_duration_since(Instant::now());
        Some(match Box::pin(awaited.verdict(left)).await {
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

    pub(super) async fn joined(&self, leader: Identity) -> Started {
        Started::new(self.id(), StartOutcome::AlreadyRunning, Some(leader.pid))
    }

    /// A running service whose PID file was removed or names another gets it back; one that only a PID
    /// file proves gets a record.
    async fn restore(&self, leader: Identity) -> Option<Rc<Instance>> {
        let (shared, index) = (self.act.clone(), self.index);
        let trouble = |why: &dyn std::fmt::Display| {
            self.note(format!("its PID file or record cannot be put right: {why}"));
        };
        let journal = self.act.journal().inspect_err(|why| trouble(why)).ok()?;
        let restored =
            journal.update(move |transaction| restore(&shared, index, leader, transaction));
        let (instance, written) = restored.await.inspect_err(|why| trouble(why)).ok()?;
        match written {
            Ok(true) => self.note(format!("its PID file was put right: PID {}", leader.pid)),
            Ok(false) => {}
            Err(error) => trouble(&error),
        }
        instance
    }

    pub(super) async fn already_running(
        &self,
        leader: Identity,
        instance: Option<Rc<Instance>>,
        named: bool,
    ) -> Started {
        let service = self.service();
        let instance = match instance {
            Some(instance) if named => Some(instance),
            _ => Box::pin(self.restore(leader)).await,
        };
        let family: Vec<i32> = observe::by_ancestry(leader)
            .iter()
            .map(|stat| stat.pid)
            .collect();
        let token = instance
            .as_ref()
            .map_or("", |instance| instance.token.as_str());
        let mut told: Vec<String> = changes(&self.act, service, instance.as_deref())
            .into_iter()
            .map(|what| format!("the {what} has changed since its start (restart applies it)"))
            .collect();
        let asked = Box::pin(ready::is_healthy(&self.act, service, token, &family));
        if let Err(why) = asked.await {
            told.push(format!("unhealthy: {why}"));
        }
        let detail = (!told.is_empty()).then(|| told.join("; "));
        Started {
            detail,
            ..Started::new(self.id(), StartOutcome::AlreadyRunning, Some(leader.pid))
        }
    }
}

/// Puts PID file and record right, if the process is still what it was taken for. Says whether it wrote
/// the PID file.
fn restore(
    act: &Act,
    index: usize,
    leader: Identity,
    transaction: &mut Transaction<'_>,
) -> (Option<Rc<Instance>>, std::io::Result<bool>) {
    let service = &act.table.services[index];
    let entry = transaction.ledger.entry(&service.id, &act.table.file);
    if entry.instance.is_none()
        && matches!(proc::alive(leader), Ok(Some(_)))
        && let Ok(environment) = Environment::of(service)
    {
        entry.instance = Some(Rc::new(launch::adopted(act, service, &environment, leader)));
        entry.stopper = None;
    }
    let instance = entry.instance.clone();
    let is_it = |instance: &Rc<Instance>| instance.leader.identity() == leader;
    let named = matches!(
        pidfile::read(transaction.folder, &service.id),
        pidfile::PidFile::Pid { pid, .. } if pid == leader.pid
    );
    if named || !instance.as_ref().is_some_and(is_it) {
        return (instance, Ok(false));
    }
    let written = pidfile::write(transaction.folder, &service.id, leader.pid);
    (instance, written.map(|()| true))
}

/// Until that process has ended; pidctl commands that are at work on the same service.
pub(in crate::act) async fn ended(identity: Identity) {
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
