//! /proc as proc(5) describes it: one process at a time, parsed once, nothing guessed.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A process for as long as this boot lasts: the number alone is reused, number and start time are not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Identity {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// The order of birth. Within one tick the numbers tell it, which begin anew after the last.
    pub fn by_birth(&self, other: &Identity) -> std::cmp::Ordering {
        /// More are not forked in one tick, and no kernel has fewer than twice as many.
        const WRAPPED: u32 = 1 << 14;
        let by_number = self.pid.cmp(&other.pid);
        self.start_time
            .cmp(&other.start_time)
            .then(match self.pid.abs_diff(other.pid) > WRAPPED {
                true => by_number.reverse(),
                false => by_number,
            })
    }
}

/// What pidctl reads of /proc/PID/stat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub comm: String,
    /// One letter: R, S, D, T, t, Z, X, I, …
    pub state: u8,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    /// 0: no controlling terminal.
    pub tty_nr: i32,
    pub flags: u64,
    pub num_threads: i64,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// Resident set in pages.
    pub rss: u64,
}

/// PF_KTHREAD and PF_EXITING of the kernel's sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;
const EXITING: u64 = 0x4;

impl Stat {
    pub fn identity(&self) -> Identity {
        Identity {
            pid: self.pid,
            start_time: self.start_time,
        }
    }

    /// The one answer to "is it alive?": a zombie is dead, unless it is the first thread of a
    /// process whose other threads live (it is shown as Z as well).
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x') || self.num_threads > 1
    }

    pub fn is_kernel_thread(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }

    /// Its first thread is past its end: memory and files are gone, or about to be.
    pub fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }

    /// Stopped by a signal or a tracer: it acts on nothing but SIGKILL until SIGCONT.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// The state in a word, as proc(5) has it.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            b'R' => "running",
            b'S' | b'I' => "sleeping",
            b'D' => "in uninterruptible sleep",
            b'T' | b't' => "stopped",
            b'Z' | b'X' | b'x' => "zombie",
            _ => "unknown",
        }
    }

    /// Parses the text of /proc/PID/stat. `comm` may hold spaces, parentheses and newlines, so the
    /// fields are counted from the last `)`.
    pub fn parse(text: &[u8]) -> Option<Stat> {
        let open = text.iter().position(|&b| b == b'(')?;
        let close = text.iter().rposition(|&b| b == b')')?;
        let pid = std::str::from_utf8(text.get(..open)?)
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        // `rest` begins with field 3.
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let ppid = fields.next()?.parse().ok()?;
        let pgrp = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let tty_nr = fields.next()?.parse().ok()?;
        let flags = fields.nth(1)?.parse().ok()?; // 9
        let num_threads = fields.nth(10)?.parse().ok()?; // 20
        let start_time = fields.nth(1)?.parse().ok()?; // 22
        let rss = fields.nth(1)?.parse::<i64>().ok()?.max(0) as u64; // 24
        Some(Stat {
            pid,
            comm,
            state,
            ppid,
            pgrp,
            session,
            tty_nr,
            flags,
            num_threads,
            start_time,
            rss,
        })
    }
}

fn unparsable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot parse {what}"))
}

/// A process that is gone: ENOENT before the open, ESRCH after it.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// Trouble of our own, which says nothing of the process: no more descriptors, no memory.
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR)
    )
}

/// What was read, or `None` where the process does not show it: gone, hidden, another user's. An error
/// is a shortage of ours, in which nobody may be taken for gone.
pub fn if_shown<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Reads a /proc file whole into `buffer` (cleared first).
fn read_into(path: &str, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    // Without room it would be read 32 bytes at first, and so on.
    buffer.reserve(4096);
    // `take` bounds what a process can make us read; environ and cmdline are its memory.
    fs::File::open(path)?.take(4 << 20).read_to_end(buffer)?;
    Ok(())
}

/// /proc/PID/stat. An error for which `is_gone` holds means that there is no such process.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let mut buffer = [0u8; 1024];
    let mut file = fs::File::open(format!("/proc/{pid}/stat"))?;
    let mut length = 0;
    loop {
        match file.read(&mut buffer[length..])? {
            0 => break,
            n => length += n,
        }
        // The kernel gives it whole and ends it with a newline: no second read to see the end.
        if buffer[..length].ends_with(b"\n") {
            break;
        }
    }
    Stat::parse(&buffer[..length]).ok_or_else(|| unparsable(&format!("/proc/{pid}/stat")))
}

