//! Two locks: flock(2) on a file that only its owner can open, for the moments in which files
//! change; and the open-file-description lock (fcntl(2)) that marks an instance's log.

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::files::{self, Kind};

/// Held until dropped. The descriptor is close-on-exec, so no service keeps it.
#[derive(Debug)]
pub struct Held(OwnedFd);

impl Drop for Held {
    /// Closing is not enough: children at their gate have the descriptor still. (nix's Flock panics
    /// here where the kernel refuses.)
    fn drop(&mut self) {
        while flock(&self.0, libc::LOCK_UN) == Err(Errno::EINTR) {}
    }
}

/// Locks this open file if nobody else has; never waits.
pub fn try_hold(fd: OwnedFd) -> Option<Held> {
    flock(&fd, libc::LOCK_EX | libc::LOCK_NB)
        .is_ok()
        .then_some(Held(fd))
}

fn flock(fd: &OwnedFd, operation: i32) -> nix::Result<()> {
    // SAFETY: an open descriptor and an integer; no memory is passed.
    Errno::result(unsafe { libc::flock(fd.as_raw_fd(), operation) }).map(drop)
}

/// Takes the lock file `name` in `folder`, made 0600 when missing. Awaited until `deadline`; then the
/// error names the holder.
pub fn take(folder: impl AsFd, name: &str, deadline: Instant) -> io::Result<Held> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd = openat(&folder, name, flags, Mode::from_bits_truncate(0o600)).map_err(|errno| {
        match files::kind_at(&folder, name) {
            Ok(Some(kind)) if kind != Kind::Regular => {
                refused(name, &format!("it is {}", kind.name()))
            }
            _ => io::Error::from(errno),
        }
    })?;
    let stat = fstat(&fd)?;
    if Kind::of(stat.st_mode) != Kind::Regular {
        return Err(refused(
            name,
            &format!("it is {}", Kind::of(stat.st_mode).name()),
        ));
    }
    if let Some(why) = files::untrusted(stat.st_uid, stat.st_mode) {
        return Err(refused(name, &why.to_string()));
    }
    let mut pause = Duration::from_micros(200);
    loop {
        match flock(&fd, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => return Ok(Held(fd)),
            Err(Errno::EWOULDBLOCK | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // flock(2) has no time-out; it is held for moments, so the pause stays small.
        if Instant::now() >= deadline {
            let by = holder(&fd).map_or_else(|| "another process".to_string(), describe);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the lock {name} is held by {by}"),
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn refused(name: &str, why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{name} is refused: {why}"),
    )
}

fn describe(pid: i32) -> String {
    match super::proc::stat(pid) {
        Ok(stat) => format!("PID {pid} ({})", stat.comm),
        Err(_) => format!("PID {pid}"),
    }
}

/// Who holds the flock of this file, from /proc/locks.
fn holder(fd: &OwnedFd) -> Option<i32> {
    let stat = fstat(fd).ok()?;
    let file = format!(
        "{:02x}:{:02x}:{}",
        nix::sys::stat::major(stat.st_dev),
        nix::sys::stat::minor(stat.st_dev),
        stat.st_ino
    );
    // 1: FLOCK  ADVISORY  WRITE 4242 fe:00:1234 0 EOF
    fs::read_to_string("/proc/locks")
        .ok()?
        .lines()
        .find_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            (words.next() == Some("FLOCK")).then_some(())?;
            let pid = words.nth(2)?.parse().ok().filter(|&pid| pid > 0)?;
            (words.next() == Some(file.as_str())).then_some(pid)
        })
}

fn range(offset: u64) -> libc::flock {
    // SAFETY: flock is plain integers, for which zero is valid.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as i16;
    range.l_whence = libc::SEEK_SET as i16;
    range.l_start = offset as i64;
    range.l_len = 1;
    range
}

/// Locks one byte, far beyond the file's end, for the open file itself: whoever inherits the
/// descriptor holds it, and it ends when the last of them has closed it.
pub fn mark(log: impl AsFd, offset: u64) -> io::Result<()> {
    let range = range(offset);
    // SAFETY: the descriptor is open and `range` outlives the call.
    let result = unsafe { libc::fcntl(log.as_fd().as_raw_fd(), libc::F_OFD_SETLK, &range) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Does any open file other than this one hold that byte? No walk over /proc is needed to know.
pub fn is_marked(log: impl AsFd, offset: u64) -> io::Result<bool> {
    let mut range = range(offset);
    // SAFETY: the descriptor is open; the kernel writes its answer into `range`.
    let result = unsafe { libc::fcntl(log.as_fd().as_raw_fd(), libc::F_OFD_GETLK, &mut range) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(range.l_type != libc::F_UNLCK as i16)
}

/// `is_marked` for the file at a path, if that is still the file of device and inode `file`.
/// `None`: cannot be asked (moved, removed, unreadable).
pub fn is_marked_at(path: &std::path::Path, file: (u64, u64), offset: u64) -> Option<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let log = fs::File::from(nix::fcntl::open(path, flags, Mode::empty()).ok()?);
    let metadata = log.metadata().ok()?;
    ((metadata.dev(), metadata.ino()) == file).then(|| is_marked(&log, offset).ok())?
}
