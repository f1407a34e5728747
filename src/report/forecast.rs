//! What `--dry-run` prints: the plan itself, and what is known of the processes it is about.

use crate::config::Schedule;
use crate::family::reception::Reception;
use crate::plan::StartStep;
use crate::sys::proc::Stat;
use std::time::Duration;

/// How a family would be stopped.
pub struct Forecast<'a> {
    pub schedule: &'a Schedule,
    /// The whole command ends within this.
    pub deadline: Option<Duration>,
}

impl Forecast<'_> {
    /// One process of the family.
    pub fn process(&self, stat: &Stat) -> String {
        let name = super::harmless(&stat.comm);
        let steps = self.schedule.steps.as_slice();
        let ignored = self
            .signals(stat.pid)
            .map_or(steps.len(), |taken| taken - 1);
        let fate = match steps.get(ignored).map(|(signal, _)| *signal) {
            None => format!("will need SIGKILL {}", self.when()),
            Some(signal) => match Reception::of(stat.pid, signal) {
                Reception::Blocks => format!("blocks {signal}, may need SIGKILL {}", self.when()),
                Reception::Unknown => format!("{signal} (its signal masks may not be read)"),
                _ if ignored == 0 => signal.to_string(),
                _ => {
                    let wait = steps[..ignored].iter().map(|(_, wait)| *wait).sum();
                    format!("{signal} after {}", humantime::format_duration(wait))
                }
            },
        };
        let fate = match steps.first() {
            None => "SIGKILL".to_string(),
            Some((first, _)) if ignored > 0 => format!("ignores {first}, {fate}"),
            Some(_) => fate,
        };
        let state = match stat.state {
            b'T' | b't' | b'D' | b'Z' => format!(", {}", stat.state_name()),
            _ => String::new(),
        };
        format!("    PID {} ({name}{state}): {fate}", stat.pid)
    }

    /// How many of the schedule's signals are sent until it takes one. `None`: it ignores them all.
    pub fn signals(&self, pid: i32) -> Option<usize> {
        let mut steps = self.schedule.steps.iter();
        let taken =
            steps.position(|(signal, _)| Reception::of(pid, *signal) != Reception::Ignores)?;
        Some(taken + 1)
    }

    /// When SIGKILL comes; a deadline is shared by the levels of dependencies.
    fn when(&self) -> String {
        let wait = self.schedule.total();
        match self.deadline {
            Some(deadline) if deadline <= wait => {
                format!("within {}", humantime::format_duration(deadline))
            }
            _ => format!("after {}", humantime::format_duration(wait)),
        }
    }
}

/// One service in a forecast of `start`.
pub fn start(id: &str, width: usize, step: &StartStep) {
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
    super::say(&format!("{id:width$}  {}", super::harmless(&text)));
}
