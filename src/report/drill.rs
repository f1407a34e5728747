//! What a drill tells: a table with each service's time against its time-out, or JSON.

use super::results::seconds;
use super::{Ink, Style, json};
use crate::act::drill::{Drilled, Process};
use crate::act::outcome::Receipt;
use crate::config::Service;
use crate::report::forecast::Reception;
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
    killed: Option<bool>,
    /// Of the leader; 128 and the number of the signal that ended it.
    exit_status: Option<i32>,
    /// How many.
    left_behind: Option<usize>,
    port_released: Option<bool>,
    pub detail: Option<String>,
    exit_signal: Option<String>,
    timeout_ms: u64,
    signals: Vec<String>,
    port_released_ms: Option<u64>,
    processes: Vec<Seen>,
    /// What was logged after the signal, or before the start failed: the last lines.
    pub logged: Vec<String>,
    receipts: Vec<Receipt>,
    #[serde(skip)]
    handling: String,
}

/// One process of the family.
#[derive(Debug, Serialize)]
struct Seen {
    pid: i32,
    start_time: u64,
    command: String,
    /// How it would take the stop signal: `null` where it was not there before.
    reception: Option<Reception>,
    signalled: bool,
    ended_ms: Option<u64>,
    killed: bool,
    left_behind: bool,
}

pub struct Row {
    pub id: String,
    pub runs: Vec<Run>,
    timeout_ms: u64,
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

    fn exit(&self) -> String {
        match (&self.exit_signal, self.exit_status) {
            (Some(signal), _) => signal.clone(),
            (None, Some(status)) => status.to_string(),
            (None, None) => "-".to_string(),
        }
    }

    fn port(&self) -> String {
        match (self.port_released, self.port_released_ms) {
            (None, _) => "-".to_string(),
            (Some(false), _) => "held".to_string(),
            (Some(true), None) => "free".to_string(),
            (Some(true), Some(ms)) => format!("free after {}", seconds(ms)),
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
    fn worst(&self) -> Option<&Run> {
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
        let command = crate::logs::sanitize::sanitize(process.command.as_bytes());
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

fn verb(reception: Reception) -> &'static str {
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
        return super::print(&table(style, rows));
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

const HEAD: [&str; 7] = ["SERVICE", "RESULT", "TIME", "", "LEADER", "EXIT", "PORT"];

fn table(style: &Style, rows: &[Row]) -> String {
    let shown: Vec<(&Row, &Run)> = rows
        .iter()
        .filter(|row| !style.quiet || !row.passes())
        .filter_map(|row| Some((row, row.worst()?)))
        .collect();
    let cells: Vec<[String; 7]> = shown.iter().map(|(row, run)| cells(row, run)).collect();
    let width = |column: usize| {
        let all = cells.iter().map(|cells| cells[column].len());
        all.chain([HEAD[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |cells: &[String; 7], ink: Option<Ink>| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let fill = " ".repeat(widths[column] - cell.len());
            match ink {
                None => style.paint(Ink::Bold, cell) + &fill,
                Some(ink) if column == 1 => style.paint(ink, cell) + &fill,
                Some(_) => cell.clone() + &fill,
            }
        });
        let text = padded.collect::<Vec<_>>().join("  ");
        text.trim_end().to_string() + "\n"
    };
    let mut text = String::new();
    if !shown.is_empty() {
        text.push_str(&line(&HEAD.map(str::to_string), None));
    }
    for ((row, run), cells) in shown.iter().zip(&cells) {
        let ink = match row.passes() {
            true => Ink::Green,
            false => Ink::Red,
        };
        text.push_str(&line(cells, Some(ink)));
        for told in details(style, row, run) {
            text.push_str(&format!("    {}\n", style.paint(Ink::Dim, &told)));
        }
    }
    text
}

fn cells(row: &Row, run: &Run) -> [String; 7] {
    let word = match row.passes() {
        true => "pass",
        false => "FAIL",
    };
    let passed = row
        .runs
        .iter()
        .filter(|run| run.outcome == Verdict::Pass)
        .count();
    [
        row.id.clone(),
        match row.runs.len() {
            1 => word.to_string(),
            all => format!("{word} {passed}/{all}"),
        },
        run.elapsed_ms.map_or("-".to_string(), seconds),
        run.elapsed_ms
            .map_or(String::new(), |ms| bar(ms, row.timeout_ms)),
        run.handling.clone(),
        run.exit(),
        run.port(),
    ]
}

/// `[####----------------] of 10s`: the time against the time-out.
fn bar(elapsed_ms: u64, timeout_ms: u64) -> String {
    const WIDTH: u64 = 20;
    let filled = match timeout_ms {
        0 => WIDTH,
        timeout => (elapsed_ms * WIDTH).div_ceil(timeout).min(WIDTH),
    };
    let timeout = humantime::format_duration(std::time::Duration::from_millis(timeout_ms));
    format!(
        "[{}{}] of {timeout}",
        "#".repeat(filled as usize),
        "-".repeat((WIDTH - filled) as usize)
    )
}

fn details(style: &Style, row: &Row, run: &Run) -> Vec<String> {
    let mut told: Vec<String> = run.detail.iter().cloned().collect();
    if style.verbose || !row.passes() {
        told.extend(run.processes.iter().map(process));
    }
    if style.verbose {
        let receipts = run.receipts.iter().map(super::results::receipt);
        told.extend(receipts.map(|line| line.trim_start().to_string()));
    }
    if !row.passes() && !run.logged.is_empty() {
        told.push(match run.elapsed_ms {
            Some(_) => "logged after the signal:".to_string(),
            None => "its last output:".to_string(),
        });
        told.extend(run.logged.iter().map(|line| format!("  | {line}")));
    }
    told
}

/// `PID 4242 (node) catches it, ended after 0.20 s`
fn process(seen: &Seen) -> String {
    let command = crate::logs::sanitize::sanitize(seen.command.as_bytes());
    let mut text = format!("PID {} ({command})", seen.pid);
    match seen.reception {
        Some(reception) => text.push_str(&format!(" {} it", verb(reception))),
        None => text.push_str(" came after the signal"),
    }
    if !seen.signalled {
        text.push_str(", got no signal");
    }
    text.push_str(match (seen.killed, seen.ended_ms) {
        (true, _) => ", killed",
        (false, Some(_)) => ", ended",
        (false, None) => ", its end was not seen",
    });
    if let Some(ms) = seen.ended_ms {
        text.push_str(&format!(" after {}", seconds(ms)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn a_bar_shows_the_time_against_the_time_out() {
        assert_eq!(bar(0, 10_000), "[--------------------] of 10s");
        assert_eq!(bar(1, 10_000), "[#-------------------] of 10s");
        assert_eq!(bar(5_000, 10_000), "[##########----------] of 10s");
        assert_eq!(bar(99_000, 10_000), "[####################] of 10s");
        assert_eq!(bar(3, 0), "[####################] of 0s");
    }
}
