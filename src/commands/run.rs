//! `pidctl run`: services in the foreground, with their logs, until they end or are to end.
//!
//! Whatever ends the run (a signal, a failure with `--exit-on-failure`, nobody reading the output any
//! more), nothing of it stays.

use super::{Session, start};
use crate::act::context::Act;
use crate::act::foreground::{End, Fate, Foreground, News};
use crate::act::outcome::{StartOutcome, Started, StopOutcome, Stopped};
use crate::act::stop::{self, Targets};
use crate::config::Takeover;
use crate::exit_code::ExitCode;
use crate::reactor::{self, Either, Watch};
use crate::report::foreground as report;
use crate::report::screen::Screen;
use crate::report::{Style, harmless, json, results};
use std::rc::Rc;

pub fn run(session: &Session, words: &[String], exit_on_failure: bool) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let order = start::order(&table, words, false)?;
    let act = session.act(&table, true, !session.inherited.hangup_ignored)?;
    // The first signal stops everything, the second kills.
    act.patience.set(2);
    let style = session.style;
    let screen = Screen::open(&act, &style, &order)?;
    let shared = act.clone();
    Ok(super::block_on(&act, 3, async move {
        let mut run = Run::begin(shared, style, order, screen);
        run.attend(exit_on_failure).await;
        run.stop().await;
        run.finish().await
    }))
}

struct Run {
    act: Rc<Act>,
    style: Style,
    order: Vec<usize>,
    width: usize,
    screen: Rc<Screen>,
    foreground: Rc<Foreground>,
    /// Known when every start has come to its end.
    started: Rc<Watch<Option<Vec<Started>>>>,
    ended_by_themselves: bool,
    stopped: Vec<Stopped>,
}

impl Run {
    /// Starts the services; each is attended as soon as it is up.
    fn begin(act: Rc<Act>, style: Style, order: Vec<usize>, screen: Rc<Screen>) -> Run {
        let ids = order
            .iter()
            .map(|&index| act.table.services[index].id.as_str());
        // What a log line says begins behind its prefix and ` | `: so does what is said here.
        let width = results::width(ids) + usize::from(order.len() > 1);
        let (shared, shown) = (act.clone(), screen.clone());
        let foreground = Foreground::new(&act, &order, move |index, news| {
            let id = &shared.table.services[index].id;
            if let Some(line) = report::news(&style, id, width, &news) {
                shown.say(&line);
            }
        });
        let run = Run {
            started: Watch::new(None),
            ended_by_themselves: false,
            stopped: Vec::new(),
            act,
            style,
            order,
            width,
            screen,
            foreground,
        };
        let told = run.on_start();
        let (act, order, started) = (run.act.clone(), run.order.clone(), run.started.clone());
        reactor::spawn(async move {
            let all = crate::act::start::start(&act, &order, &Default::default(), told).await;
            started.change(|started| *started = Some(all));
        });
        run
    }

    fn on_start(&self) -> impl Fn(&Started) + use<> {
        let (act, style, width) = (self.act.clone(), self.style, self.width);
        let (screen, foreground) = (self.screen.clone(), self.foreground.clone());
        move |started| {
            let found = act
                .table
                .services
                .iter()
                .position(|service| service.id == started.id);
            let Some(index) = found else { return };
            // A start that the end of the run has cut short is no failure.
            let cut_short = act.interrupts() > 0 || foreground.is_dismissed();
            for note in &started.notes {
                screen.warn(&format!("{}: {}", started.id, harmless(note)));
            }
            if let Some(pid) = started.pid.filter(|_| started.is_up()) {
                foreground.attend(index, pid);
            } else {
                let end = End {
                    failed: !(started.cancelled || cut_short),
                    elsewhere: started.cancelled,
                    detail: started.detail.clone(),
                    ..End::default()
                };
                if started.cancelled && !cut_short {
                    foreground.tell(index, News::Down(&end));
                }
                foreground.settle(index, Fate::Down(end));
            }
            let line = match started.outcome {
                _ if started.is_up() || !(cut_short || started.cancelled) => {
                    results::started_line(&style, started, width)
                }
                StartOutcome::Failed if cut_short => report::cut_short(&style, &started.id, width),
                _ => None,
            };
            if let Some(line) = line {
                screen.say(&line);
            }
        }
    }

