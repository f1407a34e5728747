//! Who belongs to which instance: one walk over /proc, in which every process is given to the
//! instance whose traces it bears.
//!
//! A process bears its own traces first: it is a known member, its environment holds the token, its
//! output is the log's open file. Failing these it goes where its parent goes, if it is not older
//! than the parent. The session or process group counts while somebody shown otherwise is in it, for
//! so long the kernel gives that number to nobody else.

use super::trace::{self, Token, Traces};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::sys::proc::{self, Identity, Stat};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// What a walk must read of the processes besides their stat.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Start time, in ticks, of the oldest instance: whoever is older bears no trace of any.
    since: u64,
    known: HashSet<Identity>,
    logs: HashSet<(u64, u64)>,
}

impl Interest {
    pub fn of(instances: &[Traces]) -> Interest {
        Interest {
            since: instances
                .iter()
                .map(|traces| traces.since)
                .min()
                .unwrap_or(u64::MAX),
            known: instances
                .iter()
                .flat_map(|traces| traces.known.iter().copied())
                .collect(),
            logs: instances
                .iter()
                .filter_map(|traces| Some(traces.log?.file))
                .collect(),
        }
    }
}

/// Every process there was during one walk; kernel threads left out.
pub struct Census {
    entries: Vec<Entry>,
    by_pid: HashMap<i32, usize>,
}

struct Entry {
    stat: Stat,
    token: Option<Token>,
    locks: Vec<u64>,
    /// False for one on its way out: it has lost its memory and its files, and with them what would tell
    /// whose it is, while it still shows as alive.
    told: bool,
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
const WORTH_A_THREAD: usize = 1000;
/// A machine where processes are born and gone all the time is looked at so often, and no more.
const ROUNDS: usize = 50;
/// More than are being forked at any moment.
const UNBORN: i32 = 64;

impl Census {
    /// Walks. Processes that are born meanwhile are looked at as well, until none of them has escaped:
    /// one that forks and exits all the time is gone before a list of PIDs comes to it, but its
    /// successor has a PID that was given later.
    pub fn take(interest: &Interest) -> io::Result<Census> {
        let mut last = last_pid()?;
        let pids = proc::all_pids()?;
        let mut entries = Vec::with_capacity(pids.len());
        let read = |pids: &[i32]| -> io::Result<Vec<Entry>> {
            let read = pids.iter().map(|&pid| Entry::read(pid, interest));
            read.filter_map(Result::transpose).collect()
        };
        if pids.len() < WORTH_A_THREAD {
            entries.extend(read(&pids)?);
        } else {
            let (first, second) = pids.split_at(pids.len() / 2);
            std::thread::scope(|scope| {
                // Where no thread can be had (EAGAIN), this one reads all.
                let other = std::thread::Builder::new().spawn_scoped(scope, || read(second));
                entries.extend(read(first)?);
                let second = match other.map(|other| other.join()) {
                    Ok(Ok(entries)) => entries,
                    Ok(Err(_)) | Err(_) => read(second),
                };
                entries.extend(second?);
                io::Result::Ok(())
            })?;
        }
        let mut listed: HashSet<i32> = pids.into_iter().collect();
        let mut late = HashMap::new();
        // A PID is given before its process is shown: who was not to be seen is looked for once more, and
        // the elder first, so that a parent in the middle of its fork is not missed with its child.
        let mut silent: Vec<i32> = (last.saturating_sub(UNBORN)..=last)
            .filter(|&pid| pid > 1 && listed.insert(pid))
            .collect();
        for _ in 0..ROUNDS {
            let now = last_pid()?;
            let born = match now == last {
                true => Vec::new(),
                false => births(last, now)?,
            };
            let born = born.into_iter().filter(|pid| listed.insert(*pid));
            let born: Vec<i32> = born.collect();
            last = now;
            silent.extend(&born);
            let found = read(&silent)?.into_iter();
            late.extend(found.map(|entry| (entry.stat.pid, entry)));
            // One that has ended already told nothing of whose it was.
            let told = |entry: &Entry| entry.told && entry.stat.is_alive();
            silent = born;
            silent.retain(|pid| !late.get(pid).is_some_and(told));
            if silent.is_empty() {
                break;
            }
        }
        entries.extend(late.into_values());
        let by_pid = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.stat.pid, index))
            .collect();
        Ok(Census { entries, by_pid })
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
        for (entry, owner) in self.entries.iter().zip(&owners) {
            if let Owner::Instance(number) = *owner
                && entry.stat.is_alive()
            {
                families[number].push(&entry.stat);
            }
        }
        families
    }

    fn own_traces(&self, instances: &[Traces], folder: &Path) -> Vec<Owner> {
        let numbered = || instances.iter().enumerate();
        let known: HashMap<Identity, usize> = numbered()
            .flat_map(|(n, traces)| traces.known.iter().map(move |&id| (id, n)))
            .collect();
        let tokens: HashMap<&str, usize> = numbered()
            .filter_map(|(n, traces)| Some((traces.token.as_deref()?, n)))
            .collect();
        let locks: HashMap<u64, usize> = numbered()
            .filter_map(|(n, traces)| Some((traces.log?.lock, n)))
            .collect();
        let me = std::process::id() as i32;
        let mut recorded_elsewhere = RecordedTokens::default();
        let mut owner_of = |entry: &Entry| {
            if entry.stat.pid == me {
                return Owner::Foreign;
            }
            if let Some(&number) = known.get(&entry.stat.identity()) {
                return Owner::Instance(number);
            }
            if let Some(found) = &entry.token {
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
            let lock = entry.locks.iter().find_map(|lock| locks.get(lock));
            lock.map_or(Owner::Nobody, |&number| Owner::Instance(number))
        };
        self.entries.iter().map(&mut owner_of).collect()
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
                let stat = &self.entries[index].stat;
                match self.by_pid.get(&stat.ppid) {
                    Some(&parent)
                        if self.entries[parent].stat.start_time <= stat.start_time
                            && path.len() <= self.entries.len() =>
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
        let numbered = instances.iter().enumerate();
        let sessions: HashMap<i32, usize> = numbered
            .filter_map(|(n, traces)| Some((traces.session?, n)))
            .collect();
        let session_of = |stat: &Stat| {
            sessions
                .get(&stat.session)
                .or_else(|| sessions.get(&stat.pgrp))
                .copied()
        };
        let shown = self
            .entries
            .iter()
            .zip(owners)
            .filter_map(|(entry, owner)| {
                let number = session_of(&entry.stat)?;
                (*owner == Owner::Instance(number)).then_some(number)
            });
        let anchored: HashSet<usize> = shown.collect();
        let mut added = false;
        for (index, entry) in self.entries.iter().enumerate() {
            if owners[index] == Owner::Nobody
                && let Some(number) = session_of(&entry.stat)
                && anchored.contains(&number)
                && entry.stat.start_time >= instances[number].since
            {
                own[index] = Owner::Instance(number);
                added = true;
            }
        }
        added
    }
}

impl Entry {
    /// `None`: it is gone (or hidden from us, or the kernel's), before it could be told whose it is.
    fn read(pid: i32, interest: &Interest) -> io::Result<Option<Entry>> {
        let shown = proc::if_shown(proc::stat(pid))?;
        let Some(stat) = shown.filter(|stat| !stat.is_kernel_thread()) else {
            return Ok(None);
        };
        let plain = stat.start_time < interest.since || interest.known.contains(&stat.identity());
        if plain || !stat.is_alive() {
            return Ok(Some(Entry {
                stat,
                token: None,
                locks: Vec::new(),
                told: true,
            }));
        }
        let mut environment = Vec::new();
        let token = trace::token_of(pid, &mut environment)?;
        let locks = match token {
            Some(_) => Vec::new(),
            None => trace::log_locks_of(pid, &interest.logs)?,
        };
        let mut told = !environment.is_empty() || !locks.is_empty();
        if token.is_none() && locks.is_empty() {
            // Gone in between: it bears no trace any more, whatever it bore. On its way out it has closed
            // its files.
            match proc::if_shown(proc::stat(pid))? {
                None => return Ok(None),
                Some(now) => told &= !now.is_exiting(),
            }
        }
        Ok(Some(Entry {
            stat,
            token,
            locks,
            told,
        }))
    }
}

/// The PID that was given last in our PID namespace: the last word of /proc/loadavg.
fn last_pid() -> io::Result<i32> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let word = text
        .split_ascii_whitespace()
        .next_back()
        .and_then(|word| word.parse().ok());
    word.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "cannot parse /proc/loadavg"))
}

