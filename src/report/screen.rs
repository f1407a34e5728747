//! What `run` shows: the services' lines as they are written and pidctl's own between them, in one
//! stream. A reader that does not read stops nothing but the stream: Ctrl-C works all the same.

use super::live::Display;
use super::{Style, warn};
use crate::act::context::Act;
use crate::logs::follow::{Drained, Follower, Position};
use crate::logs::print::{Look, Printer, Source, Stop};
use crate::reactor::{self, Watch};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::rc::Rc;
use std::time::Duration;

/// More than this is not read from the logs before what was read is written.
const ENOUGH: usize = 256 * 1024;

pub struct Screen {
    act: Rc<Act>,
    lines: RefCell<Lines>,
    ids: Vec<String>,
    queue: Rc<Watch<Queue>>,
    display: Display,
    /// Standard output and standard error are the same terminal.
    together: bool,
    terminal: bool,
}

struct Lines {
    follower: Follower,
    printer: Printer<Vec<u8>>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    writing: bool,
    /// What comes is dropped.
    closed: bool,
    reader_gone: bool,
}

impl Queue {
    fn add(&mut self, bytes: &[u8]) {
        if !self.closed {
            self.bytes.extend(bytes);
        }
    }
}

impl Screen {
    /// Follows the services' logs from their present ends. With `--json`, standard output is the
    /// document's, and the logs go to standard error.
    pub fn open(act: &Rc<Act>, style: &Style, services: &[usize]) -> io::Result<Rc<Screen>> {
        let mut follower = Follower::new()?;
        let mut sources = Vec::new();
        for &place in services {
            let id = act.table.services[place].id.clone();
            follower.add(&act.table.log_file(&id), Position::End)?;
            sources.push(Source { id, place });
        }
        let terminal = match style.json {
            true => io::stderr().is_terminal(),
            false => style.terminal,
        };
        let look = Look {
            terminal,
            color: style.color,
        };
        let screen = Rc::new(Screen {
            act: act.clone(),
            ids: sources.iter().map(|source| source.id.clone()).collect(),
            lines: RefCell::new(Lines {
                printer: Printer::new(Vec::new(), &sources, look),
                follower,
            }),
            queue: Watch::new(Queue::default()),
            display: Display::start(act, style),
            together: style.terminal && style.live,
            terminal,
        });
        let wake = screen
            .lines
            .borrow()
            .follower
            .as_fd()
            .try_clone_to_owned()?;
        reactor::spawn(screen.clone().follow(wake));
        reactor::spawn(screen.clone().write(Out::open(style.json)?));
        reactor::spawn(screen.clone().notice_hangup(style.json));
        Ok(screen)
    }

