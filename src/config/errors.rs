//! How the mistakes of a table are told: one a line, each beginning `PATH:LINE: `.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TableError {
    /// From 1; `None` where the mistake has no place, such as a missing file.
    pub line: Option<usize>,
    /// Names service and key and says what was expected; one line of text.
    pub message: String,
}

/// All mistakes of one file, never empty. The caller exits 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableErrors {
    /// The path as given.
    pub given: PathBuf,
    /// By line; those without a line first.
    pub errors: Vec<TableError>,
}

impl TableErrors {
    /// One mistake of the file as a whole.
    pub fn whole(given: &Path, message: impl Into<String>) -> TableErrors {
        let message = message.into();
        TableErrors::from_one(
            given,
            TableError {
                line: None,
                message,
            },
        )
    }

    pub fn from_one(given: &Path, error: TableError) -> TableErrors {
        TableErrors {
            given: given.to_owned(),
            errors: vec![error],
        }
    }
}

impl fmt::Display for TableErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.given.display())?;
            if let Some(line) = error.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for TableErrors {}

/// Which of the known words was most likely meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let likeness = strsim::jaro_winkler(&word, &candidate.to_ascii_lowercase());
            (likeness, candidate)
        })
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// May this word be offered for the other as what was meant? So where one begins with the other, or a
/// third of the letters are to be changed at most.
pub fn is_alike(word: &str, known: &str) -> bool {
    let (word, known) = (word.to_ascii_lowercase(), known.to_ascii_lowercase());
    let letters = word.chars().count();
    let most = letters / 3;
    let begins = !word.is_empty() && (known.starts_with(&word) || word.starts_with(&known));
    // The distance of two long words takes long.
    let near = known.chars().count().abs_diff(letters) <= most;
    begins || near && strsim::osa_distance(&word, &known) <= most
}

/// `text` as it is where it is a plain word, else quoted: a message stays one line of printable text.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// `text` in quotes and on one line, cut where it is long.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_mistake_a_line() {
        let errors = TableErrors {
            given: "x/services.toml".into(),
            errors: vec![
                TableError {
                    line: None,
                    message: "a".into(),
                },
                TableError {
                    line: Some(3),
                    message: "b".into(),
                },
            ],
        };
        assert_eq!(
            errors.to_string(),
            "x/services.toml: a\nx/services.toml:3: b"
        );
    }

    #[test]
    fn the_nearest_word() {
        let known = ["port", "command", "env", "stop_timeout"];
        for (word, meant) in [
            ("prot", "port"),
            ("PORT", "port"),
            ("comand", "command"),
            ("environment", "env"),
        ] {
            assert_eq!(nearest(word, known), Some(meant));
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn a_word_is_offered_only_where_it_may_be_meant() {
        for (word, known, offered) in [
            ("prot", "port", true),
            ("wrker", "worker", true),
            ("API", "api_8000", true),
            ("api_8001", "api_8000", true),
            ("environment", "env", true),
            ("nope", "worker", false),
            ("3", "api", false),
            ("web", "api", false),
            ("", "api", false),
        ] {
            assert_eq!(is_alike(word, known), offered, "{word} {known}");
        }
        assert!(!is_alike(&"x".repeat(1 << 20), "api"));
    }

    #[test]
    fn quoted_text_is_short_and_on_one_line() {
        assert_eq!(quoted("a\n\u{1b}"), "\"a\\n\\u{1b}\"");
        assert!(quoted(&"ä".repeat(1000)).chars().count() < 70);
    }
}
