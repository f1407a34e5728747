//! One line a service: what `start` and `stop` did.

use super::{Ink, Style};
use crate::act::outcome::{Receipt, StartOutcome, Started, StopOutcome, Stopped};

/// Prints a start's line on standard output; why it failed, and its last log lines, on standard error.
pub fn started(style: &Style, started: &Started, width: usize) {
    for note in &started.notes {
        super::warn(&format!("{}: {note}", started.id));
    }
    if !started.log_lines.is_empty() {
        super::warn(&format!("{}: its last output:", started.id));
        for text in &started.log_lines {
            super::warn(&format!("  | {text}"));
        }
    }
    if style.json {
        return;
    }
    let (ink, word) = match started.outcome {
        StartOutcome::Started => (Ink::Green, "started"),
        StartOutcome::AlreadyRunning => (Ink::Green, "already running"),
        StartOutcome::Failed => (Ink::Red, "failed"),
        StartOutcome::Skipped => (Ink::Yellow, "skipped"),
    };
    let mut facts = Vec::new();
    facts.extend(started.pid.map(|pid| format!("PID {pid}")));
    facts.extend(
        started
            .ready_ms
            .map(|ms| format!("ready in {}", seconds(ms))),
    );
    if started.attempts > 1 {
        facts.push(format!("{} attempts", started.attempts));
    }
    facts.extend(started.detail.clone());
    if !style.quiet || !started.is_up() {
        line(style, &started.id, width, ink, word, &facts);
    }
}

pub fn stopped(style: &Style, stopped: &Stopped, width: usize) {
    for note in &stopped.notes {
        super::warn(&format!("{}: {note}", stopped.id));
    }
    if style.json {
        return;
    }
    let (ink, word) = match stopped.outcome {
        StopOutcome::Stopped => (Ink::Green, "stopped"),
        StopOutcome::Killed => (Ink::Yellow, "killed"),
        StopOutcome::NotRunning => (Ink::Dim, "not running"),
        StopOutcome::StaleRemoved => (Ink::Yellow, "stale PID file removed"),
        StopOutcome::Failed => (Ink::Red, "failed"),
    };
    let mut facts = Vec::new();
    if stopped.processes > 0 {
        facts.extend(stopped.pid.map(|pid| format!("PID {pid}")));
        if stopped.processes > 1 {
            facts.push(format!("{} processes", stopped.processes));
        }
        facts.push(seconds(stopped.elapsed_ms));
        let signals: Vec<String> = stopped.signals.iter().map(ToString::to_string).collect();
        if !signals.is_empty() {
            facts.push(signals.join(", "));
        }
    }
    facts.extend(stopped.detail.clone());
    if !style.quiet || stopped.outcome == StopOutcome::Failed {
        line(style, &stopped.id, width, ink, word, &facts);
    }
    if style.verbose {
        for receipt in &stopped.receipts {
            self::receipt(receipt);
        }
    }
}

/// One signal to one process.
pub fn receipt(receipt: &Receipt) {
    let command = crate::logs::sanitize::sanitize(receipt.command.as_bytes());
    let result = serde_json::to_value(receipt.result)
        .ok()
        .and_then(|value| value.as_str().map(str::to_string));
    super::say(&format!(
        "    {} to PID {} ({command}): {}",
        receipt.signal,
        receipt.pid,
        result.unwrap_or_default()
    ));
}

pub fn line(style: &Style, id: &str, width: usize, ink: Ink, word: &str, facts: &[String]) {
    let facts = if facts.is_empty() {
        String::new()
    } else {
        format!("  {}", facts.join(", "))
    };
    super::say(&format!("{id:width$}  {}{facts}", style.paint(ink, word)));
}

/// `0.21 s`, `12 s`.
pub fn seconds(ms: u64) -> String {
    if ms < 10_000 {
        format!("{:.2} s", ms as f64 / 1000.0)
    } else {
        format!("{} s", ms / 1000)
    }
}

/// How wide the ids are.
pub fn width<'a>(ids: impl IntoIterator<Item = &'a str>) -> usize {
    ids.into_iter().map(str::len).max().unwrap_or(0)
}
