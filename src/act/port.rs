//! A service's port that somebody else holds: who may be stopped is (contract section 5, takeover),
//! all others are named.

use super::context::Act;
use super::hunt::{self, Caught, Hunt};
use super::judge;
use crate::config::{Schedule, Service, StopScope, Takeover};
use crate::family::holders::{self, Held};
use crate::family::instance;
use crate::family::stranger::{self, Finding, Measure};
use crate::family::trace::Traces;
use crate::logs::sanitize::{brief, sanitize};
use crate::state::folder::Refused;
use crate::state::ledger::Ledger;
use crate::sys::boot;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::users;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// The answer for one port.
pub enum Judged {
    Free,
    /// These may be stopped: the topmost that qualify.
    Stoppable {
        roots: Vec<Stat>,
        named: String,
    },
    /// At least one may not; nobody is touched. For people: who, and how to proceed.
    Refused(String),
    /// Somebody's that may not be seen, or nobody's that can be.
    Unseen(String),
}

/// Who holds the service's TCP port, and may they be stopped?
pub fn judge(act: &Act, service: &Service, port: u16, which: Takeover) -> Result<Judged, String> {
    if holders::listeners_on(port)
        .map_err(|error| format!("port {port} cannot be looked at: {error}"))?
        .is_empty()
    {
        return Ok(Judged::Free);
    }
    let mut held = holders::of(Protocol::Tcp, &PortSet::from(port))
        .map_err(|error| format!("port {port}: {error}"))?;
    let Some(held) = held.remove(&port) else {
        return Ok(Judged::Free);
    };
    if held.pids.is_empty() || held.is_unseen() {
        return Ok(Judged::Unseen(unseen(port, &held)));
    }
    let measure = Measure::new(service, &act.place)?;
    // Whose instance a holder is cannot be known without the records.
    let (ledger, folder) = match &act.folder {
        Ok(folder) => (
            Ledger::read(folder).map_err(|error| format!("port {port}: {error}"))?,
            folder.path.clone(),
        ),
        Err(Refused::Missing) => Default::default(),
        Err(refused) => return Err(refused.about(&act.table.pids_dir)),
    };
    let mut roots: Vec<Stat> = Vec::new();
    let mut refusals = Vec::new();
    let mut names = Vec::new();
    for &pid in &held.pids {
        let unseen = |error| format!("port {port}: PID {pid} holds it and {error}");
        let Some((_, stat)) = Pidfd::open(pid).map_err(unseen)? else {
            continue;
        };
        names.push(name(&stat));
        let owner = instance::of(&stat, &ledger, &folder, &act.place);
        if let Some(owner) = owner.map_err(unseen)? {
            refusals.push(format!(
                "{}, which is service {} of {}",
                name(&stat),
                owner.id,
                owner.table.display()
            ));
            continue;
        }
        // It may be another table's service, whose records would tell.
        if let Some(why) = judge::unread_folder(&stat, &folder) {
            refusals.push(format!("{}: {why}", name(&stat)));
            continue;
        }
        if let Some(manager) = stranger::manager(&stat) {
            refusals.push(format!(
                "{} belongs to {manager}: {}",
                name(&stat),
                manager.advice(port)
            ));
            continue;
        }
        match qualifying_root(&measure, &stat, which) {
            Ok(root) if roots.iter().any(|seen| seen.pid == root.pid) => {}
            Ok(root) => roots.push(root),
            Err(why) => refusals.push(format!("{}: {why}", name(&stat))),
        }
    }
    if let Some(first) = refusals.first() {
        let others = if refusals.len() > 1 {
            format!("; {}", refusals[1..].join("; "))
        } else {
            String::new()
        };
        let way = match which {
            Takeover::Never => format!("free it with: pidctl free {port}"),
            _ => format!("if it may be ended: pidctl free {port}, or --takeover any"),
        };
        return Ok(Judged::Refused(format!(
            "port {port} is held by {first}{others} ({way})"
        )));
    }
    if roots.is_empty() {
        return Ok(Judged::Free);
    }
    Ok(Judged::Stoppable {
        roots,
        named: names.join(", "),
    })
}

/// The holder or, for the default takeover, the topmost of its ancestors that qualifies.
fn qualifying_root(measure: &Measure<'_>, holder: &Stat, which: Takeover) -> Result<Stat, String> {
    let mut best = None;
    let mut refusal = None;
    let mut current = holder.clone();
    let mut seen = HashSet::new();
    while current.pid > 1 && seen.insert(current.pid) {
        match measure.may_be_taken_over(&current, which) {
            Finding::Ours => best = Some(current.clone()),
            Finding::NotOurs(why) | Finding::CannotTell(why) => {
                refusal.get_or_insert(why);
            }
        }
        if which != Takeover::Matching {
            break;
        }
        match proc::stat(current.ppid) {
            Ok(parent) if parent.start_time <= current.start_time => current = parent,
            _ => break,
        }
    }
    best.ok_or_else(|| refusal.unwrap_or_else(|| "it does not qualify".to_string()))
}

/// `PID 4242 (node, user alice: node server.js)`.
pub fn name(stat: &Stat) -> String {
    let user = proc::uid(stat.pid).map_or_else(|_| "?".to_string(), users::name_of);
    let line = proc::cmdline(stat.pid).unwrap_or_default();
    let line: Vec<&[u8]> = line.iter().map(|word| word.as_bytes()).collect();
    // A title that a process gave itself is padded to the length of what it overwrote.
    let line = brief(line.join(&b' ').trim_ascii_end());
    format!(
        "PID {} ({}, user {user}: {line})",
        stat.pid,
        sanitize(stat.comm.as_bytes())
    )
}

/// A port whose holder is no process that we see.
pub fn unseen(port: u16, held: &Held) -> String {
    format!("port {port} is {}", unseen_by(held))
}

/// Who holds what we cannot attribute to a process: somebody hidden, or nobody.
pub fn unseen_by(held: &Held) -> String {
    if held.hidden.is_empty() {
        return "held by no process visible from here (the kernel, another namespace, or a lingering socket)".to_string();
    }
    let mut users: Vec<String> = held
        .hidden
        .iter()
        .map(|listener| users::name_of(listener.uid))
        .collect();
    users.sort();
    users.dedup();
    let me = boot::euid();
    let way = match me {
        0 => "pidctl lacks CAP_SYS_PTRACE",
        _ if held.hidden.iter().all(|listener| listener.uid == me) => "try as root",
        _ => "try as that user, or as root",
    };
    format!(
        "held by a process of user {} that may not be seen from here ({way})",
        users.join(", ")
    )
}

/// Ends the processes that were found stoppable, as the service itself would be ended.
pub async fn take_over(
    act: &Rc<Act>,
    id: &str,
    roots: Vec<Stat>,
    schedule: Schedule,
    why: &'static str,
) -> Caught {
    let known: Vec<Identity> = roots.iter().map(Stat::identity).collect();
    let mut hunt = Hunt {
        label: id.to_string(),
        traces: Traces::of_processes(known.clone()),
        // Their children would be orphans, and unknown, after the first signal.
        first: known
            .iter()
            .flat_map(|&root| crate::observe::by_ancestry(root))
            .collect(),
        leader: None,
        schedule,
        scope: StopScope::Family,
        kill_at: None,
        give_up_at: None,
        recorded: false,
        already_signalled: false,
        why,
    };
    hunt::end(act, &mut hunt).await
}

/// A folder as instance lookups want it.
pub fn folder_path(act: &Act) -> &Path {
    act.folder
        .as_ref()
        .map_or(Path::new(""), |folder| &folder.path)
}
