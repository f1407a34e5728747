//! One attempt to run a service's command (or its `prepare`): log, lock, fork behind the gate, PID file
//! and record, exec.

use super::context::Act;
use super::helper;
use crate::config::{Command, Service};
use crate::environment::{self, Environment};
use crate::family::trace;
use crate::logs;
use crate::state::pidfile;
use crate::state::record::{Claim, Entry, Instance, Log, Phase, recorded};
use crate::sys::boot;
use crate::sys::lock;
use crate::sys::proc::Identity;
use crate::sys::spawn::Stage;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::SystemTime;

/// What one attempt runs.
pub struct Attempt<'a> {
    pub service: &'a Service,
    pub environment: &'a Environment,
    pub command: &'a Command,
    pub phase: Phase,
    /// Of this start; the same for `prepare` and every attempt.
    pub token: &'a str,
}

/// It runs: its record is on disk and its exec has succeeded.
#[derive(Clone, Debug)]
pub struct Running {
    pub instance: Instance,
}

#[derive(Debug)]
pub enum NotRun {
    /// A `stop` came in between.
    Cancelled,
    Failed(String),
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

pub async fn run(act: &Rc<Act>, attempt: &Attempt<'_>) -> Result<Running, NotRun> {
    let failed = |error: io::Error| NotRun::Failed(error.to_string());
    let service = attempt.service;
    let folder = act
        .folder
        .as_ref()
        .map_err(|refused| NotRun::Failed(refused.about(&act.table.pids_dir)))?;
    let (file, log) = open_log(act, service).map_err(NotRun::Failed)?;
    let token = trace::token_value(attempt.token, None, &folder.path);
    let helper = attempt.phase == Phase::Preparing;
    let prepared =
        helper::prepare(attempt.command, attempt.environment, token, helper).map_err(failed)?;
    let template = template(act, attempt, log);
    let id = service.id.clone();
    let me = act.claim();
    let shared = act.clone();
    let table = act.table.file.clone();
    let journal = act.journal().map_err(NotRun::Failed)?;
    let forked = journal.update(move |transaction| -> Result<_, NotRun> {
        let mine = transaction
            .ledger
            .entries
            .get(&id)
            .is_some_and(|entry| entry.starter.as_ref() == Some(&me));
        if !mine {
            return Err(NotRun::Cancelled);
        }
        let null = shared.null.as_fd();
        let what = |error: io::Error| NotRun::Failed(format!("cannot be forked: {error}"));
        let folder = transaction.folder;
        let (gate, passage) = transaction.gate().map_err(what)?;
        let number = gate.next_child();
        let leader = gate
            .fork(&prepared, null, file.as_fd(), &shared.inherited)
            .map_err(what)?;
        shared.children.add(leader.pid);
        if let Err(error) = pidfile::write(folder, &id, leader.pid) {
            gate.turn_away(leader.pid);
            return Err(NotRun::Failed(format!("{}: {error}", pidfile::name(&id))));
        }
        let file_of = id.clone();
        transaction.on_failure(move |folder| {
            let _ = pidfile::remove(folder, &file_of, &[leader.pid]);
        });
        let instance = Instance {
            leader: Claim {
                pid: leader.pid,
                start_time: leader.start_time,
                ..me
            },
            since: leader.start_time,
            session: Some(leader.pid),
            ..template
        };
        let entry: &mut Entry = transaction.ledger.entry(&id, &table);
        // What `prepare` left in the background stays family.
        let earlier = entry
            .instance
            .take()
            .filter(|earlier| earlier.token == instance.token);
        let since = earlier.map_or(instance.since, |earlier| earlier.since);
        entry.instance = Some(Instance {
            since,
            ..instance.clone()
        });
        entry.failure = None;
        Ok((Instance { since, ..instance }, number, passage))
    });
    let (instance, number, passage) = match forked.await {
        Ok(result) => result?,
        Err(why) => {
            return Err(NotRun::Failed(why));
        }
    };
    passage
        .until(|passage| passage.is_some().then_some(()))
        .await;
    if let Some((stage, why)) = passage.see(|passage| {
        passage
            .as_ref()
            .and_then(|failures| failures.get(&number))
            .map(|(stage, error)| (*stage, error.to_string()))
    }) {
        return Err(NotRun::Failed(exec_failure(attempt, stage, &why)));
    }
    Ok(Running { instance })
}

fn exec_failure(attempt: &Attempt<'_>, stage: Stage, why: &str) -> String {
    let subject = match stage {
        Stage::User => format!(" ({})", attempt.service.user.as_deref().unwrap_or_default()),
        Stage::Cwd => format!(" ({})", attempt.environment.cwd.display()),
        _ => String::new(),
    };
    format!("it could not {}{subject}: {why}", stage.doing())
}

/// The record without the leader, which is not forked yet.
fn template(act: &Act, attempt: &Attempt<'_>, log: Log) -> Instance {
    let service = attempt.service;
    let executable = attempt
        .environment
        .program(service)
        .and_then(|program| executable(&program.found));
    Instance {
        leader: Claim {
            pid: 0,
            start_time: 0,
            ..act.claim()
        },
        since: 0,
        token: attempt.token.to_string(),
        started_at: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0.0, |time| time.as_secs_f64()),
        phase: attempt.phase,
        followed: false,
        session: None,
        members: Vec::new(),
        frozen: false,
        log,
        port: service.port,
        uid: attempt.environment.uid(),
        stop_schedule: recorded(&service.schedule),
        stop_leader_only: service.stop_scope == crate::config::StopScope::Leader,
        ready_timeout_ms: service.ready_timeout.as_millis() as u64,
        digest: environment::digest(&act.table, service),
        executable,
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
    let log = Log {
        begin: std::fs::metadata(&path).map_or(0, |m| m.len()),
        path,
        device: 0,
        inode: 0,
        lock: None,
    };
    let attempt = Attempt {
        service,
        environment,
        command: &service.command,
        phase: Phase::Ready,
        token: "",
    };
    let age = boot::age(leader.start_time);
    let template = template(act, &attempt, log);
    Instance {
        leader: Claim::new(leader, &act.place),
        since: leader.start_time,
        started_at: template.started_at - age,
        followed: true,
        ..template
    }
}
