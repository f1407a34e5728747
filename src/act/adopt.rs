//! Taking a process that runs already as the service: proven as contract section 5 demands, then it gets
//! PID file and record.

use super::context::Act;
use super::{holder, judge, launch, port};
use crate::config::Service;
use crate::environment::Environment;
use crate::events::EventKind;
use crate::family::stranger::{self, Finding, Measure};
use crate::family::{holders, instance};
use crate::observe::{self, Found, Scene};
use crate::state::pidfile;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use serde::Serialize;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptOutcome {
    Adopted,
    AlreadyRunning,
    Failed,
}

#[derive(Clone, Debug, Serialize)]
pub struct Adopted {
    pub id: String,
    pub outcome: AdoptOutcome,
    pub pid: Option<i32>,
    pub detail: Option<String>,
    /// Told beside the result.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// `pid`: the process to take; none: whoever holds the service's port.
pub async fn adopt(act: &Rc<Act>, index: usize, pid: Option<i32>) -> Adopted {
    let service = &act.table.services[index];
    let mut notes = Vec::new();
    let (outcome, pid, detail) = match try_adopt(act, index, pid, &mut notes).await {
        Ok((outcome, leader)) => (outcome, Some(leader.pid), None),
        Err(why) => (AdoptOutcome::Failed, None, Some(why)),
    };
    Adopted {
        id: service.id.clone(),
        outcome,
        pid,
        detail,
        notes,
    }
}

async fn try_adopt(
    act: &Rc<Act>,
    index: usize,
    pid: Option<i32>,
    notes: &mut Vec<String>,
) -> Result<(AdoptOutcome, Identity), String> {
    let journal = act.journal()?.clone();
    let service = &act.table.services[index];
    let environment = Environment::of(service)?;
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let by_pid_file = match standing(&scene, service, pid)? {
        Standing::Running(leader) => return Ok((AdoptOutcome::AlreadyRunning, leader)),
        Standing::ByPidFile(leader) => Some(leader),
        Standing::Vacant => None,
    };
    let candidates = Candidates {
        act,
        service,
        measure: Measure::new(service, &act.place)?,
        scene: &scene,
    };
    let leader = match (pid, by_pid_file) {
        (Some(pid), _) => candidates.named(pid)?,
        (None, Some(leader)) => leader,
        (None, None) => candidates.on_port(notes)?,
    };
    if let Some(manager) = stranger::manager(&leader) {
        notes.push(format!(
            "PID {} belongs to {manager}, which may start it again after a stop",
            leader.pid
        ));
    }
    let identity = leader.identity();
    let family = observe::by_ancestry(identity);
    let members: Vec<(i32, u64)> = family
        .iter()
        .map(|stat| (stat.pid, stat.start_time))
        .collect();
    let shared = act.clone();
    let written = journal.update(move |transaction| {
        let service = &shared.table.services[index];
        // What was seen without the lock may have changed.
        let scene = Scene::with(
            &shared.place,
            &shared.table,
            transaction.folder,
            transaction.ledger,
        );
        if let Standing::Running(leader) = standing(&scene, service, Some(identity.pid))? {
            return Ok((AdoptOutcome::AlreadyRunning, leader));
        }
        if !matches!(proc::alive(identity), Ok(Some(_))) {
            return Err(format!("PID {} has ended meanwhile", identity.pid));
        }
        pidfile::write(transaction.folder, &service.id, identity.pid)
            .map_err(|error| format!("{}: {error}", pidfile::name(&service.id)))?;
        let id = service.id.clone();
        transaction.on_failure(move |folder| {
            let _ = pidfile::remove(folder, &id, &[identity.pid]);
        });
        let entry = transaction.ledger.entry(&service.id, &shared.table.file);
        entry.table = shared.table.file.clone();
        entry.starter = None;
        entry.stopper = None;
        entry.failure = None;
        entry.instance = Some(Rc::new(crate::state::record::Instance {
            members,
            ..launch::adopted(&shared, service, &environment, identity)
        }));
        Ok((AdoptOutcome::Adopted, identity))
    });
    let done = written.await??;
    if done.0 == AdoptOutcome::Adopted {
        act.event(
            EventKind::Adopted,
            &service.id,
            Some(identity.pid),
            format!("taken as it runs: {}", port::name(&leader)),
            &[],
        );
    }
    Ok(done)
}

/// What there is of the service already.
enum Standing {
    /// By its record.
    Running(Identity),
    /// By a PID file that a script wrote, and the proof.
    ByPidFile(Stat),
    Vacant,
}

/// The error: why nothing can be adopted now. `pid`: the process that is wanted.
fn standing(scene: &Scene<'_>, service: &Service, pid: Option<i32>) -> Result<Standing, String> {
    let observation = scene.observe(&service.id, Some(service));
    if observation.stopper_at_work || observation.starter_at_work {
        return Err("another command is starting or stopping it just now".to_string());
    }
    let another = |leader: &Stat| pid.is_some_and(|pid| pid != leader.pid);
    match observation.found {
        Found::Unknown(why) => Err(why),
        Found::Elsewhere(table) => Err(format!(
            "{}; stop it there first",
            observe::elsewhere(&table)
        )),
        Found::Orphaned(family) => Err(format!(
            "what is left of an earlier start still runs: {} (pidctl start or stop deals with it)",
            family.iter().map(port::name).collect::<Vec<_>>().join(", ")
        )),
        Found::Running { leader, .. } if another(&leader) => Err(format!(
            "it runs already, as {}; stop it first",
            port::name(&leader)
        )),
        Found::Running {
            leader,
            recorded: true,
        } => Ok(Standing::Running(leader.identity())),
        Found::Running { leader, .. } => Ok(Standing::ByPidFile(leader)),
        Found::Stopped | Found::Stale(_) => Ok(Standing::Vacant),
    }
}

struct Candidates<'a> {
    act: &'a Act,
    service: &'a Service,
    measure: Measure<'a>,
    scene: &'a Scene<'a>,
}

