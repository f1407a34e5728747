//! Reading a file that decides what runs: it never blocks, and root obeys only what no one else could
//! have written.

use super::errors::TableError;
use crate::sys::files::{self, Kind, Untrusted};
use nix::unistd::Uid;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Past this it is no table but a mistake, and it would cost the memory it fills.
const LARGEST: u64 = 16 << 20;

/// The whole text of a regular file. The error has a line where text is not UTF-8.
pub fn read(path: &Path) -> Result<String, TableError> {
    let bytes = read_bytes(path).map_err(|message| TableError {
        line: None,
        message,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        TableError {
            line: Some(1 + before.filter(|byte| **byte == b'\n').count()),
            message: "not UTF-8; expected text in UTF-8".to_owned(),
        }
    })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let kind = Kind::of(metadata.mode()).name();
        return Err(format!("is {kind}; expected a file"));
    }
    if Uid::effective().is_root() {
        refuse_written_by_others(metadata.uid(), metadata.mode())?;
    }
    let too_large = || format!("is larger than {} MiB", LARGEST >> 20);
    if metadata.len() > LARGEST {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    // The file may grow while it is read.
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(too_large());
    }
    Ok(bytes)
}

/// O_NONBLOCK: a FIFO without a writer would block for ever.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

/// What an ordinary user may write would run as root.
fn refuse_written_by_others(uid: u32, mode: u32) -> Result<(), String> {
    match files::untrusted(uid, mode) {
        None => Ok(()),
        Some(why @ Untrusted::Owner(_)) => Err(format!(
            "is refused: {why}, who could make root run anything; expected a file owned by root (chown root, or run pidctl as its owner)"
        )),
        Some(why @ Untrusted::Mode(_)) => Err(format!(
            "is refused: {why}, who could make root run anything; expected no such permission (chmod go-w)"
        )),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A folder of its own for each test, gone at its end.
    pub struct Folder(pub PathBuf);

    impl Folder {
        pub fn new(name: &str) -> Folder {
            let path =
                std::env::temp_dir().join(format!("pidctl-config-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path.canonicalize().unwrap())
        }

        /// Writes a file that only its owner may write, whatever the umask.
        pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let folder = Folder::new("regular");
        let file = folder.write("file", "text");
        assert_eq!(read(&file).unwrap(), "text");
        assert!(read(&folder.0).unwrap_err().message.contains("a folder"));
        let fifo = folder.0.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&fifo).unwrap_err().message.contains("a FIFO"));
        assert!(
            read(Path::new("/dev/null"))
                .unwrap_err()
                .message
                .contains("a device")
        );
        let socket = folder.0.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(
            read(&socket)
                .unwrap_err()
                .message
                .contains("cannot be read")
        );
        let missing = read(&folder.0.join("missing")).unwrap_err();
        assert_eq!(missing.message, "no such file");
    }

    #[test]
    fn text_that_is_not_utf8_has_its_line() {
        let folder = Folder::new("utf8");
        let error = read(&folder.write("file", b"one\ntwo \xff\n")).unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(error.message.contains("not UTF-8"));
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let folder = Folder::new("huge");
        let path = folder.write("file", "");
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(LARGEST + 1)
            .unwrap();
        assert!(read(&path).unwrap_err().message.contains("16 MiB"));
    }

    #[test]
    fn root_trusts_only_what_root_alone_may_write() {
        assert_eq!(refuse_written_by_others(0, 0o100644), Ok(()));
        assert_eq!(refuse_written_by_others(0, 0o100400), Ok(()));
        for mode in [0o100664, 0o100646, 0o100777] {
            let error = refuse_written_by_others(0, mode).unwrap_err();
            assert!(error.contains("chmod go-w"), "{error}");
        }
        let error = refuse_written_by_others(4_000_000_000, 0o100644).unwrap_err();
        assert!(error.contains("user 4000000000"), "{error}");
    }

    #[test]
    fn as_root_the_check_is_made() {
        if !Uid::effective().is_root() {
            return;
        }
        let folder = Folder::new("root");
        let path = folder.write("file", "text");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read(&path).unwrap_err().message.contains("chmod go-w"));
    }
}
