//! Reading one key's value: what TOML has there becomes what the key means, or a mistake with its line.

use super::super::errors::{nearest, quoted, word};
use super::super::{Command, units};
use super::place::{Mistakes, Place, integer};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::DeValue;

pub const EXPECTED_COMMAND: &str =
    "a command: a string for /bin/sh, or an array of a program and its arguments";

/// What stands where something else was expected.
pub fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Where a key stands. Its readers return `None` after they have told the mistake.
pub struct Site<'a> {
    pub place: &'a Place,
    pub key: &'a str,
    /// Relative paths are relative to it.
    pub root: &'a Path,
    pub mistakes: &'a mut Mistakes,
}

impl Site<'_> {
    pub fn wrong(&mut self, at: Range<usize>, message: impl Display) {
        let message = format!("{}{}: {message}", self.place, word(self.key));
        self.mistakes.add(at, message);
    }

    pub fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = found(value.get_ref());
        self.wrong(value.span(), format!("expected {expected}, found {found}"));
    }

    /// Gives the nearest key, which it has named.
    pub fn unknown_key<'k>(&mut self, at: Range<usize>, known: &[&'k str]) -> &'k str {
        let word = self.key.rsplit('.').next().unwrap_or_default();
        let nearest = nearest(word, known.iter().copied()).unwrap_or_default();
        let message = format!("unknown key; the nearest known one is {nearest}");
        self.wrong(at, message);
        nearest
    }

    fn or_wrong<T>(&mut self, value: &Spanned<DeValue<'_>>, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.wrong(value.span(), message))
            .ok()
    }

    /// Never empty, and without the NUL that no argument, path or variable can hold.
    pub fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>, expected: &str) -> Option<&'v str> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(value, expected);
            return None;
        };
        if text.trim().is_empty() {
            self.wrong(
                value.span(),
                format!("expected {expected}, found an empty string"),
            );
            return None;
        }
        self.without_nul(value, text)
    }

    fn without_nul<'v>(&mut self, value: &Spanned<DeValue<'_>>, text: &'v str) -> Option<&'v str> {
        if text.contains('\0') {
            self.wrong(value.span(), "holds a NUL byte; expected text without one");
            return None;
        }
        Some(text)
    }

    pub fn boolean(&mut self, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.wrong_type(value, "true or false");
        }
        boolean
    }

    pub fn number(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = integer(value.get_ref())
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let expected = format!("a number from {} to {}", range.start(), range.end());
            match value.get_ref() {
                DeValue::Integer(written) => self.wrong(
                    value.span(),
                    format!("{written} is out of range; expected {expected}"),
                ),
                _ => self.wrong_type(value, &expected),
            }
        }
        number
    }

    pub fn duration(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let duration = match value.get_ref() {
            DeValue::Integer(written) => units::parse_duration(&decimal(value, written)),
            DeValue::Float(number) => {
                units::seconds(number.as_str().parse::<f64>().unwrap_or(f64::NAN))
            }
            DeValue::String(text) => units::parse_duration(text),
            _ => {
                self.wrong_type(value, units::EXPECTED_DURATION);
                return None;
            }
        };
        self.or_wrong(value, duration)
    }

    /// A duration in which something can happen.
    pub fn duration_above_zero(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let duration = self.duration(value)?;
        if duration.is_zero() {
            self.wrong(value.span(), "is zero; expected a duration above zero");
            return None;
        }
        Some(duration)
    }

    pub fn size(&mut self, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let size = match value.get_ref() {
            DeValue::Integer(written) => units::parse_size(&decimal(value, written)),
            DeValue::String(text) => units::parse_size(text),
            _ => {
                self.wrong_type(value, units::EXPECTED_SIZE);
                return None;
            }
        };
        self.or_wrong(value, size)
    }

    pub fn parsed<T: std::str::FromStr<Err = String>>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<T> {
        let parsed = self.text(value, expected)?.parse();
        self.or_wrong(value, parsed)
    }

    pub fn word<T: Copy>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let written = value.get_ref().as_str();
        if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == written) {
            return Some(*meaning);
        }
        let known = || words.iter().map(|(word, _)| *word);
        let expected = known().map(quoted).collect::<Vec<_>>().join(" or ");
        let text = self.text(value, &expected)?;
        let nearest = nearest(text, known()).unwrap_or_default();
        let text = quoted(text);
        self.wrong(
            value.span(),
            format!("unknown word {text}; expected {expected}, the nearest is {nearest:?}"),
        );
        None
    }

    /// Absolute, whatever it was.
    pub fn path(&mut self, value: &Spanned<DeValue<'_>>) -> Option<PathBuf> {
        let text = self.text(value, "a path")?;
        // Joined and taken apart once more, so that no `/./` shows in what pidctl prints.
        Some(self.root.join(text).components().collect())
    }

    pub fn path_or_paths(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<PathBuf>> {
        match value.get_ref() {
            DeValue::Array(items) => all(items, |item| self.path(item)),
            DeValue::String(_) => self.path(value).map(|path| vec![path]),
            _ => {
                self.wrong_type(value, "a path or a list of paths");
                None
            }
        }
    }

    /// An empty list is allowed: it takes back what [defaults] says.
    pub fn texts(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<Vec<Spanned<String>>> {
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type(value, &format!("a list of {expected}"));
            return None;
        };
        all(items, |item| {
            let text = self.text(item, &format!("a list of {expected}"))?;
            Some(Spanned::new(item.span(), text.to_owned()))
        })
    }

    pub fn command(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Command> {
        let DeValue::Array(items) = value.get_ref() else {
            let text = self.text(value, EXPECTED_COMMAND)?;
            return Some(Command::Shell(text.to_owned()));
        };
        let Some(program) = items.first() else {
            self.wrong(
                value.span(),
                format!("expected {EXPECTED_COMMAND}, found an empty array"),
            );
            return None;
        };
        self.text(program, "a program")?;
        let words = all(items, |item| match item.get_ref().as_str() {
            // An argument, unlike the program, may be empty.
            Some(word) => self.without_nul(item, word).map(str::to_owned),
            None => {
                self.wrong_type(item, "an array of strings");
                None
            }
        });
        words.map(Command::Exec)
    }

    /// Variables in the order in which they are written. A value may be empty.
    pub fn env(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<(String, String)>> {
        let DeValue::Table(variables) = value.get_ref() else {
            self.wrong_type(value, "a table of strings such as { LOG_LEVEL = \"info\" }");
            return None;
        };
        let mut variables: Vec<_> = variables.iter().collect();
        variables.sort_by_key(|(name, _)| name.span().start);
        all(variables, |(name, value)| self.variable(name, value))
    }

    /// Values are never shown in a mistake: they may be secret.
    fn variable(
        &mut self,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<(String, String)> {
        let text: &str = name.get_ref();
        if text.is_empty() || text.contains(['=', '\0']) {
            let name = quoted(text);
            self.wrong(
                value.span(),
                format!("{name} is no variable's name; expected one without = and NUL, not empty"),
            );
            return None;
        }
        match value.get_ref() {
            DeValue::String(content) if !content.contains('\0') => {
                Some((text.to_owned(), content.clone().into_owned()))
            }
            DeValue::String(_) => {
                self.wrong(
                    value.span(),
                    format!(
                        "{}: holds a NUL byte; expected text without one",
                        word(text)
                    ),
                );
                None
            }
            other => {
                let found = found(other);
                self.wrong(
                    value.span(),
                    format!(
                        "{}: expected a string (in quotes), found {found}",
                        word(text)
                    ),
                );
                None
            }
        }
    }
}

/// Reads each item even after a mistake, so that each mistake is told.
fn all<I, T>(
    items: impl IntoIterator<Item = I>,
    read: impl FnMut(I) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = items.into_iter().map(read).collect();
    read.into_iter().collect()
}

/// An integer in decimal, however it was written; too large a one as it is.
fn decimal(value: &Spanned<DeValue<'_>>, written: &toml::de::DeInteger<'_>) -> String {
    integer(value.get_ref()).map_or_else(|| written.to_string(), |number| number.to_string())
}