/// The process, if it is still the one of that identity and alive.
pub fn alive(identity: Identity) -> io::Result<Option<Stat>> {
    match stat(identity.pid) {
        Ok(stat) if stat.identity() == identity && stat.is_alive() => Ok(Some(stat)),
        Ok(_) => Ok(None),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn own_identity() -> io::Result<Identity> {
    stat(std::process::id() as i32).map(|stat| stat.identity())
}

/// Every PID of /proc, in the kernel's order.
pub fn all_pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::with_capacity(256);
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Children of every thread, from /proc/PID/task/TID/children. Not reliable while they come and
/// go: good for a first look, never as the proof that nobody is left.
pub fn children(stat: &Stat) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut text = Vec::new();
    let mut read = |tid: &str| -> io::Result<()> {
        read_into(
            &format!("/proc/{}/task/{tid}/children", stat.pid),
            &mut text,
        )?;
        let words = text.split(u8::is_ascii_whitespace);
        found.extend(words.filter_map(|word| std::str::from_utf8(word).ok()?.parse::<i32>().ok()));
        Ok(())
    };
    if stat.num_threads <= 1 {
        read(&stat.pid.to_string())?;
        return Ok(found);
    }
    for thread in fs::read_dir(format!("/proc/{}/task", stat.pid))? {
        match read(&thread?.file_name().to_string_lossy()) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(found)
}

/// The environment the process was started with; its own memory, so it may say anything.
pub fn environ(pid: i32, buffer: &mut Vec<u8>) -> io::Result<()> {
    read_into(&format!("/proc/{pid}/environ"), buffer)
}

/// The value of `name` in an environment block.
pub fn environ_value<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    block
        .split(|&b| b == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

pub fn cmdline(pid: i32) -> io::Result<Vec<OsString>> {
    let mut buffer = Vec::new();
    read_into(&format!("/proc/{pid}/cmdline"), &mut buffer)?;
    Ok(parse_words(&buffer))
}

/// Each word ends in NUL; a title that the process has put there need not.
pub(super) fn parse_words(block: &[u8]) -> Vec<OsString> {
    if block.is_empty() {
        return Vec::new();
    }
    let block = block.strip_suffix(b"\0").unwrap_or(block);
    block
        .split(|&b| b == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

/// The path of the executable; ends in ` (deleted)` where the file was replaced.
pub fn exe(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// Device and inode of the executable.
pub fn exe_file(pid: i32) -> io::Result<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/exe")).map(|m| (m.dev(), m.ino()))
}

pub fn cwd(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd"))
}

/// The effective user: the owner of /proc/PID, which also holds for processes that are not
/// dumpable only in /proc/PID/status. So it is read there.
pub fn uid(pid: i32) -> io::Result<u32> {
    let status = status(pid)?;
    status
        .euid
        .ok_or_else(|| unparsable(&format!("/proc/{pid}/status")))
}

/// Inode of a namespace of the process, such as `pid`.
pub fn namespace(pid: i32, kind: &str) -> io::Result<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).map(|m| m.ino())
}

pub fn cgroup(pid: i32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup"))
}

/// What pidctl reads of /proc/PID/status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub euid: Option<u32>,
    /// Bit n-1 is signal n.
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
}

impl Status {
    pub fn parse(text: &str) -> Status {
        let mut status = Status::default();
        let mask = |value: &str| u64::from_str_radix(value.trim(), 16).unwrap_or(0);
        for line in text.lines() {
            match line.split_once(':') {
                Some(("Uid", value)) => {
                    status.euid = value
                        .split_ascii_whitespace()
                        .nth(1)
                        .and_then(|uid| uid.parse().ok());
                }
                Some(("SigBlk", value)) => status.blocked = mask(value),
                Some(("SigIgn", value)) => status.ignored = mask(value),
                Some(("SigCgt", value)) => status.caught = mask(value),
                _ => {}
            }
        }
        status
    }
}

pub fn status(pid: i32) -> io::Result<Status> {
    let mut buffer = Vec::new();
    read_into(&format!("/proc/{pid}/status"), &mut buffer)?;
    // The first line is `Name:` and may hold anything but a newline (the kernel escapes those).
    Ok(Status::parse(&String::from_utf8_lossy(&buffer)))
}

/// Device and inode behind a descriptor of the process.
pub fn descriptor_file(pid: i32, fd: i32) -> io::Result<(u64, u64)> {
    fs::metadata(format!("/proc/{pid}/fd/{fd}")).map(|m| (m.dev(), m.ino()))
}

/// Start offsets of the open-file-description locks that show in /proc/PID/fdinfo/FD:
/// exactly the processes that hold the very open file show them.
pub fn descriptor_locks(pid: i32, fd: i32) -> io::Result<Vec<u64>> {
    let mut buffer = Vec::new();
    read_into(&format!("/proc/{pid}/fdinfo/{fd}"), &mut buffer)?;
    Ok(parse_locks(&String::from_utf8_lossy(&buffer)))
}

pub(super) fn parse_locks(text: &str) -> Vec<u64> {
    // lock:\t1: OFDLCK  ADVISORY  WRITE -1 08:01:1234 4611686018427387904 4611686018427387904
    text.lines()
        .filter_map(|line| line.strip_prefix("lock:"))
        .filter(|line| line.contains("OFDLCK"))
        .filter_map(|line| line.split_ascii_whitespace().nth(6)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = " 1 20 20 34817 20 4194304 100 0 0 0 1 2 0 0 20 0 3 0 98765 1000 250 18446744073709551615 1 1";

    #[test]
    fn birth_is_told_by_ticks_then_by_numbers_that_begin_anew() {
        let born = |start_time, pid| Identity { pid, start_time };
        for (elder, younger) in [
            (born(7, 900), born(8, 300)),
            (born(7, 900), born(7, 901)),
            (born(7, 32765), born(7, 301)),
            (born(7, 4_194_300), born(7, 310)),
        ] {
            assert!(elder.by_birth(&younger).is_lt(), "{elder:?} {younger:?}");
            assert!(younger.by_birth(&elder).is_gt(), "{elder:?} {younger:?}");
        }
    }

    #[test]
    fn comm_may_hold_anything() {
        for comm in [
            "sleep",
            "a) R 1 1",
            "next-server (v1",
            "two words",
            "line\nbreak",
            ")",
            "",
        ] {
            let stat = Stat::parse(format!("42 ({comm}) S{TAIL}").as_bytes()).unwrap();
            assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (42, comm, b'S'));
            assert_eq!(
                (stat.ppid, stat.pgrp, stat.session, stat.tty_nr),
                (1, 20, 20, 34817)
            );
            assert_eq!(
                (stat.num_threads, stat.start_time, stat.rss),
                (3, 98765, 250)
            );
        }
    }

    #[test]
    fn a_zombie_is_dead_unless_threads_live() {
        let lone = TAIL.replacen(" 3 0 98765", " 1 0 98765", 1);
        assert!(
            !Stat::parse(format!("42 (x) Z{lone}").as_bytes())
                .unwrap()
                .is_alive()
        );
        assert!(
            Stat::parse(format!("42 (x) Z{TAIL}").as_bytes())
                .unwrap()
                .is_alive()
        );
    }

    #[test]
    fn garbage_is_none() {
        for text in [
            "",
            "42",
            "42 (x",
            "42 (x) ",
            "x (y) S 1",
            ")(",
            "42 (x) S 1 2 3",
        ] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn own_process_reads_as_alive() {
        let me = own_identity().unwrap();
        assert!(alive(me).unwrap().is_some());
        assert!(
            alive(Identity {
                start_time: me.start_time + 1,
                ..me
            })
            .unwrap()
            .is_none()
        );
    }

    #[test]
    fn locks_of_other_kinds_are_not_ours() {
        let text = "pos:\t0\nflags:\t02\nlock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:77 5785523412 5785523412\n\
                    lock:\t2: POSIX  ADVISORY  WRITE 12 fe:00:77 9 9\nlock:\t3: FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF\n";
        assert_eq!(parse_locks(text), vec![5785523412]);
    }

    #[test]
    fn environment_names_match_whole() {
        let block = b"A=1\0PIDCTL_TOKEN_X=2\0PIDCTL_TOKEN=abc\0";
        assert_eq!(environ_value(block, "PIDCTL_TOKEN"), Some(&b"abc"[..]));
        assert_eq!(environ_value(block, "B"), None);
    }

    #[test]
    fn signal_masks_of_status() {
        let status = Status::parse(
            "Name:\tx\nUid:\t1\t7\t3\t4\nSigBlk:\t0000000000004000\nSigIgn:\t0000000000000001\nSigCgt:\t0\n",
        );
        assert_eq!(
            (status.euid, status.blocked, status.ignored),
            (Some(7), 0x4000, 1)
        );
    }
}
