//! Files that somebody else may have put there: opened without following links and without
//! blocking, judged by what was opened, replaced by rename.

use super::{boot, users};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Folder,
    Fifo,
    Socket,
    Device,
    Link,
}

impl Kind {
    /// Of `st_mode`, inode(7).
    pub fn of(mode: u32) -> Kind {
        match mode & libc::S_IFMT {
            libc::S_IFREG => Kind::Regular,
            libc::S_IFDIR => Kind::Folder,
            libc::S_IFIFO => Kind::Fifo,
            libc::S_IFSOCK => Kind::Socket,
            libc::S_IFLNK => Kind::Link,
            _ => Kind::Device,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Kind::Regular => "a regular file",
            Kind::Folder => "a folder",
            Kind::Fifo => "a FIFO",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
            Kind::Link => "a link",
        }
    }
}

/// How another user than the caller and root could have written a file, or planted one in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    Owner(u32),
    Mode(u32),
}

impl Untrusted {
    /// How to mend it.
    pub fn remedy(&self, path: impl fmt::Display) -> String {
        match self {
            Untrusted::Owner(_) => format!("run pidctl as that user, or chown {path}"),
            Untrusted::Mode(_) => format!("chmod go-w {path}"),
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Untrusted::Owner(uid) => write!(f, "it belongs to user {}", users::name_of(uid)),
            Untrusted::Mode(mode) => {
                write!(
                    f,
                    "group or others may write it (mode {:04o})",
                    mode & 0o7777
                )
            }
        }
    }
}

/// The one answer to "could another user have written it?", by `st_uid` and `st_mode`.
pub fn untrusted(uid: u32, mode: u32) -> Option<Untrusted> {
    if uid != boot::euid() && uid != 0 {
        return Some(Untrusted::Owner(uid));
    }
    (mode & 0o022 != 0).then_some(Untrusted::Mode(mode))
}

/// A file opened under suspicion.
#[derive(Debug)]
pub enum Suspect {
    Missing,
    /// Not a regular file; there is nothing to read.
    NotRegular(Kind),
    /// Another user could have written it.
    Untrusted(Untrusted),
    Regular(File, FileStat),
}

/// Opens `name` in `folder` for reading, never blocking, never through a link.
pub fn open_suspiciously(folder: impl AsFd, name: &str) -> io::Result<Suspect> {
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY;
    let fd = match openat(&folder, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(nix::errno::Errno::ENOENT) => return Ok(Suspect::Missing),
        Err(errno) => {
            // A link answers ELOOP, a socket ENXIO, a file without permission EACCES: look at it from outside.
            return match kind_at(&folder, name)? {
                None => Ok(Suspect::Missing),
                Some(Kind::Regular) => Err(errno.into()),
                Some(kind) => Ok(Suspect::NotRegular(kind)),
            };
        }
    };
    let stat = fstat(&fd)?;
    match Kind::of(stat.st_mode) {
        Kind::Regular => {}
        kind => return Ok(Suspect::NotRegular(kind)),
    }
    if let Some(why) = untrusted(stat.st_uid, stat.st_mode) {
        return Ok(Suspect::Untrusted(why));
    }
    Ok(Suspect::Regular(File::from(fd), stat))
}

/// The first `limit` bytes of what was just opened.
pub fn read(mut file: &File, stat: &FileStat, limit: usize) -> io::Result<Vec<u8>> {
    // Room for what it holds and one byte more: a read that leaves room has met the end.
    let size = usize::try_from(stat.st_size).unwrap_or(0).min(limit);
    let mut content = vec![0; size + 1];
    let first = file.read(&mut content)?;
    content.truncate(first);
    if first > size {
        // It has grown since.
        file.take(limit as u64).read_to_end(&mut content)?;
    }
    content.truncate(limit);
    Ok(content)
}

/// What stands at that name, links not followed; `None`: nothing.
pub fn kind_at(folder: impl AsFd, name: &str) -> io::Result<Option<Kind>> {
    match nix::sys::stat::fstatat(folder, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Kind::of(stat.st_mode))),
        Err(nix::errno::Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes `content` aside and renames it over `name`: readers see the old or the new, never a part.
/// The mode holds whatever the umask. Gives the new file. The caller keeps other writers away.
pub fn replace(folder: impl AsFd, name: &str, content: &[u8], mode: u32) -> io::Result<File> {
    replace_by(&format!(".{name}.new"), folder, name, content, mode)
}

/// The same where other writers may come: `aside` is the caller's alone.
pub fn replace_by(
    aside: &str,
    folder: impl AsFd,
    name: &str,
    content: &[u8],
    mode: u32,
) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{aside}: {error}"));
    let written = write_aside(&folder, aside, content, mode).map_err(named);
    let result = written.and_then(|file| {
        nix::fcntl::renameat(&folder, aside, &folder, name)?;
        Ok(file)
    });
    if result.is_err() {
        let _ = remove(&folder, aside);
    }
    result
}

fn write_aside(folder: &impl AsFd, aside: &str, content: &[u8], mode: u32) -> io::Result<File> {
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(mode);
    let fd = match openat(folder, aside, flags, mode) {
        Err(nix::errno::Errno::EEXIST) => {
            // Left by a command that was killed.
            remove(folder, aside)?;
            openat(folder, aside, flags, mode)?
        }
        result => result?,
    };
    let mut file = File::from(fd);
    if fstat(&file)?.st_mode & 0o7777 != mode.bits() {
        nix::sys::stat::fchmod(&file, mode)?;
    }
    file.write_all(content)?;
    Ok(file)
}

/// Removes a name; that it was missing already is fine.
pub fn remove(folder: impl AsFd, name: &str) -> io::Result<()> {
    match nix::unistd::unlinkat(folder, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a folder for the `…at` calls. A link at the end of the path is followed: the folder behind
/// it is what is judged.
pub fn open_folder(path: &Path) -> io::Result<(OwnedFd, FileStat)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

/// A name that cannot leave its folder.
pub fn is_plain_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    !bytes.is_empty() && !bytes.contains(&b'/') && bytes != b"." && bytes != b".."
}
