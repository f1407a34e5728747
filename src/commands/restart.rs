//! `pidctl restart`: stop, then start, of the same selection. Called from inside the service it outlives
//! the family it ends.

use super::{Session, start, stop};
use crate::act::outcome::{StartOutcome, Started, StopOutcome, Stopped};
use crate::act::stop::{Options, Targets};
use crate::exit_code::ExitCode;
use crate::report::json;
use crate::selection;
use serde::Serialize;

/// Why a service that still runs is skipped.
pub const NOT_STOPPED: &str = "it could not be stopped, so it is not started";

#[derive(Serialize)]
struct Document<'a> {
    stop: json::Services<'a, Stopped>,
    start: json::Services<'a, Started>,
}

pub fn run(
    session: &Session,
    stop: &stop::Request,
    start: &start::Request,
) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let order = start::order(&table, &start.words, start.no_deps)?;
    let (indices, _) = selection::select(&table, &stop.words, &[])?;
    let style = session.style;
    let act = session.act(&table, !stop.dry_run, false)?;
    let targets = Targets {
        indices,
        gone: Vec::new(),
    };
    let finish = move |stopped: &[Stopped], started: &[Started], code: ExitCode| {
        if style.json {
            json::print(&Document {
                stop: json::Services { services: stopped },
                start: json::Services { services: started },
            });
        }
        code
    };
    if stop.dry_run {
        let (stopped, stop_code) = stop::foresee(&act, &style, &targets, &stop.options);
        let takeover = start.options.takeover;
        let (started, start_code) = start::foresee(&act, &style, &order, takeover, &stopped);
        return Ok(finish(&stopped, &started, stop_code.and(start_code)));
    }
    act.patience.set(1);
    let shared = act.clone();
    Ok(super::block_on(&act, 3, async move {
        let options = Options {
            restarting: true,
            ..stop.options.clone()
        };
        let (stopped, stop_code) = stop::take_down(&shared, &style, &targets, &options).await;
        if shared.interrupts() > 0 {
            return finish(
                &stopped,
                &[],
                ExitCode::Interrupted(shared.interrupts.see(|seen| seen.exit_code())),
            );
        }
        let could_not = |id: &str| {
            stopped
                .iter()
                .any(|stopped| stopped.id == id && stopped.outcome == StopOutcome::Failed)
        };
        let (blocked, order): (Vec<usize>, Vec<usize>) = order
            .iter()
            .partition(|&&index| could_not(&shared.table.services[index].id));
        shared.patience.set(2);
        let (mut started, start_code) =
            start::bring_up(&shared, &style, &order, &start.options).await;
        for index in blocked {
            let detail = Some(NOT_STOPPED.to_string());
            started.push(Started {
                detail,
                ..Started::new(
                    &shared.table.services[index].id,
                    StartOutcome::Skipped,
                    None,
                )
            });
        }
        finish(&stopped, &started, stop_code.and(start_code))
    }))
}
