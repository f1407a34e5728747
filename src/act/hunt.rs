//! Ending a family: the stop signal, the wait, SIGKILL, and the proof that nobody is left. The one
//! way in which pidctl ends processes, whether for `stop`, a failed start, a takeover or `free`.

use super::context::Act;
use super::gauge::Gauge;
use super::outcome::{Effect, Receipt};
use crate::config::{Schedule, StopScope};
use crate::events::EventKind;
use crate::family::census;
use crate::family::member::Members;
use crate::family::trace::{self, Traces};
use crate::reactor::{self, Either};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::signal::Signal;
use serde_json::json;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Whom to end and how.
pub struct Hunt {
    /// The service's id, or what stands for it.
    pub label: String,
    pub traces: Traces,
    /// Whom a first look has shown; more are looked for.
    pub first: Vec<Stat>,
    /// Gets the stop signal alone where the scope is `leader`.
    pub leader: Option<Identity>,
    pub schedule: Schedule,
    pub scope: StopScope,
    /// SIGKILL comes then at the latest.
    pub kill_at: Option<Instant>,
    /// No wait goes on past this.
    pub give_up_at: Option<Instant>,
    /// Its record tells that the family was frozen, should we not come to kill it.
    pub recorded: bool,
    /// Another command has sent the stop signal already; some programs take a second one as "now!".
    pub already_signalled: bool,
    pub why: &'static str,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Caught {
    /// Everybody that was found, dead or alive by now.
    pub members: Vec<(Identity, String)>,
    /// In the order they were first sent; what froze and thawed the family for the purpose is left
    /// out here and told in the receipts.
    pub signals: Vec<Signal>,
    pub receipts: Vec<Receipt>,
    pub killed: bool,
    /// Who lives still, each with its state. Empty is the proof that nobody does.
    pub survivors: Vec<String>,
    pub elapsed: Duration,
}

/// A process in uninterruptible sleep does not end; longer than this SIGKILL is not awaited.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Families that end faster than this need no walk but the last. Those that do not are looked through
/// once more, for whoever the children files did not show.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// A family that still grows after so many rounds of freezing is killed round by round.
const FREEZE_ROUNDS: usize = 25;

/// How often one is looked for that is gone whenever it is found.
const ELUSIVE_PAUSE: Duration = Duration::from_millis(5);
/// Such a one is raced for so long, PID by PID as they are given.
const RACE: Duration = Duration::from_millis(500);

enum End {
    Proven,
    TimeIsUp,
    Impatient,
    /// Nobody of those left may be signalled.
    Denied,
}

struct Chase<'a> {
    act: &'a Rc<Act>,
    hunt: &'a Hunt,
    gauge: Option<&'a Rc<Gauge>>,
    family: Members,
    /// Members that pidctl may not signal.
    denied: HashSet<usize>,
    caught: Caught,
    /// What was wrong with looking or holding; without a proof nothing is said to be stopped.
    trouble: Option<String>,
}

/// Ends the family. Woken by every exit itself; nothing polls.
pub async fn end(act: &Rc<Act>, hunt: Hunt) -> Caught {
    end_measured(act, hunt, None).await
}

/// The same; what happens is written down with its times.
pub async fn end_measured(act: &Rc<Act>, hunt: Hunt, gauge: Option<&Rc<Gauge>>) -> Caught {
    let began = Instant::now();
    let _hunter = act.walker.hunter();
    let mut chase = Chase {
        act,
        hunt: &hunt,
        gauge,
        family: Members::default(),
        denied: HashSet::new(),
        caught: Caught::default(),
        trouble: None,
    };
    chase.hold(&hunt.first);
    if chase.family.is_empty() {
        chase.look().await;
    }
    chase.follow_schedule().await;
    let mut caught = chase.finish();
    caught.elapsed = began.elapsed();
    caught
}

