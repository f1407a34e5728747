//! Who belongs to which instance: one walk over /proc, in which every process is given to the
//! instance whose traces it bears.
//!
//! A process bears its own traces first: it is a known member, its environment holds the token, its
//! output is the log's open file. Failing these it goes where its parent goes, if it is not older
//! than the parent. The session or process group counts while somebody shown otherwise is in it, for
//! so long the kernel gives that number to nobody else.

use super::trace::{self, Traces};
use crate::sys::proc::{self, Identity, Stat};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// Every process there was during one walk; kernel threads left out.
pub struct Census {
    stats: Vec<Stat>,
    by_pid: HashMap<i32, usize>,
}

/// To whom a process belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The instance of that number.
    Instance(usize),
    /// A recorded instance of another folder; or pidctl itself.
    Foreign,
    Nobody,
}

/// From so many processes on, two threads read them.
const WORTH_A_THREAD: usize = 2000;

impl Census {
    pub fn take() -> io::Result<Census> {
        let pids = proc::all_pids()?;
        let read = |pids: &[i32]| -> Vec<Stat> {
            // One that is gone, or that hidepid hides from us, shows nothing.
            pids.iter()
                .filter_map(|&pid| proc::stat(pid).ok())
                .filter(|stat| !stat.is_kernel_thread())
                .collect()
        };
        let stats = if pids.len() < WORTH_A_THREAD {
            read(&pids)
        } else {
            let (first, second) = pids.split_at(pids.len() / 2);
            std::thread::scope(|scope| {
                let other = scope.spawn(|| read(second));
                let mut stats = read(first);
                stats.extend(other.join().unwrap_or_else(|_| read(second)));
                stats
            })
        };
        let by_pid = stats
            .iter()
            .enumerate()
            .map(|(index, stat)| (stat.pid, index))
            .collect();
        Ok(Census { stats, by_pid })
    }

    pub fn get(&self, pid: i32) -> Option<&Stat> {
        self.by_pid.get(&pid).map(|&index| &self.stats[index])
    }

    /// The parents of a process, nearest first.
    pub fn ancestors(&self, pid: i32) -> Vec<&Stat> {
        let mut found: Vec<&Stat> = Vec::new();
        let mut stat = self.get(pid);
        while let Some(parent) = stat.and_then(|stat| self.get(stat.ppid)) {
            if found.iter().any(|seen| seen.pid == parent.pid) {
                break;
            }
            found.push(parent);
            stat = Some(parent);
        }
        found
    }

    /// For each of `instances`, the living processes of its family. `folder` is where those are
    /// recorded; tokens of other folders are looked up there.
    pub fn families(&self, instances: &[Traces], folder: &Path) -> Vec<Vec<&Stat>> {
        let mut own = self.own_traces(instances, folder);
        let mut owners = self.inherit(&own);
        if self.add_sessions(instances, &mut own, &owners) {
            owners = self.inherit(&own);
        }
        let mut families = vec![Vec::new(); instances.len()];
        for (stat, owner) in self.stats.iter().zip(&owners) {
            if let Owner::Instance(number) = *owner
                && stat.is_alive()
            {
                families[number].push(stat);
            }
        }
        families
    }

    fn own_traces(&self, instances: &[Traces], folder: &Path) -> Vec<Owner> {
        let known: HashMap<Identity, usize> = instances
            .iter()
            .enumerate()
            .flat_map(|(n, traces)| traces.known.iter().map(move |&id| (id, n)))
            .collect();
        let tokens: HashMap<&str, usize> = instances
            .iter()
            .enumerate()
            .filter_map(|(n, traces)| Some((traces.token.as_deref()?, n)))
            .collect();
        let locks: HashMap<u64, usize> = instances
            .iter()
            .enumerate()
            .filter_map(|(n, traces)| Some((traces.log?.lock, n)))
            .collect();
        let logs: HashSet<(u64, u64)> = instances
            .iter()
            .filter_map(|traces| Some(traces.log?.file))
            .collect();
        let oldest = instances
            .iter()
            .map(|traces| traces.since)
            .min()
            .unwrap_or(u64::MAX);
        let me = std::process::id() as i32;
        let mut recorded_elsewhere = RecordedTokens::default();
        let mut buffer = Vec::new();
        let mut owner_of = |stat: &Stat| {
            if stat.pid == me {
                return Owner::Foreign;
            }
            if let Some(&number) = known.get(&stat.identity()) {
                return Owner::Instance(number);
            }
            if stat.start_time < oldest {
                return Owner::Nobody;
            }
            if let Some(found) = trace::token_of(stat.pid, &mut buffer) {
                let helper = found
                    .helper
                    .as_deref()
                    .and_then(|helper| tokens.get(helper));
                if let Some(&number) = helper.or_else(|| tokens.get(found.token.as_str())) {
                    return Owner::Instance(number);
                }
                if found.folder != folder && recorded_elsewhere.has(&found.folder, &found.token) {
                    return Owner::Foreign;
                }
            }
            let locks = trace::log_locks_of(stat.pid, &logs)
                .into_iter()
                .find_map(|lock| locks.get(&lock));
            locks.map_or(Owner::Nobody, |&number| Owner::Instance(number))
        };
        self.stats.iter().map(&mut owner_of).collect()
    }

