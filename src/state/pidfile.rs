//! PID files: `<id>.pid` holds the leader's PID in decimal and a newline, nothing else.

use super::folder::Folder;
use crate::sys::files::{self, Suspect};
use std::io;
use std::time::{Duration, SystemTime};

/// What stands at `<id>.pid`.
#[derive(Debug, PartialEq, Eq)]
pub enum PidFile {
    Missing,
    /// One PID of 2 or more; when the file was last written.
    Pid {
        pid: i32,
        written: SystemTime,
    },
    /// A regular file that holds anything else: stale.
    Garbage(String),
    /// Not to be judged: no regular file, not readable, or another user could have written it.
    Unknown(String),
}

/// More than any PID file holds; a huge one is garbage by its first bytes.
const LIMIT: usize = 4096;

pub fn name(id: &str) -> String {
    format!("{id}.pid")
}

pub fn read(folder: &Folder, id: &str) -> PidFile {
    let cannot = |error| PidFile::Unknown(format!("{id}.pid cannot be read: {error}"));
    match files::open_suspiciously(folder, &name(id)) {
        Ok(Suspect::Missing) => PidFile::Missing,
        Ok(Suspect::NotRegular(kind)) => {
            PidFile::Unknown(format!("{}.pid is {}, left alone", id, kind.name()))
        }
        Ok(Suspect::Untrusted(why)) => PidFile::Unknown(format!("{id}.pid is refused: {why}")),
        Ok(Suspect::Regular(file, stat)) => match files::read(&file, &stat, LIMIT) {
            Ok(content) => match parse(&content) {
                Ok(pid) => PidFile::Pid {
                    pid,
                    written: SystemTime::UNIX_EPOCH
                        + Duration::new(
                            stat.st_mtime.max(0) as u64,
                            stat.st_mtime_nsec.clamp(0, 999_999_999) as u32,
                        ),
                },
                Err(what) => PidFile::Garbage(format!("{id}.pid holds {what}")),
            },
            Err(error) => cannot(error),
        },
        Err(error) => cannot(error),
    }
}

/// One PID of 2 or more with white space around it; else what it is instead.
pub fn parse(content: &[u8]) -> Result<i32, String> {
    let text = content.trim_ascii();
    if text.is_empty() {
        return Err("nothing".to_string());
    }
    if !text.iter().all(u8::is_ascii_digit) {
        let shown: String = String::from_utf8_lossy(&text[..text.len().min(24)])
            .escape_debug()
            .collect();
        return Err(format!("no PID but \"{shown}\""));
    }
    let digits = String::from_utf8_lossy(text);
    match digits.parse::<i32>() {
        Ok(pid) if pid >= 2 => Ok(pid),
        Ok(pid) => Err(format!("PID {pid}, which no service has")),
        Err(_) => Err(format!(
            "a number too large for a PID ({} digits)",
            digits.len()
        )),
    }
}

/// Mode 0644 whatever the umask.
pub fn write(folder: &Folder, id: &str, pid: i32) -> io::Result<()> {
    files::replace(folder, &name(id), format!("{pid}\n").as_bytes(), 0o644).map(drop)
}

/// Removes `<id>.pid` if it still holds one of `pids` or is garbage; another's is left alone.
pub fn remove(folder: &Folder, id: &str, pids: &[i32]) -> Result<(), String> {
    match read(folder, id) {
        PidFile::Missing => Ok(()),
        PidFile::Pid { pid, .. } if !pids.contains(&pid) => Ok(()),
        PidFile::Pid { .. } | PidFile::Garbage(_) => {
            files::remove(folder, &name(id)).map_err(|error| {
                format!(
                    "{} cannot be removed: {error}",
                    folder.path.join(name(id)).display()
                )
            })
        }
        PidFile::Unknown(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn one_pid_and_white_space() {
        assert_eq!(parse(b"42\n"), Ok(42));
        assert_eq!(parse(b"  4194304\t\n\n"), Ok(4194304));
        assert_eq!(parse(b"0042"), Ok(42));
    }

    #[test]
    fn anything_else_is_stale() {
        for content in [
            &b""[..],
            b" \n",
            b"0",
            b"1",
            b"-1",
            b"-5",
            b"+7",
            b"12 13",
            b"12\n13\n",
            b"abc",
            b"12abc",
            b"\0\0\0",
            b"12\0",
            b"99999999999999999999",
            b"2147483648",
            b"\xff\xfe",
            b"1e3",
            b"0x10",
        ] {
            assert!(parse(content).is_err(), "{content:?}");
        }
    }
}
