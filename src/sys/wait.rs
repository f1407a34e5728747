//! wait(2), signalfd(2), and the subreaper flag of prctl(2).

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::io;

use super::signal::Signal;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
}

impl Exit {
    /// Of a wait status as wait(2) gives it.
    fn of(status: i32) -> Exit {
        if libc::WIFEXITED(status) {
            Exit::Code(libc::WEXITSTATUS(status))
        } else {
            Exit::Signal(Signal::from_number(libc::WTERMSIG(status)).unwrap_or(Signal::KILL))
        }
    }

    /// As a shell has it: the exit code, or 128 and the number of the signal.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal.number(),
        }
    }

    pub fn signal(self) -> Option<Signal> {
        match self {
            Exit::Code(_) => None,
            Exit::Signal(signal) => Some(signal),
        }
    }
}

impl fmt::Display for Exit {
    /// `exit status 3`, `killed by SIGSEGV`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(signal) => write!(f, "killed by {signal}"),
        }
    }
}

/// Reaps one child of ours that has ended, whichever; `None` when there is none. (nix cannot say that a
/// real-time signal ended one, and fails after it has reaped.)
pub fn reap() -> Option<(i32, Exit)> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one integer.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            pid @ 1.. => return Some((pid, Exit::of(status))),
            -1 if Errno::last() == Errno::EINTR => {}
            _ => return None,
        }
    }
}

/// Orphans of our descendants become our children: a command that goes to the background by itself
/// stays in sight while we wait for it.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// The signals that pidctl takes as messages: SIGINT, SIGTERM, SIGCHLD, and SIGHUP where `hangup`.
pub fn messages(hangup: bool) -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        NixSignal::SIGINT,
        NixSignal::SIGTERM,
        NixSignal::SIGCHLD,
        NixSignal::SIGWINCH,
    ] {
        set.add(signal);
    }
    if hangup {
        set.add(NixSignal::SIGHUP);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}
