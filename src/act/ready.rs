//! Until a started instance is ready, has failed, or is no longer wanted. Also follows a command that
//! goes to the background by itself.

use super::context::Act;
use super::health::{self, Patient};
use super::helper::{self, Helper};
use crate::config::{Health, Service};
use crate::environment::Environment;
use crate::family::holders;
use crate::family::trace::{self, Traces};
use crate::observe;
use crate::reactor::{self, Either};
use crate::state::record::Instance;
use crate::sys::boot;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::wait::Exit;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A leader that has lived so long since its exec is taken to stay.
const SETTLED: Duration = Duration::from_millis(200);

pub enum Verdict {
    Ready,
    /// The leader went, this one remains and is followed; the whole family with it.
    Followed {
        leader: Identity,
        family: Vec<Identity>,
    },
    Exited(Option<Exit>),
    /// Says why it was not healthy.
    TimedOut(String),
    Interrupted,
    /// Another command stops it.
    Cancelled,
}

/// An instance whose readiness is awaited.
pub struct Awaited<'a> {
    pub act: &'a Rc<Act>,
    pub service: &'a Service,
    pub environment: &'a Environment,
    pub instance: &'a Instance,
    /// We forked the leader, so its exit status is ours to learn.
    pub is_child: bool,
    /// Family that ancestry showed at any time.
    pub seen: RefCell<BTreeMap<i32, Identity>>,
}

