//! Tables that change or share their folder, and the drop-in names.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{TestEnv, chmod};

#[test]
fn a_service_that_was_taken_out_of_the_table_is_listed_counted_and_stopped() {
    let env = TestEnv::new();
    env.table(&[env.service("old").does("child=setsid"), env.service("web")]);
    env.up();
    env.table(&[env.service("web")]);
    let status = env.ok(&["--json", "status"]);
    assert_eq!(status.state("old"), "running");
    assert!(
        status.service("old")["detail"]
            .to_string()
            .contains("not in the table")
    );
    assert!(env.ok(&["status"]).stdout.contains("not in the table"));
    assert_eq!(env.ok(&["--json", "stop", "web"]).ids(), ["web"]);
    assert_eq!(env.state("old"), "running");
    let stop = env.ok(&["--json", "stop"]);
    assert_eq!(stop.outcome("old"), "stopped");
    env.assert_nobody_left();
    assert!(!env.has_pid_file("old"));
    assert_eq!(env.run(&["--json", "status"]).expect(3).ids(), ["web"]);
}

#[test]
fn a_service_whose_port_was_changed_in_the_table_is_not_lost() {
    let env = TestEnv::new();
    let (before, after) = (env.free_port(), env.free_port());
    let web = |port| env.service("web").port(port).does("listen");
    let old = web(before).id();
    env.table(&[web(before)]);
    env.up();
    env.table(&[web(after)]);
    assert_eq!(
        env.run(&["--json", "status"]).expect(3).state(&old),
        "running"
    );
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn two_tables_may_share_a_folder_of_pid_files() {
    let env = TestEnv::new();
    let head = |name: &str| format!("pids_dir = '{}'\nlogs_dir = 'logs'", env.at(name));
    env.table_in(
        "one/services.toml",
        &head("pids"),
        &[env.service("web"), env.service("a")],
    );
    env.table_in(
        "two/services.toml",
        &head("pids"),
        &[env.service("web"), env.service("b")],
    );
    let one = |args: &[&str]| env.run(&[&["--json", "-c", "one/services.toml"], args].concat());
    let two = |args: &[&str]| env.run(&[&["--json", "-c", "two/services.toml"], args].concat());
    one(&["start"]).expect(0);
    let web = env.pid("web");
    let refused = two(&["start"]).expect(1);
    assert_eq!(refused.outcome("web"), "failed");
    assert_eq!(refused.outcome("b"), "started");
    assert_eq!(env.pid("web"), web);
    let status = two(&["status"]).expect(3);
    assert_eq!(status.state("web"), "stopped", "{status}");
    let changed = &status.service("web")["changed"];
    assert!(changed.as_array().unwrap().is_empty(), "{status}");
    let stop = two(&["stop"]);
    assert!(
        web.is_alive(),
        "another table's service was stopped: {stop}"
    );
    assert_eq!(env.members().len(), 2);
    assert_eq!(one(&["status"]).expect(0).ids(), ["web", "a"]);
    one(&["stop"]).expect(0);
    env.assert_nobody_left();
    two(&["start"]).expect(0);
}

/// It is another table's service, as only its own records could tell.
#[test]
fn a_holder_whose_own_records_cannot_be_read_is_not_taken_over() {
    for what in ["folder", "records"] {
        let env = TestEnv::new();
        let port = env.free_port();
        let web = || env.service("web").port(port).does("listen");
        for name in ["one", "two"] {
            let head = format!("pids_dir = '{}'", env.at(&format!("{name}/pids")));
            env.table_in(&format!("{name}/services.toml"), &head, &[web()]);
        }
        let records = env.path("one/pids/.pidctl.records");
        let lock = |locked: bool| match what {
            "folder" => chmod(&env.path("one/pids"), if locked { 0o777 } else { 0o755 }),
            _ => chmod(&records, if locked { 0o666 } else { 0o644 }),
        };
        env.ok(&["-c", "one/services.toml", "start"]);
        let leader = env.members()[0].process;
        lock(true);
        let two = |words: &[&str]| env.run(&[&["-c", "two/services.toml"], words].concat());
        for words in [&["start"][..], &["start", "--takeover", "any"]] {
            let start = two(words).expect(1);
            assert!(start.said().contains("one/pids"), "{start}");
            assert!(leader.is_alive(), "{start}");
        }
        two(&["stop"]).expect(0).expect_said("one/pids");
        assert!(leader.is_alive());
        lock(false);
        env.ok(&["-c", "one/services.toml", "stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn a_table_that_is_reached_by_another_path_is_the_same_table() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("old")]);
    env.up();
    env.table(&[env.service("web")]);
    symlink(env.dir(), env.path("link")).unwrap();
    let status = env.ok(&["--json", "-c", "link/services.toml", "status"]);
    assert_eq!(status.state("web"), "running");
    assert_eq!(status.state("old"), "running");
    env.ok(&["-c", "./link/services.toml", "stop"]);
    env.assert_nobody_left();
}

/// `ln -s pidctl stop_all_services.sh`
#[test]
fn the_drop_in_names_start_and_stop_the_table_beside_the_link() {
    let env = TestEnv::new();
    env.table_in("app/services.toml", "", &[env.service("web")]);
    let pidctl = Path::new(env!("CARGO_BIN_EXE_pidctl"));
    for name in ["start_all_services.sh", "stop_all_services.sh", "stop_all"] {
        symlink(pidctl, env.path("app").join(name)).unwrap();
    }
    env.write("elsewhere/services.toml", "broken =");
    let call = |name: &str, args: &[&str]| {
        let program = env.path("app").join(name);
        env.program(&program)
            .args(args)
            .cwd(env.path("elsewhere"))
            .run()
    };
    call("start_all_services.sh", &[]).expect(0);
    env.await_ready();
    assert!(env.exists("app/pids/web.pid"));
    let output = call("stop_all_services.sh", &["--json", "-s", "web"]).expect(0);
    assert_eq!(output.outcome("web"), "stopped");
    env.assert_nobody_left();
    let output = call("stop_all", &["--json", "--force"]).expect(0);
    assert_eq!(output.outcome("web"), "not_running");
    call("stop_all", &["--no-such-option"]).expect(2);
}

#[test]
fn a_drop_in_name_is_found_on_the_path_and_by_a_copy() {
    let env = TestEnv::new();
    env.table_in("app/services.toml", "", &[env.service("web")]);
    let pidctl = Path::new(env!("CARGO_BIN_EXE_pidctl"));
    crate::support::copy_program(pidctl, &env.path("app/start_all_services"));
    symlink("start_all_services", env.path("app/stop_all_services")).unwrap();
    let path = format!("{}:/usr/bin:/bin", env.at("app"));
    env.write("elsewhere/file", "");
    let call = |name: &str| {
        env.sh(name)
            .env("PATH", &path)
            .cwd(env.path("elsewhere"))
            .run()
    };
    call("start_all_services").expect(0);
    assert!(env.exists("app/pids/web.pid"));
    call("stop_all_services").expect(0);
    env.assert_nobody_left();
}
