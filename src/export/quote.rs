//! How is a string written in a unit file so that systemd reads exactly that string? The rules are
//! those of systemd.syntax(7), "Quoting", and systemd.service(5), "Command lines".

/// An Exec line: the words of `argv`, the first one an absolute path for which
/// [`is_plain_program`] holds.
pub fn exec_line(argv: &[String]) -> String {
    let mut line = String::new();
    for (index, word) in argv.iter().enumerate() {
        if index == 0 {
            // Variables are not expanded in the program's path, so a doubled `$` would stay doubled.
            line.push_str(&word_of(word));
        } else {
            line.push(' ');
            line.push_str(&argument(word));
        }
    }
    line
}

/// What a unit file can name as the program itself; everything else has to be an argument.
pub fn is_plain_program(path: &str) -> bool {
    path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains(['$', '\'', '"', '\\'])
        && !path.contains(char::is_control)
}

/// The value of an `Environment=` line; `$` means nothing there.
pub fn assignment(name: &str, value: &str) -> String {
    word_of(&format!("{name}={value}"))
}

/// What `Environment=` accepts; env(1) takes the others.
pub fn is_plain_variable(name: &str, value: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !value.contains(char::is_control)
}

/// The value of a key that is not unquoted at all, only searched for specifiers. The caller sees
/// to it that it holds no line break.
pub fn unquoted(value: &str) -> String {
    value.replace('%', "%%")
}

/// `WorkingDirectory=` is cut at its end: white space goes, a backslash joins the next line.
pub fn folder(path: &str) -> String {
    let path = unquoted(path);
    if path.ends_with(|last: char| last == '\\' || last.is_whitespace()) {
        path + "/"
    } else {
        path
    }
}

/// A file for `EnvironmentFile=`, which is a pattern of glob(7).
pub fn file_pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if "*?[\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    // White space at the end would be cut off; in brackets it stays.
    match pattern.pop() {
        Some(last) if last.is_whitespace() => pattern.push_str(&format!("[{last}]")),
        last => pattern.extend(last),
    }
    unquoted(&pattern)
}

/// Free text, as in `Description=` or a comment: one line, which does not continue on the next.
pub fn one_line(text: &str) -> String {
    let flat = text.replace(char::is_control, " ");
    let flat = flat.trim_end_matches(|last: char| last == '\\' || last.is_whitespace());
    flat.trim_start().to_owned()
}

fn argument(word: &str) -> String {
    if word == ";" {
        // Alone and bare, it would begin a second command.
        return "\\;".to_owned();
    }
    word_of(&word.replace('$', "$$"))
}

/// One word: specifiers doubled, and quoted where it needs to be.
fn word_of(text: &str) -> String {
    let text = text.replace('%', "%%");
    let bare = |c: char| c.is_alphanumeric() || "_-+=:,./@%$".contains(c);
    if !text.is_empty() && text.chars().all(bare) {
        return text;
    }
    let mut word = String::with_capacity(text.len() + 2);
    word.push('"');
    for c in text.chars() {
        match c {
            '"' => word.push_str("\\\""),
            '\\' => word.push_str("\\\\"),
            '\n' => word.push_str("\\n"),
            '\t' => word.push_str("\\t"),
            '\r' => word.push_str("\\r"),
            c if c.is_ascii_control() => word.push_str(&format!("\\x{:02x}", c as u32)),
            c => word.push(c),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::export::unit_reader::{assignments, exec_argv};

    pub const NASTY: &[&str] = &[
        "",
        " ",
        "a b",
        "\ttab",
        "line\nbreak",
        "\r\n",
        "\u{1}\u{7f}\u{1b}[31m",
        "\\",
        "trailing\\",
        "\\n \\x41 \\\\",
        "\"",
        "'",
        "it's \"both\"",
        "\"quoted\"",
        "$",
        "$$",
        "$HOME",
        "${HOME}",
        "a$b",
        "a${b}$",
        "%",
        "%%",
        "%h %n",
        "100%",
        ";",
        ";;",
        "\\;",
        "a;b",
        "; rm",
        "#",
        "# no comment",
        "@/bin/x",
        "-x",
        "--",
        ":",
        "+x",
        "!x",
        "!!x",
        "|x",
        "größe",
        "日本\u{a0}語",
        "\u{85}\u{2028}",
        "🦀 crab",
        "*?[a]{b}~",
        "a=b",
        "=",
        "`id` $(id) && > <",
    ];

    /// Every string, every pair, and a few thousand mixtures of their characters.
    fn strings() -> Vec<String> {
        let mut all: Vec<String> = NASTY.iter().map(|s| s.to_string()).collect();
        for first in NASTY {
            for second in NASTY {
                all.push(format!("{first}{second}"));
            }
        }
        let alphabet: Vec<char> = NASTY.concat().chars().collect();
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..3000 {
            let length = next(12);
            all.push(
                (0..length)
                    .map(|_| alphabet[next(alphabet.len())])
                    .collect(),
            );
        }
        all
    }

    #[test]
    fn every_argument_comes_back_as_it_was() {
        for chunk in strings().chunks(7) {
            let mut argv = vec!["/opt/a b/100% @ü;x".to_owned()];
            argv.extend_from_slice(chunk);
            let line = exec_line(&argv);
            assert!(!line.contains(['\n', '\r']), "{line:?}");
            assert!(!line.ends_with('\\'), "{line:?}");
            assert_eq!(exec_argv(&line), Ok(argv), "{line}");
        }
    }

    #[test]
    fn every_variable_comes_back_as_it_was() {
        for value in strings() {
            let line = assignment("NAME", &value);
            assert!(!line.contains(['\n', '\r']), "{line:?}");
            let expected = vec![("NAME".to_owned(), value)];
            assert_eq!(assignments(&line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn the_forms_are_those_of_the_manual() {
        let words = ["/bin/echo", "$HOME", "50%", ";", "", "a b", "x"].map(String::from);
        assert_eq!(
            exec_line(&words),
            "/bin/echo $$HOME 50%% \\; \"\" \"a b\" x"
        );
        assert_eq!(assignment("A", "$x %h"), "\"A=$x %%h\"");
    }

    #[test]
    fn free_text_stays_on_its_line() {
        assert_eq!(one_line(" a\nb\\ \\"), "a b");
        assert_eq!(one_line("\\"), "");
    }

    #[test]
    fn what_systemd_refuses_as_a_program_is_known() {
        for path in ["/bin/sh", "/opt/a b/%x", "/ü;@"] {
            assert!(is_plain_program(path), "{path}");
        }
        for path in ["sh", "@/bin/sh", "/a$b", "/a\"", "/a\\b", "/a\nb", "/a/"] {
            assert!(!is_plain_program(path), "{path}");
        }
    }
}
