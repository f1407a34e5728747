//! The `NAME=value` lines of an env_file, as dotenv files are written; nothing in them is expanded.

use super::errors::{TableError, TableErrors};
use super::trusted_file;
use std::path::Path;

const EXPECTED: &str = "expected NAME=value, a comment, or an empty line";

/// Reads one file. Errors begin with its path; values are never shown in them, they may be secret.
pub fn load(path: &Path) -> Result<Vec<(String, String)>, TableErrors> {
    trusted_file::read(path)
        .and_then(|text| parse(&text))
        .map_err(|error| TableErrors::from_one(path, error))
}

/// The variables in the order of the file; the last of one name holds.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, TableError> {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let mut rest = Rest {
        text: &text,
        line: 1,
    };
    let mut variables = Vec::new();
    while !rest.text.is_empty() {
        if let Some(variable) = rest.variable()? {
            variables.push(variable);
        }
    }
    Ok(variables)
}

/// What is still to be read, and the line at which it begins.
struct Rest<'a> {
    text: &'a str,
    line: usize,
}

impl Rest<'_> {
    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, TableError> {
        Err(TableError {
            line: Some(self.line),
            message: message.into(),
        })
    }

    /// Reads one line, or several where a quoted value holds newlines.
    fn variable(&mut self) -> Result<Option<(String, String)>, TableError> {
        let (line, after) = self.text.split_once('\n').unwrap_or((self.text, ""));
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            self.advance(after);
            return Ok(None);
        }
        if content.contains('\0') {
            return self.wrong(format!("holds a NUL byte; {EXPECTED}"));
        }
        let Some((name, value)) = line.split_once('=') else {
            return self.wrong(EXPECTED);
        };
        let name = name.trim();
        let name = match name.strip_prefix("export") {
            Some(exported) if exported.starts_with([' ', '\t']) => exported.trim_start(),
            _ => name,
        };
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if !first || !name.chars().all(valid) {
            return self.wrong(format!(
                "the part before = is no variable's name (letters, digits and _); {EXPECTED}"
            ));
        }
        let value = value.trim_start_matches([' ', '\t']);
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            self.advance(after);
            return Ok(Some((name.to_owned(), unquoted(value).to_owned())));
        };
        // A quoted value may go on over the next lines: read on from the quote in all that is left.
        let start = line.len() - value.len() + quote.len_utf8();
        let body = self.text.get(start..).unwrap_or_default();
        let Some((value, behind)) = quoted(body, quote) else {
            return self.wrong(format!("{name}: the closing {quote} is missing"));
        };
        let (tail, after) = behind.split_once('\n').unwrap_or((behind, ""));
        let tail = tail.trim();
        if !tail.is_empty() && !tail.starts_with('#') {
            return self.wrong(format!(
                "{name}: more follows the closing {quote}; expected the end of the line or a comment"
            ));
        }
        if value.contains('\0') {
            return self.wrong(format!("{name}: holds a NUL byte"));
        }
        let variable = (name.to_owned(), value);
        self.advance(after);
        Ok(Some(variable))
    }

    fn advance(&mut self, after: &str) {
        let read = self.text.len() - after.len();
        let (done, left) = self.text.split_at(read);
        self.line += done.matches('\n').count();
        self.text = left;
    }
}

/// A value without quotes ends before ` #`.
fn unquoted(value: &str) -> &str {
    let comment = value
        .char_indices()
        .find(|(at, c)| {
            *c == '#'
                && value
                    .get(..*at)
                    .is_some_and(|before| before.is_empty() || before.ends_with([' ', '\t']))
        })
        .map_or(value.len(), |(at, _)| at);
    value.get(..comment).unwrap_or(value).trim()
}

/// The value up to the closing quote, and what follows it. Single quotes take everything as it is.
fn quoted(body: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, body.get(at + 1..)?)),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                '\n' => {}
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::trusted_file::tests::Folder;
    use super::*;

    fn one(line: &str) -> String {
        let variables = parse(line).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        match &variables[..] {
            [(name, value)] if name == "A" => value.clone(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn values_in_every_form() {
        for (line, value) in [
            ("A=", ""),
            ("A=b", "b"),
            ("A = b c ", "b c"),
            ("\texport  A=b", "b"),
            ("A=b#c", "b#c"),
            ("A=b # c", "b"),
            ("A= # c", ""),
            ("A=#c", ""),
            ("A=$HOME\\n", "$HOME\\n"),
            ("A=b=c", "b=c"),
            ("A='b # \"c\" \\n'", "b # \"c\" \\n"),
            (
                "A=\"b\\n\\t\\\"\\\\ \\$ \\x # c\" # d",
                "b\n\t\"\\ $ \\x # c",
            ),
            ("A=\"\"", ""),
            ("A=\"b\nc\"", "b\nc"),
            ("A='b\r\nc'\r\n", "b\nc"),
            ("A=\"b\\\nc\"", "bc"),
            ("\u{feff}A=b\r\n", "b"),
            ("A=it's", "it's"),
            ("A=grün", "grün"),
            ("# c\n\n  # d\nA=b\n", "b"),
        ] {
            assert_eq!(one(line), value, "{line:?}");
        }
    }

    #[test]
    fn in_the_order_of_the_file() {
        let variables = parse("B=1\nA=2\nexport B=3").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(variables, [pair("B", "1"), pair("A", "2"), pair("B", "3")]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn mistakes_have_their_line_and_no_value() {
        for (text, line, part) in [
            ("A=1\nsecret", 2, "expected NAME=value"),
            ("=secret", 1, "no variable's name"),
            ("A B=secret", 1, "no variable's name"),
            ("1A=secret", 1, "no variable's name"),
            ("export=secret\nexport A", 2, "expected NAME=value"),
            ("A='x\ny'\nB=\"secret\n", 3, "closing \" is missing"),
            ("A='secret' x", 1, "more follows"),
            ("A=\"secret\\", 1, "closing"),
            ("A=x\0secret", 1, "NUL"),
            ("A='x\n\0secret'", 1, "NUL"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{text:?}: {error:?}");
            assert!(error.message.contains(part), "{text:?}: {error:?}");
            assert!(!error.message.contains("secret"), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn a_file_is_named_in_its_errors() {
        let folder = Folder::new("env-file");
        let good = folder.write("good", "A=b\n");
        assert_eq!(load(&good).unwrap().len(), 1);
        let bad = folder.write("bad", "A=b\nC\n");
        let error = load(&bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:2: expected", bad.display())),
            "{error}"
        );
        let missing = folder.0.join("missing");
        let error = load(&missing).unwrap_err().to_string();
        assert_eq!(error, format!("{}: no such file", missing.display()));
    }
}
