//! `pidctl stop`: end services with all their processes, and prove that nobody is left.

use super::Session;
use crate::act::context::Act;
use crate::act::outcome::{StopOutcome, Stopped};
use crate::act::port::{self, Judged};
use crate::act::stop::{self, Options, Targets};
use crate::config::{Service, Takeover};
use crate::exit_code::ExitCode;
use crate::observe::{self, Scene};
use crate::plan::{self, StopStep};
use crate::report::forecast::Forecast;
use crate::report::live::Display;
use crate::report::{Style, harmless, json, results};
use crate::selection;
use crate::sys::proc::Stat;
use std::rc::Rc;

pub struct Request {
    pub words: Vec<String>,
    pub dry_run: bool,
    pub options: Options,
}

pub fn run(session: &Session, request: &Request) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let act = session.act(&table, false, false)?;
    let (indices, gone) = super::select(&table, act.folder.as_deref(), &request.words)?;
    let targets = Targets { indices, gone };
    let style = session.style;
    if request.dry_run {
        let (stopped, code) = foresee(&act, &style, &targets, &request.options);
        if style.json {
            json::print(&json::Services { services: &stopped });
        }
        return Ok(code);
    }
    act.patience.set(1);
    let shared = act.clone();
    let options = request.options.clone();
    Ok(super::block_on(&act, 2, async move {
        let (stopped, code) = take_down(&shared, &style, &targets, &options).await;
        if style.json {
            json::print(&json::Services { services: &stopped });
        }
        code
    }))
}

/// Stops and reports; the JSON is left to the caller.
pub async fn take_down(
    act: &Rc<Act>,
    style: &Style,
    targets: &Targets,
    options: &Options,
) -> (Vec<Stopped>, ExitCode) {
    tell_dependents(act, targets);
    let display = Display::start(act, style);
    let width = results::width(
        targets.gone.iter().map(String::as_str).chain(
            targets
                .indices
                .iter()
                .map(|&index| act.table.services[index].id.as_str()),
        ),
    );
    let style = *style;
    let cleared = display.clone();
    let stopped = stop::stop(act, targets, options, move |stopped| {
        cleared.clear();
        results::stopped(&style, stopped, width);
    });
    let stopped = stopped.await;
    display.clear();
    let code = ExitCode::of_stops(&stopped);
    (stopped, code)
}

/// Running services that depend on what is stopped are told, not touched.
fn tell_dependents(act: &Act, targets: &Targets) {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    for (dependent, dependency) in selection::dependents_outside(&act.table, &targets.indices) {
        let is_running = |id: &str| {
            let instance = scene
                .ledger
                .entries
                .get(id)
                .and_then(|entry| entry.instance.as_ref());
            instance.is_some_and(|instance| {
                matches!(
                    crate::family::verdict::of_leader(instance, &act.place),
                    crate::family::verdict::Verdict::Ours(_)
                )
            })
        };
        let needed = &act.table.services[dependency].id;
        if is_running(&dependent.id) && is_running(needed) {
            crate::report::warn(&format!(
                "{} is running and depends on {needed}",
                dependent.id
            ));
        }
    }
}

