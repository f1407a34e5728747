//! Whom `free` finds on the ports.

use super::context::Act;
use super::judge::Judge;
use crate::family::holders::{self, Held};
use crate::observe::Scene;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What `free` was asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub ports: PortSet,
    pub protocols: Vec<Protocol>,
    /// Only holders of these names; none: whoever it is.
    pub names: Vec<String>,
    pub managed: bool,
    pub force: bool,
    /// `None`: 10 s, and a service's own.
    pub timeout: Option<Duration>,
}

/// What may be done about a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Somebody's; it is ended, with what descends from it.
    End,
    /// The service of that id; it is stopped as `stop` would.
    Stop(String),
    /// It must not be touched.
    Refused(String),
    /// It cannot be.
    Failed(String),
}

#[derive(Clone, Debug)]
pub struct Holder {
    pub stat: Stat,
    pub user: Option<String>,
    /// For people: PID, name, user, command.
    pub named: String,
    pub fate: Fate,
}

/// One look at the ports: those that are held.
#[derive(Debug, Default)]
pub struct Survey {
    pub ports: BTreeMap<(u16, Protocol), Held>,
    /// By PID.
    pub holders: BTreeMap<i32, Holder>,
}

impl Survey {
    pub fn holders_of(&self, port: (u16, Protocol)) -> impl Iterator<Item = &Holder> {
        let held = self.ports.get(&port).map(|held| held.pids.as_slice());
        let pids = held.unwrap_or_default();
        pids.iter().filter_map(|pid| self.holders.get(pid))
    }
}

/// Looks who holds the ports. One question to the kernel for each protocol, and at most one walk; none
/// where services of the table that should hold them do.
pub fn survey(act: &Act, wish: &Wish, ports: &PortSet) -> anyhow::Result<Survey> {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let mut judge = Judge::new(act, wish, scene);
    let mut survey = Survey::default();
    for &protocol in &wish.protocols {
        let held = holders::of_suspects(protocol, ports, |ports| judge.suspects(ports)).map_err(
            |error| anyhow::anyhow!("the {protocol} ports cannot be looked at: {error}"),
        )?;
        for (port, mut held) in held {
            // A listener that leaked into pidctl is gone when pidctl is.
            let leaked = held.pids.contains(&act.me.pid);
            held.pids.retain(|&pid| pid != act.me.pid);
            if leaked && held.pids.is_empty() && !held.is_unseen() {
                continue;
            }
            for &pid in &held.pids {
                if let std::collections::btree_map::Entry::Vacant(vacant) =
                    survey.holders.entry(pid)
                    && let Some((pidfd, stat)) = Pidfd::open(pid).map_err(|error| {
                        anyhow::anyhow!(
                            "PID {pid} on {protocol} port {port} cannot be held: {error}"
                        )
                    })?
                {
                    vacant.insert(judge.holder(stat, &pidfd, port));
                }
            }
            held.pids.retain(|pid| survey.holders.contains_key(pid));
            if !held.pids.is_empty() || held.is_unseen() {
                survey.ports.insert((port, protocol), held);
            }
        }
    }
    spare_parents_of_the_refused(&mut survey);
    Ok(survey)
}

/// What descends from a holder is ended with it: so not where one that is refused does.
fn spare_parents_of_the_refused(survey: &mut Survey) {
    let refused: Vec<&Holder> = survey
        .holders
        .values()
        .filter(|holder| matches!(holder.fate, Fate::Refused(_)))
        .collect();
    let mut spared: HashMap<i32, String> = HashMap::new();
    for holder in refused {
        for parent in ancestry(&holder.stat) {
            let why = format!("{}, which descends from it, is refused", holder.named);
            spared.insert(parent.pid, why);
        }
    }
    for (pid, holder) in &mut survey.holders {
        if holder.fate == Fate::End
            && let Some(why) = spared.remove(pid)
        {
            holder.fate = Fate::Refused(why);
        }
    }
}

/// The parents of a process, nearest first.
pub fn ancestry(stat: &Stat) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    let mut child = stat.clone();
    while let Ok(parent) = proc::stat(child.ppid) {
        if parent.start_time > child.start_time || found.iter().any(|seen| seen.pid == parent.pid) {
            break;
        }
        found.push(parent.clone());
        child = parent;
    }
    found
}

/// For each of them its topmost ancestor among them, or itself.
pub fn roots(stats: &[Stat]) -> BTreeMap<Identity, Stat> {
    let known: HashSet<Identity> = stats.iter().map(Stat::identity).collect();
    let root = |stat: &Stat| {
        let mut parents = ancestry(stat);
        parents.retain(|parent| known.contains(&parent.identity()));
        parents.pop().unwrap_or_else(|| stat.clone())
    };
    stats
        .iter()
        .map(|stat| (stat.identity(), root(stat)))
        .collect()
}
