//! What are the last lines of a log? Read in blocks from its end, so that gigabytes cost no more than
//! the lines shown. A line longer than 1 MiB is shown by its last 1 MiB, and nothing before it.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::memrchr;

use super::BLOCK;
use super::open::open_for_read;
use super::rotate::aside;

pub const LINE_MAX: usize = 1024 * 1024;

/// The last `n` lines, without their newlines.
#[cfg(test)]
pub fn tail(path: &Path, n: usize) -> io::Result<Vec<Vec<u8>>> {
    tail_from(path, 0, n)
}

/// The same of what follows `offset`: where an instance's own part begins. A log that has become
/// shorter than that was begun anew, and counts whole.
pub fn tail_from(path: &Path, offset: u64, n: usize) -> io::Result<Vec<Vec<u8>>> {
    let file = open_for_read(path)?;
    let end = file.metadata()?.len();
    let from = if offset > end { 0 } else { offset };
    let mut lines = Vec::new();
    if n > 0 {
        walk_back(&file, from, end, |_, line| {
            lines.push(line.strip_suffix(b"\n").unwrap_or(line).to_vec());
            if lines.len() < n {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    }
    lines.reverse();
    Ok(lines)
}

/// A stretch of one file.
pub struct Part {
    pub file: File,
    pub start: u64,
    pub end: u64,
}

impl Part {
    /// Gives the bytes in order, line by line (newline included); what is longer than a block, and the
    /// unfinished end, in pieces without a newline. Stops where `piece` says so.
    pub fn read<E: From<io::Error>>(
        &self,
        mut piece: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut block = vec![0; BLOCK];
        let mut at = self.start;
        while at < self.end {
            let want = usize::try_from(self.end - at).map_or(BLOCK, |left| left.min(BLOCK));
            let got = read_at(&self.file, &mut block[..want], at)?;
            if got == 0 {
                break; // truncated meanwhile
            }
            for line in block[..got].split_inclusive(|byte| *byte == b'\n') {
                piece(line)?;
            }
            at += got as u64;
        }
        Ok(())
    }
}

/// The last lines of a log for which `count` is true, up to `n`, looked for in the rotated ones too
/// where the log itself has fewer. Oldest first; the last part is the log's own and ends at its end.
pub fn last_parts(
    path: &Path,
    n: usize,
    mut count: impl FnMut(&[u8]) -> bool,
) -> io::Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut found = 0;
    for file in rotated(path)? {
        let end = file.metadata()?.len();
        let mut start = end;
        if found < n {
            let whole = walk_back(&file, 0, end, |offset, line| {
                start = offset;
                found += usize::from(count(line));
                if found < n {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            if !whole {
                found = n;
            }
        }
        parts.push(Part { file, start, end });
        if found >= n {
            break;
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The log, then `.1`, `.2` … as far as they can be read; each file once, should they be rotated now.
pub fn rotated(path: &Path) -> io::Result<impl Iterator<Item = File>> {
    let first = open_for_read(path)?;
    let mut seen = vec![identity(&first)?];
    let older = (1..)
        .map_while({
            let path = path.to_owned();
            move |n| open_for_read(&nth(&path, n)).ok()
        })
        .filter(move |file| match identity(file) {
            Ok(id) if !seen.contains(&id) => {
                seen.push(id);
                true
            }
            _ => false,
        });
    Ok(std::iter::once(first).chain(older))
}

fn nth(path: &Path, n: u64) -> PathBuf {
    path.with_file_name(aside(path.file_name().unwrap_or_default(), n))
}

/// Device and inode: which file it is, whatever its name.
pub fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// Visits the lines between `from` and `end`, the last one first, each with its offset and its newline
/// (if it has one). False where the look back was cut short by a line longer than `LINE_MAX`.
fn walk_back(
    file: &File,
    from: u64,
    end: u64,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> io::Result<bool> {
    let mut start = end;
    // The bytes from `start` to the end of the line that is still to be visited.
    let mut held: Vec<u8> = Vec::new();
    loop {
        while let Some(newline) = memrchr(b'\n', &held[..held.len().saturating_sub(1)]) {
            let line = newline + 1;
            if visit(start + line as u64, &held[line..]).is_break() {
                return Ok(true);
            }
            held.truncate(line);
        }
        let left = usize::try_from(start - from).unwrap_or(usize::MAX);
        if left == 0 || held.len() >= LINE_MAX {
            if !held.is_empty() {
                let _ = visit(start, &held);
            }
            return Ok(left == 0);
        }
        let mut block = vec![0; left.min(BLOCK)];
        start -= block.len() as u64;
        match file.read_exact_at(&mut block, start) {
            Ok(()) => {}
            // Truncated meanwhile: what was there is all there is.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        block.append(&mut held);
        held = block;
    }
}

pub fn read_at(file: &File, block: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(block, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::write;

    fn log(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.log");
        write(&path, content).unwrap();
        (dir, path)
    }

    fn shown(path: &Path, n: usize) -> String {
        let mut bytes = Vec::new();
        for part in last_parts(path, n, |_| true).unwrap() {
            part.read(|piece| {
                bytes.extend_from_slice(piece);
                io::Result::Ok(())
            })
            .unwrap();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn the_last_lines_whether_or_not_the_last_one_is_finished() {
        let (_dir, path) = log(b"one\n\nthree\nfour");
        assert_eq!(tail(&path, 2).unwrap(), [&b"three"[..], b"four"]);
        assert_eq!(tail(&path, 3).unwrap(), [&b""[..], b"three", b"four"]);
        assert_eq!(tail(&path, 99).unwrap().len(), 4);
        assert!(tail(&path, 0).unwrap().is_empty());
        assert_eq!(shown(&path, 2), "three\nfour");
        assert_eq!(shown(&path, 0), "");

        write(&path, b"one\ntwo\n").unwrap();
        assert_eq!(tail(&path, 1).unwrap(), [b"two"]);
        write(&path, b"").unwrap();
        assert!(tail(&path, 5).unwrap().is_empty());
        write(&path, b"\n\n").unwrap();
        assert_eq!(tail(&path, 5).unwrap(), [b"", b""]);
    }

    #[test]
    fn nothing_from_before_the_instance_began() {
        let (_dir, path) = log(b"old\nold\nnew\nnewer\n");
        assert_eq!(tail_from(&path, 8, 10).unwrap(), [&b"new"[..], b"newer"]);
        assert_eq!(tail_from(&path, 8, 1).unwrap(), [b"newer"]);
        assert!(tail_from(&path, 18, 10).unwrap().is_empty());
        assert_eq!(tail_from(&path, 99, 10).unwrap().len(), 4, "begun anew");
    }

    #[test]
    fn lines_across_blocks_and_bytes_that_are_no_text() {
        let mut content = Vec::new();
        for n in 0..2000 {
            content.extend_from_slice(format!("{n} ").as_bytes());
            content.extend_from_slice(&vec![0xff; n % 251]);
            content.push(b'\n');
        }
        let (_dir, path) = log(&content);
        let lines = tail(&path, 1500).unwrap();
        let expected: Vec<&[u8]> = content
            .split(|b| *b == b'\n')
            .skip(500)
            .take(1500)
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_without_an_end_is_cut_and_what_is_before_it_is_not_read() {
        let (_dir, path) = log(b"before\n");
        let file = File::options().write(true).open(&path).unwrap();
        // A terabyte: whoever reads it whole is not done today.
        file.set_len(1 << 40).unwrap();
        let lines = tail(&path, 10).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), LINE_MAX);
        assert_eq!(shown(&path, 10).len(), LINE_MAX);
        file.write_all_at(b"\nlast\n", 1 << 40).unwrap();
        assert_eq!(tail(&path, 1).unwrap(), [b"last"]);
    }

    #[test]
    fn goes_on_in_the_rotated_ones() {
        let (dir, path) = log(b"five\n");
        write(dir.path().join("api.log.1"), "three\nfour\n").unwrap();
        write(dir.path().join("api.log.2"), "one\ntwo\n").unwrap();
        assert_eq!(shown(&path, 1), "five\n");
        assert_eq!(shown(&path, 2), "four\nfive\n");
        assert_eq!(shown(&path, 4), "two\nthree\nfour\nfive\n");
        assert_eq!(shown(&path, 99), "one\ntwo\nthree\nfour\nfive\n");
        let parts = last_parts(&path, 1, |line| line.starts_with(b"o")).unwrap();
        assert_eq!((parts.len(), parts[0].start), (3, 0));
    }
}
