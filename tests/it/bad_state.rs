//! Bad state is survived: whatever lies where a PID file, a record or a log should be.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use crate::support::{NOBODY, TestEnv, chmod, is_root};

const NOT_ONE_PID: &[(&str, &[u8])] = &[
    ("empty", b""),
    ("blank", b" \n\n"),
    ("garbage", b"not a pid\n"),
    ("zero", b"0\n"),
    ("init", b"1\n"),
    ("minus", b"-1\n"),
    ("group", b"-2\n"),
    ("huge", b"99999999999999999999999\n"),
    ("overflow", b"4294967298\n"),
    ("nul", b"123\0\n"),
    ("binary", b"\xff\xfe\x00\x80\n"),
    ("two", b"123 456\n"),
    ("hexadecimal", b"0x10\n"),
    ("fraction", b"12.5\n"),
    ("plus", b"+12\n"),
];

#[test]
fn what_holds_anything_but_one_pid_is_stale_and_removed() {
    let env = TestEnv::new();
    let entries: Vec<_> = NOT_ONE_PID
        .iter()
        .map(|(name, _)| env.service(name))
        .collect();
    env.table(&entries);
    for (name, content) in NOT_ONE_PID {
        env.write(&format!("pids/{name}.pid"), content);
    }
    let status = env.run(&["--json", "status"]).expect(1);
    for (name, _) in NOT_ONE_PID {
        assert_eq!(status.state(name), "stale", "{name}");
    }
    let stop = env.ok(&["--json", "stop"]);
    for (name, _) in NOT_ONE_PID {
        assert_eq!(stop.outcome(name), "stale_removed", "{name}");
        assert!(!env.has_pid_file(name), "{name} is still there");
    }
}

#[test]
fn a_file_of_many_megabytes_is_stale_and_not_read_whole() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.write("pids/web.pid", "1234567890".repeat(1_000_000));
    assert_eq!(
        env.run(&["--json", "status"]).expect(1).state("web"),
        "stale"
    );
    env.ok(&["start"]);
    assert_eq!(env.state("web"), "running");
}

#[test]
fn white_space_around_a_pid_is_allowed() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let pid = env.pid_text("web");
    env.write("pids/web.pid", format!("\n  {pid} \n\n"));
    assert_eq!(env.ok(&["--json", "status"]).state("web"), "running");
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stopped");
    env.assert_nobody_left();
}

#[test]
fn what_is_no_regular_file_is_unknown_and_left_alone_and_the_others_go_on() {
    let env = TestEnv::new();
    let odd = ["folder", "fifo", "socket", "link", "broken"];
    let mut entries: Vec<_> = odd.iter().map(|name| env.service(name)).collect();
    entries.push(env.service("good"));
    env.table(&entries);
    let file = |name: &str| env.path(&format!("pids/{name}.pid"));
    env.write("elsewhere.pid", "1\n");
    std::fs::create_dir_all(file("folder")).unwrap();
    nix::unistd::mkfifo(&file("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(file("socket")).unwrap();
    symlink(env.path("elsewhere.pid"), file("link")).unwrap();
    symlink(env.path("nowhere"), file("broken")).unwrap();

    let start = env.run(&["--json", "start"]).expect(1);
    let status = env.run(&["--json", "status"]).expect(4);
    let stop = env.run(&["--json", "stop"]).expect(1);
    for name in odd {
        assert_eq!(start.outcome(name), "failed", "{name}");
        assert_eq!(status.state(name), "unknown", "{name}");
        assert_eq!(stop.outcome(name), "failed", "{name}");
        assert!(env.has_pid_file(name), "{name} was removed");
    }
    assert_eq!(start.outcome("good"), "started");
    assert_eq!(status.state("good"), "running");
    assert_eq!(stop.outcome("good"), "stopped");
    assert_eq!(env.read("elsewhere.pid"), "1\n");
    assert!(!env.exists("nowhere"));
    env.assert_nobody_left();
}

#[test]
fn a_folder_where_the_records_are_written_aside_is_named() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.write("pids/..pidctl.records.new/own", "");
    let start = env.run(&["start"]).expect(1);
    start.expect_said("..pidctl.records.new");
    env.remove("pids/..pidctl.records.new/own");
    std::fs::remove_dir(env.path("pids/..pidctl.records.new")).unwrap();
    env.up();
    env.ok(&["stop"]);
}

#[test]
fn a_device_in_the_place_of_a_pid_file_or_of_the_records_is_left_alone() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    for name in ["web.pid", ".pidctl.records", ".pidctl.lock"] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        env.up();
        let leader = env.pid("web");
        let path = env.path("pids").join(name);
        std::fs::remove_file(&path).unwrap();
        // /dev/zero: read whole it would never end.
        let zero = nix::sys::stat::makedev(1, 5);
        let (kind, mode) = (
            nix::sys::stat::SFlag::S_IFCHR,
            nix::sys::stat::Mode::S_IRWXU,
        );
        if nix::sys::stat::mknod(&path, kind, mode, zero).is_err() {
            return eprintln!("skipped: no device can be made");
        }
        let status = env.run(&["status"]);
        assert!(
            name == ".pidctl.lock" || status.code() == 4,
            "{name}: {status}"
        );
        env.run(&["start"]).expect(1).expect_said("device");
        let stop = env.run(&["stop"]).expect(1).expect_said("device");
        // Without the lock alone it is known whose it is, and it is ended all the same.
        assert_eq!(leader.is_alive(), name != ".pidctl.lock", "{name}: {stop}");
        assert!(
            std::fs::symlink_metadata(&path).is_ok(),
            "{name} was removed"
        );
        leader.kill();
    }
}

