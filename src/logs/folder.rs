//! Which folder may hold logs? It is held open while its files are looked at, opened or renamed, so
//! that what was judged is what is used.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::sys::files::{self, Kind};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::geteuid;

pub struct Folder {
    pub fd: OwnedFd,
    path: PathBuf,
}

/// Makes the folder, and those above it, where they are missing: 0755 less the umask.
pub fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|e| about(path, &e))
}

impl Folder {
    /// The folder of `file`, and the file's name in it. With `check_as_root`, root refuses one that
    /// somebody else could change: a link planted there would make root write elsewhere.
    pub fn of(file: &Path, check_as_root: bool) -> io::Result<(Folder, OsString)> {
        let name = file.file_name().ok_or_else(|| {
            let text = format!("{}: is not the name of a file", file.display());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let path = match file.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|e| about(path, &e.into()))?;
        let folder = Folder {
            fd,
            path: path.to_owned(),
        };
        if check_as_root && geteuid().is_root() {
            folder.refuse_others()?;
        }
        Ok((folder, name.to_owned()))
    }

    fn refuse_others(&self) -> io::Result<()> {
        let stat = fstat(&self.fd).map_err(|e| about(&self.path, &e.into()))?;
        let Some(reason) = files::untrusted(stat.st_uid, stat.st_mode) else {
            return Ok(());
        };
        let text = format!(
            "{}: {reason}; as root, logs are only kept where root alone may write (chown root, chmod go-w)",
            self.path.display()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// What bears that name, links not followed; `None` where nothing does.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        match fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(about(&self.path.join(name), &e.into())),
        }
    }

    /// Like `look`, and anything but a regular file is an error that names it.
    pub fn look_for_regular(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        let Some(stat) = self.look(name)? else {
            return Ok(None);
        };
        refuse_irregular(&self.path.join(name), &stat)?;
        Ok(Some(stat))
    }
}

pub fn refuse_irregular(path: &Path, stat: &FileStat) -> io::Result<()> {
    let kind = Kind::of(stat.st_mode);
    if kind == Kind::Regular {
        return Ok(());
    }
    let text = format!(
        "{}: is {}, not a regular file; left alone: move it away",
        path.display(),
        kind.name()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// The same error, of the same kind, with the path before it.
pub fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
