use super::*;
use crate::config::{Command, Health, Schedule, Service, StopScope, Takeover};
use std::cell::RefCell;
use std::fs::{self, File};
use std::time::Duration;

const PIPE: Look = Look {
    terminal: false,
    color: false,
};

fn service(id: &str) -> Service {
    Service {
        id: id.to_owned(),
        name: id.to_owned(),
        port: None,
        command: Command::Shell("true".to_owned()),
        description: String::new(),
        cwd: "/".into(),
        env: Vec::new(),
        env_files: Vec::new(),
        user: None,
        depends_on: Vec::new(),
        prepare: None,
        creates: None,
        daemonizes: false,
        health: Health::None,
        ready_timeout: Duration::from_secs(1),
        start_attempts: 1,
        schedule: Schedule { steps: Vec::new() },
        stop_scope: StopScope::Family,
        process_names: Vec::new(),
        takeover: Takeover::Never,
        log_max_size: 1000,
        log_keep: 1,
        line: 1,
    }
}

struct Test {
    dir: tempfile::TempDir,
    table: Table,
}

impl Test {
    fn new(ids: &[&str]) -> Test {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let table = Table {
            given: root.join("services.toml"),
            file: root.join("services.toml"),
            pids_dir: root.join("pids"),
            logs_dir: root.clone(),
            root,
            services: ids.iter().map(|id| service(id)).collect(),
        };
        Test { dir, table }
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    /// Standard output, what was told on standard error, whether it failed.
    fn shown(&self, selected: &[usize], options: LogsOptions) -> (String, Vec<String>, bool) {
        let mut out = Vec::new();
        let (told, failed, stop) = self.show(selected, options, &mut out);
        stop.unwrap();
        (String::from_utf8(out).unwrap(), told, failed)
    }

    fn show(
        &self,
        selected: &[usize],
        options: LogsOptions,
        out: impl Write,
    ) -> (Vec<String>, bool, Result<(), Stop>) {
        let reader = File::open("/dev/null").unwrap();
        let told = RefCell::new(Vec::new());
        let mut logs = Logs {
            table: &self.table,
            selected,
            options: &options,
            look: PIPE,
            reader: reader.as_fd(),
            tell: |text| told.borrow_mut().push(text),
            failed: false,
        };
        let stop = match options.events {
            true => logs.show_events(out),
            false => logs.show(out),
        };
        let failed = logs.failed;
        (told.into_inner(), failed, stop)
    }
}

fn last(lines: usize) -> LogsOptions {
    LogsOptions {
        follow: false,
        lines,
        events: false,
    }
}

fn events(lines: usize) -> LogsOptions {
    LogsOptions {
        events: true,
        ..last(lines)
    }
}

/// A reader that does something when it sees a line, and goes away after the last one.
struct Reader<'a> {
    seen: Vec<u8>,
    script: Vec<Step<'a>>,
}

/// What is to be seen, and what is done then.
type Step<'a> = (&'a str, Box<dyn Fn() + 'a>);

