//! `pidctl start`: bring services up, with what they depend on.

use super::{Session, restart};
use crate::act::context::Act;
use crate::act::outcome::{StartOutcome, Started, StopOutcome, Stopped};
use crate::act::port::{self, Judged};
use crate::act::start::{self, Options};
use crate::config::{Table, Takeover};
use crate::exit_code::ExitCode;
use crate::family::holders;
use crate::observe::Scene;
use crate::plan::{self, StartStep};
use crate::report::live::Display;
use crate::report::{Style, forecast, json, results};
use crate::selection;
use crate::sys::listeners::{PortSet, Protocol};
use std::rc::Rc;

pub struct Request {
    pub words: Vec<String>,
    pub no_deps: bool,
    pub dry_run: bool,
    pub options: Options,
}

pub fn run(session: &Session, request: &Request) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let order = order(&table, &request.words, request.no_deps)?;
    let style = session.style;
    let act = session.act(&table, !request.dry_run, false)?;
    if request.dry_run {
        let (started, code) = foresee(&act, &style, &order, request.options.takeover, &[]);
        if style.json {
            json::print(&json::Services { services: &started });
        }
        return Ok(code);
    }
    act.patience.set(2);
    let shared = act.clone();
    let options = request.options.clone();
    Ok(super::block_on(&act, 3, async move {
        let (started, code) = bring_up(&shared, &style, &order, &options).await;
        if style.json {
            json::print(&json::Services { services: &started });
        }
        code
    }))
}

/// The chosen services in the order they start.
pub fn order(
    table: &Table,
    words: &[String],
    no_deps: bool,
) -> Result<Vec<usize>, selection::Unknown> {
    let (chosen, _) = selection::select(table, words, &[])?;
    let order = selection::with_dependencies(table, &chosen);
    Ok(if no_deps {
        order
            .into_iter()
            .filter(|index| chosen.contains(index))
            .collect()
    } else {
        order
    })
}

/// Starts and reports; the JSON is left to the caller.
pub async fn bring_up(
    act: &Rc<Act>,
    style: &Style,
    order: &[usize],
    options: &Options,
) -> (Vec<Started>, ExitCode) {
    let display = Display::start(act, style);
    let width = results::width(
        order
            .iter()
            .map(|&index| act.table.services[index].id.as_str()),
    );
    let style = *style;
    let cleared = display.clone();
    let started = start::start(act, order, options, move |started| {
        cleared.clear();
        results::started(&style, started, width);
    });
    let started = started.await;
    display.clear();
    let code = match act.interrupts() {
        0 => ExitCode::of_starts(&started),
        _ => ExitCode::Interrupted(act.interrupts.see(|seen| seen.exit_code())),
    };
    (started, code)
}

/// `--dry-run`: the plan of each, and who holds its port; the JSON is left to the caller. `stopped`: what
/// `restart` would have stopped before.
pub fn foresee(
    act: &Rc<Act>,
    style: &Style,
    order: &[usize],
    takeover: Option<Takeover>,
    stopped: &[Stopped],
) -> (Vec<Started>, ExitCode) {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let width = results::width(
        order
            .iter()
            .map(|&index| act.table.services[index].id.as_str()),
    );
    let mut foreseen = Vec::new();
    for &index in order {
        let service = &act.table.services[index];
        let observation = scene.observe(&service.id, Some(service));
        let stop = stopped.iter().find(|stopped| stopped.id == service.id);
        let blocked = stop.is_some_and(|stop| stop.outcome == StopOutcome::Failed);
        let mut step = match stop {
            _ if blocked => StartStep::Fail(restart::NOT_STOPPED.to_string()),
            Some(_) => plan::start_once_stopped(observation),
            None => plan::start(observation),
        };
        let mut note = None;
        if let (StartStep::Start { leftovers, .. }, Some(port)) = (&step, service.port)
            && leftovers.is_empty()
            && !is_freed(port, stopped)
        {
            match port::judge(act, service, port, takeover.unwrap_or(service.takeover)) {
                Ok(Judged::Free) => {}
                Ok(Judged::Stoppable { named, .. }) => {
                    note = Some(format!(
                        "port {port} is held by {named}: would be stopped first"
                    ))
                }
                Ok(Judged::Refused(why) | Judged::Unseen(why)) | Err(why) => {
                    step = StartStep::Fail(why)
                }
            }
        }
        if !style.json {
            forecast::start(&service.id, width, &step);
        }
        let (outcome, pid) = match &step {
            StartStep::Fail(_) if blocked => (StartOutcome::Skipped, None),
            StartStep::Fail(_) => (StartOutcome::Failed, None),
            StartStep::AlreadyRunning { leader, .. } => {
                (StartOutcome::AlreadyRunning, Some(leader.pid))
            }
            StartStep::Join { pid } => (StartOutcome::AlreadyRunning, *pid),
            StartStep::AwaitStop | StartStep::Start { .. } => (StartOutcome::Started, None),
        };
        let detail = match step {
            StartStep::Fail(why) => Some(why),
            _ => note.clone(),
        };
        if let (Some(note), false) = (note, style.json) {
            crate::report::say(&format!("    {note}"));
        }
        foreseen.push(Started {
            detail,
            ..Started::new(&service.id, outcome, pid)
        });
    }
    let code = ExitCode::of_starts(&foreseen);
    (foreseen, code)
}

/// Is the port held by processes alone that would have been stopped?
fn is_freed(port: u16, stopped: &[Stopped]) -> bool {
    let ended: Vec<i32> = stopped
        .iter()
        .flat_map(|stopped| &stopped.members)
        .map(|(identity, _)| identity.pid)
        .collect();
    if ended.is_empty() {
        return false;
    }
    let held = holders::of(Protocol::Tcp, &PortSet::from(port));
    held.is_ok_and(|held| {
        held.get(&port).is_some_and(|held| {
            !held.is_unseen()
                && !held.pids.is_empty()
                && held.pids.iter().all(|pid| ended.contains(pid))
        })
    })
}
