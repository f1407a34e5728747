//! The JSON documents: every key that is promised, null where there is nothing, nothing beside it.

use serde_json::Value;

use crate::support::{Output, TestEnv};

const START: &[&str] = &["id", "outcome", "pid", "attempts", "ready_ms", "detail"];
const STOP: &[&str] = &[
    "id",
    "outcome",
    "pid",
    "signals",
    "processes",
    "elapsed_ms",
    "detail",
];
const STATUS: &[&str] = &[
    "id",
    "name",
    "port",
    "state",
    "pid",
    "started_at",
    "uptime_s",
    "processes",
    "memory_bytes",
    "health",
    "changed",
    "log",
    "detail",
];
const DRILL: &[&str] = &[
    "id",
    "outcome",
    "elapsed_ms",
    "killed",
    "exit_status",
    "left_behind",
    "port_released",
    "detail",
];

#[track_caller]
fn has(list: &Value, keys: &[&str]) {
    let list = list.as_array().expect("an array");
    assert!(!list.is_empty());
    for one in list {
        for key in keys {
            assert!(one.get(*key).is_some(), "{key} is missing: {one}");
        }
    }
}

/// Services of every fate: one that comes up, one that fails, one that is skipped.
fn mixed(env: &TestEnv) {
    env.table(&[
        env.service("good"),
        env.service("bad").does("exit=1").key("start_attempts = 1"),
        env.service("skipped").key("depends_on = ['bad']"),
    ]);
}

#[test]
fn every_document_has_its_keys_whatever_the_outcome() {
    let env = TestEnv::new();
    mixed(&env);
    let start = env.run(&["--json", "start"]).expect(1);
    has(&start.json()["services"], START);
    has(&env.run(&["--json", "status"]).json()["services"], STATUS);
    let restart = env.run(&["restart", "--json"]).json();
    has(&restart["stop"]["services"], STOP);
    has(&restart["start"]["services"], START);
    std::fs::create_dir(env.path("pids/bad.pid")).unwrap();
    env.write("pids/skipped.pid", "garbage");
    has(
        &env.run(&["--json", "status"]).expect(4).json()["services"],
        STATUS,
    );
    has(
        &env.run(&["stop", "--json"]).expect(1).json()["services"],
        STOP,
    );
    std::fs::remove_dir(env.path("pids/bad.pid")).unwrap();
    has(
        &env.run(&["--json", "drill"]).expect(1).json()["services"],
        DRILL,
    );
    let port = env.free_port().to_string();
    let free = env.ok(&["--json", "free", &port]).json();
    has(
        &free["ports"],
        &["port", "protocol", "outcome", "processes"],
    );
}

#[test]
fn the_order_is_that_of_the_table() {
    let env = TestEnv::new();
    mixed(&env);
    let all = ["good", "bad", "skipped"];
    for command in ["start", "status", "stop"] {
        assert_eq!(env.run(&["--json", command]).ids(), all, "{command}");
    }
}

#[test]
fn nothing_but_the_document_is_on_standard_output() {
    let env = TestEnv::new();
    mixed(&env);
    let one_line = |output: Output| {
        let _: Value = output.json();
        assert!(!output.stdout.contains('\x1b'), "{output}");
    };
    one_line(env.run(&["-v", "--json", "start"]));
    one_line(env.run(&["--json", "--color", "always", "status"]));
    one_line(env.run(&["-q", "--json", "stop"]));
    one_line(env.run(&["--json", "stop", "--dry-run"]));
    one_line(env.run(&["--json", "start", "--dry-run"]));
    one_line(env.run(&["--json", "restart", "--dry-run"]));
}

#[test]
fn colours_come_when_told_and_never_by_themselves() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    assert!(!env.run(&["status"]).said().contains('\x1b'));
    assert!(
        env.run(&["--color", "always", "status"])
            .said()
            .contains('\x1b')
    );
    assert!(
        !env.run(&["status", "--color", "never"])
            .said()
            .contains('\x1b')
    );
}

#[test]
fn what_a_process_calls_itself_is_shown_without_its_control_characters() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = ["listen", "comm=a\x1b[31mred\nb", &format!("port={port}")];
    let stranger = env.stranger(&words);
    let web = env.service("web").port(port).does("listen");
    env.table(&[web]);
    for args in [
        &["status"][..],
        &["start"],
        &["free", "--dry-run"],
        &["check"],
    ] {
        let output = env.run(args);
        assert!(output.said().contains(&stranger.pid()), "{output}");
        assert!(!output.said().contains('\x1b'), "{output}");
    }
}
