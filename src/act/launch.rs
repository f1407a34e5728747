//! One attempt to run a service's command (or its `prepare`): log, lock, fork behind the gate, PID file
//! and record, exec.

use super::context::Act;
use super::helper;
use super::journal::{Passage, Transaction};
use crate::config::{Command, Service};
use crate::environment::{self, Environment};
use crate::family::trace;
use crate::logs;
use crate::state::pidfile;
use crate::state::record::{Claim, Entry, Instance, Log, Phase, recorded};
use crate::sys::lock;
use crate::sys::proc::Identity;
use crate::sys::spawn::{Prepared, Stage};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// What one attempt runs.
pub struct Attempt<'a> {
    /// Of the service in the table.
    pub index: usize,
    pub service: &'a Service,
    pub environment: &'a Environment,
    pub command: &'a Command,
    pub phase: Phase,
    /// Of this start; the same for `prepare` and every attempt.
    pub token: &'a str,
}

#[derive(Debug)]
pub enum NotRun {
    /// A `stop` came in between.
    Cancelled,
    Failed(String),
    /// It was recorded, and then could not be executed.
    Exec {
        instance: Box<Instance>,
        why: String,
    },
}

/// Opens the log for appending, and marks the open file as this instance's.
fn open_log(act: &Act, service: &Service) -> Result<(File, Log), String> {
    let path = act.table.log_file(&service.id);
    let failed = |error: io::Error| format!("log {}: {error}", path.display());
    let file = logs::open::open_for_append(&path, true).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let offset = trace::new_lock_offset().map_err(failed)?;
    // A file system without locks (some network ones) leaves the other traces.
    let lock = lock::mark(&file, offset).ok().map(|()| offset);
    let log = Log {
        device: metadata.dev(),
        inode: metadata.ino(),
        begin: metadata.len(),
        lock,
        path,
    };
    Ok((file, log))
}

pub async fn run(act: &Rc<Act>, attempt: &Attempt<'_>) -> Result<Instance, NotRun> {
    let failed = |error: io::Error| NotRun::Failed(error.to_string());
    let folder = act
        .folder
        .as_ref()
        .map_err(|refused| NotRun::Failed(refused.about(&act.table.pids_dir)))?;
    let token = trace::token_value(attempt.token, None, &folder.path);
    let helper = attempt.phase == Phase::Preparing;
    let prepared =
        helper::prepare(attempt.command, attempt.environment, token, helper).map_err(failed)?;
    let newborn = Newborn {
        act: act.clone(),
        index: attempt.index,
        phase: attempt.phase,
        token: attempt.token.to_string(),
        uid: attempt.environment.uid(),
        executable: attempt
            .environment
            .found(attempt.service)
            .and_then(|found| executable(&found)),
    };
    let journal = act.journal().map_err(NotRun::Failed)?;
    let forked = journal.update(move |transaction| newborn.fork(prepared, transaction));
    let (instance, number, passage) = forked.await.map_err(NotRun::Failed)??;
    passage
        .until(|passage| passage.is_some().then_some(()))
        .await;
    let failure = passage.see(|passage| {
        let (stage, error) = passage.as_ref()?.get(&number)?;
        Some((*stage, error.to_string()))
    });
    match failure {
        Some((stage, why)) => Err(NotRun::Exec {
            instance: Box::new(instance),
            why: exec_failure(attempt, stage, &why),
        }),
        None => Ok(instance),
    }
}

/// A child about to be made, as far as its record can be written before.
struct Newborn {
    act: Rc<Act>,
    index: usize,
    phase: Phase,
    token: String,
    uid: u32,
    executable: Option<(std::path::PathBuf, u64, u64, i64)>,
}