impl Awaited<'_> {
    fn leader(&self) -> Identity {
        self.instance.leader.identity()
    }

    /// What shows the family: the record's traces and everybody seen so far.
    pub fn traces(&self) -> Traces {
        let mut traces = Traces::of(self.instance, &self.act.place);
        traces.known.extend(self.seen.borrow().values());
        traces
    }

    fn family_now(&self) -> Vec<i32> {
        let mut seen = self.seen.borrow_mut();
        for stat in observe::by_ancestry(self.leader()) {
            seen.insert(stat.pid, stat.identity());
        }
        let roots: Vec<Identity> = seen
            .values()
            .copied()
            .filter(|&identity| identity != self.leader())
            .collect();
        // Those that have left the leader's tree have trees of their own.
        for root in roots {
            if proc::stat(root.pid).is_ok_and(|stat| stat.ppid == 1 || stat.ppid == self.act.me.pid)
            {
                for stat in observe::by_ancestry(root) {
                    seen.insert(stat.pid, stat.identity());
                }
            }
        }
        seen.retain(|_, identity| proc::alive(*identity).is_ok_and(|alive| alive.is_some()));
        seen.keys().copied().collect()
    }

    async fn probe(&self, helper: &Helper) -> Result<(), String> {
        let family = self.family_now();
        let patient = Patient {
            health: &self.service.health,
            port: self.service.port,
            family: &family,
            helper,
        };
        Box::pin(health::probe(&patient)).await
    }

    /// `timeout` counts from now: from exec.
    pub async fn verdict(&self, timeout: Duration) -> Verdict {
        let until = Instant::now() + timeout;
        let last = RefCell::new("it was not asked yet".to_string());
        let _shown = self.act.show(
            &self.service.id,
            "until it is ready",
            Some(until),
            "it fails",
        );
        let work = reactor::by(until, Box::pin(self.settle(&last)));
        let unwanted = reactor::race(self.act.interrupted(), self.cancelled());
        match reactor::race(work, unwanted).await {
            Either::First(Some(verdict)) => verdict,
            Either::First(None) => Verdict::TimedOut(last.into_inner()),
            Either::Second(Either::First(())) => Verdict::Interrupted,
            Either::Second(Either::Second(())) => Verdict::Cancelled,
        }
    }

    /// Until a `stop` has taken our claim away; never for what we only join.
    async fn cancelled(&self) {
        if !self.is_child {
            return std::future::pending().await;
        }
        self.act.claim_lost(&self.service.id).await;
    }

    async fn settle(&self, last: &RefCell<String>) -> Verdict {
        let environment = self.environment.clone();
        let token = &self.instance.token;
        let helper = Helper::new(self.act, &self.service.id, environment, token);
        if self.service.daemonizes && !self.instance.followed {
            *last.borrow_mut() = "its command has not gone to the background yet".to_string();
            let exit = self.leader_exit().await;
            return Box::pin(self.follow(exit, last, &helper)).await;
        }
        // One that a start has left, killed maybe, may be a child that is about to end at its gate.
        let lived = match self.is_child || self.instance.followed {
            true => Duration::ZERO,
            false => Duration::from_secs_f64(boot::age(self.leader().start_time)),
        };
        let settled_at = Instant::now() + SETTLED.saturating_sub(lived);
        let healthy = async {
            health::until_healthy(async || Box::pin(self.probe(&helper)).await, last).await;
            if !self.instance.followed && Instant::now() < settled_at {
                "it has not lived for 200 ms yet".clone_into(&mut last.borrow_mut());
                reactor::sleep_until(settled_at).await;
                // It may have stopped answering while it settled.
                health::until_healthy(async || Box::pin(self.probe(&helper)).await, last).await;
            }
            while !self.is_child && self.is_at_gate() {
                reactor::sleep(Duration::from_millis(5)).await;
            }
        };
        match reactor::race(self.leader_exit(), healthy).await {
            Either::First(exit) => Box::pin(self.follow(exit, last, &helper)).await,
            Either::Second(()) => match proc::alive(self.leader()) {
                Ok(Some(_)) => Verdict::Ready,
                _ => {
                    let exit = self.leader_exit().await;
                    Box::pin(self.follow(exit, last, &helper)).await
                }
            },
        }
    }

    /// Is it a child that a start has left before its exec, and that has not come to its end yet? A busy
    /// machine lets it wait for that.
    fn is_at_gate(&self) -> bool {
        let own = proc::exe_file(self.act.me.pid).ok();
        let meant = self.instance.executable.as_ref();
        if meant.is_some_and(|(_, device, inode, _)| own == Some((*device, *inode))) {
            return false;
        }
        match proc::exe_file(self.leader().pid) {
            Ok(file) => own == Some(file),
            // A process past its memory has no executable.
            Err(error) => proc::is_gone(&error),
        }
    }

    async fn leader_exit(&self) -> Option<Exit> {
        if self.is_child {
            return Some(self.act.children.exited(self.leader().pid).await);
        }
        match crate::sys::pidfd::Pidfd::hold(self.leader()) {
            Ok(Some((pidfd, _))) => {
                let _ = reactor::readable(&pidfd).await;
                None
            }
            Ok(None) => None,
            Err(_) => std::future::pending().await,
        }
    }

    /// The leader is gone. A command that went to the background ended with 0 and left a family that
    /// becomes healthy.
    async fn follow(&self, exit: Option<Exit>, last: &RefCell<String>, helper: &Helper) -> Verdict {
        if exit.is_some_and(|exit| exit != Exit::Code(0)) {
            return Verdict::Exited(exit);
        }
        let mut pause = Duration::from_millis(2);
        loop {
            let healthy = match self.remains().await {
                Ok(family) if family.is_empty() => return Verdict::Exited(exit),
                Ok(family) => {
                    self.seen
                        .borrow_mut()
                        .extend(family.iter().map(|stat| (stat.pid, stat.identity())));
                    Box::pin(self.probe(helper)).await
                }
                // Who cannot be seen now is not gone.
                Err(why) => Err(why),
            };
            match healthy {
                Ok(()) => {
                    // Looked at again: the probe may have taken its time.
                    let family = self.remains().await.unwrap_or_default();
                    if let Some(leader) = observe::new_leader(&family, self.service.port) {
                        return Verdict::Followed {
                            leader,
                            family: family.iter().map(Stat::identity).collect(),
                        };
                    }
                }
                Err(why) => *last.borrow_mut() = why,
            }
            reactor::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(100));
        }
    }

    /// Who lives of the family without its leader: those that bear its traces, and the orphans that
    /// the subreaper flag brought us and that can be no other service's.
    async fn remains(&self) -> Result<Vec<Stat>, String> {
        let mut traces = self.traces();
        let orphans = self.orphans();
        traces.known.extend(orphans.iter().map(Stat::identity));
        let mut family = self.act.walker.family(traces).await?;
        // What is older than the command was left by `prepare`.
        let leader = self.leader();
        family.retain(|stat| {
            stat.identity() != leader
                && (self.instance.followed || stat.identity().by_birth(&leader).is_gt())
        });
        Ok(family)
    }

    /// The orphans that the subreaper flag has brought us so far, where no other service was started
    /// that could have left them: once we are gone, nothing may tell whose they are.
    pub fn strays(&self) -> Vec<Identity> {
        let alone = self.act.launched.borrow().len() == 1;
        match self.is_child && alone {
            true => self.orphans().iter().map(Stat::identity).collect(),
            false => Vec::new(),
        }
    }

    fn orphans(&self) -> Vec<Stat> {
        let Ok(me) = proc::stat(self.act.me.pid) else {
            return Vec::new();
        };
        let own = proc::children(&me).unwrap_or_default();
        let orphans = own
            .into_iter()
            .filter(|&pid| !self.act.children.is_forked(pid))
            .filter_map(|pid| proc::stat(pid).ok());
        orphans
            .filter(|stat| {
                stat.is_alive() && stat.start_time >= self.instance.since && self.is_ours(stat)
            })
            .collect()
    }

    fn is_ours(&self, orphan: &Stat) -> bool {
        let mut buffer = Vec::new();
        match trace::token_of(orphan.pid, &mut buffer) {
            Ok(Some(found)) => {
                return found.token == self.instance.token && found.helper.is_none();
            }
            Ok(None) => {}
            Err(_) => return false,
        }
        let log = &self.instance.log;
        let files = HashSet::from([(log.device, log.inode)]);
        let Ok(locks) = trace::log_locks_of(orphan.pid, &files) else {
            return false;
        };
        if log.lock.is_some_and(|lock| locks.contains(&lock))
            || self.instance.session == Some(orphan.session)
        {
            return true;
        }
        // It wiped its traces. Who else could it be?
        let pids: Vec<i32> = observe::by_ancestry(orphan.identity())
            .iter()
            .map(|stat| stat.pid)
            .collect();
        let holds_port = self
            .service
            .port
            .is_some_and(|port| holders::is_held_by(port, &pids).unwrap_or(false));
        holds_port || self.can_be_no_others(orphan)
    }

    /// Nobody else that this command has started, whether ready, returned from or still awaited, can
    /// have left it. That there is nobody else says it; without a port, which would tell, also that it
    /// runs our program and each of them another.
    fn can_be_no_others(&self, orphan: &Stat) -> bool {
        let launched = self.act.launched.borrow();
        let mut others = launched
            .iter()
            .filter_map(|&index| self.act.table.services.get(index))
            .filter(|other| other.id != self.service.id)
            .peekable();
        if others.peek().is_none() {
            return true;
        }
        let Ok(file) = proc::exe_file(orphan.pid) else {
            return false;
        };
        let is_another = |other: &Service| {
            // What `prepare` or a shell script has started may be anything.
            let environment = Environment::of(other).ok();
            let program = environment.and_then(|environment| environment.program(other));
            other.prepare.is_none()
                && program.is_some_and(|program| !program.is_shell_script() && program.file != file)
        };
        self.service.port.is_none()
            && self
                .environment
                .program(self.service)
                .is_some_and(|program| program.file == file)
            && others.all(is_another)
    }
}

/// Is this instance healthy now? For those who only ask once.
pub async fn is_healthy(
    act: &Rc<Act>,
    service: &Service,
    token: &str,
    family: &[i32],
) -> Result<(), String> {
    let environment = match service.health {
        Health::Command { .. } => Environment::of(service)?,
        Health::None | Health::Tcp | Health::Http(_) => helper::callers_environment(),
    };
    let helper = Helper::new(act, &service.id, environment, token);
    let patient = Patient {
        health: &service.health,
        port: service.port,
        family,
        helper: &helper,
    };
    Box::pin(health::probe(&patient)).await
}
