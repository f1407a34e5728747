//! How does an event get into the event log? Lines are gathered and appended in one write, so that
//! commands side by side do not mix theirs. A log that cannot be written changes no outcome.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::sys::lock;
use nix::fcntl::OFlag;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Event, EventKind};
use crate::logs::open::open_or_make;
use crate::logs::rotate::rotate;
use crate::logs::tail::identity;

pub struct EventLog {
    path: PathBuf,
    max_size: u64,
    keep: u32,
    /// What is not written yet: whole lines.
    lines: Vec<u8>,
    /// A start is among them: then the log may be rotated.
    starts: bool,
    warned: bool,
}

impl EventLog {
    pub fn new(path: PathBuf, max_size: u64, keep: u32) -> EventLog {
        EventLog {
            path,
            max_size,
            keep,
            lines: Vec::new(),
            starts: false,
            warned: false,
        }
    }

    /// Remembers the event and its time; `flush` writes it.
    pub fn push(&mut self, event: Event) {
        self.starts |= event.event == EventKind::Start;
        let line = Line {
            time: SystemTime::now(),
            event: &event,
        };
        // Neither a failing key nor a failing write can occur: the keys are text, the sink is memory.
        if serde_json::to_writer(&mut self.lines, &line).is_ok() {
            self.lines.push(b'\n');
        }
    }

    /// Appends what was pushed. The first failure of this log is a warning for the caller to print;
    /// events that could not be written are dropped.
    pub fn flush(&mut self) -> Option<String> {
        if self.lines.is_empty() {
            return None;
        }
        let rotated = match std::mem::take(&mut self.starts) {
            true => self.rotate(),
            false => Ok(()),
        };
        let error = self.append().and(rotated).err();
        self.lines.clear();
        let error = error.filter(|_| !self.warned)?;
        self.warned = true;
        Some(format!("the event log is not complete: {error}"))
    }

    fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT;
        open_or_make(&self.path, flags, true)
    }

    fn append(&self) -> io::Result<()> {
        let mut file = self.open()?;
        let about = |e: io::Error| crate::logs::folder::about(&self.path, &e);
        let size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.read_at(&mut last, size - 1).map_err(about)?;
        }
        // A line that was cut short, by a full disk say, must not swallow the next one.
        if last != [b'\n'] {
            return file
                .write_all(&[b"\n", &self.lines[..]].concat())
                .map_err(about);
        }
        file.write_all(&self.lines).map_err(about)
    }

    fn rotate(&self) -> io::Result<()> {
        let file = self.open()?;
        if file.metadata()?.len() <= self.max_size {
            return Ok(());
        }
        let id = identity(&file)?;
        // Of several starts at once one rotates; nobody waits.
        let Some(_lock) = lock::try_hold(file.into()) else {
            return Ok(());
        };
        if identity(&self.open()?)? == id {
            rotate(&self.path, self.max_size, self.keep)?;
        }
        Ok(())
    }
}

struct Line<'a> {
    time: SystemTime,
    event: &'a Event,
}

