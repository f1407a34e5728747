//! What of a shell string can be known without running it: the words of a simple command, in the
//! terms of the shell's grammar (POSIX.1-2024, 2.9.1).

/// The words of a plain string, assignments and a leading `exec` left out. `None` for a compound one:
/// pipes, lists, substitutions, reserved words, and what starts with an expansion.
pub fn words(text: &str, expand: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut lexer = Lexer {
        rest: text.trim(),
        expand: &expand,
    };
    let mut redirected = false;
    while let Some(token) = lexer.next()? {
        match token {
            Token::Redirection => redirected = true,
            // The word after `>` names a file.
            Token::Word { .. } if redirected => redirected = false,
            Token::Word { text, literal } => {
                if words.is_empty() && literal && (is_assignment(&text) || text == "exec") {
                    continue;
                }
                if words.is_empty() && (!literal || RESERVED.contains(&text.as_str())) {
                    return None;
                }
                words.push(text);
            }
        }
    }
    (!words.is_empty()).then_some(words)
}

/// Words that the shell runs itself: there is no file to look for.
pub fn is_builtin(word: &str) -> bool {
    const BUILTINS: &[&str] = &[
        ".", ":", "alias", "bg", "cd", "command", "eval", "exit", "export", "fc", "fg", "getopts",
        "hash", "jobs", "local", "read", "readonly", "return", "set", "shift", "source", "times",
        "trap", "type", "ulimit", "umask", "unalias", "unset", "wait",
    ];
    BUILTINS.contains(&word)
}

const RESERVED: &[&str] = &[
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then",
    "until", "while", "function", "[[", "time", "coproc", "select",
];

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Blanks, and lines that a backslash joins.
fn after_blanks(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches([' ', '\t']);
        match text.strip_prefix("\\\n") {
            Some(after) => text = after,
            None => return text,
        }
    }
}

enum Token {
    Word {
        text: String,
        /// Nothing in it was expanded: it is what it says.
        literal: bool,
    },
    Redirection,
}

struct Lexer<'a> {
    rest: &'a str,
    expand: &'a dyn Fn(&str) -> Option<String>,
}

impl Lexer<'_> {
    /// `None`: not a simple command. `Some(None)`: the end.
    fn next(&mut self) -> Option<Option<Token>> {
        loop {
            self.rest = after_blanks(self.rest);
            let Some(first) = self.rest.chars().next() else {
                return Some(None);
            };
            if first == '#' || matches!(first, ';' | '&' | '|' | '(' | ')' | '\n') {
                return None;
            }
            // `2>`, `>>`, `<`; `>&2` and `2>&1` hold their target themselves.
            let digits = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
            if !digits.starts_with(['<', '>']) {
                return self.word().map(Some);
            }
            let operator = digits.trim_start_matches(['<', '>', '|']);
            if digits.starts_with("<<") || operator.starts_with('(') {
                return None;
            }
            self.rest = operator;
            let Some(target) = operator.strip_prefix('&') else {
                return Some(Some(Token::Redirection));
            };
            self.rest = target.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        }
    }

    fn word(&mut self) -> Option<Token> {
        let mut text = String::new();
        let mut literal = true;
        let mut chars = self.rest.char_indices().peekable();
        let mut quote: Option<char> = None;
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => text.push(c),
                (_, '`') => return None,
                (None, '\'' | '"') => quote = Some(c),
                (None, ' ' | '\t') => {
                    end = at;
                    break;
                }
                (None, ';' | '&' | '|' | '(' | ')' | '<' | '>' | '\n') => {
                    if matches!(c, '<' | '>') {
                        end = at;
                        break;
                    }
                    return None;
                }
                (_, '\\') => {
                    let (_, escaped) = chars.next()?;
                    if quote == Some('"') && !matches!(escaped, '$' | '`' | '"' | '\\' | '\n') {
                        text.push('\\');
                    }
                    if escaped != '\n' {
                        text.push(escaped);
                    }
                }
                (_, '$') => {
                    literal = false;
                    text.push_str(&self.parameter(&mut chars)?);
                }
                (None, '*' | '?' | '[' | '~') => {
                    literal = false;
                    text.push(c);
                }
                _ => text.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        self.rest = &self.rest[end..];
        Some(Token::Word { text, literal })
    }

    /// `$NAME` or `${NAME}`; anything richer makes the string compound.
    fn parameter(
        &self,
        chars: &mut std::iter::Peekable<std::str::CharIndices<'_>>,
    ) -> Option<String> {
        let braced = chars.next_if(|(_, c)| *c == '{').is_some();
        let mut name = String::new();
        while let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if braced {
            chars.next_if(|(_, c)| *c == '}')?;
        }
        if name.is_empty() {
            return None;
        }
        Some((self.expand)(&name).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    fn of(text: &str) -> Option<Vec<String>> {
        words(text, |name| (name == "PORT").then(|| "8000".to_string()))
    }

    #[test]
    fn plain_strings() {
        assert_eq!(
            of("uvicorn api:app --port $PORT").unwrap(),
            ["uvicorn", "api:app", "--port", "8000"]
        );
        assert_eq!(
            of("A=1 B='x y' exec python3 -c 'import os; os.wait()' \"${PORT}\"").unwrap(),
            ["python3", "-c", "import os; os.wait()", "8000"]
        );
        assert_eq!(
            of("node server.js >out.log 2>&1").unwrap(),
            ["node", "server.js"]
        );
        assert_eq!(of("'a b' c\\ d").unwrap(), ["a b", "c d"]);
        assert_eq!(
            of("node \\\n  --x\\\ny \\\n\t\\\n z").unwrap(),
            ["node", "--xy", "z"]
        );
        assert_eq!(
            of(&("a".to_owned() + &" 2>&1".repeat(100_000))).unwrap(),
            ["a"]
        );
    }

    #[test]
    fn compound_strings_have_no_program() {
        for text in [
            "a | b",
            "a; b",
            "a && b",
            "(a)",
            "if x; then y; fi",
            "a $(b)",
            "`a`",
            "$CMD x",
            "cd x\nrun",
            "a &",
            "{ a; }",
            "'open",
            "a << E",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
