//! Receipts: one for each signal to each process, and what became of it.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Process, TestEnv};

/// `SIGTERM survived`, in the order of sending.
fn receipts(service: &Value, process: Process) -> Vec<String> {
    let all = service["receipts"].as_array().unwrap();
    all.iter()
        .filter(|receipt| receipt["pid"] == process.pid)
        .map(|receipt| {
            let word = |key: &str| receipt[key].as_str().unwrap().to_owned();
            assert!(receipt["start_time"].is_number());
            assert!(word("time").ends_with('Z') && !word("command").is_empty());
            format!("{} {}", word("signal"), word("result"))
        })
        .collect()
}

#[test]
fn each_signal_has_its_result() {
    let env = TestEnv::new();
    let web = env.service("web");
    let words = "exit-on=TERM child=setsid,ignore=TERM,comm=deaf child=comm=frozen";
    env.table(&[web.does(words).key("stop_timeout = '300ms'")]);
    env.up();
    let (leader, deaf) = (env.pid("web"), env.member("comm=deaf"));
    let frozen = env.member("comm=frozen");
    frozen.signal(Signal::SIGSTOP as i32);
    crate::support::await_that("it is not stopped", || frozen.state() == Some('T'));
    let web = env.ok(&["--json", "stop"]).service("web");
    assert_eq!(receipts(&web, leader), ["SIGTERM ended"]);
    assert_eq!(
        receipts(&web, frozen),
        ["SIGTERM ended", "SIGCONT survived"]
    );
    assert_eq!(
        receipts(&web, deaf),
        ["SIGTERM survived", "SIGSTOP survived", "SIGKILL ended"]
    );
}

#[test]
fn they_are_the_same_wherever_something_is_stopped() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let before = env.pid("web");
    let restart = env.ok(&["--json", "restart"]).json();
    let stopped = &restart["stop"]["services"][0];
    assert_eq!(receipts(stopped, before), ["SIGTERM ended"]);
    let leader = env.pid("web");
    let drill = env.ok(&["--json", "drill", "--live"]).service("web");
    assert_eq!(receipts(&drill, leader), ["SIGTERM ended"]);
    assert_eq!(receipts(&drill["runs"][0], leader), ["SIGTERM ended"]);
    let leader = env.pid("web");
    let run = env.pidctl(&["--json", "run"]).spawn();
    crate::support::await_that("it does not run", || {
        run.stderr().contains("already running")
    });
    run.signal(Signal::SIGTERM);
    let web = run.finish().expect(0).service("web");
    assert_eq!(receipts(&web, leader), ["SIGTERM ended"]);
}
