//! Signals by number and by the names of signal(7), real-time ones included.

use std::fmt;
use std::str::FromStr;

/// A signal number between 1 and SIGRTMAX. Never zero: the null signal proves nothing (a zombie
/// takes it too), so it cannot be expressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Signal(i32);

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("POLL", libc::SIGIO),
    ("IOT", libc::SIGABRT),
];

impl Signal {
    pub const HUP: Signal = Signal(libc::SIGHUP);
    pub const INT: Signal = Signal(libc::SIGINT);
    pub const TERM: Signal = Signal(libc::SIGTERM);
    pub const KILL: Signal = Signal(libc::SIGKILL);
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    pub const CONT: Signal = Signal(libc::SIGCONT);

    /// The signal of that number, if it is one that can be sent: 1 to SIGRTMAX.
    pub fn from_number(number: i32) -> Option<Signal> {
        (1..=libc::SIGRTMAX())
            .contains(&number)
            .then_some(Signal(number))
    }

    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    /// `SIGTERM`, `SIGRTMIN+3`; a number that has no name as `SIG32`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NAMES.iter().find(|(_, number)| *number == self.0) {
            write!(f, "SIG{name}")
        } else if self.0 == libc::SIGRTMIN() {
            f.write_str("SIGRTMIN")
        } else if self.0 > libc::SIGRTMIN() {
            write!(f, "SIGRTMIN+{}", self.0 - libc::SIGRTMIN())
        } else {
            write!(f, "SIG{}", self.0)
        }
    }
}

impl FromStr for Signal {
    type Err = ();

    /// With or without `SIG`, in any case, a name, or a number; `RTMIN+n` and `RTMAX-n` too.
    fn from_str(text: &str) -> Result<Signal, ()> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Ok(number) = name.parse::<i32>() {
            return Signal::from_number(number).ok_or(());
        }
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Signal(*number));
        }
        let offset = |rest: &str| -> Result<i32, ()> {
            if rest.is_empty() {
                Ok(0)
            } else {
                rest.parse().map_err(|_| ())
            }
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            libc::SIGRTMIN().checked_add(offset(rest)?).ok_or(())?
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            libc::SIGRTMAX().checked_add(offset(rest)?).ok_or(())?
        } else {
            return Err(());
        };
        if !(libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) {
            return Err(());
        }
        Ok(Signal(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_in_every_spelling() {
        for text in ["SIGTERM", "term", "Term", "15", "sigterm", "SIG15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        assert_eq!(
            "RTMIN+2".parse::<Signal>().unwrap().to_string(),
            "SIGRTMIN+2"
        );
        // It has no name, and is printed so.
        let unnamed: Signal = "SIG33".parse().unwrap();
        assert_eq!(
            (unnamed.number(), unnamed.to_string()),
            (33, "SIG33".into())
        );
        for text in [
            "",
            "0",
            "SIG0",
            "-9",
            "65",
            "SIG",
            "TERMINATE",
            "RTMIN+99",
            "RTMIN-1",
            "SIGSIGTERM",
        ] {
            assert_eq!(text.parse::<Signal>(), Err(()), "{text}");
        }
    }

    #[test]
    fn stop_means_stop_not_kill() {
        assert_eq!("STOP".parse(), Ok(Signal::STOP));
    }
}
