//! Attending services in the foreground: each is watched until it ends, whoever ends it; what other
//! commands do with it meanwhile is noticed. One that ended by itself is cleaned up.

use super::context::Act;
use super::outcome::{Receipt, StopOutcome};
use super::{ready, start, stop};
use crate::config::Takeover;
use crate::events::EventKind;
use crate::family::trace::Traces;
use crate::family::verdict;
use crate::observe;
use crate::reactor::{self, Either, Task, Watch};
use crate::state::ledger::Ledger;
use crate::state::record::{Claim, Entry, Instance};
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::wait::Exit;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Who cannot be seen (no more descriptors, say) is not gone: it is looked for again for so long.
const SHORTAGE: Duration = Duration::from_secs(1);

/// What is known of a service.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is being started.
    Pending,
    Up(i32),
    Down(End),
}

/// How it went down.
#[derive(Clone, Debug, Default)]
pub struct End {
    pub pid: Option<i32>,
    pub exit: Option<Exit>,
    pub failed: bool,
    /// Another command stopped it, or its start.
    pub elsewhere: bool,
    pub detail: Option<String>,
    /// Of what it left, which was stopped.
    pub receipts: Vec<Receipt>,
}

/// What is worth telling while it happens.
pub enum News<'a> {
    Down(&'a End),
    /// Another command has started it, or started it again.
    StartedElsewhere(i32),
    /// Its command went to the background; this process remains.
    Followed(i32),
}

pub type Fates = BTreeMap<usize, Fate>;

pub struct Foreground {
    act: Rc<Act>,
    pub fates: Rc<Watch<Fates>>,
    /// Whatever ends from now on, we end it.
    dismissed: Rc<Watch<bool>>,
    keepers: RefCell<Vec<Task<()>>>,
    tell: Box<dyn Fn(usize, News<'_>)>,
}

impl Foreground {
    pub fn new(
        act: &Rc<Act>,
        services: &[usize],
        tell: impl Fn(usize, News<'_>) + 'static,
    ) -> Rc<Foreground> {
        let fates = services.iter().map(|&index| (index, Fate::Pending));
        Rc::new(Foreground {
            act: act.clone(),
            fates: Watch::new(fates.collect()),
            dismissed: Watch::new(false),
            keepers: RefCell::default(),
            tell: Box::new(tell),
        })
    }

    /// Watches a service that is up.
    pub fn attend(self: &Rc<Self>, index: usize, pid: i32) {
        self.settle(index, Fate::Up(pid));
        let keeper = Keeper {
            foreground: self.clone(),
            index,
            token: RefCell::default(),
            given_up: RefCell::default(),
        };
        let keeper = reactor::spawn(async move { keeper.keep().await });
        self.keepers.borrow_mut().push(keeper);
    }

    pub fn settle(&self, index: usize, fate: Fate) {
        self.fates.change(|fates| fates.insert(index, fate));
    }

    pub fn tell(&self, index: usize, news: News<'_>) {
        (self.tell)(index, news);
    }

    /// Until no service is up.
    pub async fn all_down(&self) {
        let is_down = |fate: &Fate| matches!(fate, Fate::Down(_));
        self.fates
            .until(|fates| fates.values().all(is_down).then_some(()))
            .await;
    }

    /// Until one has failed.
    pub async fn failure(&self) {
        let has_failed = |fate: &Fate| matches!(fate, Fate::Down(end) if end.failed);
        self.fates
            .until(|fates| fates.values().any(has_failed).then_some(()))
            .await;
    }

    pub fn is_dismissed(&self) -> bool {
        self.dismissed.see(|dismissed| *dismissed)
    }

    /// Stops watching: no end is judged from now on. Services that are being cleaned up are awaited.
    pub async fn dismiss(&self) {
        self.dismissed.change(|dismissed| *dismissed = true);
        let keepers = self.keepers.take();
        for keeper in keepers {
            keeper.await;
        }
    }
}

/// Watches one service.
struct Keeper {
    foreground: Rc<Foreground>,
    index: usize,
    /// Of the instance that was seen last.
    token: RefCell<Option<String>>,
    /// A leader that is gone and whose leavings could not be cleaned up.
    given_up: RefCell<Option<Claim>>,
}

impl Keeper {
    fn act(&self) -> &Rc<Act> {
        &self.foreground.act
    }

