//! How do the lines of several services look side by side?
//!
//! Each line is prefixed by its service, aligned, in that service's colour; one service alone has no
//! prefix. On a terminal what would steer it is spelled out; the services' own colours pass where
//! colour is on, ended at the end of their line, and are left out where it is off. Into a pipe or a
//! file the bytes pass as they are.

use std::io::{self, Write};

use super::sanitize::{Colours, write_harmless};

/// Why printing ends.
#[derive(Debug)]
pub enum Stop {
    /// The reader has gone (`| head`): no error, nothing more to say.
    ReaderGone,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::ReaderGone,
            _ => Stop::Failed(error),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub terminal: bool,
    pub color: bool,
}

/// Who is shown: the service's id, and its place in the table, which gives its colour: the same one
/// whichever services are selected.
#[derive(Clone, Debug)]
pub struct Source {
    pub id: String,
    pub place: usize,
}

/// Red is left to errors, black and white to the terminal's background.
const PALETTE: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

pub struct Printer<W: Write> {
    out: W,
    look: Look,
    prefixes: Vec<String>,
    /// Whose line is still open: what was written last did not end in a newline.
    open: Option<usize>,
    shown: String,
}

impl<W: Write> Printer<W> {
    /// `out` should be buffered; it is flushed by `flush` alone.
    pub fn new(out: W, sources: &[Source], look: Look) -> Printer<W> {
        let width = sources
            .iter()
            .map(|source| source.id.len())
            .max()
            .unwrap_or(0);
        let prefix = |source: &Source| match (sources.len(), look.color) {
            (1, _) => String::new(),
            (_, false) => format!("{:width$} | ", source.id),
            (_, true) => {
                let color = PALETTE[source.place % PALETTE.len()];
                // Begins with a reset, for what a line before may have left on.
                format!("\x1b[0;{color}m{:width$} |\x1b[0m ", source.id)
            }
        };
        Printer {
            out,
            look,
            prefixes: sources.iter().map(prefix).collect(),
            open: None,
            shown: String::new(),
        }
    }

    /// One line of `sources[source]` with its newline. Without one it is a piece: the next piece of
    /// that source continues the line, and a line of another source ends it first.
    pub fn line(&mut self, source: usize, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.open != Some(source) {
            self.end_line()?;
            if let Some(prefix) = self.prefixes.get(source) {
                self.out.write_all(prefix.as_bytes())?;
            }
        }
        self.open = (!bytes.ends_with(b"\n")).then_some(source);
        if self.look.terminal {
            self.write_for_terminal(bytes)?;
        } else {
            self.out.write_all(bytes)?;
        }
        Ok(())
    }

    fn write_for_terminal(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (text, end) = match bytes.strip_suffix(b"\n") {
            // A carriage return before the newline moves nothing that is not moved anyway.
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), "\n"),
            None => (bytes, ""),
        };
        let colours = if self.look.color {
            Colours::Kept
        } else {
            Colours::Dropped
        };
        self.shown.clear();
        if write_harmless(text, colours, true, &mut self.shown) {
            self.shown.push_str("\x1b[0m");
        }
        self.shown.push_str(end);
        self.out.write_all(self.shown.as_bytes())
    }

    /// Ends a line that is still open, if there is one.
    pub fn end_line(&mut self) -> Result<(), Stop> {
        if self.open.take().is_some() {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.out.flush()?)
    }
}

impl Printer<Vec<u8>> {
    /// What was printed since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(ids: &[&str]) -> Vec<Source> {
        let source = |(place, id): (usize, &&str)| Source {
            id: (*id).to_owned(),
            place,
        };
        ids.iter().enumerate().map(source).collect()
    }

    fn printed(ids: &[&str], look: Look, lines: &[(usize, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, &sources(ids), look);
        for (source, bytes) in lines {
            printer.line(*source, bytes).unwrap();
        }
        out
    }

    const PIPE: Look = Look {
        terminal: false,
        color: false,
    };
    const PLAIN: Look = Look {
        terminal: true,
        color: false,
    };
    const COLOR: Look = Look {
        terminal: true,
        color: true,
    };

    #[test]
    fn prefixes_are_aligned_and_one_service_has_none() {
        let lines: [(usize, &[u8]); 2] = [(0, b"one\n"), (1, b"two\n")];
        assert_eq!(
            printed(&["api_8000", "db"], PIPE, &lines),
            b"api_8000 | one\ndb       | two\n"
        );
        assert_eq!(printed(&["api_8000"], PIPE, &lines[..1]), b"one\n");
    }

    #[test]
    fn into_a_pipe_bytes_pass_as_they_are() {
        let bytes = b"\x1b[31m\xff\0\r\n";
        assert_eq!(printed(&["a"], PIPE, &[(0, bytes)]), bytes);
        assert_eq!(printed(&["a"], PIPE, &[(0, b"no end")]), b"no end");
    }

    #[test]
    fn on_a_terminal_they_do_nothing() {
        let bytes = b"\x1b[2J\x1b[31mred\xff\tx\r\n";
        assert_eq!(printed(&["a"], PLAIN, &[(0, bytes)]), b"^[[2Jred\\xff\tx\n");
        assert_eq!(
            printed(&["a"], COLOR, &[(0, bytes)]),
            b"^[[2J\x1b[31mred\\xff\tx\x1b[0m\n"
        );
    }

    #[test]
    fn a_colour_belongs_to_the_place_in_the_table() {
        let out = printed(&["a", "b"], COLOR, &[(1, b"x\n")]);
        assert_eq!(out, b"\x1b[0;33mb |\x1b[0m x\n");
    }

    #[test]
    fn pieces_continue_their_line_and_end_at_another_service() {
        let lines: [(usize, &[u8]); 5] = [
            (0, b"be"),
            (0, b"gun"),
            (1, b"other\n"),
            (0, b" ended\n"),
            (0, b"next\n"),
        ];
        assert_eq!(
            printed(&["a", "b"], PIPE, &lines),
            b"a | begun\nb | other\na |  ended\na | next\n"
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_told_from_a_failure() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let stop = |kind| Printer::new(Broken(kind), &sources(&["a"]), PIPE).line(0, b"x\n");
        assert!(matches!(
            stop(io::ErrorKind::BrokenPipe),
            Err(Stop::ReaderGone)
        ));
        assert!(matches!(
            stop(io::ErrorKind::StorageFull),
            Err(Stop::Failed(_))
        ));
    }
}
