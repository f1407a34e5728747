//! What a drill tells: the values, the JSON document, and why one failed.

use super::{Style, json};
use crate::act::drill::{Drilled, Process};
use crate::act::outcome::Receipt;
use crate::config::Service;
use crate::family::reception::Reception;
use crate::sys::wait::Exit;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
}

/// One stop of one service; the keys of the JSON document.
#[derive(Debug, Serialize)]
pub struct Run {
    pub outcome: Verdict,
    /// From the first signal to the end of the last process.
    pub elapsed_ms: Option<u64>,
    pub killed: Option<bool>,
    /// Of the leader; 128 and the number of the signal that ended it.
    pub exit_status: Option<i32>,
    /// How many.
    pub left_behind: Option<usize>,
    pub port_released: Option<bool>,
    pub detail: Option<String>,
    pub exit_signal: Option<String>,
    pub timeout_ms: u64,
    signals: Vec<String>,
    pub port_released_ms: Option<u64>,
    pub processes: Vec<Seen>,
    /// What was logged after the signal, or before the start failed: the last lines.
    pub logged: Vec<String>,
    pub receipts: Vec<Receipt>,
    #[serde(skip)]
    pub handling: String,
}

/// One process of the family.
#[derive(Debug, Serialize)]
pub struct Seen {
    pub pid: i32,
    pub start_time: u64,
    pub command: String,
    /// How it would take the stop signal: `null` where it was not there before.
    pub reception: Option<Reception>,
    pub signalled: bool,
    pub ended_ms: Option<u64>,
    pub killed: bool,
    pub left_behind: bool,
}

pub struct Row {
    pub id: String,
    pub runs: Vec<Run>,
    pub timeout_ms: u64,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    #[serde(flatten)]
    worst: &'a Run,
    runs: &'a [Run],
}

impl Run {
    pub fn of(service: &Service, drilled: &Drilled) -> Run {
        let millis = |duration: std::time::Duration| duration.as_millis() as u64;
        let left: Vec<_> = drilled.left_behind().map(|p| p.identity).collect();
        let stopped = &drilled.stopped;
        let seen = |process: &Process| Seen {
            pid: process.identity.pid,
            start_time: process.identity.start_time,
            command: process.command.clone(),
            reception: process.reception,
            signalled: process.signalled,
            ended_ms: process.ended_after.map(millis),
            killed: process.killed,
            left_behind: left.contains(&process.identity),
        };
        let leader = drilled
            .processes
            .iter()
            .find(|process| process.identity == drilled.leader);
        Run {
            outcome: match drilled.passes() {
                true => Verdict::Pass,
                false => Verdict::Fail,
            },
            elapsed_ms: Some(millis(drilled.elapsed)),
            killed: Some(drilled.was_killed()),
            exit_status: drilled.exit.map(Exit::status),
            exit_signal: drilled
                .exit
                .and_then(Exit::signal)
                .map(|signal| signal.to_string()),
            left_behind: Some(left.len()),
            port_released: drilled.port_released,
            port_released_ms: drilled.port_released_after.map(millis),
            detail: why_failed(service, drilled),
            timeout_ms: millis(drilled.timeout),
            signals: stopped.signals.iter().map(ToString::to_string).collect(),
            processes: drilled.processes.iter().map(seen).collect(),
            logged: drilled.logged.clone(),
            receipts: stopped.receipts.clone(),
            handling: handling(service, leader.and_then(|leader| leader.reception)),
        }
    }

    /// It never came to the signal.
    pub fn not_drilled(why: String) -> Run {
        Run {
            outcome: Verdict::Fail,
            elapsed_ms: None,
            killed: None,
            exit_status: None,
            left_behind: None,
            port_released: None,
            detail: Some(why),
            exit_signal: None,
            timeout_ms: 0,
            signals: Vec::new(),
            port_released_ms: None,
            processes: Vec::new(),
            logged: Vec::new(),
            receipts: Vec::new(),
            handling: "-".to_string(),
        }
    }

    pub fn with_log(self, lines: &[String]) -> Run {
        Run {
            logged: lines.to_vec(),
            ..self
        }
    }
}

impl Row {
    pub fn new(service: &Service) -> Row {
        Row {
            id: service.id.clone(),
            runs: Vec::new(),
            timeout_ms: service.schedule.total().as_millis() as u64,
        }
    }

    pub fn passes(&self) -> bool {
        self.runs.iter().all(|run| run.outcome == Verdict::Pass)
    }

    /// The run that is told: one that failed, and of those alike the longest.
    pub fn worst(&self) -> Option<&Run> {
        self.runs
            .iter()
            .max_by_key(|run| (run.outcome == Verdict::Fail, run.elapsed_ms))
    }
}

fn why_failed(service: &Service, drilled: &Drilled) -> Option<String> {
    let mut reasons = Vec::new();
    if service.schedule.steps.is_empty() {
        reasons.push("its table says SIGKILL at once: it cannot end by itself".to_string());
    } else if drilled.leader_killed {
        let timeout = humantime::format_duration(service.schedule.total());
        reasons.push(format!("it did not end by itself within {timeout}"));
    }
    let left = names(drilled.left_behind());
    if !left.is_empty() {
        reasons.push(format!("left behind, then killed: {left}"));
    }
    let unheard = names(drilled.without_signal());
    if !unheard.is_empty() && !reasons.is_empty() && !service.schedule.steps.is_empty() {
        reasons.push(format!("got no signal: {unheard}"));
    }
    if let (Some(false), Some(port)) = (drilled.port_released, service.port) {
        reasons.push(format!("port {port} is still held"));
    }
    reasons.extend(drilled.stopped.detail.clone());
    if reasons.is_empty() && !drilled.passes() {
        reasons.push("it had ended before the signal".to_string());
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn names<'a>(processes: impl Iterator<Item = &'a Process>) -> String {
    let name = |process: &Process| {
        let command = super::harmless(&process.command);
        format!("PID {} ({command})", process.identity.pid)
    };
    processes.map(name).collect::<Vec<_>>().join(", ")
}

/// `catches SIGTERM`
fn handling(service: &Service, reception: Option<Reception>) -> String {
    let Some((signal, _)) = service.schedule.steps.first() else {
        return "-".to_string();
    };
    match reception {
        None | Some(Reception::Unknown) => "-".to_string(),
        Some(reception) => format!("{} {signal}", verb(reception)),
    }
}

pub fn verb(reception: Reception) -> &'static str {
    match reception {
        Reception::Catches => "catches",
        Reception::Obeys => "dies of",
        Reception::Ignores => "ignores",
        Reception::Blocks => "blocks",
        Reception::Unknown => "?",
    }
}

pub fn print(style: &Style, rows: &[Row]) {
    if !style.json {
        return super::print(&super::drill_table::table(style, rows));
    }
    let documents: Vec<Document<'_>> = rows
        .iter()
        .filter_map(|row| {
            Some(Document {
                id: &row.id,
                worst: row.worst()?,
                runs: &row.runs,
            })
        })
        .collect();
    json::print(&json::Services {
        services: &documents,
    });
}
