//! One line a port: what `free` found and did.

use super::results::seconds;
use super::{Ink, Style};
use crate::act::freed::{Fared, FreeOutcome, Freed, FreedProcess};
use crate::act::port;
use crate::family::holders::Held;
use crate::sys::signal::Signal;
use std::ops::RangeInclusive;

/// How wide `65535/tcp` is.
const WIDTH: usize = 9;

/// Prints a port's line. `unseen`: who holds it and is no process that we see.
pub fn port(style: &Style, freed: &Freed, unseen: Option<&Held>, dry_run: bool) {
    let (ink, word) = match (freed.outcome, dry_run) {
        (FreeOutcome::Freed, false) => (Ink::Green, "freed"),
        (FreeOutcome::Freed, true) => (Ink::Yellow, "would be freed"),
        (FreeOutcome::AlreadyFree, _) => (Ink::Dim, "already free"),
        (FreeOutcome::Refused, false) => (Ink::Red, "refused"),
        (FreeOutcome::Refused, true) => (Ink::Red, "would be refused"),
        (FreeOutcome::Failed, false) => (Ink::Red, "failed"),
        (FreeOutcome::Failed, true) => (Ink::Red, "would fail"),
    };
    let done = matches!(freed.outcome, FreeOutcome::Freed | FreeOutcome::AlreadyFree);
    if style.quiet && done {
        return;
    }
    let mut facts: Vec<String> = freed
        .processes
        .iter()
        .filter(|process| process.pid.is_some())
        .map(|process| told(process, done || dry_run))
        .collect();
    facts.extend(unseen.map(port::unseen_by));
    let signals = signals(freed);
    if !signals.is_empty() {
        facts.push(format!(
            "{} in {}",
            signals.join(", "),
            seconds(freed.elapsed_ms)
        ));
    }
    line(
        style,
        &format!("{}/{}", freed.port, freed.protocol),
        ink,
        word,
        &facts.join("; "),
    );
    if style.verbose {
        for receipt in &freed.receipts {
            super::say(&super::results::receipt(receipt));
        }
    }
}

/// Ports of a range that nobody holds, in one line.
pub fn free_range(style: &Style, range: RangeInclusive<u16>, protocol: impl std::fmt::Display) {
    if !style.quiet {
        let ports = format!("{}-{}/{protocol}", range.start(), range.end());
        line(style, &ports, Ink::Dim, "already free", "");
    }
}

fn line(style: &Style, what: &str, ink: Ink, word: &str, facts: &str) {
    let gap = if facts.is_empty() { "" } else { "  " };
    super::say(&format!(
        "{what:WIDTH$}  {}{gap}{}",
        style.paint(ink, word),
        super::harmless(facts)
    ));
}

fn told(process: &FreedProcess, plain: bool) -> String {
    let service = process
        .service
        .as_ref()
        .map(|id| format!("service {id}, "))
        .unwrap_or_default();
    let fared = match (&process.detail, process.outcome) {
        (Some(detail), _) => format!(": {detail}"),
        (None, _) if plain => String::new(),
        (None, Fared::Stopped) => ": stopped".to_string(),
        (None, Fared::Killed) => ": killed".to_string(),
        (None, Fared::Refused | Fared::Failed) => String::new(),
    };
    format!("{service}{}{fared}", process.named)
}

/// In the order they were first sent; what froze the processes for SIGKILL is left out.
fn signals(freed: &Freed) -> Vec<String> {
    let mut signals: Vec<String> = Vec::new();
    for receipt in &freed.receipts {
        let name = receipt.signal.to_string();
        if receipt.signal != Signal::STOP && !signals.contains(&name) {
            signals.push(name);
        }
    }
    signals
}
