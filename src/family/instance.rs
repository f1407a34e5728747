//! Does this one process belong to a recorded instance? Asked for a few, without a walk: its own
//! traces and its ancestors' are read.

use super::trace;
use crate::state::folder::Folder;
use crate::state::ledger::Ledger;
use crate::state::record::Instance;
use crate::sys::boot::Place;
use crate::sys::proc::{self, Stat};
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

/// Whose instance a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belonging {
    pub id: String,
    /// The table it was made from.
    pub table: PathBuf,
}

/// The nearest answer from the process up through its parents. `folder` holds `ledger`; the records of
/// other folders are found by the token.
/// An error is a shortage of ours: nobody's is not the answer then.
pub fn of(
    stat: &Stat,
    ledger: &Ledger,
    folder: &Path,
    place: &Place,
) -> io::Result<Option<Belonging>> {
    let mut current = stat.clone();
    let mut seen = HashSet::new();
    while seen.insert(current.pid) && current.pid > 1 {
        let found = bears(&current, ledger, folder, place)?;
        if found.is_some() {
            return Ok(found);
        }
        match proc::if_shown(proc::stat(current.ppid))? {
            Some(parent) if parent.start_time <= current.start_time => current = parent,
            _ => break,
        }
    }
    Ok(None)
}

fn bears(
    stat: &Stat,
    ledger: &Ledger,
    folder: &Path,
    place: &Place,
) -> io::Result<Option<Belonging>> {
    let find = |ledger: &Ledger, is_it: &dyn Fn(&Instance) -> bool| {
        let mut entries = ledger.entries.values();
        let entry = entries.find(|entry| {
            entry
                .instance
                .as_ref()
                .is_some_and(|instance| instance.leader.is_here(place) && is_it(instance))
        })?;
        Some(Belonging {
            id: entry.id.clone(),
            table: entry.table.clone(),
        })
    };
    let named = |instance: &Instance| {
        instance.leader.identity() == stat.identity()
            || instance.members().any(|member| member == stat.identity())
    };
    if let Some(found) = find(ledger, &named) {
        return Ok(Some(found));
    }
    if let Some(token) = trace::token_of(stat.pid, &mut Vec::new())? {
        let bearer = |instance: &Instance| instance.token == token.token;
        let found = if token.folder == folder {
            find(ledger, &bearer)
        } else {
            let other = Folder::open(&token.folder)
                .ok()
                .and_then(|folder| Ledger::read(&folder).ok());
            other.and_then(|ledger| find(&ledger, &bearer))
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    let logs = ledger
        .entries
        .values()
        .filter_map(|entry| entry.instance.as_ref());
    let files = logs
        .map(|instance| (instance.log.device, instance.log.inode))
        .collect();
    let locks = trace::log_locks_of(stat.pid, &files)?;
    Ok(find(ledger, &|instance| {
        instance.log.lock.is_some_and(|lock| locks.contains(&lock))
    }))
}
