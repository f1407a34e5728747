//! What `run` tells of its services beside their logs, and its JSON document.

use super::{Ink, Style, results};
use crate::act::foreground::{End, Fate, News};
use crate::act::outcome::{Receipt, StartOutcome, Started, StopOutcome, Stopped};
use crate::sys::wait::Exit;
use serde::Serialize;

/// A line for what has happened; `None` where it is not to be told.
pub fn news(style: &Style, id: &str, width: usize, news: &News<'_>) -> Option<String> {
    let pid = |pid: &i32| format!("PID {pid}");
    let (ink, word, facts) = match news {
        News::Down(end) => {
            let (ink, word) = match end {
                End { failed: true, .. } => (Ink::Red, "failed"),
                End {
                    elsewhere: true, ..
                } => (Ink::Yellow, "stopped"),
                _ => (Ink::Green, "ended"),
            };
            let facts = end.pid.as_ref().map(pid).into_iter();
            (ink, word, facts.chain(end.detail.clone()).collect())
        }
        News::StartedElsewhere(new) => (
            Ink::Green,
            "started",
            vec![pid(new), "by another command".to_string()],
        ),
        News::Followed(new) => (
            Ink::Green,
            "followed",
            vec![pid(new), "its command went to the background".to_string()],
        ),
    };
    let failed = matches!(news, News::Down(End { failed: true, .. }));
    (!style.quiet || failed).then(|| results::line(style, id, width, ink, word, &facts))
}

/// A start that the end of the run has ended.
pub fn cut_short(style: &Style, id: &str, width: usize) -> Option<String> {
    let facts = ["while it was starting".to_string()];
    (!style.quiet).then(|| results::line(style, id, width, Ink::Green, "stopped", &facts))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By itself, with exit status 0.
    Ended,
    /// By the stop signal, or by another command.
    Stopped,
    Killed,
    Failed,
    /// What it depends on was not up.
    Skipped,
}

/// One service in the document of `run`.
#[derive(Debug, Serialize)]
pub struct Row {
    id: String,
    outcome: Outcome,
    pid: Option<i32>,
    /// Of a leader that ended by itself; 128 and the number of the signal that ended it.
    exit_status: Option<i32>,
    exit_signal: Option<String>,
    attempts: u32,
    ready_ms: Option<u64>,
    signals: Vec<String>,
    processes: usize,
    elapsed_ms: Option<u64>,
    detail: Option<String>,
    receipts: Vec<Receipt>,
}

impl Row {
    pub fn new(id: &str, fate: &Fate, started: Option<&Started>, stopped: Option<&Stopped>) -> Row {
        let mut row = Row {
            id: id.to_string(),
            outcome: Outcome::Stopped,
            pid: started.and_then(|started| started.pid),
            exit_status: None,
            exit_signal: None,
            attempts: started.map_or(0, |started| started.attempts),
            ready_ms: started.and_then(|started| started.ready_ms),
            signals: Vec::new(),
            processes: 0,
            elapsed_ms: None,
            detail: None,
            receipts: Vec::new(),
        };
        match fate {
            Fate::Down(end) => {
                row.outcome = match end {
                    End { failed: true, .. } => Outcome::Failed,
                    End { exit: Some(_), .. } => Outcome::Ended,
                    _ => Outcome::Stopped,
                };
                row.pid = end.pid.or(row.pid);
                row.exit_status = end.exit.map(Exit::status);
                row.exit_signal = end
                    .exit
                    .and_then(Exit::signal)
                    .map(|signal| signal.to_string());
                row.detail.clone_from(&end.detail);
                row.receipts.clone_from(&end.receipts);
                let skipped =
                    started.is_some_and(|started| started.outcome == StartOutcome::Skipped);
                if skipped && end.failed {
                    row.outcome = Outcome::Skipped;
                }
            }
            Fate::Up(pid) => row.pid = Some(*pid),
            Fate::Pending => {}
        }
        if let Some(stopped) = stopped.filter(|stopped| stopped.outcome != StopOutcome::NotRunning)
        {
            row.add(stopped);
        }
        row
    }

    fn add(&mut self, stopped: &Stopped) {
        self.outcome = match (self.outcome, stopped.outcome) {
            (_, StopOutcome::Failed) => Outcome::Failed,
            (before @ (Outcome::Failed | Outcome::Skipped), _) => before,
            (_, StopOutcome::Killed) => Outcome::Killed,
            _ => Outcome::Stopped,
        };
        self.pid = stopped.pid.or(self.pid);
        self.signals = stopped.signals.iter().map(ToString::to_string).collect();
        self.processes = stopped.processes;
        self.elapsed_ms = Some(stopped.elapsed_ms);
        self.detail = stopped.detail.clone().or(self.detail.take());
        self.receipts.extend(stopped.receipts.iter().cloned());
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed | Outcome::Skipped)
    }

    /// `api_8000 (exit status 3)`
    pub fn failure(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{} ({})", self.id, super::harmless(detail)),
            None => self.id.clone(),
        }
    }
}
