//! Processes as the kernel shows them, and the only way in which a test ends one.

// A pidfd cannot be had without it, and ending a process by its number alone would be a race.
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// A process and not only a number: the start time tells it from a later one of the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    start: u64,
}

/// The fields of proc_pid_stat(5) that are used here.
struct Stat {
    comm: String,
    state: char,
    parent: i32,
    group: i32,
    session: i32,
    start: u64,
}

fn stat(path: &str) -> Option<Stat> {
    let text = String::from_utf8_lossy(&fs::read(path).ok()?).into_owned();
    let (head, tail) = text.rsplit_once(')')?;
    let fields: Vec<&str> = tail.split_whitespace().collect();
    Some(Stat {
        comm: head.split_once('(')?.1.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

impl Process {
    /// The process that has this PID now.
    pub fn of(pid: i32) -> Option<Process> {
        let start = stat(&format!("/proc/{pid}/stat"))?.start;
        Some(Process { pid, start })
    }

    fn stat(&self) -> Option<Stat> {
        stat(&format!("/proc/{}/stat", self.pid)).filter(|stat| stat.start == self.start)
    }

    /// A zombie is dead, unless threads of it live.
    pub fn is_alive(&self) -> bool {
        match self.state() {
            None | Some('X') => false,
            Some('Z') => self
                .threads()
                .iter()
                .any(|state| !matches!(state, 'Z' | 'X')),
            Some(_) => true,
        }
    }

    pub fn state(&self) -> Option<char> {
        self.stat().map(|stat| stat.state)
    }

    /// The states of its threads, the leading one included.
    pub fn threads(&self) -> Vec<char> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return Vec::new();
        };
        tasks
            .flatten()
            .filter_map(|task| stat(task.path().join("stat").to_str()?))
            .map(|stat| stat.state)
            .collect()
    }

    pub fn comm(&self) -> String {
        self.stat().expect("a process").comm
    }

    /// 0 if it is gone.
    pub fn parent(&self) -> i32 {
        self.stat().map_or(0, |stat| stat.parent)
    }

    pub fn group(&self) -> i32 {
        self.stat().expect("a process").group
    }

    pub fn session(&self) -> i32 {
        self.stat().expect("a process").session
    }

    /// Of `/proc/PID`: `environ`, `cmdline`, …
    pub fn file(&self, name: &str) -> Vec<u8> {
        fs::read(format!("/proc/{}/{name}", self.pid)).expect("a file of a process")
    }

    /// A line of `/proc/PID/status`, without its name.
    pub fn status(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.file("status")).into_owned();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim()
            .to_owned()
    }

    /// Whether the set of `/proc/PID/status` (`SigIgn`, `SigBlk`, `SigCgt`) holds the signal.
    pub fn has_signal(&self, set: &str, signal: i32) -> bool {
        let bits = u64::from_str_radix(&self.status(set), 16).expect("a signal set");
        bits & (1 << (signal - 1)) != 0
    }

    /// Sends the signal to this very process, or to nobody.
    pub fn signal(&self, signal: i32) {
        // SAFETY: pidfd_open(2) takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) } as i32;
        if fd < 0 {
            return;
        }
        // SAFETY: the descriptor is new and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.stat().is_some() {
            // SAFETY: pidfd_send_signal(2) with an open pidfd and no siginfo.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    fd.as_raw_fd(),
                    signal,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                )
            };
        }
    }

    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    fn has_in_environment(&self, entry: &[u8]) -> bool {
        fs::read(format!("/proc/{}/environ", self.pid))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|one| one == entry))
    }

    /// Whether it has one of these open for writing.
    fn writes_to(&self, files: &[&Path]) -> bool {
        let Ok(fds) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return false;
        };
        fds.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| files.contains(&target.as_path()))
                && self.opened_for_writing(&fd.file_name().to_string_lossy())
        })
    }

    fn opened_for_writing(&self, fd: &str) -> bool {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.pid));
        let flags = info.ok().and_then(|info| {
            let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(line.trim(), 8).ok()
        });
        flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
    }
}

/// Every process but this one that is alive and has the entry in its environment or holds one of
/// the FIFOs.
pub fn marked(entry: &str, fifos: &[&Path]) -> Vec<Process> {
    let own = std::process::id() as i32;
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(Process::of)
        .filter(|process| {
            process.is_alive()
                && (process.has_in_environment(entry.as_bytes()) || process.writes_to(fifos))
        })
        .collect()
}