#[test]
fn what_its_user_may_not_read_is_unknown() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    for name in ["web.pid", ".pidctl.records"] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        for folder in ["pids", "logs"] {
            std::fs::create_dir(env.path(folder)).unwrap();
            std::os::unix::fs::chown(env.path(folder), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        env.as_nobody(&["start"]).run().expect(0);
        env.await_ready();
        let leader = env.pid("web");
        chmod(&env.path("pids").join(name), 0);
        env.as_nobody(&["status"]).run().expect(4);
        env.as_nobody(&["start"]).run().expect(1);
        env.as_nobody(&["stop"]).run().expect(1);
        assert!(leader.is_alive(), "{name}");
        chmod(&env.path("pids").join(name), 0o644);
        env.as_nobody(&["stop"]).run().expect(0);
        env.assert_nobody_left();
    }
}

#[test]
fn a_pid_file_that_became_a_folder_does_not_make_its_service_be_forgotten() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("other")]);
    env.up();
    let leader = env.pid("web");
    env.remove("pids/web.pid");
    std::fs::create_dir(env.path("pids/web.pid")).unwrap();
    env.run(&["status"]).expect(4);
    env.run(&["stop"]).expect(1);
    assert_eq!(env.state("other"), "stopped");
    std::fs::remove_dir(env.path("pids/web.pid")).unwrap();
    assert_eq!(env.ok(&["--json", "stop"]).ids(), ["web", "other"]);
    assert!(!leader.is_alive());
    env.assert_nobody_left();
}

/// The dot files are pidctl's own; whatever happens to them, nobody innocent is hit, nothing
/// blocks, and a service whose PID file is whole is still stopped.
#[test]
fn damaged_records_are_survived() {
    let damages: [(&str, &[u8]); 4] = [
        ("empty", b""),
        ("garbage", b"{\"pid\": -1, \xff\x00"),
        ("zeros", &[0; 4096]),
        ("number", b"1\n"),
    ];
    for (what, content) in damages {
        let env = TestEnv::new();
        env.table(&[env.service("web"), env.service("other")]);
        env.ok(&["start", "web"]);
        let records = dot_files(&env);
        assert!(!records.is_empty());
        for file in &records {
            std::fs::write(file, content).unwrap();
        }
        let status = env.run(&["--json", "status"]);
        assert!([0, 3, 4].contains(&status.code()), "{what}: {status}");
        let stop = env.run(&["--json", "stop", "web"]);
        if stop.code() == 0 {
            env.assert_nobody_left();
        } else {
            assert_eq!(stop.outcome("web"), "failed", "{what}: {stop}");
        }
    }
}

#[test]
fn records_replaced_by_folders_fifos_or_links_block_nothing() {
    for what in ["folder", "fifo", "link"] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        env.write("precious", "keep me\n");
        env.up();
        for file in dot_files(&env) {
            std::fs::remove_file(&file).unwrap();
            match what {
                "folder" => std::fs::create_dir(&file).unwrap(),
                "fifo" => nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                _ => symlink(env.path("precious"), &file).unwrap(),
            }
        }
        env.run(&["status"]);
        let stop = env.run(&["--json", "stop"]);
        if stop.code() == 0 {
            env.assert_nobody_left();
        }
        env.run(&["start"]);
        assert_eq!(
            env.read("precious"),
            "keep me\n",
            "{what}: a link was followed"
        );
    }
}

fn dot_files(env: &TestEnv) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(env.path("pids")).unwrap().flatten();
    folder
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn a_log_that_is_no_regular_file_fails_its_service_alone() {
    let env = TestEnv::new();
    env.table(&[
        env.service("folder"),
        env.service("fifo"),
        env.service("link"),
        env.service("good"),
    ]);
    env.write("precious", "keep me\n");
    env.write("logs/.keep", "");
    std::fs::create_dir(env.path("logs/folder.log")).unwrap();
    nix::unistd::mkfifo(&env.path("logs/fifo.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    symlink(env.path("precious"), env.path("logs/link.log")).unwrap();
    let output = env.run(&["--json", "start"]).expect(1);
    for name in ["folder", "fifo", "link"] {
        assert_eq!(output.outcome(name), "failed", "{name}");
        assert!(!env.has_pid_file(name));
    }
    assert_eq!(output.outcome("good"), "started");
    assert_eq!(env.read("precious"), "keep me\n");
}

#[test]
fn a_failing_event_log_is_told_once_and_changes_no_outcome() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    std::fs::create_dir_all(env.path("logs/events.jsonl")).unwrap();
    let output = env.ok(&["start"]);
    assert_eq!(output.stderr.matches("events.jsonl").count(), 1, "{output}");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_foreign_file_in_the_folder_is_nobodys_business() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let innocent = env.stranger(&[]);
    env.write("pids/other.pid", innocent.pid());
    env.up();
    env.ok(&["status"]);
    assert_eq!(env.ok(&["--json", "stop"]).ids(), ["web"]);
    innocent.assert_alive();
    assert_eq!(env.read("pids/other.pid"), innocent.pid());
}

#[test]
fn the_folder_of_the_pid_files_may_be_a_link() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    std::fs::create_dir(env.path("run")).unwrap();
    symlink(env.path("run"), env.path("pids")).unwrap();
    env.up();
    assert!(env.exists("run/web.pid"));
    env.ok(&["stop"]);
    env.assert_nobody_left();
}
