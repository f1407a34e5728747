//! No untrusted state: what another user could have written is refused.

use std::os::unix::fs::{chown, symlink};

use crate::support::{Bystander, TestEnv, chmod, is_root};

#[test]
fn a_folder_of_pid_files_that_others_may_write_is_refused() {
    for mode in [0o777, 0o775, 0o1777, 0o757] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        std::fs::create_dir(env.path("pids")).unwrap();
        chmod(&env.path("pids"), mode);
        let output = env.run(&["start"]);
        assert_ne!(output.code(), 0, "mode {mode:o}: {output}");
        assert!(
            output.stderr.contains("pids") || output.stdout.contains("pids"),
            "{output}"
        );
        assert!(env.members().is_empty(), "mode {mode:o}");
        chmod(&env.path("pids"), 0o755);
        env.up();
        let leader = env.pid("web");
        chmod(&env.path("pids"), mode);
        env.run(&["status"]).expect(4);
        let stop = env.run(&["stop"]);
        assert_ne!(stop.code(), 0);
        let said = stop.said();
        assert_eq!(said.matches("chmod go-w").count(), 1, "{said}");
        assert!(leader.is_alive());
        chmod(&env.path("pids"), 0o755);
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn a_link_to_a_folder_that_others_may_write_is_refused_too() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    std::fs::create_dir(env.path("run")).unwrap();
    chmod(&env.path("run"), 0o777);
    symlink(env.path("run"), env.path("pids")).unwrap();
    assert_ne!(env.run(&["start"]).code(), 0);
    assert!(env.members().is_empty());
}

#[test]
fn a_pid_file_that_others_may_write_is_refused() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("other")]);
    env.up();
    let leader = env.pid("web");
    for mode in [0o666, 0o664] {
        chmod(&env.path("pids/web.pid"), mode);
        let status = env.run(&["--json", "status"]).expect(4);
        assert_eq!(status.state("web"), "unknown");
        let stop = env.run(&["--json", "stop", "web"]).expect(1);
        assert_eq!(stop.outcome("web"), "failed");
        assert!(leader.is_alive(), "mode {mode:o}");
    }
    chmod(&env.path("pids/web.pid"), 0o644);
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_record_that_others_may_write_is_refused() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    for entry in std::fs::read_dir(env.path("pids")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with('.') {
            chmod(&entry.path(), 0o666);
        }
    }
    env.run(&["status"]).expect(4);
    env.run(&["stop"]).expect(1);
    assert!(leader.is_alive());
}

#[test]
fn what_another_user_owns_is_refused() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    chown(env.path("pids/web.pid"), Some(65534), Some(65534)).unwrap();
    env.run(&["stop"]).expect(1);
    chown(env.path("pids/web.pid"), Some(0), Some(0)).unwrap();
    chown(env.path("pids"), Some(65534), Some(65534)).unwrap();
    assert_ne!(env.run(&["stop"]).code(), 0);
    assert!(leader.is_alive());
    chown(env.path("pids"), Some(0), Some(0)).unwrap();
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

/// Writes records that name this process as the leader of `web`, as one who knows their form would.
fn forge(env: &TestEnv, id: &str, innocent: &Bystander) {
    let records = env.read("pids/.pidctl.records");
    let mut record: serde_json::Value = serde_json::from_str(records.trim()).expect("one record");
    let stat = String::from_utf8(innocent.process().file("stat")).expect("text");
    let start: u64 = stat
        .rsplit(')')
        .next()
        .expect("fields")
        .split(' ')
        .nth(20)
        .expect("22")
        .parse()
        .expect("ticks");
    record["id"] = id.into();
    let leader = &mut record["instance"]["leader"];
    leader["pid"] = innocent.process().pid.into();
    leader["start_time"] = start.into();
    env.write("pids/.pidctl.records", format!("{record}\n"));
}

#[test]
fn a_forged_record_that_names_an_innocent_process_is_refused() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    let innocent = env.stranger(&[]);
    forge(&env, "web", &innocent);
    env.write("pids/web.pid", innocent.pid());
    let (records, pid_file) = (env.path("pids/.pidctl.records"), env.path("pids/web.pid"));
    for file in [&records, &pid_file] {
        chown(file, Some(65534), Some(65534)).unwrap();
        env.run(&["status"]).expect(4);
        for words in [
            &["stop"][..],
            &["stop", "--force"],
            &["restart"],
            &["start"],
        ] {
            env.run(words).expect(1);
            innocent.assert_alive();
            assert!(leader.is_alive(), "{words:?}");
        }
        chown(file, Some(0), Some(0)).unwrap();
    }
    // Of root it would have been believed: it is the owner that is not.
    env.ok(&["stop"]);
    innocent.assert_ended();
    leader.kill();
}

#[test]
fn a_record_whose_id_leaves_the_folder_counts_as_none() {
    for id in ["../web", "../../etc/x", "/web", "a/b", "..", "", "."] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        env.up();
        env.ok(&["stop"]);
        env.up();
        let leader = env.pid("web");
        let innocent = env.stranger(&[]);
        forge(&env, id, &innocent);
        env.write("web.pid", innocent.pid());
        let stop = env.run(&["stop"]);
        innocent.assert_alive();
        assert_eq!(env.read("web.pid"), innocent.pid(), "{id:?}: {stop}");
        env.run(&["stop", id]).expect(2);
        env.run(&["start", id]).expect(2);
        innocent.assert_alive();
        leader.kill();
    }
}

#[test]
fn root_refuses_a_table_that_others_may_write() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    chmod(&env.path("services.toml"), 0o666);
    for command in ["start", "stop", "status", "check"] {
        env.run(&[command]).expect(2);
    }
    chmod(&env.path("services.toml"), 0o644);
    chown(env.path("services.toml"), Some(65534), Some(65534)).unwrap();
    env.run(&["start"]).expect(2);
    assert!(env.members().is_empty());
}

#[test]
fn root_refuses_an_env_file_and_a_logs_folder_that_others_may_write() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[
        env.service("web").key("env_file = '.env'"),
        env.service("good"),
    ]);
    env.write(".env", "X=1\n");
    chmod(&env.path(".env"), 0o666);
    let output = env.run(&["--json", "start"]);
    assert_ne!(output.code(), 0, "{output}");
    assert!(!env.has_pid_file("web"));

    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    std::fs::create_dir(env.path("logs")).unwrap();
    chmod(&env.path("logs"), 0o777);
    assert_ne!(env.run(&["start"]).code(), 0);
    assert!(env.members().is_empty());
}

#[test]
fn another_user_may_neither_stop_nor_confuse() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    let stop = env.as_nobody(&["--json", "stop"]).run();
    assert_eq!(stop.code(), 1, "{stop}");
    assert!(leader.is_alive());
    assert!(env.has_pid_file("web"));
    assert_eq!(env.state("web"), "running");
    // A lock that anybody could open would let anybody block everybody.
    for entry in std::fs::read_dir(env.path("pids")).unwrap().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().contains("lock") {
            let mode = crate::support::mode(&entry.path());
            assert_eq!(mode & 0o077, 0, "{name:?} has mode {mode:o}");
        }
    }
}
