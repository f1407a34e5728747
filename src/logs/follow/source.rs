//! Which file is read for one log now, how far, and which comes next?

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memchr::memrchr;

use super::{Drained, Position};
use crate::logs::open::open_for_read;
use crate::logs::tail::{identity, read_at, rotated};

pub struct Source {
    path: PathBuf,
    pub folder: usize,
    pub reading: Option<Reading>,
    /// What has come under the log's name since, to be read once `reading` has been read to its end.
    next: VecDeque<Reading>,
    /// There may be something to read.
    stirred: bool,
    /// Another file may bear the name.
    renamed: bool,
    /// What was told last.
    troubled: Option<String>,
}

impl Source {
    pub fn new(path: &Path, folder: usize) -> Source {
        Source {
            path: path.to_owned(),
            folder,
            reading: None,
            next: VecDeque::new(),
            stirred: true,
            renamed: true,
            troubled: None,
        }
    }

    /// Opens the log for the first time, if it exists.
    pub fn open(&mut self, position: Position) -> io::Result<()> {
        match open_for_read(&self.path) {
            Ok(file) => self.reading = Some(Reading::new(file, position)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    pub fn stir(&mut self, renamed: bool) {
        self.stirred = true;
        self.renamed |= renamed;
    }

    /// Queues the file that bears the log's name now, if it is another one, and those that bore it in
    /// between, if it was rotated several times since the last look.
    pub fn look_who_bears_the_name(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.renamed) {
            return Ok(());
        }
        let files = match rotated(&self.path) {
            Ok(files) => files,
            // Whoever wrote it may go on writing: what is read stays open until another comes.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        self.troubled = None;
        let newest = self
            .next
            .back()
            .or(self.reading.as_ref())
            .map(|reading| reading.id);
        let mut fresh = Vec::new();
        let mut linked = false;
        for file in files {
            let reading = Reading::new(file, Position::At(0))?;
            linked = Some(reading.id) == newest;
            if linked {
                break;
            }
            fresh.push(reading);
            if newest.is_none() {
                break;
            }
        }
        if !linked {
            // It was not rotated but removed: those set aside are from before.
            fresh.truncate(1);
        }
        self.next.extend(fresh.into_iter().rev());
        if self.reading.is_none() {
            self.reading = self.next.pop_front();
        }
        Ok(())
    }

    /// Reads one block, if there may be something.
    pub fn advance(
        &mut self,
        block: &mut [u8],
        mut line: impl FnMut(&[u8]),
    ) -> io::Result<Drained> {
        if !std::mem::take(&mut self.stirred) {
            return Ok(Drained::Dry);
        }
        let Some(reading) = &mut self.reading else {
            return Ok(Drained::Dry);
        };
        let mut drained = reading.give_lines(block, &mut line)?;
        if drained == Drained::Dry
            && let Some(next) = self.next.pop_front()
        {
            if reading.give_unfinished(block, &mut line)? {
                line(b"\n"); // whoever wrote it has gone: the next file begins a line of its own
            }
            self.reading = Some(next);
            drained = Drained::More;
        }
        self.stirred = drained == Drained::More;
        Ok(drained)
    }

    pub fn trouble(&mut self, index: usize, error: io::Error, told: &mut Vec<(usize, io::Error)>) {
        let text = error.to_string();
        if self.troubled.as_ref() != Some(&text) {
            self.troubled = Some(text);
            told.push((index, error));
        }
    }
}

/// Only the offset of the first byte not yet given is remembered: a line that is not complete is read
/// again when more of it is there, so that a thousand logs need no thousand buffers.
pub struct Reading {
    file: File,
    id: (u64, u64),
    offset: u64,
}

impl Reading {
    pub fn new(file: File, position: Position) -> io::Result<Reading> {
        let id = identity(&file)?;
        let offset = match position {
            Position::At(offset) => offset,
            Position::End => file.metadata()?.len(),
        };
        Ok(Reading { file, id, offset })
    }

    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        // Truncated: begun anew.
        if self.file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        read_at(&self.file, block, self.offset)
    }

    fn give_lines(&mut self, block: &mut [u8], line: impl FnMut(&[u8])) -> io::Result<Drained> {
        let got = self.read(block)?;
        let full = got == block.len();
        let complete = match memrchr(b'\n', &block[..got]) {
            Some(newline) => newline + 1,
            None if full => got,
            None => 0,
        };
        self.give(&block[..complete], line);
        Ok(if full { Drained::More } else { Drained::Dry })
    }

    /// True where there was something.
    pub fn give_unfinished(
        &mut self,
        block: &mut [u8],
        line: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        let got = self.read(block)?;
        self.give(&block[..got], line);
        Ok(got > 0)
    }

    fn give(&mut self, bytes: &[u8], line: impl FnMut(&[u8])) {
        bytes.split_inclusive(|byte| *byte == b'\n').for_each(line);
        self.offset += bytes.len() as u64;
    }
}
