//! Whom `free` finds on the ports, and what may be done about each: ended, stopped as the service that
//! it is, or left alone for a reason that is told.

use super::context::Act;
use super::port;
use crate::family::holders::{self, Held};
use crate::family::{instance, stranger, trace};
use crate::observe::{self, Found, Scene};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::sys::boot;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::manager;
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::users;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
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
    let mut judge = Judge {
        act,
        wish,
        scene,
        services: HashMap::new(),
        doubtful: HashMap::new(),
        ancestors: boot::ancestors(),
        inside: None,
    };
    let mut survey = Survey::default();
    for &protocol in &wish.protocols {
        let held = holders::of_suspects(protocol, ports, |ports| judge.suspects(ports)).map_err(
            |error| anyhow::anyhow!("the {protocol} ports cannot be looked at: {error}"),
        )?;
        for (port, mut held) in held {
            // A listener that leaked into pidctl is gone when pidctl is.
            let leaked = held.pids.contains(&judge.act.me.pid);
            held.pids.retain(|&pid| pid != judge.act.me.pid);
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

struct Judge<'a> {
    act: &'a Act,
    wish: &'a Wish,
    scene: Scene<'a>,
    /// Processes of services that should be on these ports.
    services: HashMap<i32, String>,
    /// Ports whose service cannot be told from others, and why.
    doubtful: HashMap<u16, String>,
    ancestors: Vec<i32>,
    /// The instance that pidctl itself runs in, once it was asked for.
    inside: Option<Option<instance::Belonging>>,
}

impl Judge<'_> {
    /// Processes of the services whose ports these are: the known candidates.
    fn suspects(&mut self, ports: &HashSet<u16>) -> Vec<i32> {
        let table = self.act.table.clone();
        let listed = table.services.iter().map(|service| {
            let port = service.port;
            (service.id.as_str(), Some(service), port)
        });
        let gone = self.scene.ledger.entries.values().filter_map(|entry| {
            let instance = entry.instance.as_ref()?;
            let listed = table.services.iter().any(|service| service.id == entry.id);
            (entry.table == table.file && !listed).then_some((
                entry.id.as_str(),
                None,
                instance.port,
            ))
        });
        let mut suspects = Vec::new();
        for (id, service, port) in listed.chain(gone) {
            let Some(port) = port.filter(|port| ports.contains(port)) else {
                continue;
            };
            let family = match self.scene.observe(id, service).found {
                Found::Running { leader, .. } => observe::by_ancestry(leader.identity()),
                Found::Orphaned(family) => family,
                Found::Unknown(why) => {
                    self.doubtful.insert(port, format!("{id}: {why}"));
                    continue;
                }
                Found::Elsewhere(_) | Found::Stopped | Found::Stale(_) => continue,
            };
            for stat in family {
                suspects.push(stat.pid);
                self.services.insert(stat.pid, id.to_string());
            }
        }
        suspects
    }

    fn holder(&mut self, stat: Stat, pidfd: &Pidfd, port: u16) -> Holder {
        Holder {
            user: proc::uid(stat.pid).ok().map(users::name_of),
            named: port::name(&stat),
            fate: self.fate(&stat, pidfd, port),
            stat,
        }
    }

    fn fate(&mut self, stat: &Stat, pidfd: &Pidfd, port: u16) -> Fate {
        let refused = |why: &str| Fate::Refused(why.to_string());
        if stat.pid <= 1 || stat.is_kernel_thread() {
            return refused("it is init or the kernel");
        }
        if self.ancestors.contains(&stat.pid) {
            return refused("pidctl itself was started from it");
        }
        if !self.wish.names.is_empty() && !has_name(stat, &self.wish.names) {
            return refused("--name leaves it out");
        }
        if let Some(fate) = self.as_instance(stat) {
            return match fate {
                Fate::Stop(_) if !pidfd.may_be_signalled() => not_permitted(),
                fate => fate,
            };
        }
        if let Some(manager) = stranger::manager(stat).filter(|_| !self.wish.managed) {
            return Fate::Refused(format!(
                "it belongs to {manager}: {} (or --managed)",
                manager.advice(port)
            ));
        }
        if let Some(why) = self.doubtful.get(&port) {
            return Fate::Failed(format!(
                "it cannot be told whether it is this service, {why}"
            ));
        }
        if !pidfd.may_be_signalled() {
            return not_permitted();
        }
        Fate::End
    }

    /// An instance of pidctl's own: of this table, of another, or not to be told which.
    fn as_instance(&mut self, stat: &Stat) -> Option<Fate> {
        let table = &self.act.table;
        let owner = match self.services.get(&stat.pid) {
            Some(id) => instance::Belonging {
                id: id.clone(),
                table: table.file.clone(),
            },
            None => match self.owner(stat) {
                Ok(Some(owner)) => owner,
                Ok(None) => return self.unread_records(stat).map(Fate::Failed),
                Err(error) => {
                    let why = format!("it cannot be told whose it is: {error}");
                    return Some(Fate::Failed(why));
                }
            },
        };
        let id = &owner.id;
        if !table.is_there() || owner.table != table.file {
            let path = manager::quoted(&owner.table.to_string_lossy());
            return Some(Fate::Refused(format!(
                "it is service {id} of another table: pidctl -c {path} stop {id}"
            )));
        }
        let is_above = |pid: &i32| self.services.get(pid) == Some(id);
        if self.ancestors.iter().any(is_above) || self.inside().as_ref() == Some(&owner) {
            return Some(Fate::Refused(format!(
                "it is service {id}, which pidctl itself was started from: pidctl stop {id}"
            )));
        }
        Some(Fate::Stop(owner.id))
    }

    fn owner(&self, stat: &Stat) -> io::Result<Option<instance::Belonging>> {
        let folder = port::folder_path(self.act);
        instance::of(stat, &self.scene.ledger, folder, &self.act.place)
    }

    fn inside(&mut self) -> &Option<instance::Belonging> {
        if self.inside.is_none() {
            let me = proc::stat(self.act.me.pid).ok();
            self.inside = Some(me.and_then(|me| self.owner(&me).ok().flatten()));
        }
        self.inside.get_or_insert(None)
    }

    /// It may be a service, but the records that would tell cannot be read.
    fn unread_records(&self, stat: &Stat) -> Option<String> {
        let why = match &self.scene.blind {
            Some(why) => why.clone(),
            None => unread_folder(stat, port::folder_path(self.act))?,
        };
        Some(format!("it cannot be told whether it is a service: {why}"))
    }
}

