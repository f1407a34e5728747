//! A shutdown drill: services are started, and what their stop shows is measured: who ended by itself
//! and when, who had to be killed, who got no signal, and when the port was free.

use super::context::Act;
use super::gauge::Gauge;
use super::outcome::{Receipt, StopOutcome, Stopped};
use super::stop::{self, Targets};
use crate::config::Takeover;
use crate::family::holders;
use crate::family::reception::Reception;
use crate::family::trace::Traces;
use crate::logs;
use crate::reactor::{self, Either, Watch};
use crate::state::record::Instance;
use crate::sys::netlink;
use crate::sys::proc::{Identity, Stat};
use crate::sys::signal::Signal;
use crate::sys::wait::Exit;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// So many of the lines that it logged after the signal are kept.
const LINES_KEPT: usize = 10;

/// How one service took one stop.
#[derive(Debug)]
pub struct Drilled {
    pub stopped: Stopped,
    pub leader: Identity,
    /// From the first signal to the end of its last process.
    pub elapsed: Duration,
    /// From the first signal to SIGKILL.
    pub timeout: Duration,
    /// Of the leader; only that of our own child can be known.
    pub exit: Option<Exit>,
    pub processes: Vec<Process>,
    /// The leader did not end by itself.
    pub leader_killed: bool,
    /// `None` without a port.
    pub port_released: Option<bool>,
    pub port_released_after: Option<Duration>,
    /// What it logged after the signal, the last lines.
    pub logged: Vec<String>,
}

/// One process of the family.
#[derive(Debug)]
pub struct Process {
    pub identity: Identity,
    pub command: String,
    /// How it would take the signal, asked before; `None` for one that came later.
    pub reception: Option<Reception>,
    /// It was sent the stop signal.
    pub signalled: bool,
    /// From the first signal to its end.
    pub ended_after: Option<Duration>,
    /// Still there when the time was up.
    pub killed: bool,
}

impl Drilled {
    pub fn was_killed(&self) -> bool {
        self.processes.iter().any(|process| process.killed)
            || self.stopped.outcome == StopOutcome::Killed
    }

    /// Whom the leader left: alive when it had ended by itself and the time was up.
    pub fn left_behind(&self) -> impl Iterator<Item = &Process> {
        let all = match self.leader_killed {
            true => &[],
            false => self.processes.as_slice(),
        };
        all.iter().filter(|process| process.killed)
    }

    /// Of those that were there before.
    pub fn without_signal(&self) -> impl Iterator<Item = &Process> {
        let before = |process: &&Process| process.reception.is_some() && !process.signalled;
        self.processes.iter().filter(before)
    }

    pub fn passes(&self) -> bool {
        self.stopped.outcome == StopOutcome::Stopped
            && !self.was_killed()
            && self.port_released != Some(false)
    }
}

/// What was there before the signal.
struct Before {
    index: usize,
    instance: Rc<Instance>,
    family: Vec<(Stat, Reception)>,
    log_length: u64,
    gauge: Rc<Gauge>,
    port_released: Rc<Cell<Option<Instant>>>,
}

/// Stops services that are up, dependents first, and measures it. A service that turned out not to run
/// any more has no entry.
pub async fn stop_measured(act: &Rc<Act>, services: &[usize]) -> Vec<(usize, Drilled)> {
    act.fresh_records().await;
    let over = Watch::new(false);
    // Side by side: one walk shows all families.
    let looks: Vec<_> = services
        .iter()
        .map(|&index| {
            let act = act.clone();
            reactor::spawn(async move { look(&act, index).await })
        })
        .collect();
    let mut all = Vec::new();
    for look in looks {
        all.extend(look.await);
    }
    let gauges: HashMap<String, Rc<Gauge>> = all
        .iter()
        .map(|before| {
            let service = &act.table.services[before.index];
            if let Some(port) = service.port {
                watch_port(port, before, &over);
            }
            (service.id.clone(), before.gauge.clone())
        })
        .collect();
    let options = stop::Options {
        takeover: Some(Takeover::Never),
        gauges: Rc::new(gauges),
        ..Default::default()
    };
    let targets = Targets {
        indices: all.iter().map(|before| before.index).collect(),
        gone: Vec::new(),
    };
    let stopped = stop::stop(act, &targets, &options, |_| {}).await;
    for (before, stopped) in all.iter().zip(&stopped) {
        if stopped.outcome != StopOutcome::Failed {
            before.gauge.all_ends().await;
        }
    }
    over.change(|over| *over = true);
    all.into_iter()
        .zip(stopped)
        .map(|(before, stopped)| (before.index, before.compare(act, stopped)))
        .collect()
}

