//! Kernels, and sandboxes, that do not have the calls that pidctl is made of: a clear error or a sound
//! way around it, never a lie, and nothing left.

use libc::{ENOSYS, SYS_close_range, SYS_pidfd_open};
use std::path::Path;
use std::process::Command;

use crate::ground::{capture, said};
use crate::support::{TestEnv, await_that};
use crate::tracer::{Blow, End, trace};

fn env_of_one() -> TestEnv {
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid,double-fork")]);
    env
}

/// Runs the command where the kernel has no such call. Its exit status, and all it said.
fn without(env: &TestEnv, call: i64, program: &str, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(program);
    command
        .args(words)
        .current_dir(env.dir())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PIDCTL", pidctl())
        .env("PIDCTL_TEST", env.dir());
    let output = capture(env);
    let missing = |made: &crate::tracer::Call| (made.number == call).then_some(ENOSYS);
    let traced = trace(command, &output, 0, Blow::FailAll, &missing).expect("a traced pidctl");
    assert!(!traced.hung, "{words:?}: hung, having said {}", said(env));
    match traced.end {
        End::Code(code) => (code, said(env)),
        End::Signal(signal) => panic!("{words:?}: signal {signal}, having said {}", said(env)),
    }
}

fn pidctl() -> &'static str {
    env!("CARGO_BIN_EXE_pidctl")
}

fn without_pidfds(env: &TestEnv, words: &[&str]) -> (i32, String) {
    without(env, SYS_pidfd_open, pidctl(), words)
}

#[track_caller]
fn assert_refused(env: &TestEnv, words: &[&str]) {
    let (code, text) = without_pidfds(env, words);
    assert_eq!(code, 1, "{words:?}: {text}");
    assert!(text.contains("pidfd_open"), "{words:?}: {text}");
}

/// Children that it forked itself are awaited by SIGCHLD: a start needs no pidfd.
#[test]
fn a_start_without_pidfds_is_sound() {
    let env = env_of_one();
    let (code, text) = without_pidfds(&env, &["start"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(env.state("web"), "running");
    let leader = env.pid("web");
    let (code, text) = without_pidfds(&env, &["start"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(env.pid("web"), leader);
    let (code, text) = without_pidfds(&env, &["status"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("running"), "{text}");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_stop_without_pidfds_signals_nobody_and_says_why() {
    let env = env_of_one();
    env.up();
    let leader = env.pid("web");
    for words in [
        &["stop"][..],
        &["stop", "--force"],
        &["restart"],
        &["--json", "stop"],
    ] {
        assert_refused(&env, words);
        assert!(leader.is_alive(), "{words:?}");
        assert_eq!(env.pid("web"), leader);
        assert_eq!(env.state("web"), "running");
    }
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

/// The attempt that came to nothing cannot be ended: it stays recorded, so nothing is untracked.
#[test]
fn a_start_that_fails_without_pidfds_keeps_what_it_could_not_end() {
    let env = TestEnv::new();
    let words = format!("listen listen-when={} child=setsid", env.at("never"));
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web.key("ready_timeout = \"300ms\"")]);
    assert_refused(&env, &["start"]);
    assert!(env.pid(&id).is_alive());
    assert_ne!(env.state(&id), "stopped");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn what_a_crash_left_is_not_started_over_without_pidfds() {
    let env = env_of_one();
    env.up();
    let leader = env.pid("web");
    leader.kill();
    await_that("the leader lives", || !leader.is_alive());
    assert_refused(&env, &["start"]);
    assert_eq!(env.state("web"), "orphaned");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_script_s_pid_file_is_judged_by_nobody_without_pidfds() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let innocent = env.stranger(&[]);
    env.write("pids/web.pid", innocent.pid());
    let (code, text) = without_pidfds(&env, &["status"]);
    assert_eq!(code, 4, "{text}");
    assert_refused(&env, &["stop"]);
    assert_refused(&env, &["start"]);
    innocent.assert_alive();
    assert_eq!(env.pid_text("web"), innocent.pid());
    assert!(env.members().iter().all(|one| one.service != "web"));
}

#[test]
fn free_without_pidfds_ends_nobody_and_calls_no_port_free() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let port = env.free_port().to_string();
    let holder = env.bystander(&["listen", &format!("port={port}")]);
    for words in [
        &["free", &port][..],
        &["free", "-f", &port],
        &["free", "--dry-run", &port],
    ] {
        assert_refused(&env, words);
        holder.assert_alive();
    }
}

/// Before Linux 5.9: what leaked into pidctl is found in /proc/self/fd, one by one.
#[test]
fn without_close_range_nothing_leaks_into_a_service() {
    let env = TestEnv::new();
    let dump = format!("dump={}", env.at("given"));
    env.table(&[env.service("web").does(&dump)]);
    let script = "exec 7>seven 8</dev/null; exec \"$PIDCTL\" start";
    let (code, text) = without(&env, SYS_close_range, "/bin/sh", &["-c", script]);
    assert_eq!(code, 0, "{text}");
    env.await_ready();
    let log = env.at("logs/web.log");
    let expected = format!("0 /dev/null\n1 {log}\n2 {log}\n");
    assert_eq!(env.read("given.fds"), expected);
    assert!(Path::new(&env.at("seven")).exists());
    env.ok(&["stop"]);
    env.assert_nobody_left();
}
