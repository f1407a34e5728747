//! All records of a PID folder in one file, a line of JSON each: one read for a thousand services,
//! replaced whole under the lock. A damaged line counts as no record and harms no other.

use super::folder::Folder;
use super::record::Entry;
use crate::sys::files::{self, Suspect};
use nix::sys::stat::{FileStat, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::rc::Rc;

const NAME: &str = ".pidctl.records";

/// Far beyond what a folder of services needs; a larger file is not read whole.
const LIMIT: usize = 64 << 20;

/// Room for one record in the text.
const USUAL_LENGTH: usize = 768;

fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content
        .split(|&b| b == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub entries: BTreeMap<String, Entry>,
    /// What was wrong with the file, for the user.
    pub warnings: Vec<String>,
}

/// The records of one file as it was. Held open, the file's inode number is nobody else's.
#[derive(Debug)]
pub struct Snapshot {
    file: Option<File>,
    stamp: Option<Stamp>,
    digest: u64,
    ledger: Rc<Ledger>,
}

/// Device, inode, size and mtime: the file is replaced, never changed, and who changes it all the same
/// changes the rest.
type Stamp = (u64, u64, i64, i64, i64);

fn stamp(stat: &FileStat) -> Stamp {
    let time = (stat.st_mtime, stat.st_mtime_nsec);
    (stat.st_dev, stat.st_ino, stat.st_size, time.0, time.1)
}

impl Snapshot {
    /// As the file is now. Read and parsed only where it is not the one that was last seen.
    fn take(folder: &Folder) -> io::Result<Snapshot> {
        let last = folder.last.take();
        let refused = |why: String| {
            let path = folder.path.join(NAME);
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is refused: {why}", path.display()),
            ))
        };
        let told = |error: io::Error| {
            let path = folder.path.join(NAME);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let (file, stat) = match files::open_suspiciously(folder, NAME).map_err(told)? {
            Suspect::Missing => return Ok(Snapshot::of(None, None, &[])),
            Suspect::NotRegular(kind) => return refused(format!("it is {}", kind.name())),
            Suspect::Untrusted(why) => return refused(why.to_string()),
            Suspect::Regular(file, stat) => (file, stat),
        };
        match last {
            Some(last) if last.stamp == Some(stamp(&stat)) => Ok(last),
            last => {
                drop(last);
                let content = files::read(&file, &stat, LIMIT).map_err(told)?;
                Ok(Snapshot::of(Some(file), Some(stamp(&stat)), &content))
            }
        }
    }

    fn of(file: Option<File>, stamp: Option<Stamp>, content: &[u8]) -> Snapshot {
        Snapshot {
            file,
            stamp,
            digest: digest(content),
            ledger: Rc::new(Ledger::parse(content)),
        }
    }
}

/// Whether two texts are the same, without keeping one.
fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    hasher.finish()
}

impl Ledger {
    /// An error means that the records cannot be known: no process may be judged by their absence.
    pub fn read(folder: &Folder) -> io::Result<Rc<Ledger>> {
        let snapshot = Snapshot::take(folder)?;
        let ledger = snapshot.ledger.clone();
        folder.last.replace(Some(snapshot));
        Ok(ledger)
    }

    /// Changes the records; the caller holds the folder's lock. On an error those on disk are unchanged.
    pub fn change(folder: &Folder, change: impl FnOnce(&mut Ledger)) -> io::Result<()> {
        let mut snapshot = Snapshot::take(folder)?;
        let ledger = Rc::make_mut(&mut snapshot.ledger);
        change(ledger);
        ledger.entries.retain(|_, entry| !entry.is_empty());
        let text = ledger.text()?;
        let after = digest(&text);
        if after != snapshot.digest {
            let file = files::replace(folder, NAME, &text, 0o644)?;
            ledger.warnings.clear();
            // The change is on disk: what fails from here on only costs a reading.
            snapshot.stamp = fstat(&file).ok().map(|stat| stamp(&stat));
            (snapshot.file, snapshot.digest) = (Some(file), after);
        }
        folder.last.replace(Some(snapshot));
        Ok(())
    }

    pub fn parse(content: &[u8]) -> Ledger {
        let mut ledger = Ledger::default();
        let mut damaged = 0;
        for line in lines(content) {
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) if files::is_plain_name(entry.id.as_ref()) => {
                    ledger.entries.insert(entry.id.clone(), entry);
                }
                _ => damaged += 1,
            }
        }
        if damaged > 0 {
            ledger
                .warnings
                .push(format!("{NAME}: {damaged} damaged record(s) count as none"));
        }
        ledger
    }

    /// A line of JSON for each entry.
    pub fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(self.entries.len() * USUAL_LENGTH);
        for entry in self.entries.values() {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        Ok(text)
    }

    /// The entry of `id`, made for `table` where there is none.
    pub fn entry(&mut self, id: &str, table: &std::path::Path) -> &mut Entry {
        self.entries
            .entry(id.to_string())
            .or_insert_with(|| Entry::new(id, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    fn fail(folder: &Folder, id: &str, why: &str) {
        Ledger::change(folder, |ledger| {
            ledger.entry(id, Path::new("/services.toml")).failure = Some(why.to_string());
        })
        .unwrap();
    }

    fn failure(folder: &Folder, id: &str) -> Option<String> {
        let ledger = Ledger::read(folder).unwrap();
        ledger.entries.get(id)?.failure.clone()
    }

    #[test]
    fn what_nobody_changed_is_read_once_and_what_another_wrote_anew() {
        let path = tempfile::tempdir().unwrap();
        let (ours, theirs) = (
            Folder::open(path.path()).unwrap(),
            Folder::open(path.path()).unwrap(),
        );
        assert_eq!(failure(&ours, "web"), None);
        fail(&theirs, "web", "one");
        assert_eq!(failure(&ours, "web").as_deref(), Some("one"));
        fail(&ours, "web", "two");
        let once = Ledger::read(&ours).unwrap();
        assert!(Rc::ptr_eq(&once, &Ledger::read(&ours).unwrap()));
        assert_eq!(failure(&theirs, "web").as_deref(), Some("two"));
        fail(&theirs, "api", "three");
        assert_eq!(failure(&ours, "web").as_deref(), Some("two"));
        assert_eq!(failure(&ours, "api").as_deref(), Some("three"));
        std::fs::remove_file(path.path().join(NAME)).unwrap();
        assert_eq!(failure(&ours, "web"), None);
    }

    #[test]
    fn a_change_in_place_is_seen_too() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::open(path.path()).unwrap();
        fail(&folder, "web", "one");
        let file = path.path().join(NAME);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("one", "two")).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
        let opened = File::options().write(true).open(&file).unwrap();
        opened.set_modified(later).unwrap();
        assert_eq!(failure(&folder, "web").as_deref(), Some("two"));
    }

    #[test]
    fn a_change_that_cannot_be_written_is_forgotten() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::open(path.path()).unwrap();
        fail(&folder, "web", "one");
        // JSON has no words for such a path.
        let table = Path::new(OsStr::from_bytes(b"/\xff/services.toml"));
        let changed = Ledger::change(&folder, |ledger| {
            ledger.entry("api", table).failure = Some("two".to_string());
        });
        assert!(changed.is_err());
        assert_eq!(failure(&folder, "api"), None);
        assert_eq!(failure(&folder, "web").as_deref(), Some("one"));
    }
}