impl Newborn {
    /// Under the lock: opens the log, makes the child, writes its PID file, adds its record.
    fn fork(
        self,
        prepared: Prepared,
        transaction: &mut Transaction<'_>,
    ) -> Result<(Instance, usize, Rc<Passage>), NotRun> {
        let service = &self.act.table.services[self.index];
        let id = service.id.clone();
        let me = self.act.claim();
        let claimed = |entry: &Entry| entry.starter.as_ref() == Some(&me);
        if !transaction.ledger.entries.get(&id).is_some_and(claimed) {
            return Err(NotRun::Cancelled);
        }
        let (file, log) = open_log(&self.act, service).map_err(NotRun::Failed)?;
        let what = |error: io::Error| NotRun::Failed(format!("cannot be forked: {error}"));
        let folder = transaction.folder;
        let (gate, passage) = transaction.gate().map_err(what)?;
        let number = gate.len();
        let null = self.act.null.as_fd();
        let leader = gate
            .fork(prepared, null, file.as_fd(), &self.act.inherited)
            .map_err(what)?;
        self.act.children.add(leader.pid);
        self.act.launched.borrow_mut().insert(self.index);
        if let Err(error) = pidfile::write(folder, &id, leader.pid) {
            gate.turn_away(leader.pid);
            return Err(NotRun::Failed(format!("{}: {error}", pidfile::name(&id))));
        }
        let file_of = id.clone();
        transaction.on_failure(move |folder| {
            let _ = pidfile::remove(folder, &file_of, &[leader.pid]);
        });
        let entry = transaction.ledger.entry(&id, &self.act.table.file);
        // What `prepare` left in the background stays family.
        let earlier = entry
            .instance
            .take()
            .filter(|earlier| earlier.token == self.token);
        let since = earlier.map_or(leader.start_time, |earlier| earlier.since);
        let made = record(&self.act, service, leader, log, self.uid);
        let instance = Instance {
            since,
            token: self.token,
            phase: self.phase,
            session: Some(leader.pid),
            executable: self.executable,
            ..made
        };
        entry.instance = Some(Rc::new(instance.clone()));
        entry.failure = None;
        // Of a stop that died; a living one would have taken our claim.
        entry.stopper = None;
        Ok((instance, number, passage))
    }
}

fn exec_failure(attempt: &Attempt<'_>, stage: Stage, why: &str) -> String {
    let subject = match stage {
        Stage::User => format!(" ({})", attempt.service.user.as_deref().unwrap_or_default()),
        Stage::Cwd => format!(" ({})", attempt.environment.cwd.display()),
        // The file was found: the kernel misses what is to run it.
        Stage::Exec if why.starts_with("No such file") => {
            " (the interpreter that its first line names, or its loader, is missing)".to_string()
        }
        _ => String::new(),
    };
    format!("it could not {}{subject}: {why}", stage.doing())
}

/// What is recorded of any instance of the service from now on.
fn record(act: &Act, service: &Service, leader: Identity, log: Log, uid: u32) -> Instance {
    Instance {
        leader: Claim::new(leader, &act.place),
        since: leader.start_time,
        token: String::new(),
        phase: Phase::Ready,
        followed: false,
        session: None,
        members: Vec::new(),
        frozen: false,
        log,
        port: service.port,
        uid,
        stop_schedule: recorded(&service.schedule),
        stop_leader_only: service.stop_scope == crate::config::StopScope::Leader,
        ready_timeout_ms: service.ready_timeout.as_millis() as u64,
        digest: environment::digest(&act.table, service),
        executable: None,
    }
}

/// Path, device, inode and modification time of a program: whether it has changed since.
pub fn executable(path: &std::path::Path) -> Option<(std::path::PathBuf, u64, u64, i64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((
        path.to_path_buf(),
        metadata.dev(),
        metadata.ino(),
        metadata.mtime(),
    ))
}

/// A record of a process that pidctl did not start: adopted, or taken for ours by its PID file.
pub fn adopted(
    act: &Act,
    service: &Service,
    environment: &Environment,
    leader: Identity,
) -> Instance {
    let path = act.table.log_file(&service.id);
    let begin = std::fs::metadata(&path).map_or(0, |m| m.len());
    let log = Log {
        begin,
        path,
        device: 0,
        inode: 0,
        lock: None,
    };
    Instance {
        followed: true,
        executable: environment
            .found(service)
            .and_then(|found| executable(&found)),
        ..record(act, service, leader, log, environment.uid())
    }
}
