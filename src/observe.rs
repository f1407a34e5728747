//! What is there: PID file, record and process read together, once, here. A failure is an answer
//! (`Unknown`), so that one broken service never hides the others.

use crate::config::{Health, Service, Table};
use crate::family::census::{self, Census, Interest};
use crate::family::holders;
use crate::family::stranger::{Finding, Measure};
use crate::family::trace::Traces;
use crate::family::verdict::{self, Verdict};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::state::pidfile::{self, PidFile};
use crate::state::record::{Claim, Entry, Instance};
use crate::sys::boot::Place;
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One look at a PID folder: the records as they were, and at most one walk over /proc.
pub struct Scene<'a> {
    pub place: &'a Place,
    /// The canonical path of the table at hand.
    table: &'a Path,
    pub folder: Result<&'a Folder, String>,
    pub ledger: Records<'a>,
    /// Why the records cannot be known.
    pub blind: Option<String>,
    families: OnceCell<Result<HashMap<String, Vec<Stat>>, String>>,
}

/// The records at hand.
pub enum Records<'a> {
    Read(Rc<Ledger>),
    /// In the middle of a change, under the lock.
    Locked(&'a Ledger),
}

impl Deref for Records<'_> {
    type Target = Ledger;

    fn deref(&self) -> &Ledger {
        match self {
            Records::Read(ledger) => ledger,
            Records::Locked(ledger) => ledger,
        }
    }
}

/// What one service is, before anybody asks for its health.
#[derive(Debug)]
pub struct Observation {
    pub found: Found,
    pub pid_file: PidFile,
    pub entry: Option<Entry>,
    /// A living command is starting it; or stopping it.
    pub starter_at_work: bool,
    pub stopper_at_work: bool,
}

#[derive(Debug)]
pub enum Found {
    /// Nothing of it runs, nothing is left.
    Stopped,
    /// A PID file, or a record, whose process is gone or another's. Says which.
    Stale(String),
    /// The leader lives. Not recorded: it was taken for ours by the proof for PID files without record.
    Running {
        leader: Stat,
        recorded: bool,
    },
    /// The leader is gone, these are not. Oldest first.
    Orphaned(Vec<Stat>),
    /// Its id is recorded for another table, which alone may touch it.
    Elsewhere(PathBuf),
    Unknown(String),
}

impl Observation {
    /// What is recorded of it; what another table recorded under its id is not this service's.
    pub fn instance(&self) -> Option<&Instance> {
        match self.found {
            Found::Elsewhere(_) => None,
            _ => self.entry.as_ref()?.instance.as_deref(),
        }
    }
}

impl Found {
    /// Who lives of it, as ancestry shows it; no walk but the one that found orphans.
    pub fn family(&self) -> Vec<Stat> {
        match self {
            Found::Running { leader, .. } => tree_of(leader),
            Found::Orphaned(family) => family.clone(),
            Found::Stopped | Found::Stale(_) | Found::Elsewhere(_) | Found::Unknown(_) => {
                Vec::new()
            }
        }
    }
}

/// Why a service whose id another table has recorded is left alone.
pub fn elsewhere(table: &Path) -> String {
    format!("its id is recorded for another table: {}", table.display())
}

