//! What do many logs say from now on? Lines are given as they are written, through rotation,
//! truncation, deletion and a new start, without looking at intervals: inotify(7) on their folders
//! wakes whoever waits.

mod source;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use memchr::memrchr;

use self::source::{Reading, Source};
use self::watch::{Change, Watch};
use super::BLOCK;

/// Where the following of a log that exists already begins. A log that comes later is read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    At(u64),
    End,
}

/// Whether there is more to read now, without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Wait until the follower's descriptor is readable.
    Dry,
    /// Call `drain` again before waiting.
    More,
}

pub struct Follower {
    watch: Watch,
    sources: Vec<Source>,
    /// The folder and the file name of each source.
    named: HashMap<(usize, OsString), usize>,
    block: Vec<u8>,
    troubles: Vec<(usize, io::Error)>,
}

impl Follower {
    pub fn new() -> io::Result<Follower> {
        Ok(Follower {
            watch: Watch::new()?,
            sources: Vec::new(),
            named: HashMap::new(),
            block: vec![0; BLOCK],
            troubles: Vec::new(),
        })
    }

    /// Follows the log of that path, which need not exist yet; returns its index, counted from 0.
    pub fn add(&mut self, path: &Path, position: Position) -> io::Result<usize> {
        // Its folder is watched first: nothing that happens after the open goes unseen.
        let index = self.add_source(path)?;
        let source = &mut self.sources[index];
        if let Err(e) = source.open(position) {
            source.trouble(index, e, &mut self.troubles);
        }
        Ok(index)
    }

    /// The same with a file that was opened before and read up to `offset`: not a byte is lost
    /// between, even where it bears another name by now.
    pub fn add_open(&mut self, path: &Path, file: File, offset: u64) -> io::Result<usize> {
        let index = self.add_source(path)?;
        self.sources[index].reading = Some(Reading::new(file, Position::At(offset))?);
        Ok(index)
    }

    fn add_source(&mut self, path: &Path) -> io::Result<usize> {
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let folder = self.watch.add(folder)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        let index = self.sources.len();
        self.named.insert((folder, name), index);
        self.sources.push(Source::new(path, folder));
        Ok(index)
    }

    /// Reads what is there, at most one block of each log, so that none waits for another's gigabytes.
    /// `line` gets the index of the log and a line with its newline; a line longer than a block comes
    /// in pieces, and all but the last have none. The unfinished end of a log is held back.
    pub fn drain(&mut self, mut line: impl FnMut(usize, &[u8])) -> io::Result<Drained> {
        let (named, sources) = (&self.named, &mut self.sources);
        self.watch.changes(|change| match change {
            Change::File(folder, name, renamed) => {
                if let Some(source) = find(named, folder, name).and_then(|i| sources.get_mut(i)) {
                    source.stir(renamed);
                }
            }
            Change::Folder(folder) => {
                let inside = sources.iter_mut().filter(|source| source.folder == folder);
                inside.for_each(|source| source.stir(true));
            }
        })?;
        let mut drained = Drained::Dry;
        for (index, source) in self.sources.iter_mut().enumerate() {
            if let Err(e) = source.look_who_bears_the_name() {
                source.trouble(index, e, &mut self.troubles);
            }
            match source.advance(&mut self.block, |bytes| line(index, bytes)) {
                Ok(Drained::More) => drained = Drained::More,
                Ok(Drained::Dry) => {}
                Err(e) => source.trouble(index, e, &mut self.troubles),
            }
        }
        Ok(drained)
    }

    /// Gives what is held back: unfinished lines, without a newline. What follows continues them.
    pub fn flush(&mut self, mut line: impl FnMut(usize, &[u8])) {
        for (index, source) in self.sources.iter_mut().enumerate() {
            if let Some(reading) = &mut source.reading {
                let given = reading.give_unfinished(&mut self.block, |bytes| line(index, bytes));
                if let Err(e) = given {
                    source.trouble(index, e, &mut self.troubles);
                }
            }
        }
    }

    /// Logs that cannot be followed now and why, each told once; they are followed once they can be.
    pub fn take_troubles(&mut self) -> Vec<(usize, io::Error)> {
        std::mem::take(&mut self.troubles)
    }
}

impl AsFd for Follower {
    /// Readable when there is something to drain.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// A log that was set aside may still be written: `api.log.1` stirs `api.log`.
fn find(named: &HashMap<(usize, OsString), usize>, folder: usize, name: &OsStr) -> Option<usize> {
    let of = |name: &OsStr| named.get(&(folder, name.to_owned())).copied();
    of(name).or_else(|| of(without_number(name)?))
}

fn without_number(name: &OsStr) -> Option<&OsStr> {
    let bytes = name.as_bytes();
    let dot = memrchr(b'.', bytes)?;
    let number = &bytes[dot + 1..];
    (!number.is_empty() && number.iter().all(u8::is_ascii_digit))
        .then(|| OsStr::from_bytes(&bytes[..dot]))
}
