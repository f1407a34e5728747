//! pidfd_open(2), pidfd_send_signal(2): a process held, so that no reuse of its number can be hit.

use super::proc::{self, Identity, Stat};
use super::signal::Signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A process held by a descriptor. It becomes readable when the process (all its threads) has ended.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
    /// Seen to have ended: for good, so it need not be asked again.
    ended: Cell<bool>,
}

impl Pidfd {
    /// Opens first and reads /proc afterwards: what is read then belongs to the process that is held,
    /// for as long as it has not ended. `None`: no such process.
    pub fn open(pid: i32) -> io::Result<Option<(Pidfd, Stat)>> {
        let Some(pidfd) = Pidfd::open_number(pid)? else {
            return Ok(None);
        };
        match proc::stat(pid) {
            // A process that ended in between may have left its number to another; a held one that
            // has not ended has not.
            Ok(stat) if !pidfd.has_ended() || !stat.is_alive() => Ok(Some((pidfd, stat))),
            Ok(_) => Ok(None),
            Err(error) if proc::is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Holds the process of that identity; `None` where it has gone or its number is another's.
    /// Whose identity was read before the pidfd was opened and is read again after it: that one is held.
    pub fn hold(identity: Identity) -> io::Result<Option<(Pidfd, Stat)>> {
        let Some(pidfd) = Pidfd::open_number(identity.pid)? else {
            return Ok(None);
        };
        Ok(proc::alive(identity)?.map(|stat| (pidfd, stat)))
    }

    fn open_number(pid: i32) -> io::Result<Option<Pidfd>> {
        // SAFETY: takes two integers and returns a new descriptor or -1; no memory is passed.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd >= 0 {
            // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
            let ended = Cell::new(false);
            return Ok(Some(Pidfd { fd, ended }));
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            // The number of a thread that leads no process.
            error if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            error if error.raw_os_error() == Some(libc::ENOSYS) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel has no pidfd_open (Linux 5.3 or newer is needed, or a sandbox forbids it)",
            )),
            error => Err(error),
        }
    }

    /// Sends the signal to this very process. `Ok(false)`: it has ended already.
    pub fn send(&self, signal: Signal) -> io::Result<bool> {
        // SAFETY: the descriptor is open; a null siginfo means "as kill(2) would fill it in".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal.number(),
                std::ptr::null::<()>(),
                0,
            )
        };
        if result == 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        }
    }

    /// May we signal it? The null signal is asked about permission alone: of life it tells nothing.
    pub fn may_be_signalled(&self) -> bool {
        // SAFETY: the descriptor is open; signal 0 with a null siginfo is delivered to nobody.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                0,
                std::ptr::null::<()>(),
                0,
            )
        };
        result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
    }

    /// The process and all its threads have ended (reaped or not).
    pub fn has_ended(&self) -> bool {
        if self.ended.get() {
            return true;
        }
        loop {
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(count) => {
                    self.ended.set(count > 0);
                    return count > 0;
                }
                Err(nix::errno::Errno::EINTR) => continue,
                // Never "ended" on doubt.
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