impl Write for Reader<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.seen.extend_from_slice(bytes);
        while let Some((line, act)) = self.script.first() {
            if !String::from_utf8_lossy(&self.seen).contains(line) {
                return Ok(bytes.len());
            }
            act();
            self.script.drain(..1);
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn service_by_service_with_a_prefix_and_one_alone_without() {
    let test = Test::new(&["api", "database"]);
    test.write("api.log", "a1\na2\na3\n");
    test.write("database.log", "b1");
    let (out, told, failed) = test.shown(&[0, 1], last(2));
    assert_eq!(out, "api      | a2\napi      | a3\ndatabase | b1");
    assert_eq!((told.len(), failed), (0, false));
    assert_eq!(test.shown(&[0], last(2)).0, "a2\na3\n");
    assert_eq!(test.shown(&[0], last(0)).0, "");
}

#[test]
fn goes_on_in_a_rotated_log_and_ends_its_last_line() {
    let test = Test::new(&["api"]);
    test.write("api.log.1", "one\nkilled here");
    test.write("api.log", "new\n");
    assert_eq!(test.shown(&[0], last(2)).0, "killed here\nnew\n");
}

#[test]
fn a_missing_log_is_told_and_no_failure_but_a_folder_in_its_place_is() {
    let test = Test::new(&["api", "db", "web"]);
    test.write("web.log", "w\n");
    let (out, told, failed) = test.shown(&[0, 2], last(5));
    assert_eq!((out.as_str(), failed), ("web | w\n", false));
    assert!(told[0].starts_with("api: no log yet ("), "{told:?}");
    fs::create_dir(test.dir.path().join("db.log")).unwrap();
    let (out, told, failed) = test.shown(&[1, 2], last(5));
    assert_eq!((out.as_str(), failed), ("web | w\n", true));
    assert!(told[0].contains("db.log: is a folder"), "{told:?}");
}

#[test]
fn follows_from_where_the_last_lines_end_across_rotation_until_the_reader_goes() {
    let test = Test::new(&["api", "db"]);
    test.write("api.log", "old\none\nunfin");
    let at = |name: &str| test.dir.path().join(name);
    let append = |name: &str, text: &str| {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(at(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut reader = Reader {
        seen: Vec::new(),
        script: vec![
            ("unfin", Box::new(|| append("api.log", "ished\n"))),
            ("ished\n", Box::new(|| append("db.log", "first\n"))),
            (
                "first\n",
                Box::new(|| {
                    fs::rename(at("api.log"), at("api.log.1")).unwrap();
                    append("api.log", "restarted\n");
                }),
            ),
            ("restarted\n", Box::new(|| {})),
        ],
    };
    let options = LogsOptions {
        follow: true,
        ..last(2)
    };
    let (told, _, stop) = test.show(&[0, 1], options, &mut reader);
    assert!(matches!(stop, Err(Stop::ReaderGone)), "{stop:?}");
    assert!(told[0].starts_with("db: no log yet ("), "{told:?}");
    assert_eq!(
        String::from_utf8(reader.seen).unwrap(),
        "api | one\napi | unfinished\ndb  | first\napi | restarted\n"
    );
}

#[test]
fn a_reader_that_has_gone_is_noticed_while_nothing_is_written() {
    let mut follower = Follower::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    follower
        .add(&dir.path().join("a.log"), Position::End)
        .unwrap();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    assert!(matches!(
        wait(&follower, writer.as_fd()),
        Err(Stop::ReaderGone)
    ));
}

fn event(service: &str, event: &str) -> String {
    format!(
        "{{\"time\":\"2026-11-20T03:00:00.000Z\",\"event\":\"{event}\",\"service\":\"{service}\",\"pid\":1}}\n"
    )
}

#[test]
fn the_last_events_of_some_services_whatever_else_is_in_the_log() {
    let test = Test::new(&["api", "db"]);
    let log = [
        event("api", "start"),
        event("db", "start"),
        event("old", "exit"),
    ]
    .concat();
    test.write("events.jsonl.1", &log);
    let log = [
        "\0garbage\n".to_owned(),
        event("api", "ready"),
        "{\"unfin".to_owned(),
    ]
    .concat();
    test.write("events.jsonl", &log);
    let words = |selected: &[usize], lines| {
        let (out, told, failed) = test.shown(selected, events(lines));
        assert!(!failed);
        let lines: Vec<String> = out.lines().map(|line| line[21..].to_owned()).collect();
        (lines, told)
    };
    let (lines, told) = words(&[0, 1], 3);
    assert_eq!(
        lines,
        [
            "db   started, PID 1",
            "old  PID 1 ended",
            "api  ready, PID 1"
        ]
    );
    assert!(
        told[0].ends_with("events.jsonl: lines that are no events, left out: 1"),
        "{told:?}"
    );
    assert_eq!(
        words(&[0], 9).0,
        ["api  started, PID 1", "api  ready, PID 1, 0ms after start"]
    );
    assert_eq!(words(&[1], 9).0, ["db  started, PID 1"]);
}

#[test]
fn events_are_followed_and_a_half_written_one_is_not_lost() {
    let test = Test::new(&["api"]);
    let (first, second) = (event("api", "start"), event("api", "exit"));
    let (half, rest) = second.split_at(20);
    test.write("events.jsonl", &(first + half));
    let path = test.table.events_file();
    let mut reader = Reader {
        seen: Vec::new(),
        script: vec![
            (
                "started",
                Box::new(|| {
                    let mut file = File::options().append(true).open(&path).unwrap();
                    file.write_all(rest.as_bytes()).unwrap();
                }),
            ),
            ("PID 1 ended", Box::new(|| {})),
        ],
    };
    let options = LogsOptions {
        follow: true,
        ..events(10)
    };
    let (_, _, stop) = test.show(&[0], options, &mut reader);
    assert!(matches!(stop, Err(Stop::ReaderGone)), "{stop:?}");
}

#[test]
fn no_events_yet_is_told() {
    let test = Test::new(&["api"]);
    let (out, told, failed) = test.shown(&[0], events(10));
    assert_eq!((out.as_str(), failed), ("", false));
    assert!(told[0].starts_with("events: no log yet ("), "{told:?}");
}
