//! `pidctl adopt`: take a process that runs already as the service, so that moving over from scripts
//! needs no restart.

use super::{Session, Usage};
use crate::act::adopt::{self, AdoptOutcome, Adopted};
use crate::exit_code::ExitCode;
use crate::report::{Ink, Style, json, results};
use crate::state::folder::Folder;

pub fn run(session: &Session, word: &str, pid: Option<i32>) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let folder = Folder::open(&table.pids_dir);
    let (indices, gone) = super::select(&table, folder.as_ref(), &[word.to_string()])?;
    if let Some(id) = gone.first() {
        let why = format!("{id} has no entry in the table; there is nothing to prove it by");
        return Err(Usage(why).into());
    }
    if pid.is_some() && indices.len() > 1 {
        let ids: Vec<&str> = indices
            .iter()
            .map(|&index| table.services[index].id.as_str())
            .collect();
        let why = format!(
            "--pid names one process, but \"{word}\" means {}",
            ids.join(", ")
        );
        return Err(Usage(why).into());
    }
    let style = session.style;
    let act = session.act(&table, true, false)?;
    let shared = act.clone();
    Ok(super::block_on(&act, 1, async move {
        let mut adopted = Vec::new();
        for index in indices {
            adopted.push(adopt::adopt(&shared, index, pid).await);
        }
        let width = results::width(adopted.iter().map(|adopted| adopted.id.as_str()));
        adopted
            .iter()
            .for_each(|adopted| tell(&style, adopted, width));
        if style.json {
            json::print(&json::Services { services: &adopted });
        }
        let failed = |adopted: &Adopted| adopted.outcome == AdoptOutcome::Failed;
        match adopted.iter().any(failed) {
            true => ExitCode::Failed,
            false => ExitCode::Done,
        }
    }))
}

fn tell(style: &Style, adopted: &Adopted, width: usize) {
    results::tell_notes(&adopted.id, &adopted.notes);
    let (ink, word) = match adopted.outcome {
        AdoptOutcome::Adopted => (Ink::Green, "adopted"),
        AdoptOutcome::AlreadyRunning => (Ink::Green, "already running"),
        AdoptOutcome::Failed => (Ink::Red, "failed"),
    };
    if style.json || (style.quiet && adopted.outcome != AdoptOutcome::Failed) {
        return;
    }
    let pid = adopted.pid.map(|pid| format!("PID {pid}"));
    let facts: Vec<String> = pid.into_iter().chain(adopted.detail.clone()).collect();
    crate::report::say(&results::line(style, &adopted.id, width, ink, word, &facts));
}