impl<'a> Scene<'a> {
    pub fn new(
        place: &'a Place,
        folder: Result<&'a Folder, &Refused>,
        table: &'a Table,
    ) -> Scene<'a> {
        let (folder, ledger, blind) = match folder {
            Ok(folder) => match Ledger::read(folder) {
                Ok(ledger) => (Ok(folder), ledger, None),
                Err(error) => (Ok(folder), Rc::default(), Some(error.to_string())),
            },
            Err(Refused::Missing) => (Err(String::new()), Rc::default(), None),
            Err(refused) => {
                let why = refused.about(&table.pids_dir);
                (Err(why.clone()), Rc::default(), Some(why))
            }
        };
        Scene {
            place,
            table: &table.file,
            folder,
            ledger: Records::Read(ledger),
            blind,
            families: OnceCell::new(),
        }
    }

    /// With records that were just read under the lock.
    pub fn with(
        place: &'a Place,
        table: &'a Table,
        folder: &'a Folder,
        ledger: &'a Ledger,
    ) -> Scene<'a> {
        Scene {
            place,
            table: &table.file,
            folder: Ok(folder),
            ledger: Records::Locked(ledger),
            blind: None,
            families: OnceCell::new(),
        }
    }

    /// The living family of a recorded instance, oldest first.
    pub fn family(&self, id: &str) -> Result<Vec<Stat>, String> {
        let families = self.families.get_or_init(|| self.find_families());
        let families = families.as_ref().map_err(Clone::clone)?;
        Ok(families.get(id).cloned().unwrap_or_default())
    }

    /// Those of all recorded instances, by the one walk.
    fn find_families(&self) -> Result<HashMap<String, Vec<Stat>>, String> {
        let Ok(folder) = self.folder else {
            return Ok(HashMap::new());
        };
        let entries = self.ledger.entries.values();
        let (ids, traces): (Vec<&String>, Vec<Traces>) = entries
            .filter_map(|entry| Some((&entry.id, Traces::of(entry.instance.as_ref()?, self.place))))
            .unzip();
        let census = Census::take(&Interest::of(&traces))
            .map_err(|error| format!("/proc cannot be read: {error}"))?;
        let families = census
            .families(&traces, &folder.path)
            .into_iter()
            .map(|family| {
                let mut family: Vec<Stat> = family.into_iter().cloned().collect();
                family.sort_by(|a, b| a.identity().by_birth(&b.identity()));
                family
            });
        Ok(ids.into_iter().cloned().zip(families).collect())
    }

    /// What is there of one id. `service`: its entry in the table, where it has one.
    pub fn observe(&self, id: &str, service: Option<&Service>) -> Observation {
        let entry = self.ledger.entries.get(id).cloned();
        let at_work = |claim: Option<&Claim>| {
            claim.is_some_and(|claim| verdict::is_at_work(claim, self.place))
        };
        let starter_at_work = at_work(entry.as_ref().and_then(|entry| entry.starter.as_ref()));
        let stopper_at_work = at_work(entry.as_ref().and_then(|entry| entry.stopper.as_ref()));
        let pid_file = match self.folder {
            Ok(folder) => pidfile::read(folder, id),
            Err(_) => PidFile::Missing,
        };
        let found = match &self.blind {
            Some(why) => Found::Unknown(why.clone()),
            None => self.find(id, service, entry.as_ref(), &pid_file),
        };
        Observation {
            found,
            pid_file,
            entry,
            starter_at_work,
            stopper_at_work,
        }
    }

    fn find(
        &self,
        id: &str,
        service: Option<&Service>,
        entry: Option<&Entry>,
        pid_file: &PidFile,
    ) -> Found {
        // A file that cannot be judged, or that another user could have written, is a reason to touch
        // nothing of the service, whatever the record says.
        if let PidFile::Unknown(why) = pid_file {
            return Found::Unknown(why.clone());
        }
        if let Some(instance) = entry.and_then(|entry| entry.instance.as_ref()) {
            if let Some(table) = entry.and_then(|entry| self.other_table(entry)) {
                return Found::Elsewhere(table);
            }
            match verdict::of_leader(instance, self.place) {
                Verdict::Ours(leader) => {
                    return Found::Running {
                        leader,
                        recorded: true,
                    };
                }
                Verdict::CannotTell(why) => return Found::Unknown(why),
                Verdict::NotOurs => match self.family(id) {
                    Err(why) => return Found::Unknown(why),
                    Ok(family) if !family.is_empty() => return Found::Orphaned(family),
                    Ok(_) => {}
                },
            }
            // Where a record names that PID, the record alone decides.
            if matches!(pid_file, PidFile::Pid { pid, .. } if *pid == instance.leader.pid) {
                return Found::Stale(format!("PID {} is gone", instance.leader.pid));
            }
        }
        match pid_file {
            PidFile::Missing | PidFile::Unknown(_) => Found::Stopped,
            PidFile::Garbage(why) => Found::Stale(why.clone()),
            PidFile::Pid { pid, written } => self.find_by_pid_file(service, *pid, *written),
        }
    }

    /// The other table that an entry was made from. One that is there no more (its folder was moved, say)
    /// has left its services to this one.
    fn other_table(&self, entry: &Entry) -> Option<PathBuf> {
        (entry.table != self.table && entry.table.exists()).then(|| entry.table.clone())
    }

    fn find_by_pid_file(
        &self,
        service: Option<&Service>,
        pid: i32,
        written: std::time::SystemTime,
    ) -> Found {
        let stat = match Pidfd::open(pid) {
            Ok(Some((_, stat))) if stat.is_alive() => stat,
            Ok(_) => return Found::Stale(format!("PID {pid} is gone")),
            Err(error) => return Found::Unknown(format!("PID {pid} cannot be looked at: {error}")),
        };
        let another = |why: &str| {
            Found::Stale(format!(
                "PID {pid} ({}) is not this service: {why}",
                stat.comm
            ))
        };
        if let Some(owner) = self.owner_of(stat.identity()) {
            return another(&format!("it is {owner}"));
        }
        let Some(service) = service else {
            return another("the table does not know it");
        };
        let measure = match Measure::new(service, self.place) {
            Ok(measure) => measure,
            Err(why) => return Found::Unknown(why),
        };
        match measure.is_service(&stat, Some(written), || {
            holds_port(service, stat.identity())
        }) {
            Finding::Ours => Found::Running {
                leader: stat,
                recorded: false,
            },
            Finding::NotOurs(why) => another(&why),
            Finding::CannotTell(why) => Found::Unknown(format!("PID {pid} ({}): {why}", stat.comm)),
        }
    }

    /// The id that records this very process as its leader or member.
    pub fn owner_of(&self, identity: Identity) -> Option<&str> {
        self.ledger.entries.values().find_map(|entry| {
            let instance = entry
                .instance
                .as_ref()
                .filter(|instance| instance.leader.is_here(self.place))?;
            let named = instance.leader.identity() == identity
                || instance.members().any(|member| member == identity);
            named.then_some(entry.id.as_str())
        })
    }
}

