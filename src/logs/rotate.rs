//! When a log has grown past its size, how is it set aside? `x.log` becomes `x.log.1`, older ones move
//! up, and no more than so many are kept.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use nix::fcntl::renameat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::folder::{Folder, about};

/// Called before the log is opened; true where it was set aside (with `keep` 0: removed). Anything
/// but a regular file in the way is an error that names it, and then nothing is renamed.
pub fn rotate(path: &Path, max_size: u64, keep: u32) -> io::Result<bool> {
    let (folder, name) = match Folder::of(path, true) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        outcome => outcome?,
    };
    let Some(stat) = folder.look_for_regular(&name)? else {
        return Ok(false);
    };
    if u64::try_from(stat.st_size).unwrap_or(0) <= max_size {
        return Ok(false);
    }
    let keep = u64::from(keep);
    let remove = |name: &OsStr| {
        unlinkat(&folder.fd, name, UnlinkatFlags::NoRemoveDir).map_err(|e| about(path, &e.into()))
    };
    if keep == 0 {
        remove(&name)?;
    } else {
        // Only those up to the first gap have to move.
        let mut last = 1;
        while folder.look_for_regular(&aside(&name, last))?.is_some() && last < keep {
            last += 1;
        }
        for n in (1..=last).rev() {
            let from = if n == 1 {
                name.clone()
            } else {
                aside(&name, n - 1)
            };
            renameat(
                &folder.fd,
                from.as_os_str(),
                &folder.fd,
                aside(&name, n).as_os_str(),
            )
            .map_err(|e| about(path, &e.into()))?;
        }
    }
    // What was kept when the table said to keep more.
    for n in keep + 1.. {
        match folder.look_for_regular(&aside(&name, n)) {
            Ok(Some(_)) => remove(&aside(&name, n))?,
            _ => break,
        }
    }
    Ok(true)
}

/// `api.log` and 2: `api.log.2`.
pub fn aside(name: &OsStr, n: u64) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{n}"));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::fs::{read_to_string, write};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    fn log() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.log");
        (dir, path)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn only_past_its_size() {
        let (dir, path) = log();
        assert!(!rotate(&path, 3, 2).unwrap(), "missing");
        write(&path, "abc").unwrap();
        assert!(!rotate(&path, 3, 2).unwrap(), "not larger");
        write(&path, "abcd").unwrap();
        assert!(rotate(&path, 3, 2).unwrap());
        assert_eq!(names(&dir), ["api.log.1"]);
        assert!(!rotate(&dir.path().join("none/api.log"), 3, 2).unwrap());
    }

    #[test]
    fn older_ones_move_up_and_the_oldest_goes() {
        let (dir, path) = log();
        for text in ["one", "two", "three", "four"] {
            write(&path, text).unwrap();
            assert!(rotate(&path, 1, 2).unwrap());
        }
        assert_eq!(names(&dir), ["api.log.1", "api.log.2"]);
        assert_eq!(
            read_to_string(dir.path().join("api.log.1")).unwrap(),
            "four"
        );
        assert_eq!(
            read_to_string(dir.path().join("api.log.2")).unwrap(),
            "three"
        );
    }

    #[test]
    fn a_gap_is_filled_before_anything_is_dropped() {
        let (dir, path) = log();
        for (name, text) in [
            ("api.log", "new"),
            ("api.log.1", "one"),
            ("api.log.3", "three"),
        ] {
            write(dir.path().join(name), text).unwrap();
        }
        assert!(rotate(&path, 1, 3).unwrap());
        assert_eq!(names(&dir), ["api.log.1", "api.log.2", "api.log.3"]);
        assert_eq!(
            read_to_string(dir.path().join("api.log.3")).unwrap(),
            "three"
        );
    }

    #[test]
    fn keeping_fewer_than_before_removes_the_rest() {
        let (dir, path) = log();
        for n in 1..=4 {
            write(dir.path().join(format!("api.log.{n}")), "old").unwrap();
        }
        write(&path, "new").unwrap();
        assert!(rotate(&path, 1, 2).unwrap());
        assert_eq!(names(&dir), ["api.log.1", "api.log.2"]);
        write(&path, "new").unwrap();
        assert!(rotate(&path, 1, 0).unwrap());
        assert_eq!(names(&dir), [] as [&str; 0]);
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_nothing_is_renamed() {
        let (dir, path) = log();
        write(&path, "new").unwrap();
        write(dir.path().join("api.log.1"), "one").unwrap();
        mkfifo(&dir.path().join("api.log.2"), Mode::S_IRWXU).unwrap();
        let text = rotate(&path, 1, 2).unwrap_err().to_string();
        assert!(text.contains("api.log.2: is a FIFO"), "{text}");
        assert_eq!(names(&dir), ["api.log", "api.log.1", "api.log.2"]);
        assert_eq!(read_to_string(dir.path().join("api.log.1")).unwrap(), "one");
    }

    #[test]
    fn a_link_is_not_followed() {
        let (dir, path) = log();
        write(dir.path().join("victim"), "large").unwrap();
        symlink(dir.path().join("victim"), &path).unwrap();
        let text = rotate(&path, 1, 0).unwrap_err().to_string();
        assert!(text.contains("api.log: is a link"), "{text}");
        assert_eq!(names(&dir), ["api.log", "victim"]);
    }
}
