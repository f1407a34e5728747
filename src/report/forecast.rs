//! What `--dry-run` prints: the plan itself, and what is known of the processes it is about.

use crate::config::Schedule;
use crate::family::reception::Reception;
use crate::plan::StartStep;
use crate::sys::proc::Stat;

/// One process of a family in a forecast of `stop`.
pub fn process(stat: &Stat, schedule: &Schedule) -> String {
    let name = crate::logs::sanitize::sanitize(stat.comm.as_bytes());
    let wait = schedule.total();
    let first = schedule.steps.first().map(|(signal, _)| *signal);
    let fate = match first {
        None => "SIGKILL".to_string(),
        Some(signal) => match Reception::of(stat.pid, signal) {
            Reception::Catches | Reception::Obeys => signal.to_string(),
            Reception::Ignores => format!(
                "ignores {signal}, will need SIGKILL after {}",
                humantime::format_duration(wait)
            ),
            Reception::Blocks => format!(
                "blocks {signal}, may need SIGKILL after {}",
                humantime::format_duration(wait)
            ),
            Reception::Unknown => format!("{signal} (its signal masks may not be read)"),
        },
    };
    let state = match stat.state {
        b'T' | b't' | b'D' | b'Z' => format!(", {}", stat.state_name()),
        _ => String::new(),
    };
    format!("    PID {} ({name}{state}): {fate}", stat.pid)
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
    super::say(&format!("{id:width$}  {text}"));
}
