//! `status --watch`: the table redrawn in place on a terminal, one after the other elsewhere.

use super::Style;
use super::live;
use crate::act::context::Act;
use crate::commands::status;
use crate::exit_code::ExitCode;
use crate::reactor;
use std::rc::Rc;
use std::time::Duration;

/// Until Ctrl-C, or until nobody reads any more.
pub async fn redraw(
    act: Rc<Act>,
    style: Style,
    words: Vec<String>,
    interval: Duration,
) -> ExitCode {
    loop {
        let rows = status::look(&act, &words).await;
        if !style.terminal || style.json {
            status::show(&style, &rows);
        } else {
            // Home, each line with the rest of it erased, then everything below: no flicker.
            let (columns, lines) = (live::columns(), live::rows());
            let mut text = String::from("\x1b[H");
            for line in super::status::table(&style, &rows)
                .lines()
                .take(lines.saturating_sub(2))
            {
                text.push_str(&clip(line, columns));
                text.push_str("\x1b[K\r\n");
            }
            text.push_str("\x1b[J");
            super::print(&text);
        }
        if super::reader_is_gone() {
            return ExitCode::Done;
        }
        reactor::sleep(interval).await;
    }
}

/// So many characters of a line, colour sequences not counted.
fn clip(line: &str, columns: usize) -> String {
    let (mut text, mut width, mut escape) = (String::new(), 0, false);
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if !escape {
            if width == columns {
                continue;
            }
            width += 1;
        }
        text.push(c);
        escape &= c != 'm';
    }
    text
}
