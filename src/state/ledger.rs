//! All records of a PID folder in one file, a line of JSON each: one read for a thousand services,
//! replaced whole under the lock. A damaged line counts as no record and harms no other.

use super::folder::Folder;
use super::record::Entry;
use crate::sys::files::{self, Suspect};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;

const NAME: &str = ".pidctl.records";
/// Whether two texts are the same, line by line, without keeping one.
#[derive(Default)]
struct Digest(DefaultHasher);

impl Digest {
    fn line(&mut self, line: &[u8]) {
        line.hash(&mut self.0);
    }
}

/// Far beyond what a folder of services needs; a larger file is not read whole.
const LIMIT: usize = 64 << 20;

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&b| b == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
}

fn digest_of(content: &[u8]) -> u64 {
    let mut digest = Digest::default();
    lines(content).for_each(|line| digest.line(line));
    digest.0.finish()
}

/// Hands over each entry; counts the lines that are damaged.
fn each(content: &[u8], mut visit: impl FnMut(Entry)) -> usize {
    let mut damaged = 0;
    for line in lines(content) {
        match serde_json::from_slice::<Entry>(line) {
            Ok(entry) if files::is_plain_name(entry.id.as_ref()) => visit(entry),
            _ => damaged += 1,
        }
    }
    damaged
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub entries: BTreeMap<String, Entry>,
    /// What was wrong with the file, for the user.
    pub warnings: Vec<String>,
}

impl Ledger {
    /// An error means that the records cannot be known: no process may be judged by their absence.
    pub fn read(folder: &Folder) -> io::Result<Ledger> {
        Ledger::read_with_digest(folder).map(|(ledger, _)| ledger)
    }

    /// Also the digest of the text it was read from.
    pub fn read_with_digest(folder: &Folder) -> io::Result<(Ledger, u64)> {
        let content = Ledger::content(folder)?;
        Ok((Ledger::parse(&content), digest_of(&content)))
    }

    fn content(folder: &Folder) -> io::Result<Vec<u8>> {
        let refused = |why: String| {
            let path = folder.path.join(NAME);
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is refused: {why}", path.display()),
            ))
        };
        match files::read_suspiciously(folder, NAME, LIMIT) {
            Ok(Suspect::Missing) => Ok(Vec::new()),
            Ok(Suspect::NotRegular(kind)) => refused(format!("it is {}", kind.name())),
            Ok(Suspect::Untrusted(why)) => refused(why.to_string()),
            Ok(Suspect::Content(content, _)) => Ok(content),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("{}: {error}", folder.path.join(NAME).display()),
            )),
        }
    }

    pub fn parse(content: &[u8]) -> Ledger {
        let mut ledger = Ledger::default();
        let damaged = each(content, |entry| {
            ledger.entries.insert(entry.id.clone(), entry);
        });
        if damaged > 0 {
            ledger
                .warnings
                .push(format!("{NAME}: {damaged} damaged record(s) count as none"));
        }
        ledger
    }

    /// Hands over entry by entry, without holding them all. Errors as of `read`.
    pub fn visit(folder: &Folder, visit: impl FnMut(Entry)) -> io::Result<()> {
        each(&Ledger::content(folder)?, visit);
        Ok(())
    }

    /// The digest of what `text` would give.
    pub fn digest(&self) -> io::Result<u64> {
        let (mut digest, mut line) = (Digest::default(), Vec::new());
        for entry in self.entries.values() {
            line.clear();
            serde_json::to_writer(&mut line, entry)?;
            digest.line(&line);
        }
        Ok(digest.0.finish())
    }

    /// A line of JSON for each entry.
    pub fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(self.entries.len() * 640);
        for entry in self.entries.values() {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        Ok(text)
    }

    pub fn write(folder: &Folder, text: &[u8]) -> io::Result<()> {
        files::replace(folder, NAME, text, 0o644)
    }

    /// The entry of `id`, made for `table` where there is none.
    pub fn entry(&mut self, id: &str, table: &std::path::Path) -> &mut Entry {
        self.entries
            .entry(id.to_string())
            .or_insert_with(|| Entry::new(id, table))
    }
}