/// The process bears a token of another folder than `own`, whose records cannot be read: why.
pub fn unread_folder(stat: &Stat, own: &Path) -> Option<String> {
    let token = trace::token_of(stat.pid, &mut Vec::new()).ok().flatten()?;
    if token.folder == own {
        return None;
    }
    match Folder::open(&token.folder) {
        Err(Refused::Missing) => None,
        Err(refused) => Some(refused.about(&token.folder)),
        Ok(folder) => {
            let unread = Ledger::read(&folder).err()?;
            Some(format!("{}: {unread}", token.folder.display()))
        }
    }
}

fn not_permitted() -> Fate {
    Fate::Failed("pidctl may not signal it (try as its user, or as root)".to_string())
}

/// By comm (of which the kernel keeps 15 bytes), or the base name of its executable or of argv[0].
fn has_name(stat: &Stat, names: &[String]) -> bool {
    const COMM_LENGTH: usize = 15;
    let base = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let exe = proc::exe(stat.pid).ok().and_then(|exe| base(&exe));
    let exe = exe.map(|name| name.trim_end_matches(" (deleted)").to_string());
    let argv = proc::cmdline(stat.pid).unwrap_or_default();
    let argv0 = argv.first().and_then(|word| base(Path::new(word)));
    let is_cut = stat.comm.len() == COMM_LENGTH;
    names.iter().any(|name| {
        let is_comm = *name == stat.comm || (is_cut && name.starts_with(&stat.comm));
        is_comm || exe.as_ref() == Some(name) || argv0.as_ref() == Some(name)
    })
}
