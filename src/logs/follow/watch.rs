//! What changes in some folders? They may be missing still, or go and come again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// Folders are counted from 0, in the order they were added.
pub enum Change<'a> {
    /// A file in a folder; true where it is not just its content.
    File(usize, &'a OsStr, bool),
    /// Any file of a folder, or the folder itself.
    Folder(usize),
}

pub struct Watch {
    inotify: Inotify,
    folders: Vec<Folder>,
}

struct Folder {
    path: PathBuf,
    itself: Option<WatchDescriptor>,
    /// The nearest folder above it that exists. The kernel does not tell that a folder was removed
    /// while a file of it is open, and the followed logs are: the one above it tells.
    above: Option<WatchDescriptor>,
}

impl Watch {
    pub fn new() -> io::Result<Watch> {
        match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => Ok(Watch {
                inotify,
                folders: Vec::new(),
            }),
            Err(e) => Err(cannot("follow logs (inotify)", e)),
        }
    }

    /// Watches one more folder, or the same again; returns its index.
    pub fn add(&mut self, path: &Path) -> io::Result<usize> {
        if let Some(known) = self.folders.iter().position(|folder| folder.path == path) {
            return Ok(known);
        }
        self.folders.push(Folder {
            path: path.to_owned(),
            itself: None,
            above: None,
        });
        let index = self.folders.len() - 1;
        self.renew(index)?;
        Ok(index)
    }

    /// What has changed since the last call.
    pub fn changes(&mut self, mut tell: impl FnMut(Change)) -> io::Result<()> {
        // Bounded: while somebody writes without a pause there is always one event more.
        for _ in 0..64 {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.take(&event, &mut tell)?;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(e) => return Err(cannot("follow logs (inotify)", e)),
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &InotifyEvent, tell: &mut impl FnMut(Change)) -> io::Result<()> {
        let overflow = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        let lost = AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_UNMOUNT
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        for index in 0..self.folders.len() {
            let folder = &self.folders[index];
            let itself = folder.itself == Some(event.wd);
            if overflow || (itself && event.mask.intersects(lost)) {
                self.renew(index)?;
                tell(Change::Folder(index));
            } else if itself && let Some(name) = &event.name {
                let renamed = event.mask != AddWatchFlags::IN_MODIFY;
                tell(Change::File(index, name, renamed));
            }
            if self.folders[index].above == Some(event.wd) && self.renew(index)? {
                tell(Change::Folder(index));
            }
        }
        Ok(())
    }

    /// Watches what bears the folder's name now, and what is above it. True where that is another
    /// folder than before.
    fn renew(&mut self, index: usize) -> io::Result<bool> {
        let path = self.folders[index].path.clone();
        let mut above = None;
        // Until the one above is the same twice: then nothing came or went between look and watch.
        let itself = loop {
            let nearest = path.ancestors().skip(1).find(|path| path.is_dir());
            let nearest = nearest.unwrap_or(Path::new("."));
            let seen = above.replace(nearest);
            let watch = match self.add_watch(nearest, ABOVE) {
                // A folder that may be passed but not read: what it holds is followed all the same.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => None,
                watch => watch?,
            };
            self.replace(index, |folder| &mut folder.above, watch);
            let itself = self.add_watch(&path, ITSELF)?;
            if seen == above {
                break itself;
            }
        };
        Ok(self.replace(index, |folder| &mut folder.itself, itself))
    }

    /// Puts another watch in its place and ends the one before, unless it serves elsewhere too.
    fn replace(
        &mut self,
        index: usize,
        place: impl Fn(&mut Folder) -> &mut Option<WatchDescriptor>,
        watch: Option<WatchDescriptor>,
    ) -> bool {
        let before = std::mem::replace(place(&mut self.folders[index]), watch);
        if before == watch {
            return false;
        }
        if let Some(before) = before {
            let used = |folder: &Folder| [folder.itself, folder.above].contains(&Some(before));
            if !self.folders.iter().any(used) {
                let _ = self.inotify.rm_watch(before); // gone by itself, perhaps
            }
        }
        true
    }

    /// `None` where there is no such folder.
    fn add_watch(&self, path: &Path, mask: u32) -> io::Result<Option<WatchDescriptor>> {
        match self
            .inotify
            .add_watch(path, AddWatchFlags::from_bits_retain(mask))
        {
            Ok(watch) => Ok(Some(watch)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(e) => Err(cannot(&format!("watch {}", path.display()), e)),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

const ABOVE: u32 = libc::IN_CREATE
    | libc::IN_MOVE
    | libc::IN_DELETE
    | libc::IN_ONLYDIR
    // The same folder may be watched for its own files.
    | libc::IN_MASK_ADD;

const ITSELF: u32 =
    ABOVE | libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;

fn cannot(what: &str, errno: Errno) -> io::Error {
    let hint = match errno {
        Errno::EMFILE | Errno::ENOSPC => " (see /proc/sys/fs/inotify, and ulimit -n)",
        _ => "",
    };
    io::Error::new(
        io::Error::from(errno).kind(),
        format!("cannot {what}: {errno}{hint}"),
    )
}
