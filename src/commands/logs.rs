//! `pidctl logs`: the last lines of the services' logs, or of the event log, and what comes after.
//!
//! Logs bear no times, so that lines of two services cannot be put in order: the last lines come
//! service by service, in the order of the table; what is followed comes as it is written.

use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Session;
use crate::config::Table;
use crate::events::tell::{Teller, Told};
use crate::exit_code::ExitCode;
use crate::logs::follow::{Drained, Follower, Position};
use crate::logs::print::{Look, Printer, Source, Stop};
use crate::logs::tail::last_parts;
use crate::report;
use crate::selection;
use crate::sys::interrupt::exit_on_interrupt;

/// Enough for a stack trace and what led to it, of one service or a few.
pub const DEFAULT_LINES: usize = 50;

pub struct LogsOptions {
    pub follow: bool,
    /// Of each service; with `events`, of all together.
    pub lines: usize,
    pub events: bool,
}

/// Shows them on standard output; exits 1 where a log could not be read. A log that does not exist
/// yet is told, and no failure. Followed logs end by a signal (130, 143) or with the reader.
pub fn run(session: &Session, words: &[String], options: &LogsOptions) -> anyhow::Result<ExitCode> {
    session.refuse_json("the event log is JSON as it is: logs/events.jsonl")?;
    let table = session.table()?;
    let (selected, _) = selection::select(&table, words, &[])?;
    let look = Look {
        terminal: session.style.terminal,
        color: session.style.color,
    };
    if options.follow {
        exit_on_interrupt()?;
        allow_a_descriptor_for_each_log();
    }
    let stdout = io::stdout();
    let reader = stdout.as_fd();
    let mut logs = Logs {
        table: &table,
        selected: &selected,
        options,
        look,
        reader,
        tell: |text: String| report::warn(&text),
        failed: false,
    };
    let out = BufWriter::with_capacity(64 * 1024, stdout.lock());
    let shown = match options.events {
        true => logs.show_events(out),
        false => logs.show(out),
    };
    match shown {
        Ok(()) | Err(Stop::ReaderGone) if logs.failed => Ok(ExitCode::Failed),
        Ok(()) | Err(Stop::ReaderGone) => Ok(ExitCode::Done),
        Err(Stop::Failed(e)) => Err(e.into()),
    }
}

struct Logs<'a, F: FnMut(String)> {
    table: &'a Table,
    selected: &'a [usize],
    options: &'a LogsOptions,
    look: Look,
    /// Who reads the output, to notice when it has gone.
    reader: BorrowedFd<'a>,
    /// For standard error.
    tell: F,
    failed: bool,
}

