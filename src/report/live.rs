//! The live display of long waits, on a terminal's standard error: who is awaited, for how long, and
//! what comes then. Redrawn in place, gone when the wait is over.

use super::Style;
use crate::act::context::{Act, Waiting};
use crate::reactor;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Shorter waits show nothing.
const PATIENCE: Duration = Duration::from_millis(400);
const REDRAW: Duration = Duration::from_millis(100);
/// More lines than these are counted instead.
const MOST: usize = 12;

/// What is drawn now; shared with whoever prints lines in between.
#[derive(Clone, Default)]
pub struct Display {
    lines: Rc<Cell<usize>>,
    /// Somebody is writing to the terminal: nothing may be drawn in between.
    pub held: Rc<Cell<bool>>,
}

impl Display {
    /// Starts redrawing for as long as the command runs, where the style allows it.
    pub fn start(act: &Rc<Act>, style: &Style) -> Display {
        let display = Display::default();
        if style.live {
            let (act, drawn) = (act.clone(), display.clone());
            reactor::spawn(async move {
                loop {
                    act.waits
                        .until(|waits| (!waits.is_empty()).then_some(()))
                        .await;
                    reactor::sleep(REDRAW).await;
                    if !drawn.held.get() {
                        drawn.show(&act);
                    }
                }
            });
        }
        display
    }

    /// Draws the waits as they are now.
    pub fn show(&self, act: &Act) {
        let text = self.erased() + &self.drawn(act);
        if !text.is_empty() {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }

    /// What draws the waits as they are now, below everything else.
    pub fn drawn(&self, act: &Act) -> String {
        let columns = columns();
        let mut text = String::new();
        let lines = act.waits.see(lines);
        for line in &lines {
            text.extend(line.chars().take(columns.saturating_sub(1)));
            text.push('\n');
        }
        self.lines.set(lines.len());
        text
    }

    /// What takes the display away.
    pub fn erased(&self) -> String {
        match self.lines.replace(0) {
            0 => String::new(),
            lines => erase(lines),
        }
    }

    /// Takes the display away, so that other lines can be printed.
    pub fn clear(&self) {
        let text = self.erased();
        if !text.is_empty() {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Back to the first drawn line and everything below it erased.
fn erase(lines: usize) -> String {
    format!("\x1b[{lines}A\r\x1b[J")
}

fn lines(waits: &BTreeMap<String, Waiting>) -> Vec<String> {
    let now = Instant::now();
    let long = waits
        .iter()
        .filter(|(_, waiting)| now.duration_since(waiting.since) >= PATIENCE);
    let mut lines: Vec<String> = long.map(|(id, waiting)| line(id, waiting, now)).collect();
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("  … and {more} more"));
    }
    lines
}

fn line(id: &str, waiting: &Waiting, now: Instant) -> String {
    let since = now.duration_since(waiting.since).as_secs_f64();
    let then = match waiting.until {
        Some(until) => format!(
            ", {} in {:.0} s",
            waiting.then,
            until.saturating_duration_since(now).as_secs_f64().ceil()
        ),
        None => String::new(),
    };
    format!("  {id}: {} ({since:.1} s{then})", waiting.what)
}

/// Width of the terminal on standard error; 80 where it does not tell.
pub fn columns() -> usize {
    crate::sys::terminal::size(std::io::stderr()).map_or(80, |(columns, _)| columns as usize)
}

/// Lines of the terminal on standard output; 24 where it does not tell.
pub fn rows() -> usize {
    crate::sys::terminal::size(std::io::stdout()).map_or(24, |(_, rows)| rows as usize)
}
