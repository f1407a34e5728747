//! Where in the table a mistake is, and the list of all mistakes.

use super::super::errors::{TableError, word};
use std::fmt::{self, Display};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeValue;

/// The mistakes found so far, and the lines of the text they are in.
pub struct Mistakes {
    line_starts: Vec<usize>,
    /// Where the last line with anything on it ends: what is missing is missing there.
    end: usize,
    found: Vec<TableError>,
}

impl Mistakes {
    pub fn of(text: &str) -> Mistakes {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Mistakes {
            line_starts: newlines.map(|(at, _)| at + 1).collect(),
            end: text.trim_end().len(),
            found: Vec::new(),
        }
    }

    /// From 1.
    pub fn line(&self, offset: usize) -> usize {
        let offset = offset.min(self.end);
        1 + self.line_starts.partition_point(|start| *start <= offset)
    }

    pub fn add(&mut self, at: Range<usize>, message: String) {
        let line = Some(self.line(at.start));
        self.found.push(TableError { line, message });
    }

    pub fn add_whole(&mut self, message: &str) {
        let message = message.to_owned();
        self.found.push(TableError {
            line: None,
            message,
        });
    }

    pub fn are_many(&self) -> bool {
        self.found.len() >= 100
    }

    pub fn in_order(mut self) -> Vec<TableError> {
        self.found.sort_by_key(|error| error.line);
        self.found.dedup();
        self.found
    }
}

/// Which part of the table a mistake is in.
#[derive(Clone, Debug)]
pub enum Place {
    Top,
    Defaults,
    /// Its id, else its name, else its number.
    Service(String),
}

impl Place {
    /// The entry of that index, named as well as its name and port allow.
    pub fn of(index: usize, entry: &Spanned<DeValue<'_>>) -> Place {
        let keys = entry.get_ref().as_table();
        let get = |key| keys.and_then(|keys| keys.get(key)).map(Spanned::get_ref);
        let name = get("name").and_then(DeValue::as_str);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Place::Service(format!("number {}", index + 1));
        };
        let name = word(name);
        Place::Service(match get("port").and_then(integer) {
            Some(port @ 1..=65535) => format!("{name}_{port}"),
            _ => name,
        })
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Top => Ok(()),
            Place::Defaults => f.write_str("[defaults]: "),
            Place::Service(name) => write!(f, "service {name}: "),
        }
    }
}

pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// `None` also for an integer of more than 128 bits.
pub fn integer(value: &DeValue<'_>) -> Option<i128> {
    let integer = value.as_integer()?;
    i128::from_str_radix(integer.as_str(), integer.radix()).ok()
}
