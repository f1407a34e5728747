//! From the dependencies to the ready service: `prepare`, and as many attempts as it may take.

use super::Story;
use super::records::last_lines;
use crate::act::launch::{self, Attempt, NotRun};
use crate::act::outcome::{StartOutcome, Started};
use crate::act::ready::{Awaited, Verdict};
use crate::environment::Environment;
use crate::events::EventKind;
use crate::logs;
use crate::reactor::{self, Permit};
use crate::state::record::Phase;
use crate::sys::boot;
use crate::sys::proc::Stat;
use crate::sys::wait;
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between attempts; doubled each time, up to the last.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

impl Story {
    pub(super) async fn bring_up(&self, leftovers: Vec<Stat>, stale: Option<String>) -> Started {
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
    pub(super) async fn launch(&self, permit: Permit) -> Started {
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

    /// Runs `prepare` where one is due. `Err` is the outcome of a start that ends here.
    pub(super) async fn prepare(
        &self,
        environment: &Environment,
        token: &str,
    ) -> Result<(), Started> {
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
        let unwanted = reactor::race(self.act.interrupted(), self.act.claim_lost(self.id()));
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

    pub(super) async fn attempts(
        &self,
        environment: &Environment,
        token: &str,
        permit: Permit,
    ) -> Started {
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
                    if !self.settle(&instance, leader, &awaited.strays()).await {
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
                        let woken =
                            reactor::race(self.act.interrupted(), self.act.claim_lost(self.id()));
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
            let log_lines = last_lines(&instance);
            let started = Box::pin(self.give_up(why, attempt_number, None)).await;
            return Started {
                log_lines,
                ..started
            };
        }
    }

    /// Ends an attempt that came to nothing, with all that it started.
    pub(super) async fn undo(&self, awaited: &Awaited<'_>) -> Result<(), String> {
        let mut traces = awaited.traces();
        traces.known.extend(awaited.strays());
        self.end_instance(awaited.instance, traces).await
    }
}
