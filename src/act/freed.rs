//! What became of each port: the values that `free` reports.

use super::holder::{Fate, Holder, Survey};
use super::outcome::{Effect, Receipt};
use super::port;
use crate::family::holders::Held;
use crate::sys::listeners::Protocol;
use crate::sys::proc::{self, Identity};
use crate::sys::signal::Signal;
use crate::sys::users;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FreeOutcome {
    Freed,
    AlreadyFree,
    Refused,
    Failed,
}

/// The five answers to "who holds it?"; of several the one that is hardest to deal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// A service of the table.
    Service,
    /// Somebody else's process.
    Process,
    /// No process visible from here.
    Nobody,
    /// A process that may not be seen.
    Hidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fared {
    Stopped,
    Killed,
    Refused,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct FreedProcess {
    /// `None` where it may not be seen.
    pub pid: Option<i32>,
    pub name: Option<String>,
    pub user: Option<String>,
    pub outcome: Fared,
    /// The service of the table that it is.
    pub service: Option<String>,
    pub detail: Option<String>,
    /// PID, name, user and command for people.
    #[serde(skip)]
    pub named: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Freed {
    pub port: u16,
    #[serde(serialize_with = "word")]
    pub protocol: Protocol,
    pub outcome: FreeOutcome,
    /// `None`: nobody held it.
    pub held_by: Option<HeldBy>,
    pub processes: Vec<FreedProcess>,
    pub elapsed_ms: u64,
    pub detail: Option<String>,
    pub receipts: Vec<Receipt>,
}

fn word<S: serde::Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(protocol)
}

/// What ending a holder came to, or is foreseen to.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    pub killed: bool,
    pub receipts: Vec<Receipt>,
    pub elapsed_ms: u64,
    /// Why it did not come to its end.
    pub trouble: Option<String>,
}

/// Everything that was seen and done.
#[derive(Default)]
pub struct Story {
    pub before: Survey,
    /// Holders that were ended, or were to be.
    pub endings: BTreeMap<Identity, Ending>,
    /// The looks after that. None in a dry run, and where nothing could be done.
    pub later: Vec<Survey>,
}

impl Story {
    /// The last look.
    pub fn now(&self) -> &Survey {
        self.later.last().unwrap_or(&self.before)
    }

    pub fn of_port(&self, port: u16, protocol: Protocol) -> Freed {
        let key = (port, protocol);
        let mut seen = HashSet::new();
        let holders: Vec<&Holder> = std::iter::once(&self.before)
            .chain(&self.later)
            .flat_map(|survey| survey.holders_of(key))
            .filter(|holder| seen.insert(holder.stat.identity()))
            .collect();
        let mut processes: Vec<FreedProcess> =
            holders.iter().map(|holder| self.fared(holder)).collect();
        let endings: Vec<&Ending> = holders
            .iter()
            .filter_map(|holder| self.endings.get(&holder.stat.identity()))
            .collect();
        let mut receipts: Vec<Receipt> = Vec::new();
        for receipt in endings.iter().flat_map(|ending| &ending.receipts) {
            // Holders that were ended together tell of the same signals.
            if !receipts.contains(receipt) {
                receipts.push(receipt.clone());
            }
        }
        let unseen = self.now().ports.get(&key).filter(|held| held.is_unseen());
        processes.extend(unseen.into_iter().flat_map(hidden));
        let details: Vec<String> = processes
            .iter()
            .filter_map(|process| Some(format!("{}: {}", process.named, process.detail.as_ref()?)))
            .chain(unseen.map(port::unseen_by))
            .collect();
        Freed {
            port,
            protocol,
            outcome: self.outcome(key, &processes),
            held_by: self.held_by(key, &holders),
            processes,
            elapsed_ms: endings
                .iter()
                .map(|ending| ending.elapsed_ms)
                .max()
                .unwrap_or(0),
            detail: (!details.is_empty()).then(|| details.join("; ")),
            receipts,
        }
    }

    fn outcome(&self, key: (u16, Protocol), processes: &[FreedProcess]) -> FreeOutcome {
        let has = |outcome| processes.iter().any(|process| process.outcome == outcome);
        let now = self.now();
        let is_unseen = now.ports.get(&key).is_some_and(Held::is_unseen);
        // In a dry run those that would be ended are there still.
        let would_be_gone = |holder: &Holder| {
            self.later.is_empty() && self.endings.contains_key(&holder.stat.identity())
        };
        let is_held = now.holders_of(key).any(|holder| !would_be_gone(holder));
        if is_unseen || has(Fared::Failed) {
            FreeOutcome::Failed
        } else if processes.is_empty() {
            FreeOutcome::AlreadyFree
        } else if !is_held {
            FreeOutcome::Freed
        } else if has(Fared::Refused) {
            FreeOutcome::Refused
        } else {
            FreeOutcome::Failed
        }
    }

    fn held_by(&self, key: (u16, Protocol), holders: &[&Holder]) -> Option<HeldBy> {
        let held = self.before.ports.get(&key).or(self.now().ports.get(&key))?;
        let seen = holders.iter().map(|holder| match holder.fate {
            Fate::Stop(_) => HeldBy::Service,
            _ => HeldBy::Process,
        });
        let nobody = (!held.nobody.is_empty()).then_some(HeldBy::Nobody);
        let hidden = (!held.hidden.is_empty()).then_some(HeldBy::Hidden);
        seen.chain(nobody).chain(hidden).max()
    }

    fn fared(&self, holder: &Holder) -> FreedProcess {
        let (outcome, detail) = match (self.endings.get(&holder.stat.identity()), &holder.fate) {
            (Some(ending), _) => match &ending.trouble {
                Some(trouble) => (Fared::Failed, Some(trouble.clone())),
                None if ending.killed => (Fared::Killed, None),
                None => (Fared::Stopped, None),
            },
            (None, Fate::Refused(why)) => (Fared::Refused, Some(why.clone())),
            (None, Fate::Failed(why)) => (Fared::Failed, Some(why.clone())),
            (None, Fate::End | Fate::Stop(_)) => {
                let parent = proc::stat(holder.stat.ppid).map(|parent| port::name(&parent));
                let why = match parent {
                    Ok(parent) => {
                        format!(
                            "it has taken the port since; its parent is {parent}: end that first"
                        )
                    }
                    Err(_) => "it has taken the port since".to_string(),
                };
                (Fared::Failed, Some(why))
            }
        };
        FreedProcess {
            pid: Some(holder.stat.pid),
            name: Some(holder.stat.comm.clone()),
            user: holder.user.clone(),
            outcome,
            service: match &holder.fate {
                Fate::Stop(id) => Some(id.clone()),
                _ => None,
            },
            detail,
            named: holder.named.clone(),
        }
    }
}

/// Processes that may not be seen, by their users.
fn hidden(held: &Held) -> Vec<FreedProcess> {
    let mut uids: Vec<u32> = held.hidden.iter().map(|listener| listener.uid).collect();
    uids.sort_unstable();
    uids.dedup();
    uids.into_iter()
        .map(|uid| FreedProcess {
            pid: None,
            name: None,
            user: Some(users::name_of(uid)),
            outcome: Fared::Failed,
            service: None,
            detail: None,
            named: String::new(),
        })
        .collect()
}

/// What came of ending the holder, by what was sent to it.
pub fn was_killed(holder: &Holder, receipts: &[Receipt]) -> bool {
    receipts.iter().any(|receipt| {
        receipt.pid == holder.stat.pid
            && receipt.signal == Signal::KILL
            && receipt.result == Effect::Ended
    })
}
