//! The last line that a helper wrote. Its output is read while it runs, so that it never waits for room,
//! and not waited for afterwards: a process that it left may hold the pipe open for ever.

use crate::logs::sanitize::brief;
use crate::reactor;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, fchmod};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;

/// So much of the end is kept, and read at once.
const KEPT: usize = 4096;
/// More than a pipe holds: who writes on and on is not listened to for ever.
const READS: usize = 64;

pub struct LastWords {
    pipe: File,
    end: RefCell<Vec<u8>>,
}

impl LastWords {
    /// With the end that the helper writes to.
    pub fn new() -> io::Result<(LastWords, OwnedFd)> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        // Else no other user could open it as /dev/stderr. Only who may trace the helper can at all.
        fchmod(&write, Mode::from_bits_truncate(0o622))?;
        let words = LastWords {
            pipe: File::from(read),
            end: RefCell::default(),
        };
        Ok((words, write))
    }

    /// Reads on for as long as it is awaited; never ends.
    pub async fn listen(&self) {
        while reactor::readable(&self.pipe).await.is_ok() {
            match self.read() {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        std::future::pending().await
    }

    fn read(&self) -> io::Result<usize> {
        let mut part = [0; KEPT];
        let count = (&self.pipe).read(&mut part)?;
        let mut end = self.end.borrow_mut();
        end.extend_from_slice(&part[..count]);
        let surplus = end.len().saturating_sub(KEPT);
        end.drain(..surplus);
        Ok(count)
    }

    /// By now; `None` where nothing was written.
    pub fn line(&self) -> Option<String> {
        let mut reads = 0..READS;
        while reads.next().is_some() && matches!(self.read(), Ok(1..)) {}
        last_line(&self.end.borrow())
    }
}

fn last_line(text: &[u8]) -> Option<String> {
    let lines = text.rsplit(|byte| matches!(byte, b'\n' | b'\r'));
    let line = lines.map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
    Some(brief(line?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_line_with_text_is_harmless() {
        assert_eq!(last_line(b" \n\r\n"), None);
        assert_eq!(
            last_line(b"one\ntwo \x1b[2J\xff\n\n").as_deref(),
            Some("two ^[[2J\\xff")
        );
    }

    #[test]
    fn a_pipe_that_is_held_open_is_not_waited_for() {
        let (words, write) = LastWords::new().unwrap();
        let mut write = File::from(write);
        assert_eq!(words.line(), None);
        write.write_all(&[b'x'; KEPT]).unwrap();
        write.write_all(b"\nlast").unwrap();
        assert_eq!(words.line().as_deref(), Some("last"));
    }
}