impl Chase<'_> {
    async fn follow_schedule(&mut self) {
        for (step, &(signal, wait)) in self.hunt.schedule.steps.iter().enumerate() {
            if self.act.interrupts() >= self.act.patience.get() {
                break;
            }
            if !(self.hunt.already_signalled && step == 0) {
                let targets = self.targets();
                self.send(signal, &targets);
            }
            let until = self.capped(Instant::now() + wait);
            let what = format!("{signal} sent");
            let _shown = self
                .act
                .show(&self.hunt.label, what, Some(until), "SIGKILL");
            match self.outlast(signal, until).await {
                End::Proven => return,
                End::TimeIsUp => {}
                End::Impatient => break,
                End::Denied => return,
            }
        }
        if self.family.living().next().is_some() || self.family.is_elusive() {
            Box::pin(self.kill()).await;
        } else {
            self.prove().await;
        }
    }

    fn capped(&self, until: Instant) -> Instant {
        self.hunt
            .kill_at
            .map_or(until, |kill_at| until.min(kill_at))
    }

    /// Who gets the stop signal.
    fn targets(&self) -> Vec<usize> {
        let alone = match (self.hunt.scope, self.hunt.leader) {
            (StopScope::Leader, Some(leader)) => Some(leader),
            _ => None,
        };
        self.family
            .living()
            .filter(|(_, member)| alone.is_none_or(|leader| member.identity == leader))
            .map(|(number, _)| number)
            .collect()
    }

    /// Waits until everybody has ended, and looks who else there is.
    async fn outlast(&mut self, signal: Signal, until: Instant) -> End {
        let mut looked = false;
        let second_look = Instant::now() + SECOND_LOOK;
        loop {
            if !self.denied.is_empty()
                && self
                    .family
                    .living()
                    .all(|(number, _)| self.denied.contains(&number))
                && self.family.living().next().is_some()
            {
                return End::Denied;
            }
            let wake = if looked {
                until
            } else {
                until.min(second_look)
            };
            let work = reactor::by(wake, self.family.all_ended());
            match reactor::race(work, self.act.impatience()).await {
                Either::Second(()) => return End::Impatient,
                Either::First(Some(Err(error))) => {
                    self.trouble = Some(format!("its end cannot be awaited: {error}"));
                    return End::TimeIsUp;
                }
                Either::First(Some(Ok(()))) => {
                    let new = self.look().await;
                    let elusive = self.family.is_elusive();
                    if self.trouble.is_none() && !elusive && self.family.living().next().is_none() {
                        return End::Proven;
                    }
                    if elusive {
                        if Instant::now() >= until {
                            return End::TimeIsUp;
                        }
                        // It forks and exits faster than it can be held; the kill catches it.
                        reactor::sleep(ELUSIVE_PAUSE).await;
                    }
                    self.send_to_new(signal, &new);
                    if self.trouble.is_some() {
                        return End::TimeIsUp;
                    }
                }
                Either::First(None) if Instant::now() >= until => return End::TimeIsUp,
                Either::First(None) => {
                    looked = true;
                    let new = self.look().await;
                    self.send_to_new(signal, &new);
                }
            }
        }
    }

    fn send_to_new(&mut self, signal: Signal, new: &[usize]) {
        if self.hunt.scope == StopScope::Family || self.hunt.leader.is_none() {
            self.send(signal, new);
        }
    }

    /// Freezes the family until a walk finds nobody new, so that nobody forks away, and kills it.
    async fn kill(&mut self) {
        let _shown = self.act.show(&self.hunt.label, "SIGKILL sent", None, "");
        let living: Vec<String> = self
            .family
            .living()
            .map(|(_, member)| format!("{} ({})", member.identity.pid, member.comm))
            .collect();
        let why = if self.act.interrupts() >= self.act.patience.get() {
            "asked to hurry"
        } else if self.hunt.schedule.steps.is_empty() {
            "asked for"
        } else {
            "still there when its time was up"
        };
        self.act.event(
            EventKind::Escalation,
            &self.hunt.label,
            self.hunt.leader.map(|leader| leader.pid),
            why,
            &[("processes", json!(living))],
        );
        if let Some(gauge) = self.gauge {
            let left = self.family.living().map(|(_, member)| member.identity);
            gauge.time_is_up(left.collect());
        }
        Box::pin(self.freeze()).await;
        self.caught.killed = true;
        let targets: Vec<usize> = self.family.living().map(|(number, _)| number).collect();
        self.send(Signal::KILL, &targets);
        let until = Instant::now() + KILL_PATIENCE;
        let until = self.hunt.give_up_at.map_or(until, |end| until.min(end));
        loop {
            let ended = reactor::by(until, self.killed_ended()).await;
            let new = self.look().await;
            let new: Vec<usize> = new
                .into_iter()
                .filter(|&number| !self.family.get(number).pidfd.has_ended())
                .collect();
            if self.family.is_elusive() && Instant::now() < until {
                self.race();
                continue;
            }
            if new.is_empty() || ended.is_none() {
                if self.family.is_elusive() {
                    self.trouble = Some(
                        "processes that fork and exit faster than they can be held".to_string(),
                    );
                }
                return;
            }
            self.send(Signal::KILL, &new);
        }
    }

    /// Catches who forks and exits faster than a walk: looks at each PID as it is given, and kills at
    /// once who bears the family's traces.
    fn race(&mut self) {
        let until = Instant::now() + RACE;
        // Sessions that pidctl or a member made; nobody else can be in them.
        let made = self.family.all().map(|member| member.identity.pid);
        let sessions: HashSet<i32> = made.chain(self.hunt.traces.session).collect();
        let Ok((_, mut last)) = census::newborn(0) else {
            return;
        };
        while Instant::now() < until {
            let Ok((pids, now)) = census::newborn(last) else {
                return;
            };
            last = now;
            for pid in pids {
                let Ok(Some((pidfd, stat))) = Pidfd::open(pid) else {
                    continue;
                };
                let is_family = self.hunt.traces.token.as_ref().is_some_and(|token| {
                    trace::token_of(pid, &mut Vec::new())
                        .is_ok_and(|found| found.is_some_and(|found| found.token == *token))
                }) || (sessions.contains(&stat.session) && self.owns(stat.session));
                if is_family
                    && pid != self.act.me.pid
                    && matches!(pidfd.send(Signal::KILL), Ok(true))
                {
                    let hit = self.family.add(pidfd, stat);
                    self.note_receipt(Signal::KILL, hit, Effect::Sent);
                    if !self.caught.signals.contains(&Signal::KILL) {
                        self.caught.signals.push(Signal::KILL);
                    }
                    return;
                }
            }
        }
    }

    /// Is the session of that number the family's still? While somebody is in it the number is nobody
    /// else's, but a member that has gone may have left it to a stranger that made a session of its own.
    fn owns(&self, session: i32) -> bool {
        match proc::stat(session) {
            Ok(stat) => {
                let identity = stat.identity();
                self.hunt.traces.known.contains(&identity)
                    || self.family.all().any(|member| member.identity == identity)
            }
            Err(error) => proc::is_gone(&error),
        }
    }

    /// Until everybody has ended that could be killed.
    async fn killed_ended(&self) {
        for (_, member) in self
            .family
            .living()
            .filter(|(number, _)| !self.denied.contains(number))
        {
            if reactor::readable(&member.pidfd).await.is_err() {
                return;
            }
        }
    }

    async fn freeze(&mut self) {
        if self.hunt.recorded
            && let Ok(journal) = self.act.journal()
        {
            let id = self.hunt.label.clone();
            // If it cannot be written, the family is killed all the same.
            let _ = journal
                .update(move |transaction| {
                    if let Some(instance) = transaction
                        .ledger
                        .entries
                        .get_mut(&id)
                        .and_then(|entry| entry.instance.as_mut())
                    {
                        instance.frozen = true;
                    }
                })
                .await;
        }
        for _ in 0..FREEZE_ROUNDS {
            let targets: Vec<usize> = self.family.living().map(|(number, _)| number).collect();
            self.freeze_those(&targets);
            let new = self.look().await;
            let moving = self.family.living().any(|(number, member)| {
                !self.denied.contains(&number)
                    && proc::stat(member.identity.pid).is_ok_and(|stat| {
                        stat.identity() == member.identity && matches!(stat.state, b'R' | b'S')
                    })
            });
            if new.is_empty() && !moving {
                return;
            }
        }
    }

    fn freeze_those(&mut self, targets: &[usize]) {
        for &number in targets {
            let already = self.caught.receipts.iter().any(|receipt| {
                receipt.signal == Signal::STOP
                    && receipt.pid == self.family.get(number).identity.pid
            });
            if !already {
                self.send_one(Signal::STOP, number);
            }
        }
    }

    /// The last walk of a family of which everybody has ended.
    async fn prove(&mut self) {
        let new = self.look().await;
        if new
            .iter()
            .any(|&number| !self.family.get(number).pidfd.has_ended())
        {
            // Found after the schedule's end.
            Box::pin(self.kill()).await;
        }
    }

    /// One walk; gives the numbers of those who were not known.
    async fn look(&mut self) -> Vec<usize> {
        // This walk sees more than an earlier one that failed.
        self.trouble = None;
        let mut traces = self.hunt.traces.clone();
        traces.known.extend(self.family.identities());
        match self.act.walker.family(traces).await {
            Ok(found) => self.hold(&found),
            Err(why) => {
                self.trouble = Some(why);
                Vec::new()
            }
        }
    }

    fn hold(&mut self, found: &[Stat]) -> Vec<usize> {
        let held = self.family.hold(found);
        if let Some(gauge) = self.gauge {
            gauge.watch(self.family.identities());
        }
        match held {
            Ok(new) => new,
            Err(error) => {
                self.trouble = Some(format!("a process cannot be held: {error}"));
                Vec::new()
            }
        }
    }

    fn send(&mut self, signal: Signal, targets: &[usize]) {
        for &number in targets {
            self.send_one(signal, number);
            // A stopped process acts on nothing else before SIGCONT.
            if signal != Signal::KILL && signal != Signal::CONT && self.is_stopped(number) {
                self.send_one(Signal::CONT, number);
            }
        }
        if !targets.is_empty() && !self.caught.signals.contains(&signal) {
            self.caught.signals.push(signal);
        }
    }

    fn is_stopped(&self, number: usize) -> bool {
        let member = self.family.get(number);
        proc::stat(member.identity.pid)
            .is_ok_and(|stat| stat.identity() == member.identity && stat.is_stopped())
    }

    fn send_one(&mut self, signal: Signal, number: usize) {
        if let Some(gauge) = self.gauge {
            gauge.signalled();
        }
        let member = self.family.get(number);
        let result = match member.pidfd.send(signal) {
            Ok(true) => Effect::Sent,
            Ok(false) => Effect::Gone,
            Err(_) => {
                self.denied.insert(number);
                Effect::Denied
            }
        };
        self.note_receipt(signal, number, result);
    }

    fn note_receipt(&mut self, signal: Signal, number: usize, result: Effect) {
        let member = self.family.get(number);
        let (pid, start_time) = (member.identity.pid, member.identity.start_time);
        let command = member.comm.clone();
        if signal != Signal::STOP {
            let more = [
                ("signal", json!(signal.to_string())),
                ("command", json!(command)),
                ("start_time", json!(start_time)),
                ("result", json!(result)),
            ];
            self.act.event(
                EventKind::Signal,
                &self.hunt.label,
                Some(pid),
                self.hunt.why,
                &more,
            );
        }
        self.caught.receipts.push(Receipt {
            pid,
            start_time,
            command,
            signal,
            time: SystemTime::now(),
            result,
        });
    }

    fn finish(mut self) -> Caught {
        let living: HashSet<Identity> = self
            .family
            .living()
            .map(|(_, member)| member.identity)
            .collect();
        let mut last_of = HashSet::new();
        for receipt in self
            .caught
            .receipts
            .iter_mut()
            .rev()
            .filter(|receipt| receipt.result == Effect::Sent)
        {
            let identity = Identity {
                pid: receipt.pid,
                start_time: receipt.start_time,
            };
            // These end nobody: what ended it is the signal that they froze it for, or woke it for.
            let ends = !matches!(receipt.signal, Signal::STOP | Signal::CONT);
            let is_last = ends && last_of.insert(identity);
            receipt.result = if is_last && !living.contains(&identity) {
                Effect::Ended
            } else {
                Effect::Survived
            };
        }
        for (number, member) in self.family.living() {
            let state = match proc::stat(member.identity.pid) {
                Ok(stat) => state_name(&stat),
                Err(_) => "unknown",
            };
            let may_not = if self.denied.contains(&number) {
                ", pidctl may not signal it"
            } else {
                ""
            };
            self.caught.survivors.push(format!(
                "{} ({}, {state}{may_not})",
                member.identity.pid, member.comm
            ));
        }
        for member in self.family.all() {
            self.caught
                .members
                .push((member.identity, member.comm.clone()));
        }
        // Without a proof there may be others.
        self.caught.survivors.extend(self.trouble.take());
        self.caught
    }
}

/// A process's state in a word, as proc(5) has it.
pub fn state_name(stat: &Stat) -> &'static str {
    match stat.state {
        b'R' => "running",
        b'S' | b'I' => "sleeping",
        b'D' => "in uninterruptible sleep",
        b'T' | b't' => "stopped",
        b'Z' | b'X' | b'x' => "zombie",
        _ => "unknown",
    }
}
