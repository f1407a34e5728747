//! What `--dry-run` prints: the plan itself, and what is known of the processes it is about.

use super::Style;
use crate::act::hunt::state_name;
use crate::config::Schedule;
use crate::plan::StartStep;
use crate::sys::proc::{self, Stat};
use crate::sys::signal::Signal;
use serde::Serialize;
use std::time::Duration;

/// How a process will take the stop signal, from its masks in /proc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reception {
    /// It has a handler.
    Catches,
    /// By the kernel's default: at once, without a word.
    #[serde(rename = "default")]
    Obeys,
    /// Will need SIGKILL.
    Ignores,
    /// It may take it by sigwait or signalfd, or not at all.
    Blocks,
    Unknown,
}

pub fn reception(pid: i32, signal: Signal) -> Reception {
    let Ok(status) = proc::status(pid) else {
        return Reception::Unknown;
    };
    let bit = 1u64 << (signal.number() - 1);
    if status.ignored & bit != 0 {
        Reception::Ignores
    } else if status.blocked & bit != 0 {
        Reception::Blocks
    } else if status.caught & bit != 0 {
        Reception::Catches
    } else {
        Reception::Obeys
    }
}

/// How many of the schedule's signals it takes: those it ignores do nothing. `None`: SIGKILL must come.
pub fn signals_needed(pid: i32, schedule: &Schedule) -> Option<usize> {
    let mut signals = schedule.steps.iter();
    let taken = signals.position(|(signal, _)| reception(pid, *signal) != Reception::Ignores)?;
    Some(taken + 1)
}

/// One process of a family in a forecast of `stop`.
pub fn process(stat: &Stat, schedule: &Schedule) -> String {
    let name = crate::logs::sanitize::sanitize(stat.comm.as_bytes());
    let after = |steps: &[(Signal, Duration)]| {
        let wait: Duration = steps.iter().map(|(_, wait)| *wait).sum();
        humantime::format_duration(wait)
    };
    let steps = schedule.steps.as_slice();
    let ignored = match signals_needed(stat.pid, schedule) {
        Some(needed) => needed - 1,
        None => steps.len(),
    };
    let all = after(steps);
    let fate = match steps.get(ignored).map(|(signal, _)| *signal) {
        None => format!("will need SIGKILL after {all}"),
        Some(signal) => {
            let when = match ignored {
                0 => String::new(),
                _ => format!(" after {}", after(&steps[..ignored])),
            };
            match reception(stat.pid, signal) {
                Reception::Blocks => format!("blocks {signal}, may need SIGKILL after {all}"),
                Reception::Unknown => {
                    format!("{signal}{when} (its signal masks may not be read)")
                }
                _ => format!("{signal}{when}"),
            }
        }
    };
    let fate = match steps.first() {
        None => "SIGKILL".to_string(),
        Some((first, _)) if ignored > 0 => format!("ignores {first}, {fate}"),
        Some(_) => fate,
    };
    let state = match stat.state {
        b'T' | b't' | b'D' | b'Z' => format!(", {}", state_name(stat)),
        _ => String::new(),
    };
    format!("    PID {} ({name}{state}): {fate}", stat.pid)
}

/// One service in a forecast of `start`.
pub fn start(style: &Style, id: &str, width: usize, step: &StartStep) {
    let text = match step {
        StartStep::Fail(why) => format!("would fail: {why}"),
        StartStep::AwaitStop => {
            "would wait until another command has stopped it, then start".to_string()
        }
        StartStep::Join { .. } => "would wait until it is ready (it is starting)".to_string(),
        StartStep::AlreadyRunning { leader, .. } => {
            format!("already running, PID {}: left alone", leader.pid)
        }
        StartStep::Start { leftovers, stale } => {
            let mut text = "would start".to_string();
            if !leftovers.is_empty() {
                let pids: Vec<String> = leftovers.iter().map(|stat| stat.pid.to_string()).collect();
                text.push_str(&format!(
                    ", after stopping what is left of it: PID {}",
                    pids.join(", ")
                ));
            }
            if let Some(why) = stale {
                text.push_str(&format!(", after removing the stale PID file ({why})"));
            }
            text
        }
    };
    let _ = style;
    super::say(&format!("{id:width$}  {text}"));
}