/// Does the process or a descendant of it listen on the service's port?
pub fn holds_port(service: &Service, process: Identity) -> io::Result<bool> {
    let Some(port) = service.port else {
        return Ok(false);
    };
    let pids: Vec<i32> = census::descendants(process)?
        .iter()
        .map(|stat| stat.pid)
        .collect();
    holders::is_held_by(port, &pids)
}

/// May a family that has lost its leader be a command that went to the background? Its health must be
/// able to tell it from the leavings of a crash.
pub fn may_be_followed(service: &Service) -> bool {
    service.daemonizes || service.health != Health::None
}

/// Whom a family that lost its leader is led by: the oldest holder of the port that descends from no
/// other, else the oldest process.
pub fn new_leader(family: &[Stat], port: Option<u16>) -> Option<Identity> {
    let pids: Vec<i32> = family.iter().map(|stat| stat.pid).collect();
    let holding = port
        .and_then(|port| holders::among(&holders::listeners_on(port).ok()?, &pids).ok())
        .unwrap_or_default();
    let parents: HashMap<i32, i32> = family.iter().map(|stat| (stat.pid, stat.ppid)).collect();
    let descends_from_holder = |pid: i32| {
        let mut seen = 0;
        let mut parent = parents.get(&pid);
        while let Some(&pid) = parent {
            if holding.contains(&pid) {
                return true;
            }
            seen += 1;
            parent = (seen <= family.len()).then(|| parents.get(&pid)).flatten();
        }
        false
    };
    let oldest = |stats: &mut dyn Iterator<Item = &Stat>| {
        stats.map(Stat::identity).min_by(Identity::by_birth)
    };
    oldest(
        &mut family
            .iter()
            .filter(|stat| holding.contains(&stat.pid) && !descends_from_holder(stat.pid)),
    )
    .or_else(|| oldest(&mut family.iter()))
}

/// The same of a leader that was just read.
pub fn tree_of(leader: &Stat) -> Vec<Stat> {
    census::family_tree(leader.clone()).unwrap_or_else(|_| vec![leader.clone()])
}

/// The leader's family as ancestry shows it; no walk. Empty when it has gone meanwhile.
pub fn by_ancestry(leader: Identity) -> Vec<Stat> {
    match census::descendants(leader) {
        Ok(family) => family,
        // A kernel without PROC_CHILDREN: the leader alone.
        Err(_) => proc::alive(leader).ok().flatten().into_iter().collect(),
    }
}
