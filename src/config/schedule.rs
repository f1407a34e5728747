//! The escalation as data: signals and the waits after them, as start-stop-daemon writes them.

use super::errors::quoted;
use super::units;
use crate::sys::signal::Signal;
use std::str::FromStr;
use std::time::Duration;

pub const EXPECTED: &str = "signals and waits such as \"INT/20s/QUIT/5s\"";

/// Signals and how long to wait after each. SIGKILL follows the last wait; it is never in `steps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Empty means SIGKILL at once.
    pub steps: Vec<(Signal, Duration)>,
}

impl Schedule {
    /// One signal and its wait. Without a wait, and with SIGKILL itself, it is SIGKILL at once.
    pub fn simple(signal: Signal, timeout: Duration) -> Schedule {
        let at_once = signal == Signal::KILL || timeout.is_zero();
        Schedule {
            steps: if at_once {
                Vec::new()
            } else {
                vec![(signal, timeout)]
            },
        }
    }

    /// The first signal alone with another wait, as `stop --timeout` wants it.
    pub fn with_timeout(&self, timeout: Duration) -> Schedule {
        let signal = self.steps.first().map_or(Signal::KILL, |step| step.0);
        Schedule::simple(signal, timeout)
    }

    /// From the first signal to SIGKILL.
    pub fn total(&self) -> Duration {
        self.steps
            .iter()
            .fold(Duration::ZERO, |sum, step| sum.saturating_add(step.1))
    }
}

enum Item {
    Signal(Signal),
    Wait(Duration),
}

impl FromStr for Schedule {
    type Err = String;

    /// Items between slashes: a signal (`TERM`, `-TERM`, `-15`) or the wait after it (`5`, `500ms`).
    /// A wait alone is that of SIGTERM.
    fn from_str(text: &str) -> Result<Schedule, String> {
        let told = quoted(text);
        let items = text
            .split('/')
            .map(parse_item)
            .collect::<Result<Vec<_>, _>>()?;
        if let [Item::Wait(wait)] = items[..] {
            return Ok(Schedule::simple(Signal::TERM, wait));
        }
        let mut steps: Vec<(Signal, Duration)> = Vec::new();
        let mut killed = false;
        let mut awaited = true;
        for item in items {
            match item {
                Item::Signal(signal) if killed => {
                    return Err(format!(
                        "{told} goes on with {signal} after SIGKILL; nothing can follow SIGKILL"
                    ));
                }
                Item::Signal(Signal::KILL) => {
                    killed = true;
                    awaited = true;
                }
                Item::Signal(signal) => {
                    steps.push((signal, Duration::ZERO));
                    awaited = false;
                }
                // The end after SIGKILL is awaited for a time of its own.
                Item::Wait(_) if killed => {}
                Item::Wait(wait) => {
                    let Some(step) = steps.last_mut() else {
                        return Err(format!(
                            "{told} begins with a wait; expected a signal before it"
                        ));
                    };
                    step.1 = step.1.saturating_add(wait);
                    awaited = true;
                }
            }
        }
        if !awaited {
            return Err(format!(
                "{told} ends without a wait after its last signal, so SIGKILL would follow at once; expected {EXPECTED}"
            ));
        }
        let schedule = Schedule { steps };
        if schedule.total() > units::LONGEST {
            return Err(format!("{told} waits too long; expected at most 365 days"));
        }
        Ok(schedule)
    }
}

fn parse_item(item: &str) -> Result<Item, String> {
    if item.eq_ignore_ascii_case("forever") {
        return Err(
            "\"forever\" is refused: every stop ends within a known time, by SIGKILL".to_owned(),
        );
    }
    // A bare number is a wait, as in start-stop-daemon; a signal's number needs its dash.
    if item.starts_with(|c: char| c.is_ascii_digit()) {
        return units::parse_duration(item).map(Item::Wait);
    }
    item.strip_prefix('-')
        .unwrap_or(item)
        .parse()
        .map(Item::Signal)
        .map_err(|()| {
            let told = quoted(item);
            format!("{told} is neither a signal nor a wait; expected {EXPECTED}")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<(String, u64)> {
        text.parse::<Schedule>()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .steps
            .into_iter()
            .map(|(signal, wait)| (signal.to_string(), wait.as_millis() as u64))
            .collect()
    }

    fn step(signal: &str, milliseconds: u64) -> (String, u64) {
        (signal.to_owned(), milliseconds)
    }

    #[test]
    fn as_start_stop_daemon_writes_them() {
        let int_quit = [step("SIGINT", 20_000), step("SIGQUIT", 5_000)];
        for text in [
            "INT/20s/QUIT/5s",
            "INT/20/QUIT/5",
            "-INT/20/-SIGQUIT/5/KILL",
            "-2/20/-3/5/-9/30",
            "sigint/20000ms/quit/2/3s",
        ] {
            assert_eq!(steps(text), int_quit, "{text}");
        }
        assert_eq!(steps("10"), [step("SIGTERM", 10_000)]);
        assert_eq!(steps("1m"), [step("SIGTERM", 60_000)]);
        assert_eq!(
            steps("TERM/INT/5"),
            [step("SIGTERM", 0), step("SIGINT", 5_000)]
        );
        for text in ["KILL", "-9", "KILL/5", "0"] {
            assert_eq!(steps(text), [], "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        for (text, part) in [
            ("", "neither a signal nor a wait"),
            ("TERM//5", "neither a signal nor a wait"),
            ("TERM/5/", "neither a signal nor a wait"),
            ("TRM/5", "\"TRM\" is neither"),
            ("TERM/-5s", "\"-5s\" is neither"),
            ("TERM/5x", "malformed"),
            ("TERM/forever", "known time"),
            ("TERM/forever/KILL/5", "known time"),
            ("TERM", "ends without a wait"),
            ("TERM/5/INT", "ends without a wait"),
            ("5/TERM/5", "begins with a wait"),
            ("KILL/5/TERM/5", "after SIGKILL"),
            ("TERM/300d/INT/300d", "too long"),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn another_timeout_keeps_the_first_signal_alone() {
        let second = Duration::from_secs(1);
        let schedule: Schedule = "INT/20s/QUIT/5s".parse().unwrap();
        assert_eq!(schedule.total(), Duration::from_secs(25));
        assert_eq!(
            schedule.with_timeout(second),
            Schedule::simple(Signal::INT, second)
        );
        assert!(schedule.with_timeout(Duration::ZERO).steps.is_empty());
        let kill = Schedule::simple(Signal::KILL, second);
        assert!(kill.steps.is_empty());
        assert!(kill.with_timeout(second).steps.is_empty());
    }
}
