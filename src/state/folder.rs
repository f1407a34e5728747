//! The folder of the PID files: opened once, judged once, everything in it reached through it.

use super::ledger::Snapshot;
use crate::sys::{files, lock};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK: &str = ".pidctl.lock";
/// A lock is held for moments; who waits longer than this wants to know for whom.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Folder {
    pub path: PathBuf,
    fd: OwnedFd,
    /// What its records were when they were last read or written through here.
    pub(super) last: RefCell<Option<Snapshot>>,
}

#[derive(Debug)]
pub enum Refused {
    /// There is none yet: nothing is recorded, nothing runs.
    Missing,
    /// Another user could have written what is in it.
    Untrusted(files::Untrusted),
    Unreadable(io::Error),
}

impl Folder {
    /// The folder at `path`; where the path is a link, the folder behind it is judged.
    pub fn open(path: &Path) -> Result<Folder, Refused> {
        let (fd, stat) = files::open_folder(path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT) if path.symlink_metadata().is_err() => Refused::Missing,
            _ => Refused::Unreadable(error),
        })?;
        if let Some(why) = files::untrusted(stat.st_uid, stat.st_mode) {
            return Err(Refused::Untrusted(why));
        }
        Ok(Folder {
            path: path.to_path_buf(),
            fd,
            last: RefCell::default(),
        })
    }

    /// Makes it (0755 whatever the umask) where it is missing.
    pub fn open_or_make(path: &Path) -> Result<Folder, Refused> {
        match Folder::open(path) {
            Err(Refused::Missing) => {
                make_folder(path).map_err(Refused::Unreadable)?;
                Folder::open(path)
            }
            result => result,
        }
    }

    /// Held until dropped; for the moments in which files change, never while a service is awaited.
    pub fn lock(&self) -> io::Result<lock::Held> {
        lock::take(&self.fd, LOCK, Instant::now() + LOCK_PATIENCE)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes a folder and its parents, mode 0755 whatever the umask.
pub fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut made = std::fs::create_dir(path);
    if let (Err(error), Some(parent)) = (&made, path.parent())
        && error.kind() == io::ErrorKind::NotFound
        && !parent.as_os_str().is_empty()
    {
        make_folder(parent)?;
        // Once: under /proc, or behind a link to nowhere, it stays "not found" for ever.
        made = std::fs::create_dir(path);
    }
    match made {
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Refused {
    /// The message for the folder at `path`: what is wrong, and how to mend it.
    pub fn about(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Refused::Missing => format!("{path} does not exist"),
            Refused::Untrusted(why) => {
                let remedy = why.remedy(&path);
                format!(
                    "{path} is refused: {why}; only you and root may be able to write it ({remedy})"
                )
            }
            Refused::Unreadable(error) => format!("{path} cannot be opened: {error}"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about(Path::new("the PID folder")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        make_folder(&at("a/b/c")).unwrap();
        make_folder(&at("a/b/c")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for wrong in [at("link/x"), at("file/x/y"), "/proc/x".into(), "".into()] {
            assert!(make_folder(&wrong).is_err(), "{}", wrong.display());
        }
    }
}
