//! One line a service: what `start` and `stop` did.

use super::{Ink, Style};
use crate::act::outcome::{Effect, Receipt, StartOutcome, Started, StopOutcome, Stopped};

/// Prints a start's line on standard output; why it failed, and its last log lines, on standard error.
pub fn started(style: &Style, started: &Started, width: usize) {
    tell_notes(&started.id, &started.notes);
    if !started.log_lines.is_empty() {
        super::warn(&format!("{}: failed; its last output:", started.id));
        for text in &started.log_lines {
            super::warn(&format!("  | {text}"));
        }
    }
    if style.json {
        return;
    }
    if let Some(line) = started_line(style, started, width) {
        super::say(&line);
    }
}

/// `None` where it is not to be told.
pub fn started_line(style: &Style, started: &Started, width: usize) -> Option<String> {
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
    (!style.quiet || !started.is_up()).then(|| line(style, &started.id, width, ink, word, &facts))
}

pub fn stopped(style: &Style, stopped: &Stopped, width: usize) {
    tell_notes(&stopped.id, &stopped.notes);
    if style.json {
        return;
    }
    for line in stopped_lines(style, stopped, width) {
        super::say(&line);
    }
}

pub fn stopped_lines(style: &Style, stopped: &Stopped, width: usize) -> Vec<String> {
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
    let mut lines = Vec::new();
    if !style.quiet || stopped.outcome == StopOutcome::Failed {
        lines.push(line(style, &stopped.id, width, ink, word, &facts));
    }
    if style.verbose {
        lines.extend(stopped.receipts.iter().map(receipt));
    }
    lines
}

/// `SIGTERM to PID 4242 (node): ended`
pub fn receipt(receipt: &Receipt) -> String {
    let command = super::harmless(&receipt.command);
    let result = match receipt.result {
        Effect::Sent => "sent",
        Effect::Gone => "it had ended before",
        Effect::Ended => "ended",
        Effect::Survived => "lived on",
        Effect::Denied => "not allowed",
    };
    format!(
        "    {} to PID {} ({command}): {result}",
        receipt.signal, receipt.pid
    )
}

pub fn tell_notes(id: &str, notes: &[String]) {
    for note in notes {
        super::warn(&format!("{id}: {}", super::harmless(note)));
    }
}

/// `web_8000  started  PID 4242, ready in 0.21 s`
pub fn line(
    style: &Style,
    id: &str,
    width: usize,
    ink: Ink,
    word: &str,
    facts: &[String],
) -> String {
    let facts = if facts.is_empty() {
        String::new()
    } else {
        format!("  {}", super::harmless(&facts.join(", ")))
    };
    format!("{id:width$}  {}{facts}", style.paint(ink, word))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::WhenColor;

    #[test]
    fn what_a_process_calls_itself_steers_no_terminal() {
        let style = Style::new(false, false, false, WhenColor::Never);
        let why = "still there: 42 (\x1b]0;x\x07, sleeping)".to_string();
        let stopped = Stopped::failed("web", Some(42), why);
        let lines = stopped_lines(&style, &stopped, 3);
        assert!(lines[0].contains("42 (^[]0;x^G, sleeping)"), "{lines:?}");
    }
}
