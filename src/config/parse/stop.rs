//! How a service is stopped: a signal with its time-out, or a whole schedule, never both in one entry.

use super::super::errors::quoted;
use super::super::schedule::{self, Schedule};
use super::place::Place;
use super::site::Site;
use crate::sys::signal::Signal;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const EXPECTED_SIGNAL: &str = "a signal such as \"SIGTERM\", \"int\" or 15";

/// What one entry says of it.
#[derive(Default)]
pub struct Stop {
    pub signal: Option<Signal>,
    pub timeout: Option<Duration>,
    pub schedule: Option<Schedule>,
}

impl Stop {
    /// The form that the entry uses replaces the other form of [defaults].
    pub fn over(&self, defaults: &Stop) -> Schedule {
        if let Some(schedule) = &self.schedule {
            return schedule.clone();
        }
        if self.signal.is_none()
            && self.timeout.is_none()
            && let Some(schedule) = &defaults.schedule
        {
            return schedule.clone();
        }
        Schedule::simple(
            self.signal.or(defaults.signal).unwrap_or(Signal::TERM),
            self.timeout.or(defaults.timeout).unwrap_or(DEFAULT_TIMEOUT),
        )
    }
}

impl Site<'_> {
    pub fn signal(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Signal> {
        let written = match value.get_ref() {
            DeValue::Integer(number) => number.to_string(),
            _ => self.text(value, EXPECTED_SIGNAL)?.to_owned(),
        };
        let signal = written.parse().ok();
        if signal.is_none() {
            self.wrong(
                value.span(),
                format!(
                    "unknown signal {}; expected {EXPECTED_SIGNAL}",
                    quoted(&written)
                ),
            );
        }
        signal
    }

    pub fn schedule(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Schedule> {
        self.parsed(value, schedule::EXPECTED)
    }

    /// Where `keys` has `stop_schedule`, whose value this is.
    pub fn refuse_both_forms(&mut self, schedule: &Spanned<DeValue<'_>>, keys: &DeTable<'_>) {
        for other in ["stop_signal", "stop_timeout"] {
            if keys.contains_key(other) {
                let whose = match self.place {
                    Place::Defaults => "[defaults]",
                    _ => "one service",
                };
                self.wrong(
                    schedule.span(),
                    format!("stands beside {other}; expected one form or the other in {whose}"),
                );
            }
        }
    }
}