    /// Gives every process without a trace of its own to the owner of its parent.
    fn inherit(&self, own: &[Owner]) -> Vec<Owner> {
        let mut owners: Vec<Option<Owner>> = vec![None; own.len()];
        let mut path = Vec::new();
        for start in 0..own.len() {
            let mut index = start;
            let found = loop {
                if let Some(owner) = owners[index] {
                    break owner;
                }
                if own[index] != Owner::Nobody {
                    break own[index];
                }
                path.push(index);
                let stat = &self.stats[index];
                match self.by_pid.get(&stat.ppid) {
                    Some(&parent)
                        if self.stats[parent].start_time <= stat.start_time
                            && !path.contains(&parent) =>
                    {
                        index = parent;
                    }
                    _ => break Owner::Nobody,
                }
            };
            owners[index] = Some(found);
            for child in path.drain(..) {
                owners[child] = Some(found);
            }
        }
        owners
            .into_iter()
            .map(|owner| owner.unwrap_or(Owner::Nobody))
            .collect()
    }

    /// Adds who shares the session or process group of a shown member. Says whether it added any.
    fn add_sessions(&self, instances: &[Traces], own: &mut [Owner], owners: &[Owner]) -> bool {
        let sessions: HashMap<i32, usize> = instances
            .iter()
            .enumerate()
            .filter_map(|(n, traces)| Some((traces.session?, n)))
            .collect();
        let session_of = |stat: &Stat| {
            let number = sessions
                .get(&stat.session)
                .or_else(|| sessions.get(&stat.pgrp))?;
            Some(*number)
        };
        let anchored: HashSet<usize> = self
            .stats
            .iter()
            .zip(owners)
            .filter_map(|(stat, owner)| {
                let number = session_of(stat)?;
                (*owner == Owner::Instance(number)).then_some(number)
            })
            .collect();
        let mut added = false;
        for (index, stat) in self.stats.iter().enumerate() {
            if owners[index] == Owner::Nobody
                && let Some(number) = session_of(stat)
                && anchored.contains(&number)
                && stat.start_time >= instances[number].since
            {
                own[index] = Owner::Instance(number);
                added = true;
            }
        }
        added
    }
}

/// Tokens that the records of other folders hold, read once each.
#[derive(Default)]
struct RecordedTokens(HashMap<PathBuf, HashSet<String>>);

impl RecordedTokens {
    fn has(&mut self, folder: &Path, token: &str) -> bool {
        let tokens = self.0.entry(folder.to_path_buf()).or_insert_with(|| {
            let ledger = crate::state::folder::Folder::open(folder)
                .ok()
                .and_then(|folder| crate::state::ledger::Ledger::read(&folder).ok())
                .unwrap_or_default();
            ledger
                .entries
                .into_values()
                .filter_map(|entry| Some(entry.instance?.token))
                .collect()
        });
        tokens.contains(token)
    }
}

/// A process and its descendants by /proc/PID/task/TID/children: no walk, but no proof either.
pub fn descendants(root: Identity) -> io::Result<Vec<Stat>> {
    let Some(root) = proc::alive(root)? else {
        return Ok(Vec::new());
    };
    let me = std::process::id() as i32;
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].clone();
        next += 1;
        let children = match proc::children(&parent) {
            Err(error) if proc::is_gone(&error) => continue,
            result => result?,
        };
        for pid in children {
            match proc::stat(pid) {
                Ok(stat)
                    if stat.ppid != parent.pid
                        || stat.start_time < parent.start_time
                        || pid == me => {}
                Ok(stat) if found.iter().any(|seen| seen.pid == stat.pid) => {}
                Ok(stat) => found.push(stat),
                Err(error) if proc::is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.retain(Stat::is_alive);
    Ok(found)
}