    fn id(&self) -> &str {
        &self.act().table.services[self.index].id
    }

    /// Another table's of that id is not our business.
    fn entry<'a>(&self, ledger: &'a Ledger) -> Option<&'a Entry> {
        let entry = ledger.entries.get(self.id());
        entry.filter(|entry| entry.table == self.act().table.file)
    }

    async fn keep(&self) {
        loop {
            self.act().fresh_records().await;
            let entry = self
                .act()
                .records()
                .see(|ledger| self.entry(ledger).cloned());
            let other = entry.as_ref().and_then(|entry| self.other_at_work(entry));
            let instance = entry.as_ref().and_then(|entry| entry.instance.as_ref());
            let gone = instance.is_some_and(|instance| {
                matches!(proc::alive(instance.leader.identity()), Ok(None))
            });
            let woken = match (instance, other) {
                (Some(instance), _) if !gone => {
                    self.note_leader(instance);
                    let leader = &instance.leader;
                    let ended = start::ended(leader.identity());
                    self.wait(ended, |entry| leader_of(entry) != Some(leader))
                        .await
                }
                // It is theirs to clean up, or to start again; if they die first, it is ours.
                (_, Some(other)) => {
                    let ended = start::ended(other.identity());
                    self.wait(ended, |now| now != entry.as_ref()).await
                }
                (Some(instance), None)
                    if self.given_up.borrow().as_ref() != Some(&instance.leader) =>
                {
                    // Boxed: a thousand may wait, and few at once take leave.
                    Box::pin(self.take_leave(instance)).await;
                    true
                }
                (instance, None) => {
                    if instance.is_none() {
                        self.note_stopped(entry.as_ref());
                    }
                    let never = std::future::pending();
                    self.wait(never, |now| now != entry.as_ref()).await
                }
            };
            if !woken {
                return;
            }
        }
    }

    /// Until the event, or until the entry has changed so. False where nobody wants to know any more.
    async fn wait(
        &self,
        event: impl Future<Output = ()>,
        changed: impl Fn(Option<&Entry>) -> bool,
    ) -> bool {
        let dismissed = self
            .foreground
            .dismissed
            .until(|dismissed| dismissed.then_some(()));
        let changed = self
            .act()
            .records()
            .until(|ledger| changed(self.entry(ledger)).then_some(()));
        let woken = reactor::race(dismissed, reactor::race(event, changed)).await;
        matches!(woken, Either::Second(_))
    }

    /// Another command that starts it, stops it, or has stopped it in order to start it.
    fn other_at_work(&self, entry: &Entry) -> Option<Claim> {
        let me = self.act().claim();
        let claims = [&entry.starter, &entry.stopper, &entry.restarter];
        let mut others = claims.into_iter().flatten();
        others
            .find(|claim| **claim != me && verdict::is_at_work(claim, &self.act().place))
            .cloned()
    }

    fn note_leader(&self, instance: &Instance) {
        let pid = instance.leader.pid;
        let before = self
            .foreground
            .fates
            .see(|fates| fates.get(&self.index).cloned());
        let same = self.token.replace(Some(instance.token.clone())) == Some(instance.token.clone());
        self.act().children.expect(pid);
        match before {
            Some(Fate::Up(known)) if known == pid => return,
            _ => self.foreground.settle(self.index, Fate::Up(pid)),
        }
        self.tell(match same {
            true => News::Followed(pid),
            false => News::StartedElsewhere(pid),
        });
    }

