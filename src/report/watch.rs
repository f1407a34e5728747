//! One picture of `status --watch`, as it is redrawn in place on a terminal.

use super::live;

/// The table, cut to the terminal's size. Home, each line with the rest of it erased, then everything
/// below: no flicker.
pub fn frame(table: &str) -> String {
    let (columns, lines) = (live::columns(), live::rows());
    let mut text = String::from("\x1b[H");
    for line in table.lines().take(lines.saturating_sub(2)) {
        text.push_str(&clip(line, columns));
        text.push_str("\x1b[K\r\n");
    }
    text.push_str("\x1b[J");
    text
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
