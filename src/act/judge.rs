//! What may be done about a holder of a port that is to be freed: ended, stopped as the service that it
//! is, or left alone for a reason that is told.

use super::context::Act;
use super::holder::{Fate, Holder, Wish};
use super::port;
use crate::family::{instance, stranger, trace};
use crate::observe::{Found, Scene};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::sys::boot;
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Stat};
use crate::sys::shell;
use crate::sys::users;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

pub struct Judge<'a> {
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

impl<'a> Judge<'a> {
    pub fn new(act: &'a Act, wish: &'a Wish, scene: Scene<'a>) -> Judge<'a> {
        Judge {
            act,
            wish,
            scene,
            services: HashMap::new(),
            doubtful: HashMap::new(),
            ancestors: boot::ancestors(),
            inside: None,
        }
    }

    /// Processes of the services whose ports these are: the known candidates.
    pub fn suspects(&mut self, ports: &HashSet<u16>) -> Vec<i32> {
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
            let found = self.scene.observe(id, service).found;
            if let Found::Unknown(why) = &found {
                self.doubtful.insert(port, format!("{id}: {why}"));
            }
            for stat in found.family() {
                suspects.push(stat.pid);
                self.services.insert(stat.pid, id.to_string());
            }
        }
        suspects
    }

    pub fn holder(&mut self, stat: Stat, pidfd: &Pidfd, port: u16) -> Holder {
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
                    return Some(Fate::Failed(format!(
                        "it cannot be told whether it is a service: {error}"
                    )));
                }
            },
        };
        let id = &owner.id;
        if owner.table != table.file {
            if owner.table.exists() {
                let path = owner.table.to_string_lossy();
                let path = shell::word(&path);
                return Some(Fate::Refused(format!(
                    "it is service {id} of another table: pidctl -c {path} stop {id}"
                )));
            }
            // A table that is there no more has left what is recorded here to this one, and what is
            // recorded elsewhere to nobody.
            let here = self.scene.ledger.entries.get(id);
            if here.is_none_or(|entry| entry.table != owner.table) {
                return None;
            }
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
