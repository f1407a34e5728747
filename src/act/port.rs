//! A service's port that somebody else holds: who may be stopped is (contract section 5, takeover),
//! all others are named.

use super::context::Act;
use super::hunt::{self, Caught, Hunt};
use crate::config::{Schedule, Service, StopScope, Takeover};
use crate::family::holders::{self, Held};
use crate::family::instance;
use crate::family::stranger::{self, Finding, Measure};
use crate::family::trace::Traces;
use crate::state::ledger::Ledger;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::users;
use std::collections::HashSet;
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
    if held.pids.is_empty() {
        return Ok(Judged::Unseen(unseen(port, &held)));
    }
    let measure = Measure::new(service, &act.place)?;
    let (ledger, folder) = match &act.folder {
        Ok(folder) => (
            Ledger::read(folder).unwrap_or_default(),
            folder.path.clone(),
        ),
        Err(_) => (Ledger::default(), Default::default()),
    };
    let mut roots: Vec<Stat> = Vec::new();
    let mut refusals = Vec::new();
    let mut names = Vec::new();
    for &pid in &held.pids {
        let Ok(Some((_, stat))) = Pidfd::open(pid) else {
            continue;
        };
        names.push(name(&stat));
        if let Some(owner) = instance::of(&stat, &ledger, &folder, &act.place) {
            refusals.push(format!(
                "{} is {} of {}",
                name(&stat),
                owner.id,
                owner.table.display()
            ));
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
    let mut line = line
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    if line.len() > 60 {
        let end = (0..=57)
            .rev()
            .find(|&at| line.is_char_boundary(at))
            .unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    let line = crate::logs::sanitize::sanitize(line.as_bytes());
    format!(
        "PID {} ({}, user {user}: {line})",
        stat.pid,
        crate::logs::sanitize::sanitize(stat.comm.as_bytes())
    )
}

/// A port whose holder is no process that we see.
pub fn unseen(port: u16, held: &Held) -> String {
    match held.hidden.first() {
        Some(listener) => format!(
            "port {port} is held by a process of user {} that may not be seen from here (try as that user, or as root)",
            users::name_of(listener.uid)
        ),
        None => format!(
            "port {port} is held by no process visible from here (the kernel, another namespace, or a lingering socket)"
        ),
    }
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
    let hunt = Hunt {
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
    hunt::end(act, hunt).await
}

/// A folder as instance lookups want it.
pub fn folder_path(act: &Act) -> &Path {
    act.folder
        .as_ref()
        .map_or(Path::new(""), |folder| &folder.path)
}