    /// Until the run is to end.
    async fn attend(&mut self, exit_on_failure: bool) {
        let all_started = self
            .started
            .until(|started| started.is_some().then_some(()));
        let all_ended = async {
            all_started.await;
            self.foreground.all_down().await;
        };
        let failure = async {
            match exit_on_failure {
                true => self.foreground.failure().await,
                false => std::future::pending().await,
            }
        };
        let asked = reactor::race(self.act.interrupted(), self.screen.reader_gone());
        let ended = reactor::race(failure, all_ended);
        let why = match reactor::race(asked, ended).await {
            Either::First(Either::First(())) => {
                self.screen.start_over();
                "stopping all (another Ctrl-C or SIGTERM kills at once)"
            }
            Either::First(Either::Second(())) => {
                crate::report::warn("nobody reads the output any more: stopping");
                return;
            }
            Either::Second(Either::First(())) => "one has failed: stopping the rest",
            Either::Second(Either::Second(())) => {
                self.ended_by_themselves = true;
                return;
            }
        };
        if !self.style.quiet {
            self.screen.warn(why);
        }
    }

    /// Nothing stays: dependents first, as `stop` does it. Starts that are under way are cancelled by
    /// it; an interrupted one has to undo itself first.
    async fn stop(&mut self) {
        let all_started = || {
            self.started
                .until(|started| started.is_some().then_some(()))
        };
        if self.act.interrupts() > 0 {
            all_started().await;
        }
        self.foreground.dismiss().await;
        if !self.ended_by_themselves {
            let targets = Targets {
                indices: self.order.clone(),
                gone: Vec::new(),
            };
            let options = stop::Options {
                takeover: Some(Takeover::Never),
                ..Default::default()
            };
            let (screen, style, width) = (self.screen.clone(), self.style, self.width);
            let stopped = stop::stop(&self.act, &targets, &options, move |stopped| {
                for note in &stopped.notes {
                    screen.warn(&format!("{}: {}", stopped.id, harmless(note)));
                }
                if stopped.outcome != StopOutcome::NotRunning {
                    for line in results::stopped_lines(&style, stopped, width) {
                        screen.say(&line);
                    }
                }
            });
            self.stopped = stopped.await;
        }
        all_started().await;
    }

    /// Says who failed.
    async fn finish(self) -> ExitCode {
        self.screen.finish().await;
        let started = self.started.change(Option::take).unwrap_or_default();
        let rows: Vec<report::Row> = self
            .order
            .iter()
            .map(|&index| {
                let id = &self.act.table.services[index].id;
                let fate = self
                    .foreground
                    .fates
                    .see(|fates| fates.get(&index).cloned())
                    .unwrap_or(Fate::Pending);
                report::Row::new(
                    id,
                    &fate,
                    started.iter().find(|started| started.id == *id),
                    self.stopped.iter().find(|stopped| stopped.id == *id),
                )
            })
            .collect();
        if self.style.json {
            let mut in_table: Vec<(usize, &report::Row)> =
                self.order.iter().copied().zip(&rows).collect();
            in_table.sort_by_key(|(index, _)| *index);
            let services: Vec<&report::Row> = in_table.into_iter().map(|(_, row)| row).collect();
            json::print(&json::Services {
                services: &services,
            });
        }
        let failed: Vec<String> = rows
            .iter()
            .filter(|row| row.has_failed())
            .map(report::Row::failure)
            .collect();
        if failed.is_empty() {
            return ExitCode::Done;
        }
        crate::report::warn(&format!("failed: {}", failed.join("; ")));
        ExitCode::Failed
    }
}
