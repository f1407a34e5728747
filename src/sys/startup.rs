//! pidctl's own process before anything else: whatever the caller left it with is put right, so that
//! neither pidctl nor a service of its suffers from nohup, cron, a closed stdout or a leaked descriptor.

use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::IntoRawFd;
use std::ptr;
use syscalls::{Sysno, syscall};

/// What the caller had and a service shall have again.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    /// Soft and hard limit of open files; pidctl raises its own soft one.
    pub nofile: Option<(rlim_t, rlim_t)>,
    /// The end of the terminal is not to matter: nohup(1).
    pub hangup_ignored: bool,
}

pub fn prepare() -> io::Result<Inherited> {
    give_large_buffers_back();
    open_standard_descriptors()?;
    close_on_exec_from(3);
    let hangup_ignored = is_ignored(libc::SIGHUP);
    reset_dispositions();
    Ok(Inherited {
        nofile: raise_nofile(),
        hangup_ignored,
    })
}

/// Records of a thousand services are read and written as large buffers. The C library would keep the
/// first few for reuse, and so double what pidctl holds at its peak.
fn give_large_buffers_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator before anything large is allocated.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// A closed 0, 1 or 2 would be given to the next file that is opened: a log, say.
fn open_standard_descriptors() -> io::Result<()> {
    loop {
        let fd = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&fd);
        if number > 2 {
            return Ok(());
        }
        // Stays open for good, in the place of the one that was closed.
        let _ = fd.into_raw_fd();
    }
}

/// Descriptors that leaked into us (cron, `flock 9>lock`, make's jobserver) end at our exec.
fn close_on_exec_from(first: u32) {
    // SAFETY: changes flags of descriptors only; no memory is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return;
    }
    // Before Linux 5.11: one by one.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    for fd in entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
    {
        if fd >= first as i32 {
            // SAFETY: sets a flag of a descriptor; one that is closed by now answers EBADF.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only asks; the kernel writes one sigaction.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Default for all but SIGPIPE (a closed pipe is an error value here, not a death) and SIGHUP (the
/// end of a terminal ends no command halfway); nothing blocked. An ignored SIGCHLD would lose exit
/// statuses, a blocked SIGINT the user's Ctrl-C.
fn reset_dispositions() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in nix::sys::signal::Signal::iterator() {
        use nix::sys::signal::Signal::{SIGHUP, SIGKILL, SIGPIPE, SIGSTOP};
        let action = match signal {
            SIGKILL | SIGSTOP => continue,
            SIGPIPE | SIGHUP => &ignore,
            _ => &default,
        };
        // SAFETY: default and ignore run no code of ours.
        let _ = unsafe { sigaction(signal, action) };
    }
    // The real-time ones, and 32 and 33, which the C library keeps for itself and would not reset.
    let default = [0u64; 8];
    for number in 32..=libc::SIGRTMAX() {
        // SAFETY: a zeroed structure, larger than the kernel's sigaction, is the default action.
        let _ = unsafe {
            syscall!(
                Sysno::rt_sigaction,
                number,
                default.as_ptr(),
                ptr::null::<u8>(),
                8
            )
        };
    }
    let _ = SigSet::empty().thread_set_mask();
}

fn raise_nofile() -> Option<(rlim_t, rlim_t)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    }
    Some((soft, hard))
}
