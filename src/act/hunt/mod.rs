//! Ending a family: the stop signal, the wait, SIGKILL, and the proof that nobody is left. The one
//! way in which pidctl ends processes, whether for `stop`, a failed start, a takeover or `free`.

mod kill;
mod signals;

use super::context::Act;
use super::gauge::Gauge;
use super::outcome::Receipt;
use crate::config::{Schedule, StopScope};
use crate::family::member::Members;
use crate::family::trace::Traces;
use crate::reactor::{self, Either};
use crate::sys::proc::{Identity, Stat};
use crate::sys::signal::Signal;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

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

/// Families that end faster than this need no walk but the last. Those that do not are looked through
/// once more, for whoever the children files did not show.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// For each family that is ended at the same time: a thousand take longer.
const SECOND_LOOK_EACH: Duration = Duration::from_micros(150);
/// How often one is looked for that is gone whenever it is found.
const ELUSIVE_PAUSE: Duration = Duration::from_millis(5);

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

/// Ends the family. Woken by every exit itself; nothing polls. Borrowed: a future keeps what it is given
/// twice.
pub async fn end(act: &Rc<Act>, hunt: &mut Hunt) -> Caught {
    end_measured(act, hunt, None).await
}

/// The same; what happens is written down with its times.
pub async fn end_measured(act: &Rc<Act>, hunt: &mut Hunt, gauge: Option<&Rc<Gauge>>) -> Caught {
    let began = Instant::now();
    let _hunter = act.walker.hunter();
    let first = std::mem::take(&mut hunt.first);
    let mut chase = Chase {
        act,
        hunt,
        gauge,
        family: Members::default(),
        denied: HashSet::new(),
        caught: Caught::default(),
        trouble: None,
    };
    chase.hold(&first);
    drop(first);
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
        let second_look =
            Instant::now() + SECOND_LOOK + SECOND_LOOK_EACH * self.act.walker.hunted();
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
                    let ended = self.family.living().next().is_none();
                    // Who was found and has ended by now may have left a successor.
                    if self.trouble.is_none() && !elusive && new.is_empty() && ended {
                        return End::Proven;
                    }
                    if (elusive || ended) && Instant::now() >= until {
                        return End::TimeIsUp;
                    }
                    if elusive {
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
                    self.wake_stopped();
                }
            }
        }
    }

    fn send_to_new(&mut self, signal: Signal, new: &[usize]) {
        if self.hunt.scope == StopScope::Family || self.hunt.leader.is_none() {
            self.send(signal, new);
        }
    }

    /// The last walk of a family of which everybody has ended.
    async fn prove(&mut self) {
        let new = self.look().await;
        if !new.is_empty() || self.family.is_elusive() {
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
}