impl<F: FnMut(String)> Logs<'_, F> {
    fn show(&mut self, out: impl Write) -> Result<(), Stop> {
        let source = |place: &usize| {
            self.table.services.get(*place).map(|service| Source {
                id: service.id.clone(),
                place: *place,
            })
        };
        let sources: Vec<Source> = self.selected.iter().filter_map(source).collect();
        let mut printer = Printer::new(out, &sources, self.look);
        let mut follower = self.follower()?;
        for (index, source) in sources.iter().enumerate() {
            let path = self.table.log_file(&source.id);
            let parts = last_parts(&path, self.options.lines, |_| true);
            let parts = self.told(parts, &source.id, &path);
            for part in &parts {
                printer.end_line()?; // the end of one that was rotated
                part.read(|piece| printer.line(index, piece))?;
            }
            if let Some(follower) = &mut follower {
                match parts.into_iter().next_back() {
                    Some(newest) => follower.add_open(&path, newest.file, newest.end)?,
                    None => follower.add(&path, Position::At(0))?,
                };
            }
        }
        match follower {
            Some(follower) => self.follow(follower, &mut printer, &sources, Printer::line),
            None => self.end(&mut printer),
        }
    }

    fn show_events(&mut self, out: impl Write) -> Result<(), Stop> {
        let table = self.table;
        let chosen = self
            .selected
            .iter()
            .filter_map(|place| table.services.get(*place));
        let ids: Vec<&str> = chosen.map(|service| service.id.as_str()).collect();
        // All services are selected where none was named: then events of nobody, and of those that
        // are no longer in the table, are wanted too.
        let all = ids.len() == table.services.len();
        let wanted =
            |told: &Told| all || told.service.as_deref().is_some_and(|id| ids.contains(&id));
        let width = ids.iter().map(|id| id.len()).max().unwrap_or(0);
        let mut teller = Teller::new(width, self.look.color);
        let source = Source {
            id: "events".to_owned(),
            place: 0,
        };
        let sources = [source];
        let mut printer = Printer::new(out, &sources, self.look);
        let mut follower = self.follower()?;

        let path = table.events_file();
        let mut events = Vec::new();
        let mut no_events = 0;
        let mut unfinished = None;
        let parts = last_parts(&path, self.options.lines, |line| {
            let whole = line.ends_with(b"\n");
            // Visited first: the end of the log, which somebody may be writing.
            unfinished.get_or_insert(if whole { 0 } else { line.len() as u64 });
            let told = Told::parse(line);
            no_events += usize::from(told.is_none() && whole && line != b"\n");
            let told = told.filter(|_| whole).filter(wanted);
            let counts = told.is_some();
            events.extend(told);
            counts
        });
        let parts = self.told(parts, "events", &path);
        for told in events.into_iter().rev() {
            printer.line(0, teller.tell(told).as_bytes())?;
        }
        if no_events > 0 {
            let path = path.display();
            (self.tell)(format!(
                "{path}: lines that are no events, left out: {no_events}"
            ));
        }
        let Some(mut follower) = follower.take() else {
            return self.end(&mut printer);
        };
        match parts.into_iter().next_back() {
            Some(newest) => {
                let end = newest.end.saturating_sub(unfinished.unwrap_or(0));
                follower.add_open(&path, newest.file, end)?
            }
            None => follower.add(&path, Position::At(0))?,
        };
        self.follow(
            follower,
            &mut printer,
            &sources,
            |printer, _, line| match Told::parse(line).filter(wanted) {
                Some(told) => printer.line(0, teller.tell(told).as_bytes()),
                None => Ok(()),
            },
        )
    }

    fn follower(&self) -> io::Result<Option<Follower>> {
        self.options.follow.then(Follower::new).transpose()
    }

    /// What was found, or nothing, and why.
    fn told<T>(&mut self, found: io::Result<Vec<T>>, id: &str, path: &Path) -> Vec<T> {
        match found {
            Ok(found) => return found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let waits = if self.options.follow {
                    ", waiting for it"
                } else {
                    ""
                };
                (self.tell)(format!("{id}: no log yet ({}){waits}", path.display()));
            }
            // The follower tells of it, and goes on if it can be read later.
            Err(_) if self.options.follow => {}
            Err(e) => {
                self.failed = true;
                (self.tell)(format!("{id}: {e}"));
            }
        }
        Vec::new()
    }

    fn end(&self, printer: &mut Printer<impl Write>) -> Result<(), Stop> {
        if self.look.terminal {
            printer.end_line()?;
        }
        printer.flush()
    }

    /// Goes on until the reader has gone.
    fn follow<W: Write>(
        &mut self,
        mut follower: Follower,
        printer: &mut Printer<W>,
        sources: &[Source],
        mut show: impl FnMut(&mut Printer<W>, usize, &[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        loop {
            let mut shown = Ok(());
            let drained = follower.drain(|index, bytes| {
                if shown.is_ok() {
                    shown = show(printer, index, bytes);
                }
            })?;
            shown?;
            printer.flush()?;
            for (index, trouble) in follower.take_troubles() {
                let id = sources.get(index).map_or("", |source| source.id.as_str());
                (self.tell)(format!("{id}: {trouble}"));
            }
            if drained == Drained::Dry {
                wait(&follower, self.reader)?;
            }
        }
    }
}

/// Until there is something to drain; an error when the reader of the output has gone.
fn wait(follower: &Follower, reader: BorrowedFd) -> Result<(), Stop> {
    // Of the reader only what is always told is asked: error and hang-up.
    let mut fds = [
        PollFd::new(follower.as_fd(), PollFlags::POLLIN),
        PollFd::new(reader, PollFlags::empty()),
    ];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Stop::Failed(e.into())),
    }
    match fds[1].any() {
        Some(false) => Ok(()),
        _ => Err(Stop::ReaderGone),
    }
}

/// The usual soft limit, 1,024, is less than a large table has logs. Where it cannot be raised, the log
/// that finds none left is told.
fn allow_a_descriptor_for_each_log() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests;
