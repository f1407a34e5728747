//! `pidctl drill`: rehearse the shutdown. Services are started, stopped in stop order, and judged; in
//! the end each is left as it was found, also when the drill is interrupted.

use super::{Session, start};
use crate::act::context::Act;
use crate::act::drill;
use crate::act::outcome::{StartOutcome, Started};
use crate::act::stop::{self, Targets};
use crate::config::Takeover;
use crate::exit_code::ExitCode;
use crate::observe::{Found, Scene};
use crate::report::drill::{Row, Run};
use crate::report::live::Display;
use crate::report::{self, Style, junit};
use crate::selection;
use anyhow::Context;
use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

pub struct Request {
    pub words: Vec<String>,
    pub repeat: u32,
    /// Drill what runs.
    pub live: bool,
    pub junit: Option<PathBuf>,
}

pub fn run(session: &Session, request: &Request) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let order = start::order(&table, &request.words, false)?;
    let (chosen, _) = selection::select(&table, &request.words, &[])?;
    // Before anything is touched: a report that cannot be written is no surprise at the end.
    let junit = match &request.junit {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let act = session.act(&table, true, false)?;
    let style = session.style;
    let (running, refusals) = survey(&act, &order, &chosen, request.live);
    let mut drill = Drill {
        act: act.clone(),
        rows: chosen
            .iter()
            .map(|&index| Row::new(&act.table.services[index]))
            .collect(),
        order,
        chosen,
        running,
        interrupted: None,
        trouble: false,
    };
    let repeat = request.repeat;
    if !refusals.is_empty() {
        drill.refuse(&refusals);
        return Ok(drill.report(&style, junit));
    }
    Ok(super::block_on(&act, 3, async move {
        let display = Display::start(&drill.act, &style);
        for _ in 0..repeat {
            drill.round().await;
            if drill.interrupted.is_some() {
                break;
            }
        }
        drill.leave_as_found().await;
        display.clear();
        drill.report(&style, junit)
    }))
}

/// Which of `order` run, and why some of `chosen` may not be drilled.
fn survey(
    act: &Act,
    order: &[usize],
    chosen: &[usize],
    live: bool,
) -> (HashSet<usize>, Vec<(usize, String)>) {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let (mut running, mut refusals) = (HashSet::new(), Vec::new());
    for &index in order {
        let service = &act.table.services[index];
        let observation = scene.observe(&service.id, Some(service));
        let at_work = observation.starter_at_work || observation.stopper_at_work;
        let refusal = match observation.found {
            Found::Running { leader, .. } => {
                running.insert(index);
                let pid = leader.pid;
                (!live).then(|| {
                    format!("it is running, PID {pid} (--live drills it and starts it again)")
                })
            }
            Found::Orphaned(_) => Some("what is left of it is running: stop it first".to_string()),
            Found::Elsewhere(table) => {
                let table = table.display();
                Some(format!("it is recorded for another table: {table}"))
            }
            Found::Unknown(why) => Some(why),
            Found::Stopped | Found::Stale(_) => None,
        };
        let refusal = match at_work {
            true => Some("another command is starting or stopping it".to_string()),
            false => refusal,
        };
        refusals.extend(
            refusal
                .filter(|_| chosen.contains(&index))
                .map(|refusal| (index, refusal)),
        );
    }
    (running, refusals)
}

struct Drill {
    act: Rc<Act>,
    /// The chosen, and what they depend on; each after what it needs.
    order: Vec<usize>,
    chosen: Vec<usize>,
    /// What ran before the drill.
    running: HashSet<usize>,
    /// One for each of `chosen`.
    rows: Vec<Row>,
    interrupted: Option<ExitCode>,
    /// A service could not be left as it was found.
    trouble: bool,
}

impl Drill {
    /// Nothing is touched.
    fn refuse(&mut self, refusals: &[(usize, String)]) {
        let ids: Vec<&str> = refusals
            .iter()
            .map(|(index, _)| self.act.table.services[*index].id.as_str())
            .collect();
        for (&index, row) in self.chosen.iter().zip(&mut self.rows) {
            let own = refusals.iter().find(|(refused, _)| *refused == index);
            row.runs.push(Run::not_drilled(match own {
                Some((_, why)) => why.clone(),
                None => format!("not drilled, because of {}", ids.join(", ")),
            }));
        }
    }

