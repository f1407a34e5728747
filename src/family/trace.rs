//! The traces that show who belongs to an instance: the token in the environment, the lock on the
//! log's open file, the session, and the processes known by then.

use crate::environment::TOKEN;
use crate::state::record::Instance;
use crate::sys::boot::{self, Place};
use crate::sys::proc::{self, Identity};
use std::io;

/// Everything that shows the family of one instance. Empty traces show nobody.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    /// Leader and known members: sure by PID and start time.
    pub known: Vec<Identity>,
    /// Ticks since boot; nobody of the family is older.
    pub since: u64,
    pub token: Option<String>,
    pub log: Option<LogMark>,
    /// Number of the session and process group that pidctl made.
    pub session: Option<i32>,
}

/// The open file that pidctl gave the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMark {
    pub file: (u64, u64),
    pub lock: u64,
}

impl Traces {
    /// Of a recorded instance. PIDs of another boot or PID namespace show nobody here.
    pub fn of(instance: &Instance, place: &Place) -> Traces {
        if !instance.leader.is_here(place) {
            return Traces {
                // Nobody is so young: no process need be read for its sake.
                since: u64::MAX,
                ..Traces::default()
            };
        }
        let log = &instance.log;
        Traces {
            known: instance
                .members()
                .chain([instance.leader.identity()])
                .collect(),
            since: instance.since,
            token: (!instance.token.is_empty()).then(|| instance.token.clone()),
            log: log.lock.map(|lock| LogMark {
                file: (log.device, log.inode),
                lock,
            }),
            session: instance.session,
        }
    }

    /// Of processes that no record tells of: they and what descends from them.
    pub fn of_processes(known: Vec<Identity>) -> Traces {
        let since = known
            .iter()
            .map(|identity| identity.start_time)
            .min()
            .unwrap_or(u64::MAX);
        Traces {
            known,
            since,
            ..Traces::default()
        }
    }
}

/// A lock offset that no two instances share: a signature in the upper 16 of 63 bits, 47 random ones
/// below.
pub fn new_lock_offset() -> io::Result<u64> {
    let random = u64::from_str_radix(&boot::random_token()?[..16], 16).unwrap_or(0);
    Ok((0x5049 << 48) | (random >> 17))
}

/// The value of the token variable. `helper`: a second token for a command that pidctl runs beside the
/// instance (a health check) and ends as a family of its own.
pub fn token_value(
    token: &str,
    helper: Option<&str>,
    folder: &std::path::Path,
) -> std::ffi::OsString {
    let mut value = std::ffi::OsString::from(token);
    if let Some(helper) = helper {
        value.push("+");
        value.push(helper);
    }
    value.push(":");
    value.push(folder);
    value
}

/// What a process's environment says of whose it is.
#[derive(Clone, Debug)]
pub struct Token {
    pub token: String,
    pub helper: Option<String>,
    pub folder: std::path::PathBuf,
}

/// Reads it. `None`: none, not readable, or gone.
pub fn token_of(pid: i32, buffer: &mut Vec<u8>) -> io::Result<Option<Token>> {
    Ok(proc::if_shown(proc::environ(pid, buffer))?
        .and_then(|()| parse_token(proc::environ_value(buffer, TOKEN)?)))
}

fn parse_token(value: &[u8]) -> Option<Token> {
    use std::os::unix::ffi::OsStrExt;
    let hexadecimal = |digits: &[u8]| {
        digits
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then(|| String::from_utf8_lossy(digits).into_owned())
    };
    let (token, mut rest) = value.split_at_checked(32)?;
    let mut helper = None;
    if let Some(after) = rest.strip_prefix(b"+") {
        let (digits, after) = after.split_at_checked(32)?;
        helper = Some(hexadecimal(digits)?);
        rest = after;
    }
    let folder = std::ffi::OsStr::from_bytes(rest.strip_prefix(b":")?).into();
    Some(Token {
        token: hexadecimal(token)?,
        helper,
        folder,
    })
}

/// Locks on the open files behind standard output and error, if those are among `files`.
pub fn log_locks_of(
    pid: i32,
    files: &std::collections::HashSet<(u64, u64)>,
) -> io::Result<Vec<u64>> {
    let mut locks = Vec::new();
    if files.is_empty() {
        return Ok(locks);
    }
    for fd in [1, 2] {
        let file = proc::if_shown(proc::descriptor_file(pid, fd))?;
        if file.is_some_and(|file| files.contains(&file)) {
            locks.extend(
                proc::if_shown(proc::descriptor_locks(pid, fd))?
                    .into_iter()
                    .flatten(),
            );
        }
    }
    Ok(locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were_given() {
        let (token, helper) = ("a".repeat(32), "b".repeat(32));
        let value = token_value(&token, Some(&helper), std::path::Path::new("/x:y/pids"));
        let read = parse_token(value.as_encoded_bytes()).unwrap();
        assert_eq!(
            (read.token, read.helper, read.folder),
            (token, Some(helper), "/x:y/pids".into())
        );
        for garbage in [&b""[..], b"abc", &[b'a'; 32], &[b'g'; 40], b"\xff"] {
            assert!(parse_token(garbage).is_none());
        }
    }

    #[test]
    fn lock_offsets_fit_an_offset() {
        let offset = new_lock_offset().unwrap();
        assert!(offset < i64::MAX as u64 && offset >> 48 == 0x5049);
    }
}
