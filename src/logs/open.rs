//! How is a log opened, whatever somebody may have put in its place? Links are not followed, nothing
//! but a regular file is taken, and no open ever waits (a FIFO without a reader would).

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::unistd::geteuid;

use super::folder::{self, Folder, about, refuse_irregular};

/// The log, made when missing (0644 less the umask; its folder too), each write going to its end.
/// Root refuses a folder that others may write, unless the caller has checked it already, and a hard
/// link to somebody else's file.
pub fn open_for_append(path: &Path, check_folder_as_root: bool) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
    open_or_make(path, flags, check_folder_as_root)
}

/// The log for reading, under the same rules.
pub fn open_for_read(path: &Path) -> io::Result<File> {
    open_regular(path, OFlag::O_RDONLY, true)
}

/// Opens a file of the logs folder, which is made when missing.
pub fn open_or_make(path: &Path, flags: OFlag, check_folder: bool) -> io::Result<File> {
    match open_regular(path, flags, check_folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                folder::make(parent)?;
            }
            open_regular(path, flags, check_folder)
        }
        outcome => outcome,
    }
}

fn open_regular(path: &Path, flags: OFlag, check_folder: bool) -> io::Result<File> {
    let (folder, name) = Folder::of(path, check_folder)?;
    // Looked at before it is opened as well: opening a device can set it to work.
    folder.look_for_regular(&name)?;
    let safe = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let opened = openat(&folder.fd, name.as_os_str(), flags | safe, mode)
        .map_err(|e| about(path, &e.into()))?;
    let stat = fstat(&opened).map_err(|e| about(path, &e.into()))?;
    refuse_irregular(path, &stat)?;
    refuse_foreign_hard_link(path, &stat)?;
    // The flag belongs to the open file, which the service inherits: it must not see EAGAIN.
    let kept = flags & OFlag::O_APPEND;
    fcntl(&opened, FcntlArg::F_SETFL(kept)).map_err(|e| about(path, &e.into()))?;
    Ok(File::from(opened))
}

fn refuse_foreign_hard_link(path: &Path, stat: &FileStat) -> io::Result<()> {
    if !geteuid().is_root() || stat.st_nlink < 2 || stat.st_uid == 0 {
        return Ok(());
    }
    let text = format!(
        "{}: is a hard link to a file of user {}; left alone: move it away",
        path.display(),
        stat.st_uid
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::SFlag;
    use nix::sys::stat::mknod;
    use nix::unistd::mkfifo;
    use std::io::{Read, Write};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn appends_to_a_new_log_in_a_new_folder_and_to_an_old_one() {
        let dir = folder();
        let path = dir.path().join("logs/api.log");
        open_for_append(&path, true)
            .unwrap()
            .write_all(b"one\n")
            .unwrap();
        open_for_append(&path, true)
            .unwrap()
            .write_all(b"two\n")
            .unwrap();
        let mut text = String::new();
        open_for_read(&path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one\ntwo\n");
        assert_eq!(
            path.metadata().unwrap().mode() & 0o133,
            0,
            "no more than 0644"
        );
    }

    #[test]
    fn the_service_gets_a_descriptor_that_blocks() {
        let dir = folder();
        let log = open_for_append(&dir.path().join("api.log"), true).unwrap();
        let flags = OFlag::from_bits_truncate(fcntl(&log, FcntlArg::F_GETFL).unwrap());
        assert!(flags.contains(OFlag::O_APPEND) && !flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_missing_log_is_not_found_by_a_reader() {
        let dir = folder();
        let error = open_for_read(&dir.path().join("none/api.log")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn whatever_else_is_in_its_place_is_named_and_left_alone() {
        let dir = folder();
        let at = |name: &str| dir.path().join(name);
        let victim = at("victim");
        std::fs::write(&victim, "untouched").unwrap();
        symlink(&victim, at("link.log")).unwrap();
        symlink(at("nowhere"), at("dangling.log")).unwrap();
        std::fs::create_dir(at("folder.log")).unwrap();
        mkfifo(&at("fifo.log"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket.log")).unwrap();
        for (name, kind) in [
            ("link.log", "a link"),
            ("dangling.log", "a link"),
            ("folder.log", "a folder"),
            ("fifo.log", "a FIFO"),
            ("socket.log", "a socket"),
        ] {
            for error in [
                open_for_append(&at(name), true).unwrap_err(),
                open_for_read(&at(name)).unwrap_err(),
            ] {
                let text = error.to_string();
                assert!(text.contains(name) && text.contains(kind), "{text}");
            }
        }
        assert_eq!(std::fs::read(&victim).unwrap(), b"untouched");
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn a_device_is_refused() {
        let dir = folder();
        let path = dir.path().join("null.log");
        let null = nix::sys::stat::makedev(1, 3);
        if mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, null).is_err() {
            return; // not allowed to make one
        }
        let text = open_for_append(&path, true).unwrap_err().to_string();
        assert!(text.contains("a device"), "{text}");
    }

    #[test]
    fn root_refuses_a_folder_that_others_may_write() {
        let dir = folder();
        let path = dir.path().join("api.log");
        for mode in [0o775, 0o757, 0o1777] {
            std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(mode)).unwrap();
            let outcome = open_for_append(&path, true);
            if geteuid().is_root() {
                let text = outcome.unwrap_err().to_string();
                assert!(text.contains("others may write it"), "{text}");
                assert!(!path.exists());
            } else {
                outcome.unwrap();
            }
        }
    }

    #[test]
    fn root_refuses_a_folder_and_a_hard_link_of_another_user() {
        if !geteuid().is_root() {
            return;
        }
        let dir = folder();
        let path = dir.path().join("api.log");
        std::fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
        open_for_append(&path, true).unwrap();
        std::fs::hard_link(&path, dir.path().join("other")).unwrap();
        let text = open_for_append(&path, true).unwrap_err().to_string();
        assert!(text.contains("hard link to a file of user 1234"), "{text}");

        std::os::unix::fs::chown(dir.path(), Some(1234), None).unwrap();
        let text = open_for_read(&path).unwrap_err().to_string();
        assert!(text.contains("belongs to user 1234"), "{text}");
    }
}