    async fn follow(self: Rc<Self>, wake: OwnedFd) {
        loop {
            match self.pull() {
                Drained::More => {
                    self.queue
                        .until(|queue| (queue.bytes.len() < ENOUGH).then_some(()))
                        .await;
                    breathe().await;
                }
                Drained::Dry => {
                    if reactor::readable(&wake).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Takes over what the logs hold by now, or a part of it.
    fn pull(&self) -> Drained {
        let mut lines = self.lines.borrow_mut();
        let Lines { follower, printer } = &mut *lines;
        let drained = follower.drain(|index, bytes| {
            // Into memory; it cannot fail.
            let _ = printer.line(index, bytes);
        });
        for (index, trouble) in follower.take_troubles() {
            warn(&format!("{}: {trouble}", self.ids[index]));
        }
        if self.terminal {
            // What a line's next piece would continue, a display may come between.
            let _ = printer.end_line();
        }
        self.hand_over(printer);
        drained.unwrap_or_else(|error| {
            warn(&format!("the logs cannot be followed: {error}"));
            Drained::Dry
        })
    }

    fn hand_over(&self, printer: &mut Printer<Vec<u8>>) {
        let bytes = printer.take();
        if !bytes.is_empty() {
            self.queue.change(|queue| queue.add(&bytes));
        }
    }

    /// A line of pidctl's own, after all that the logs hold by now.
    pub fn say(&self, line: &str) {
        while self.queue.see(|queue| queue.bytes.len() < ENOUGH) && self.pull() == Drained::More {}
        let mut lines = self.lines.borrow_mut();
        let _ = lines.printer.end_line();
        self.hand_over(&mut lines.printer);
        self.queue.change(|queue| {
            queue.add(line.as_bytes());
            queue.add(b"\n");
        });
    }

    /// A diagnostic: on standard error, unless that would tear the stream apart.
    pub fn warn(&self, message: &str) {
        match self.together {
            true => self.say(&format!("pidctl: {message}")),
            false => warn(message),
        }
    }

    /// The terminal has printed `^C` where the next line belongs.
    pub fn start_over(&self) {
        if self.terminal {
            self.queue.change(|queue| queue.bytes.extend(b"\r\x1b[K"));
        }
    }

    pub async fn reader_gone(&self) {
        self.queue
            .until(|queue| queue.reader_gone.then_some(()))
            .await;
    }

    /// Until all that was written is on its way, unfinished lines too.
    pub async fn finish(&self) {
        while self.pull() == Drained::More {
            self.drained().await;
        }
        {
            let mut lines = self.lines.borrow_mut();
            let Lines { follower, printer } = &mut *lines;
            follower.flush(|index, bytes| {
                let _ = printer.line(index, bytes);
            });
            let _ = printer.end_line();
            self.hand_over(printer);
        }
        self.drained().await;
        self.display.clear();
    }

    async fn drained(&self) {
        let idle = |queue: &Queue| queue.closed || (queue.bytes.is_empty() && !queue.writing);
        self.queue.until(|queue| idle(queue).then_some(())).await;
    }

    async fn write(self: Rc<Self>, mut out: Out) {
        loop {
            self.queue
                .until(|queue| (!queue.bytes.is_empty()).then_some(()))
                .await;
            let mut bytes = self.queue.change(|queue| {
                queue.writing = true;
                std::mem::take(&mut queue.bytes)
            });
            if self.together {
                // In one piece with the display, which flickers otherwise.
                let mut around = self.display.erased().into_bytes();
                around.append(&mut bytes);
                around.extend(self.display.drawn(&self.act).into_bytes());
                bytes = around;
                self.display.held.set(true);
            }
            let written = out.write_all(&bytes).await;
            self.display.held.set(false);
            self.queue.change(|queue| queue.writing = false);
            match written.map_err(Stop::from) {
                Ok(()) => {}
                Err(Stop::ReaderGone) => return self.close(true),
                Err(Stop::Failed(error)) => {
                    // A full disk, say. The services' own logs are another matter.
                    warn(&format!("the logs cannot be shown any more: {error}"));
                    return self.close(false);
                }
            }
        }
    }

    fn close(&self, reader_gone: bool) {
        self.queue.change(|queue| {
            queue.closed = true;
            queue.reader_gone |= reader_gone;
            queue.bytes.clear();
        });
    }

    async fn notice_hangup(self: Rc<Self>, json: bool) {
        if json {
            return;
        }
        reactor::hung_up(io::stdout()).await;
        self.close(true);
    }
}

/// Lets whatever else has happened be heard of first.
async fn breathe() {
    reactor::sleep(Duration::from_micros(1)).await;
}

/// Where the stream goes.
struct Out {
    file: File,
    /// So much is written at once.
    piece: usize,
    /// A pipe or terminal, which may have no room. A file never lets us wait.
    waits: bool,
}

impl Out {
    fn open(stderr: bool) -> io::Result<Out> {
        let (fd, path) = match stderr {
            false => (
                io::stdout().as_fd().try_clone_to_owned()?,
                "/proc/self/fd/1",
            ),
            true => (
                io::stderr().as_fd().try_clone_to_owned()?,
                "/proc/self/fd/2",
            ),
        };
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        let may_be_full = kind.is_fifo() || (kind.is_char_device() && file.is_terminal());
        if !may_be_full {
            return Ok(Out {
                file,
                piece: crate::logs::BLOCK,
                waits: false,
            });
        }
        // Opened anew, so that only our own writes do not block. Another user's pipe may not be: it
        // takes PIPE_BUF bytes at once where it takes any.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        Ok(
            match File::options().write(true).custom_flags(flags).open(path) {
                Ok(own) => Out {
                    file: own,
                    piece: crate::logs::BLOCK,
                    waits: true,
                },
                Err(_) => Out {
                    file,
                    piece: libc::PIPE_BUF,
                    waits: true,
                },
            },
        )
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.waits {
                true => reactor::writable(&self.file).await?,
                false => breathe().await,
            }
            let piece = &bytes[..bytes.len().min(self.piece)];
            match self
                .file
                .write(piece)
                .map_err(|error| (error.kind(), error))
            {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err((io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted, _)) => {}
                Err((_, error)) => return Err(error),
            }
        }
        Ok(())
    }
}
