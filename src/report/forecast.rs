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

/// How a family would be stopped.
pub struct Forecast<'a> {
    pub schedule: &'a Schedule,
    /// The whole command ends within this.
    pub deadline: Option<Duration>,
}

impl Forecast<'_> {
    /// One process of the family.
    pub fn process(&self, stat: &Stat) -> String {
        let name = crate::logs::sanitize::sanitize(stat.comm.as_bytes());
        let fate = match self.schedule.steps.first() {
            None => "SIGKILL".to_string(),
            Some((signal, _)) => match reception(stat.pid, *signal) {
                Reception::Catches | Reception::Obeys => signal.to_string(),
                Reception::Ignores => {
                    format!("ignores {signal}, will need SIGKILL {}", self.when())
                }
                Reception::Blocks => format!("blocks {signal}, may need SIGKILL {}", self.when()),
                Reception::Unknown => format!("{signal} (its signal masks may not be read)"),
            },
        };
        let state = match stat.state {
            b'T' | b't' | b'D' | b'Z' => format!(", {}", state_name(stat)),
            _ => String::new(),
        };
        format!("    PID {} ({name}{state}): {fate}", stat.pid)
    }

    /// When SIGKILL comes; a deadline is shared by the levels of dependencies.
    fn when(&self) -> String {
        let wait: Duration = self.schedule.steps.iter().map(|(_, wait)| *wait).sum();
        match self.deadline {
            Some(deadline) if deadline <= wait => {
                format!("within {}", humantime::format_duration(deadline))
            }
            _ => format!("after {}", humantime::format_duration(wait)),
        }
    }
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