    /// Another command has stopped it, or failed to start it again.
    fn note_stopped(&self, entry: Option<&Entry>) {
        let fate = self
            .foreground
            .fates
            .see(|fates| fates.get(&self.index).cloned());
        let Some(Fate::Up(pid)) = fate else { return };
        let failure = entry.and_then(|entry| entry.failure.clone());
        self.down(End {
            pid: Some(pid),
            failed: failure.is_some(),
            elsewhere: true,
            detail: Some(match failure {
                Some(why) => format!("another command's start failed: {why}"),
                None => "by another command".to_string(),
            }),
            ..End::default()
        });
    }

    fn down(&self, end: End) {
        self.tell(News::Down(&end));
        self.foreground.settle(self.index, Fate::Down(end));
    }

    fn tell(&self, news: News<'_>) {
        self.foreground.tell(self.index, news);
    }

    /// The leader has ended and no command is about it: what remains is followed where it is a healthy
    /// command that went to the background, and stopped where it is the leavings of a crash.
    async fn take_leave(&self, instance: &Instance) {
        let act = self.act();
        self.token.replace(Some(instance.token.clone()));
        let leader = instance.leader.identity();
        let exit = act.children.exit_of(leader.pid);
        if exit.is_none_or(|exit| exit == Exit::Code(0)) && self.follow(instance).await {
            act.children.forget(leader.pid);
            return;
        }
        let how = exit.map_or("unknown".to_string(), |exit| exit.to_string());
        act.event(
            EventKind::Exit,
            self.id(),
            Some(leader.pid),
            "by itself",
            &[("status", json!(how))],
        );
        let targets = stop::Targets {
            indices: vec![self.index],
            gone: Vec::new(),
        };
        let options = stop::Options {
            takeover: Some(Takeover::Never),
            ..Default::default()
        };
        let stopped = stop::stop(act, &targets, &options, |_| {}).await.pop();
        act.children.forget(leader.pid);
        let mut facts = vec![exit.map_or(
            "its exit status is not known: it was not started here".to_string(),
            |exit| exit.to_string(),
        )];
        let mut end = End {
            pid: Some(leader.pid),
            exit,
            failed: exit != Some(Exit::Code(0)),
            ..End::default()
        };
        if let Some(stopped) = stopped {
            if stopped.processes > 0 {
                facts.push(format!("stopped what it left: {}", stopped.processes));
            }
            if stopped.outcome == StopOutcome::Failed {
                end.failed = true;
                self.given_up.replace(Some(instance.leader.clone()));
                facts.extend(stopped.detail);
            }
            end.receipts = stopped.receipts;
        }
        end.detail = Some(facts.join(", "));
        self.down(end);
    }

    /// True where it goes on under another leader.
    async fn follow(&self, instance: &Instance) -> bool {
        let act = self.act();
        let service = &act.table.services[self.index];
        if instance.frozen || !observe::may_be_followed(service) {
            return false;
        }
        let traces = Traces::of(instance, &act.place);
        let until = Instant::now() + SHORTAGE;
        let family = loop {
            match act.walker.family(traces.clone()).await {
                Ok(family) => break family,
                Err(_) if Instant::now() < until => reactor::sleep(SHORTAGE / 20).await,
                Err(_) => return false,
            }
        };
        let pids: Vec<i32> = family.iter().map(|stat| stat.pid).collect();
        if family.is_empty()
            || ready::is_healthy(act, service, &instance.token, &pids)
                .await
                .is_err()
        {
            return false;
        }
        let Some(leader) = observe::new_leader(&family, service.port) else {
            return false;
        };
        let family: Vec<Identity> = family.iter().map(Stat::identity).collect();
        let settled = start::settle(act, self.id(), instance, leader, &family).await;
        if settled == Ok(true) {
            act.event(
                EventKind::Followed,
                self.id(),
                Some(leader.pid),
                format!(
                    "its command (PID {}) went to the background",
                    instance.leader.pid
                ),
                &[],
            );
        }
        settled == Ok(true)
    }
}

fn leader_of(entry: Option<&Entry>) -> Option<&Claim> {
    entry
        .and_then(|entry| entry.instance.as_ref())
        .map(|instance| &instance.leader)
}
