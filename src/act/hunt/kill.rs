//! SIGKILL: the family is frozen first, so that nobody forks away, and who forks and exits faster than a
//! walk is raced for.

use super::Chase;
use crate::act::outcome::Effect;
use crate::events::EventKind;
use crate::family::{census, trace};
use crate::reactor;
use crate::sys::pidfd::Pidfd;
use crate::sys::proc;
use crate::sys::signal::Signal;
use serde_json::json;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A process in uninterruptible sleep does not end; longer than this SIGKILL is not awaited.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// A family that still grows after so many rounds of freezing is killed round by round.
const FREEZE_ROUNDS: usize = 25;
/// Who is gone whenever a walk finds it is raced for so long, PID by PID as they are given. Nobody else's
/// story goes on meanwhile.
const RACE: Duration = Duration::from_millis(100);

impl Chase<'_> {
    /// Freezes the family until a walk finds nobody new, so that nobody forks away, and kills it.
    pub(super) async fn kill(&mut self) {
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
        if !living.is_empty() {
            self.act.event(
                EventKind::Escalation,
                &self.hunt.label,
                self.hunt.leader.map(|leader| leader.pid),
                why,
                &[("processes", json!(living))],
            );
        }
        if let Some(gauge) = self.gauge {
            let left = self.family.living().map(|(_, member)| member.identity);
            gauge.time_is_up(left.collect());
        }
        Box::pin(self.freeze()).await;
        let targets: Vec<usize> = self.family.living().map(|(number, _)| number).collect();
        self.send(Signal::KILL, &targets);
        let until = Instant::now() + KILL_PATIENCE;
        let until = self.hunt.give_up_at.map_or(until, |end| until.min(end));
        let mut fled_before = false;
        loop {
            let ended = reactor::by(until, self.killed_ended()).await;
            let new = self.look().await;
            let is_living = |number: &usize| !self.family.get(*number).pidfd.has_ended();
            let living: Vec<usize> = new.iter().copied().filter(is_living).collect();
            self.send(Signal::KILL, &living);
            // Who was found and has ended by now may have left a successor.
            let fled = self.family.is_elusive() || living.len() < new.len();
            if new.is_empty() && !fled {
                return;
            }
            if ended.is_none() || Instant::now() >= until {
                let why = "processes that fork and exit faster than they can be held";
                self.trouble = Some(why.to_string());
                return;
            }
            if fled && fled_before {
                self.race();
            }
            fled_before = fled;
        }
    }

    /// Catches who forks and exits faster than a walk: looks at each PID as it is given, and kills at
    /// once who bears the family's traces.
    fn race(&mut self) {
        let until = Instant::now() + RACE;
        // Sessions that pidctl or a member made; nobody else can be in them.
        let made = self.family.all().map(|member| member.identity.pid);
        let sessions: HashSet<i32> = made.chain(self.hunt.traces.session).collect();
        let log = self.hunt.traces.log;
        let logs: HashSet<(u64, u64)> = log.map(|log| log.file).into_iter().collect();
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
                let token = trace::token_of(pid, &mut Vec::new()).ok().flatten();
                let is_family = match (token, log) {
                    (Some(found), _) => self.hunt.traces.token.as_ref() == Some(&found.token),
                    (None, Some(log)) => {
                        trace::log_locks_of(pid, &logs).is_ok_and(|locks| locks.contains(&log.lock))
                    }
                    (None, None) => false,
                } || (sessions.contains(&stat.session) && self.owns(stat.session));
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
                        Rc::make_mut(instance).frozen = true;
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
            if new.is_empty() && !moving && !self.family.is_elusive() {
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
}
