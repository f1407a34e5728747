//! ioctl_tty(2): how large a terminal is.

use std::os::fd::{AsFd, AsRawFd};

/// Columns and rows; `None` where it is no terminal or does not tell.
pub fn size(terminal: impl AsFd) -> Option<(u16, u16)> {
    // SAFETY: winsize is plain integers, for which zero is valid.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open and the kernel writes one winsize.
    let result = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) };
    (result == 0 && size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}
