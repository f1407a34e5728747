//! How is text that somebody else wrote shown on a terminal? Control characters and bytes that are no
//! text are spelled out, so that they are seen and do nothing.

/// For names, command lines and messages inside a line of our own: nothing passes but text.
pub fn sanitize(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    write_harmless(bytes, Colours::Spelled, false, &mut shown);
    shown
}

/// The same, cut where it is long: a command line with a class path would bury what is said of it.
pub fn brief(bytes: &[u8]) -> String {
    /// In bytes.
    const LONGEST: usize = 200;
    let mut shown = sanitize(bytes);
    if shown.len() > LONGEST {
        let ends = shown.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = ends.take_while(|end| *end <= LONGEST).last();
        shown.truncate(end.unwrap_or(0));
        shown.push('…');
    }
    shown
}

/// What becomes of the colour sequences (SGR, `ESC [ … m`) in a service's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    Kept,
    Dropped,
    /// Like any other control character.
    Spelled,
}

/// Appends `bytes` to `shown`: `^X` for a control character, `\xff` for a byte that is not UTF-8,
/// `\u{202e}` for what is not ASCII and would steer a terminal or turn the order of the text around.
/// True where a colour sequence was kept.
pub fn write_harmless(bytes: &[u8], colours: Colours, tabs: bool, shown: &mut String) -> bool {
    let mut coloured = false;
    for chunk in bytes.utf8_chunks() {
        let mut text = chunk.valid();
        while let Some(c) = text.chars().next() {
            if c == '\u{1b}'
                && colours != Colours::Spelled
                && let Some(length) = sgr(text)
            {
                if colours == Colours::Kept {
                    shown.push_str(&text[..length]);
                    coloured = true;
                }
                text = &text[length..];
                continue;
            }
            match c {
                '\t' if tabs => shown.push(c),
                '\0'..='\u{1f}' => shown.extend(['^', char::from(c as u8 ^ 0x40)]),
                '\u{7f}' => shown.push_str("^?"),
                _ if steers(c) => shown.extend(c.escape_unicode()),
                _ => shown.push(c),
            }
            text = &text[c.len_utf8()..];
        }
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    coloured
}

/// The length of the colour sequence at the start of `text`, if there is one of a sane length.
fn sgr(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("\u{1b}[")?;
    let parameters = rest
        .bytes()
        .take(64)
        .take_while(|b| matches!(b, b'0'..=b'9' | b';' | b':'))
        .count();
    rest[parameters..]
        .starts_with('m')
        .then_some(parameters + 3)
}

/// C1 controls, line separators, and the marks that change the direction of the text.
fn steers(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        for (bytes, shown) in [
            (&b"plain text"[..], "plain text"),
            ("größe 漢字 🦀".as_bytes(), "größe 漢字 🦀"),
            (b"\x1b]0;title\x07", "^[]0;title^G"),
            (b"\x1b[2J\x1b[31mred", "^[[2J^[[31mred"),
            (b"a\tb\nc\rd\x7f\0", "a^Ib^Jc^Md^?^@"),
            (b"caf\xe9 \xff\xfe", "caf\\xe9 \\xff\\xfe"),
            (
                "\u{9b}31m \u{202e}evil".as_bytes(),
                "\\u{9b}31m \\u{202e}evil",
            ),
            (b"", ""),
        ] {
            assert_eq!(sanitize(bytes), shown);
        }
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        let line = "node /srv/shop/node_modules/.bin/next dev --hostname 127.0.0.1 -p 3000";
        assert_eq!(brief(line.as_bytes()), line);
        for long in ["ä".repeat(3000), "\u{1b}".repeat(3000)] {
            let shown = brief(long.as_bytes());
            assert!(shown.len() <= 200 + '…'.len_utf8() && shown.ends_with('…'));
        }
    }

    #[test]
    fn colours_are_kept_or_dropped_and_nothing_else_with_them() {
        let bytes = b"\x1b[1;31mred\x1b[m \x1b[3A\x1b[38:5:9m\x1b[31";
        let mut kept = String::new();
        assert!(write_harmless(bytes, Colours::Kept, true, &mut kept));
        assert_eq!(kept, "\x1b[1;31mred\x1b[m ^[[3A\x1b[38:5:9m^[[31");
        let mut dropped = String::new();
        assert!(!write_harmless(bytes, Colours::Dropped, true, &mut dropped));
        assert_eq!(dropped, "red ^[[3A^[[31");
    }
}