/// By hand, so that the keys of every event come first, in this order, and once.
impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Line { time, event } = self;
        let time = humantime::format_rfc3339_millis((*time).max(SystemTime::UNIX_EPOCH));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &time.to_string())?;
        map.serialize_entry("event", &event.event)?;
        map.serialize_entry("service", &event.service)?;
        map.serialize_entry("pid", &event.pid)?;
        map.serialize_entry("why", &event.why)?;
        for (key, value) in &event.more {
            if !["time", "event", "service", "pid", "why"].contains(&key.as_str()) {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use serde_json::Value;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn log(max_size: u64) -> (tempfile::TempDir, EventLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/events.jsonl");
        (dir, EventLog::new(path, max_size, 2))
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn signal() -> Event {
        Event::new(EventKind::Signal, "pidctl stop").service("api_8000")
    }

    #[test]
    fn the_keys_of_every_event_come_first_and_once() {
        let (_dir, mut log) = log(1000);
        log.push(signal().pid(12).with("signal", "SIGTERM").with("pid", 1));
        log.push(Event::new(EventKind::StartFailed, "a \"quoted\"\nwhy"));
        assert_eq!(log.flush(), None);
        let text = std::fs::read_to_string(&log.path).unwrap();
        let (first, second) = text.split_once('\n').unwrap();
        let time = &first[9..33];
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(
            first,
            format!(
                r#"{{"time":"{time}","event":"signal","service":"api_8000","pid":12,"why":"pidctl stop","signal":"SIGTERM"}}"#
            )
        );
        let rest =
            r#","event":"start_failed","service":null,"pid":null,"why":"a \"quoted\"\nwhy"}"#;
        assert!(second.ends_with(&format!("{rest}\n")), "{second}");
    }

    #[test]
    fn nothing_is_written_before_flush_and_nothing_twice() {
        let (_dir, mut log) = log(1000);
        assert_eq!(log.flush(), None);
        log.push(signal());
        assert!(!log.path.exists());
        assert_eq!((log.flush(), log.flush()), (None, None));
        assert_eq!(lines(&log.path).len(), 1);
    }

    #[test]
    fn a_line_cut_short_does_not_swallow_the_next() {
        let (_dir, mut log) = log(1000);
        std::fs::create_dir(log.path.parent().unwrap()).unwrap();
        std::fs::write(&log.path, "{\"time\":\"2026").unwrap();
        log.push(signal());
        assert_eq!(log.flush(), None);
        assert_eq!(lines(&log.path).len(), 1);
    }

    #[test]
    fn rotated_at_a_start_alone() {
        let (_dir, mut log) = log(10);
        for event in [EventKind::Signal, EventKind::Exit, EventKind::Start] {
            log.push(Event::new(event, ""));
            assert_eq!(log.flush(), None);
        }
        assert_eq!(lines(&log.path).len(), 1);
        assert_eq!(lines(&log.path.with_extension("jsonl.1")).len(), 2);
    }

    #[test]
    fn a_start_beside_another_that_rotates_does_not_wait_and_writes() {
        let (_dir, mut log) = log(10);
        log.push(Event::new(EventKind::Start, "a"));
        log.flush();
        let other = lock::try_hold(log.open().unwrap().into()).unwrap();
        log.push(Event::new(EventKind::Start, "b"));
        assert_eq!(log.flush(), None);
        assert_eq!(lines(&log.path).len(), 2);
        drop(other);
    }

    #[test]
    fn whatever_is_in_its_place_is_warned_of_once_and_left_alone() {
        for kind in ["a folder", "a FIFO", "a link"] {
            let (_dir, mut log) = log(0);
            std::fs::create_dir(log.path.parent().unwrap()).unwrap();
            match kind {
                "a folder" => std::fs::create_dir(&log.path).unwrap(),
                "a FIFO" => mkfifo(&log.path, Mode::S_IRWXU).unwrap(),
                _ => symlink("/dev/null", &log.path).unwrap(),
            }
            log.push(Event::new(EventKind::Start, ""));
            let warning = log.flush().unwrap();
            assert!(
                warning.contains("events.jsonl: is") && warning.contains(kind),
                "{warning}"
            );
            log.push(signal());
            assert_eq!(log.flush(), None, "warned once");
        }
    }

    #[test]
    fn what_stands_in_the_way_of_rotation_loses_no_event() {
        let (_dir, mut log) = log(0);
        log.push(signal());
        log.flush();
        std::fs::create_dir(log.path.with_extension("jsonl.1")).unwrap();
        log.push(Event::new(EventKind::Start, ""));
        let warning = log.flush().unwrap();
        assert!(warning.contains("events.jsonl.1: is a folder"), "{warning}");
        assert_eq!(lines(&log.path).len(), 2);
    }
}
