//! sh(1): text as one word of a command line that people paste.

use std::borrow::Cow;

/// Bare where nothing in it means anything to a shell, else in single quotes.
pub fn word(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn what_a_shell_reads_otherwise_is_quoted() {
        for plain in ["web", "/srv/a-b_c.d", "foo@1.service", "10%", "a,b:c+d"] {
            assert_eq!(word(plain), plain);
        }
        for (text, quoted) in [
            ("", "''"),
            ("a b", "'a b'"),
            ("$(x)", "'$(x)'"),
            ("it's", r"'it'\''s'"),
            (r"a\x2db", r"'a\x2db'"),
            ("~", "'~'"),
            ("größe", "'größe'"),
        ] {
            assert_eq!(word(text), quoted);
        }
    }
}
