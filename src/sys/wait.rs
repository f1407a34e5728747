//! wait(2), signalfd(2), and the subreaper flag of prctl(2).

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fmt;
use std::io;

use super::signal::Signal;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
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

/// Reaps one child of ours that has ended, whichever; `None` when there is none.
pub fn reap() -> Option<(i32, Exit)> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid.as_raw(), Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((
                    pid.as_raw(),
                    Exit::Signal(Signal::from_number(signal as i32).unwrap_or(Signal::KILL)),
                ));
            }
            // A real-time signal has no name in nix and makes waitpid fail with EINVAL after reaping.
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => continue,
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