/// The PIDs that may have been given since `before` was the last. Around the end of the numbers, and
/// after very many births, every PID there is.
fn births(before: i32, now: i32) -> io::Result<Vec<i32>> {
    const MANY: i32 = 4096;
    if now > before && now - before < MANY {
        Ok((before + 1..=now).collect())
    } else {
        proc::all_pids()
    }
}

/// Those born since `last`, newest first, and the new last PID: for catching one that forks and exits
/// faster than a walk.
pub fn newborn(last: i32) -> io::Result<(Vec<i32>, i32)> {
    let now = last_pid()?;
    let mut pids = if now == last {
        Vec::new()
    } else {
        births(last, now)?
    };
    pids.reverse();
    Ok((pids, now))
}

/// Tokens that the records of other folders hold, read once each. `None`: they cannot be read, and any
/// token may be one of theirs.
#[derive(Default)]
struct RecordedTokens(HashMap<PathBuf, Option<HashSet<String>>>);

impl RecordedTokens {
    fn has(&mut self, folder: &Path, token: &str) -> bool {
        let tokens = self.0.entry(folder.to_path_buf()).or_insert_with(|| {
            let ledger = match Folder::open(folder) {
                Err(Refused::Missing) => return Some(HashSet::new()),
                Err(_) => return None,
                Ok(folder) => Ledger::read(&folder).ok()?,
            };
            let instances = ledger
                .entries
                .values()
                .filter_map(|entry| entry.instance.as_ref());
            Some(instances.map(|instance| instance.token.clone()).collect())
        });
        tokens.as_ref().is_none_or(|tokens| tokens.contains(token))
    }
}

/// A process and its descendants by /proc/PID/task/TID/children: no walk, but no proof either.
pub fn descendants(root: Identity) -> io::Result<Vec<Stat>> {
    match proc::alive(root)? {
        Some(root) => family_tree(root),
        None => Ok(Vec::new()),
    }
}

/// The same of a process that was just read.
pub fn family_tree(root: Stat) -> io::Result<Vec<Stat>> {
    let me = std::process::id() as i32;
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let (parent, since) = (found[next].pid, found[next].start_time);
        let children = match proc::children(&found[next]) {
            Err(error) if proc::is_gone(&error) => Vec::new(),
            result => result?,
        };
        next += 1;
        for pid in children {
            match proc::stat(pid) {
                Ok(stat) if stat.ppid == parent && stat.start_time >= since && pid != me => {
                    found.push(stat)
                }
                Ok(_) => {}
                Err(error) if proc::is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.retain(Stat::is_alive);
    Ok(found)
}