impl Candidates<'_> {
    fn named(&self, pid: i32) -> Result<Stat, String> {
        match Pidfd::open(pid) {
            Ok(Some((_, stat))) if stat.is_alive() => match self.prove(&stat) {
                Ok(()) => Ok(stat),
                Err(why) => Err(format!("{}: {why}", port::name(&stat))),
            },
            Ok(_) => Err(format!("there is no process {pid}")),
            Err(error) => Err(format!("PID {pid} cannot be looked at: {error}")),
        }
    }

    /// The oldest holder that descends from no other; failing the proof, the nearest of its parents
    /// that passes it (`npm start` does not listen, its child does).
    fn on_port(&self, notes: &mut Vec<String>) -> Result<Stat, String> {
        let port = self
            .service
            .port
            .ok_or("it has no port to find its process by; name that with --pid PID")?;
        let held = holders::of(Protocol::Tcp, &PortSet::from(port))
            .map_err(|error| format!("port {port} cannot be looked at: {error}"))?
            .remove(&port)
            .ok_or_else(|| format!("nobody listens on port {port}"))?;
        let stats: Vec<Stat> = held
            .pids
            .iter()
            .filter_map(|&pid| Some(Pidfd::open(pid).transpose()?.map(|(_, stat)| stat)))
            .collect::<std::io::Result<_>>()
            .map_err(|error| format!("who holds port {port} cannot be looked at: {error}"))?;
        let roots = holder::roots(&stats);
        let is_root = |stat: &&Stat| roots.get(&stat.identity()) == Some(stat);
        let oldest = stats
            .iter()
            .filter(is_root)
            .min_by(|a, b| a.identity().by_birth(&b.identity()));
        let Some(oldest) = oldest else {
            return Err(port::unseen(port, &held));
        };
        let mut refusal = None;
        for candidate in std::iter::once(oldest.clone()).chain(holder::ancestry(oldest)) {
            match self.prove(&candidate) {
                Ok(()) => {
                    let others = stats.iter().filter(is_root).filter(|stat| *stat != oldest);
                    notes.extend(others.map(|stat| {
                        format!(
                            "port {port} is held by {} as well, which stays a stranger",
                            port::name(stat)
                        )
                    }));
                    return Ok(candidate);
                }
                Err(why) => {
                    refusal.get_or_insert(why);
                }
            }
        }
        Err(format!(
            "{}, which holds port {port}: {}",
            port::name(oldest),
            refusal.unwrap_or_default()
        ))
    }

    fn prove(&self, stat: &Stat) -> Result<(), String> {
        let folder = port::folder_path(self.act);
        let unknown = |error: std::io::Error| format!("it cannot be told whose it is: {error}");
        let owner = instance::of(stat, &self.scene.ledger, folder, &self.act.place);
        if let Some(owner) = owner.map_err(unknown)? {
            return Err(format!(
                "it belongs to {} of {}",
                owner.id,
                owner.table.display()
            ));
        }
        if let Some(why) = judge::unread_folder(stat, folder) {
            return Err(format!("it cannot be told whether it is a service: {why}"));
        }
        let holds = || observe::holds_port(self.service, stat.identity());
        match self.measure.is_service(stat, None, holds) {
            Finding::Ours => Ok(()),
            Finding::NotOurs(why) => Err(format!("it is not this service: {why}")),
            Finding::CannotTell(why) => Err(format!("it cannot be told whose it is: {why}")),
        }
    }
}