    /// Everything up, then the chosen down, dependents first; what they depend on stays up till then.
    async fn round(&mut self) {
        let started = self.start(&self.order.clone()).await;
        self.note_interrupt();
        let up: Vec<usize> = self
            .chosen
            .iter()
            .copied()
            .filter(|&index| {
                self.find(&started, index).is_some_and(|started| {
                    started.outcome == StartOutcome::Started
                        || (started.is_up() && self.running.contains(&index))
                })
            })
            .collect();
        let drilled = match self.interrupted {
            Some(_) => Vec::new(),
            // The first interrupt from now on escalates.
            None => {
                self.act.patience.set(self.act.interrupts() + 1);
                drill::stop_measured(&self.act, &up).await
            }
        };
        self.note_interrupt();
        for (&index, row) in self.chosen.iter().zip(&mut self.rows) {
            let measured = drilled.iter().find(|(drilled, _)| *drilled == index);
            let id = &self.act.table.services[index].id;
            let started = started.iter().find(|started| started.id == *id);
            row.runs.push(match (measured, started) {
                _ if self.interrupted.is_some() => Run::not_drilled("interrupted".to_string()),
                (Some((_, drilled)), _) => Run::of(&self.act.table.services[index], drilled),
                (None, Some(started)) if started.is_up() => {
                    Run::not_drilled("another command started or stopped it meanwhile".to_string())
                }
                (None, started) => Run::not_drilled(format!(
                    "could not be started: {}",
                    started
                        .and_then(|started| started.detail.as_deref())
                        .unwrap_or("unknown")
                ))
                .with_log(started.map_or(&[][..], |started| &started.log_lines)),
            });
        }
    }

    async fn start(&self, order: &[usize]) -> Vec<Started> {
        self.act.patience.set(self.act.interrupts() + 2);
        let tell = |started: &Started| report::results::tell_notes(&started.id, &started.notes);
        crate::act::start::start(&self.act, order, &Default::default(), tell).await
    }

    fn find<'a>(&self, started: &'a [Started], index: usize) -> Option<&'a Started> {
        let id = &self.act.table.services[index].id;
        started.iter().find(|started| started.id == *id)
    }

    fn note_interrupt(&mut self) {
        let seen = self.act.interrupts.see(|seen| *seen);
        if seen.count > 0 && self.interrupted.is_none() {
            self.interrupted = Some(ExitCode::Interrupted(seen.exit_code()));
        }
    }

    /// What ran runs again, whatever else was started is stopped.
    async fn leave_as_found(&mut self) {
        let (was_up, was_down): (Vec<usize>, Vec<usize>) = self
            .order
            .iter()
            .partition(|&index| self.running.contains(index));
        if self.interrupted.is_some() {
            // What was interrupted is over; what follows may be interrupted in its turn.
            self.act.interrupts.change(|seen| seen.count = 0);
        }
        if !was_up.is_empty() {
            for started in self.start(&was_up).await {
                if !started.is_up() {
                    self.trouble = true;
                    let why = started.detail.unwrap_or_default();
                    report::warn(&format!("{}: NOT started again: {why}", started.id));
                }
            }
        }
        self.act.patience.set(self.act.interrupts() + 1);
        let options = stop::Options {
            takeover: Some(Takeover::Never),
            ..Default::default()
        };
        let targets = Targets {
            indices: was_down,
            gone: Vec::new(),
        };
        let stopped = stop::stop(&self.act, &targets, &options, |_| {}).await;
        if ExitCode::of_stops(&stopped) != ExitCode::Done {
            self.trouble = true;
            for stopped in stopped {
                if let Some(why) = stopped.detail {
                    report::warn(&format!("{}: {why}", stopped.id));
                }
            }
        }
        self.note_interrupt();
    }

    fn report(&self, style: &Style, junit: Option<File>) -> ExitCode {
        report::drill::print(style, &self.rows);
        let mut code = match self.trouble || self.rows.iter().any(|row| !row.passes()) {
            true => ExitCode::Failed,
            false => ExitCode::Done,
        };
        if let Some(mut file) = junit
            && let Err(error) = junit::write(&mut file, &self.rows)
        {
            report::warn(&format!("the JUnit report cannot be written: {error}"));
            code = ExitCode::Failed;
        }
        self.interrupted.unwrap_or(code)
    }
}
