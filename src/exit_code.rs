//! How pidctl ends, and the one place that says which number that is.

use crate::act::outcome::{StartOutcome, Started, StopOutcome, Stopped};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    Done,
    Failed,
    Usage,
    /// By SIGINT or SIGTERM: 130, 143.
    Interrupted(i32),
    /// What `status` found; LSB's numbers and one of ours.
    Status(StatusCode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusCode {
    AllRunning,
    StaleOrOrphaned,
    Stopped,
    Unknown,
    NotQuite,
}

impl ExitCode {
    pub fn number(self) -> i32 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Failed => 1,
            ExitCode::Usage => 2,
            ExitCode::Interrupted(number) => number,
            ExitCode::Status(StatusCode::AllRunning) => 0,
            ExitCode::Status(StatusCode::StaleOrOrphaned) => 1,
            ExitCode::Status(StatusCode::Stopped) => 3,
            ExitCode::Status(StatusCode::Unknown) => 4,
            ExitCode::Status(StatusCode::NotQuite) => 150,
        }
    }

    pub fn exit(self) -> ! {
        std::process::exit(self.number())
    }

    pub fn of_starts(started: &[Started]) -> ExitCode {
        let failed = |started: &Started| {
            matches!(
                started.outcome,
                StartOutcome::Failed | StartOutcome::Skipped
            )
        };
        if started.iter().any(failed) {
            ExitCode::Failed
        } else {
            ExitCode::Done
        }
    }

    pub fn of_stops(stopped: &[Stopped]) -> ExitCode {
        let failed = |stopped: &Stopped| stopped.outcome == StopOutcome::Failed;
        if stopped.iter().any(failed) {
            ExitCode::Failed
        } else {
            ExitCode::Done
        }
    }

    /// The graver of two.
    pub fn and(self, other: ExitCode) -> ExitCode {
        match (self, other) {
            (ExitCode::Interrupted(number), _) | (_, ExitCode::Interrupted(number)) => {
                ExitCode::Interrupted(number)
            }
            (ExitCode::Done, other) => other,
            (one, _) => one,
        }
    }
}

impl From<ExitCode> for i32 {
    fn from(code: ExitCode) -> i32 {
        code.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_is_told_before_a_failure() {
        assert_eq!(
            ExitCode::Failed.and(ExitCode::Interrupted(143)).number(),
            143
        );
        assert_eq!(ExitCode::Done.and(ExitCode::Failed).number(), 1);
        assert_eq!(ExitCode::Done.and(ExitCode::Done).number(), 0);
    }
}
