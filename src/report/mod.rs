//! States and outcomes as people and scripts read them.

pub mod drill;
pub mod drill_table;
pub mod forecast;
pub mod foreground;
pub mod freed;
pub mod json;
pub mod junit;
pub mod live;
pub mod results;
pub mod screen;
pub mod status;
pub mod watch;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// How to print: decided once, from options, environment and what the outputs are.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub json: bool,
    pub quiet: bool,
    pub verbose: bool,
    /// Colours on standard output.
    pub color: bool,
    /// Standard output is a terminal.
    pub terminal: bool,
    /// Standard error is a terminal that takes a live display.
    pub live: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenColor {
    Auto,
    Always,
    Never,
}

impl Style {
    pub fn new(json: bool, quiet: bool, verbose: bool, when: WhenColor) -> Style {
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let color = match when {
            WhenColor::Always => true,
            WhenColor::Never => false,
            WhenColor::Auto => terminal && !no_color && !dumb,
        };
        let live = io::stderr().is_terminal() && !dumb && !json && !quiet;
        Style {
            json,
            quiet,
            verbose,
            color: color && !json,
            terminal,
            live,
        }
    }

    pub fn paint(&self, ink: Ink, text: &str) -> String {
        if self.color {
            format!("\x1b[{}m{text}\x1b[0m", ink as u8)
        } else {
            text.to_string()
        }
    }
}

/// SGR foreground numbers.
#[derive(Clone, Copy, Debug)]
pub enum Ink {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

/// A diagnostic on standard error.
pub fn warn(message: &str) {
    tell(&format!("pidctl: {message}"));
}

/// A line on standard error that names its subject by itself.
pub fn tell(line: &str) {
    // A closed standard error harms nothing.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Names of processes are in what is told of a service, and those write what they like.
pub fn harmless(text: &str) -> String {
    crate::logs::sanitize::sanitize(text.as_bytes())
}

static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

static OUTPUT_IS_LOST: AtomicBool = AtomicBool::new(false);

/// Has a result been lost on its way to standard output (a full disk)? Then it was not told, and no
/// command that did all it should ends with 0.
pub fn output_is_lost() -> bool {
    OUTPUT_IS_LOST.load(Ordering::Relaxed)
}

/// Has a write to standard output failed because nobody reads it any more?
pub fn reader_is_gone() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// A result on standard output. A reader that went away (`| head`) is no error; what was to be done is
/// done all the same.
pub fn print(text: &str) {
    if let Err(error) = document(text)
        && !OUTPUT_IS_LOST.swap(true, Ordering::Relaxed)
    {
        warn(&format!("standard output cannot be written: {error}"));
    }
}

/// A document on standard output that is of use only as a whole: a full disk is an error, a reader that
/// went away is none.
pub fn document(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            READER_IS_GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        result => result,
    }
}

/// A plain line.
pub fn say(line: &str) {
    print(&format!("{line}\n"));
}