/// `--dry-run`: every process of each family, in the order they would be signalled; the JSON is left to
/// the caller.
pub fn foresee(
    act: &Rc<Act>,
    style: &Style,
    targets: &Targets,
    options: &Options,
) -> (Vec<Stopped>, ExitCode) {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let mut foreseen = Vec::new();
    // Dependents come first.
    let mut order = selection::with_dependencies(&act.table, &targets.indices);
    order.retain(|index| targets.indices.contains(index));
    order.reverse();
    let ids = order
        .iter()
        .map(|&index| act.table.services[index].id.as_str());
    let width = results::width(ids.chain(targets.gone.iter().map(String::as_str)));
    let listed = order.into_iter().map(|index| {
        (
            act.table.services[index].id.clone(),
            Some(&act.table.services[index]),
        )
    });
    for (id, service) in listed.chain(targets.gone.iter().map(|id| (id.clone(), None))) {
        let observation = scene.observe(&id, service);
        let schedule = options.schedule(service, observation.instance());
        let mut stopped = match plan::stop(&observation) {
            StopStep::Fail(why) => Stopped::failed(&id, None, why),
            StopStep::NotRunning => Stopped::new(&id, StopOutcome::NotRunning, None),
            StopStep::NotOurs(table) => Stopped {
                detail: Some(observe::elsewhere(&table)),
                ..Stopped::new(&id, StopOutcome::NotRunning, None)
            },
            StopStep::RemoveStale(why) => Stopped {
                detail: Some(why),
                ..Stopped::new(&id, StopOutcome::StaleRemoved, None)
            },
            StopStep::End { leader, first } => {
                let family = match scene.family(&id) {
                    Ok(family) if !family.is_empty() => family,
                    _ => leader.map_or(first, observe::by_ancestry),
                };
                let forecast = Forecast {
                    schedule: &schedule,
                    deadline: options.deadline,
                };
                foretold(
                    style,
                    (&id, width),
                    leader.map(|leader| leader.pid),
                    &family,
                    &forecast,
                )
            }
        };
        if stopped.processes == 0
            && stopped.outcome != StopOutcome::Failed
            && let Some(service) = service
        {
            let forecast = Forecast {
                schedule: &schedule,
                deadline: options.deadline,
            };
            let which = options.takeover.unwrap_or(service.takeover);
            if let Some(stray) = foretold_on_port(act, style, (service, width), which, &forecast) {
                stopped = stray;
            }
        }
        if !style.json && stopped.processes == 0 {
            let word = match stopped.outcome {
                StopOutcome::Failed => "would fail",
                StopOutcome::StaleRemoved => "stale PID file would be removed",
                _ => "not running",
            };
            let why = stopped.detail.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {}", harmless(why)));
            crate::report::say(&format!("{id:width$}  {word}{why}"));
        }
        foreseen.push(stopped);
    }
    let code = ExitCode::of_stops(&foreseen);
    (foreseen, code)
}

/// The holder of the port of a service that does not run, where it would be stopped too.
fn foretold_on_port(
    act: &Act,
    style: &Style,
    (service, width): (&Service, usize),
    which: Takeover,
    forecast: &Forecast<'_>,
) -> Option<Stopped> {
    let port = service.port?;
    let (roots, named) = match port::judge(act, service, port, which) {
        Ok(Judged::Free) => return None,
        Err(why) | Ok(Judged::Refused(why) | Judged::Unseen(why)) => {
            crate::report::warn(&format!("{}: {why}", service.id));
            return None;
        }
        Ok(Judged::Stoppable { roots, named }) => (roots, named),
    };
    let family: Vec<Stat> = roots
        .iter()
        .flat_map(|root| observe::by_ancestry(root.identity()))
        .collect();
    let pid = roots.first().map(|root| root.pid);
    let stray = foretold(style, (&service.id, width), pid, &family, forecast);
    let why = format!("port {port} is held by {named}: would be stopped too");
    if !style.json {
        crate::report::say(&format!("    {why}"));
    }
    Some(Stopped {
        detail: Some(why),
        ..stray
    })
}

fn foretold(
    style: &Style,
    (id, width): (&str, usize),
    pid: Option<i32>,
    family: &[Stat],
    forecast: &Forecast<'_>,
) -> Stopped {
    let steps = &forecast.schedule.steps;
    let taken: Option<Vec<usize>> = family
        .iter()
        .map(|stat| forecast.signals(stat.pid))
        .collect();
    let stubborn = taken.is_none() || steps.is_empty();
    let sent = taken.map_or(steps.len(), |taken| taken.into_iter().max().unwrap_or(0));
    if !style.json {
        let count = match family.len() {
            1 => "1 process".to_string(),
            count => format!("{count} processes"),
        };
        crate::report::say(&format!("{id:width$}  would be stopped: {count}"));
        for stat in family {
            crate::report::say(&forecast.process(stat));
        }
    }
    Stopped {
        processes: family.len(),
        members: family
            .iter()
            .map(|stat| (stat.identity(), stat.comm.clone()))
            .collect(),
        signals: steps[..sent]
            .iter()
            .map(|(signal, _)| *signal)
            .chain(stubborn.then_some(crate::sys::signal::Signal::KILL))
            .collect(),
        ..Stopped::new(
            id,
            if stubborn {
                StopOutcome::Killed
            } else {
                StopOutcome::Stopped
            },
            pid,
        )
    }
}