async fn look(act: &Rc<Act>, index: usize) -> Option<Before> {
    let service = &act.table.services[index];
    let instance = act.records().see(|ledger| {
        ledger
            .entries
            .get(&service.id)
            .and_then(|entry| entry.instance.clone())
    })?;
    act.children.expect(instance.leader.pid);
    let first = service.schedule.steps.first();
    let signal = first.map_or(Signal::KILL, |(signal, _)| *signal);
    let traces = Traces::of(&instance, &act.place);
    let family = act.walker.family(traces).await.unwrap_or_default();
    let family = family
        .into_iter()
        .map(|stat| {
            let reception = Reception::of(stat.pid, signal);
            (stat, reception)
        })
        .collect();
    let log = std::fs::metadata(act.table.log_file(&service.id));
    Some(Before {
        index,
        family,
        log_length: log.map_or(0, |metadata| metadata.len()),
        gauge: Gauge::new(),
        port_released: Rc::default(),
        instance,
    })
}

/// Writes down when nobody listens on the port any more: woken when the kernel destroys a socket, and
/// when one of the family ends.
fn watch_port(port: u16, before: &Before, over: &Rc<Watch<bool>>) {
    let is_free = move || holders::listeners_on(port).is_ok_and(|listeners| listeners.is_empty());
    // Asked for before the look: what happens in between wakes.
    let closings = netlink::closings();
    if is_free() {
        return;
    }
    let (over, ends, released) = (
        over.clone(),
        before.gauge.ends.clone(),
        before.port_released.clone(),
    );
    reactor::spawn(async move {
        while released.get().is_none() {
            let known = ends.see(HashMap::len);
            let end = ends.until(|ends| (ends.len() > known).then_some(()));
            let closing = async {
                match &closings {
                    Ok(netlink) if reactor::readable(netlink).await.is_ok() => {
                        netlink::drain(netlink)
                    }
                    _ => std::future::pending().await,
                }
            };
            let done = over.until(|over| over.then_some(()));
            let woken = reactor::race(reactor::race(closing, end), done).await;
            if is_free() {
                released.set(Some(Instant::now()));
            }
            if let Either::Second(()) = woken {
                return;
            }
        }
    });
}

impl Before {
    fn compare(self, act: &Act, stopped: Stopped) -> Drilled {
        let service = &act.table.services[self.index];
        let leader = self.instance.leader.identity();
        let exit = act.children.exit_of(leader.pid);
        act.children.forget(leader.pid);
        let signalled_at = self.gauge.first_signal();
        let since = |end: Instant| signalled_at.map(|began| end.saturating_duration_since(began));
        let ends = self.gauge.ends.see(Clone::clone);
        let left = self.gauge.left().unwrap_or_default();
        let mut processes: Vec<Process> = self
            .family
            .iter()
            .map(|(stat, reception)| Process {
                identity: stat.identity(),
                command: stat.comm.clone(),
                reception: Some(*reception),
                signalled: false,
                ended_after: None,
                killed: false,
            })
            .collect();
        for (identity, command) in &stopped.members {
            if !processes.iter().any(|known| known.identity == *identity) {
                processes.push(Process {
                    identity: *identity,
                    command: command.clone(),
                    reception: None,
                    signalled: false,
                    ended_after: None,
                    killed: false,
                });
            }
        }
        for process in &mut processes {
            process.signalled = was_signalled(&stopped.receipts, process.identity);
            process.ended_after = ends.get(&process.identity).copied().and_then(since);
            process.killed = left.contains(&process.identity);
        }
        let last_end = ends.values().max().copied().and_then(since);
        let released = service
            .port
            .map(|port| holders::listeners_on(port).is_ok_and(|listeners| listeners.is_empty()));
        let log = act.table.log_file(&service.id);
        let lines = logs::tail::tail_from(&log, self.log_length, LINES_KEPT).unwrap_or_default();
        Drilled {
            elapsed: last_end.unwrap_or(Duration::from_millis(stopped.elapsed_ms)),
            timeout: service.schedule.total(),
            exit,
            leader_killed: left.contains(&leader),
            port_released: released,
            port_released_after: self.port_released.get().and_then(since),
            logged: lines
                .iter()
                .map(|line| logs::sanitize::sanitize(line))
                .collect(),
            processes,
            leader,
            stopped,
        }
    }
}

/// By a signal of the schedule; what freezes, wakes or kills is none.
fn was_signalled(receipts: &[Receipt], identity: Identity) -> bool {
    receipts.iter().any(|receipt| {
        let is_it = receipt.pid == identity.pid && receipt.start_time == identity.start_time;
        is_it && !matches!(receipt.signal, Signal::KILL | Signal::STOP | Signal::CONT)
    })
}
