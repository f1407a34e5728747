//! PIDs reused for real while a command waits: whom it holds, awaits or is about to signal has ended,
//! and an innocent process of the same program has the number.

use crate::reused::{Innocent, gone, in_namespace};
use crate::support::{Running, TestEnv, await_that};

/// A member has ended while the others are awaited; SIGKILL comes when their time is up.
#[test]
fn of_a_family_that_is_awaited() {
    if !in_namespace("reused_meanwhile::of_a_family_that_is_awaited") {
        return;
    }
    for words in [&["stop"][..], &["drill", "--live"]] {
        let env = TestEnv::new();
        let go = env.at("go");
        env.table(&[env
            .service("web")
            .does(&format!(
                "catch=TERM exit-on=TERM child=setsid,double-fork,catch=TERM,exit-on=TERM,linger={go}"
            ))
            .key("stop_timeout = \"2s\"")]);
        env.up();
        let leader = env.pid("web").pid;
        let call = env.pidctl(words).spawn();
        gone(leader);
        let mut innocent = Innocent::with_pid(&env, leader, true);
        let output = call.finish();
        assert!([0, 1].contains(&output.code()), "{output}");
        innocent.assert_untouched();
        env.ok(&["stop"]);
        innocent.assert_untouched();
    }
}

#[test]
fn of_a_holder_whose_children_are_awaited() {
    if !in_namespace("reused_meanwhile::of_a_holder_whose_children_are_awaited") {
        return;
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let words = format!("exit-on=TERM listen port={port} child=setsid,ignore=TERM");
    let told = format!(
        "fifo={} ready={}",
        env.at("bystanders"),
        env.at("ready/holder")
    );
    // Init is its parent, so that its number is free when it ends.
    let testee = crate::support::testee();
    let script = format!(
        "{} setsid {told} {words} >holder.log 2>&1 &",
        testee.display()
    );
    env.sh(&script).run().expect(0);
    env.await_file("ready/holder");
    let line = env.read("ready/holder");
    let holder: i32 = line
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a PID");
    let port = port.to_string();
    let free = env.pidctl(&["free", "-t", "2s", &port]).spawn();
    gone(holder);
    let mut innocent = Innocent::with_pid(&env, holder, true);
    free.finish().expect(0);
    innocent.assert_untouched();
}

/// Looked at when the stop began; signalled when its dependents have ended.
#[test]
fn of_a_service_that_is_to_be_stopped_after_its_dependents() {
    if !in_namespace("reused_meanwhile::of_a_service_that_is_to_be_stopped_after_its_dependents") {
        return;
    }
    let env = TestEnv::new();
    let linger = format!("exit-on=TERM linger={}", env.at("go"));
    env.table(&[
        env.service("base").does("catch=TERM+CONT"),
        env.service("top")
            .does(&linger)
            .key("depends_on = [\"base\"]")
            .key("stop_timeout = \"30s\""),
    ]);
    env.up();
    let base = env.pid("base");
    let stop = env.pidctl(&["stop"]).spawn();
    await_that("no signal came", || env.log("top").contains("got SIGTERM"));
    base.kill();
    gone(base.pid);
    let mut innocent = Innocent::with_pid(&env, base.pid, true);
    env.write("go", "");
    stop.finish().expect(0);
    innocent.assert_untouched();
    assert!(!env.has_pid_file("base"));
}

/// Until it has written its record the process may have ended.
#[test]
fn of_a_process_that_is_being_adopted() {
    if !in_namespace("reused_meanwhile::of_a_process_that_is_being_adopted") {
        return;
    }
    let env = TestEnv::new();
    let program = crate::support::testee().display().to_string();
    env.table(&[env.service("web").exec(&[&program, "catch=TERM+CONT"])]);
    env.ok(&["start"]);
    env.ok(&["stop"]);
    let mut first = Innocent::with_pid(&env, 4000, true);
    let lock = nix::fcntl::Flock::lock(
        std::fs::File::open(env.path("pids/.pidctl.lock")).expect("the lock"),
        nix::fcntl::FlockArg::LockExclusive,
    )
    .map_err(|(_, errno)| errno)
    .expect("the lock");
    let adopt = env.pidctl(&["adopt", "web", "--pid", "4000"]).spawn();
    await_lock(&adopt);
    first.end();
    let mut second = Innocent::with_pid(&env, 4000, true);
    drop(lock);
    adopt.finish().expect(1).expect_said("has ended meanwhile");
    assert!(!env.has_pid_file("web"));
    env.ok(&["stop"]);
    second.assert_untouched();
}

/// Until the call has opened the lock, which is when it has looked.
fn await_lock(call: &Running) {
    let folder = format!("/proc/{}/fd", call.process().pid);
    await_that("it does not wait for the lock", || {
        let fds = std::fs::read_dir(&folder).expect("descriptors").flatten();
        let mut files = fds.flat_map(|fd| std::fs::read_link(fd.path()));
        files.any(|file| file.ends_with(".pidctl.lock"))
    });
}

/// The command that starts or stops it has died, and who waits for that command must not wait for the
/// innocent that has its PID.
#[test]
fn of_a_command_that_another_waits_for() {
    if !in_namespace("reused_meanwhile::of_a_command_that_another_waits_for") {
        return;
    }
    for word in ["start", "stop"] {
        let env = TestEnv::new();
        let begun = env.at("begun");
        env.table(&[env
            .service("web")
            .does(&format!("exit-on=TERM linger={}", env.at("go")))
            .key(format!(
                "prepare = \"test -e {begun} && exit; touch {begun}; sleep 600\""
            ))
            .key("stop_timeout = \"1m\"")]);
        if word == "stop" {
            env.write("begun", "");
            env.up();
        }
        let first = env.pidctl(&[word]).spawn();
        match word {
            "start" => env.await_file("begun"),
            _ => await_that("no signal came", || env.log("web").contains("got SIGTERM")),
        }
        let second = env.pidctl(&["start"]).spawn();
        // It waits once it watches the records for the other's doing.
        let watches = format!("/proc/{}/fd", second.process().pid);
        await_that("the second does not wait", || {
            let fds = std::fs::read_dir(&watches).expect("descriptors").flatten();
            let mut files = fds.flat_map(|fd| std::fs::read_link(fd.path()));
            files.any(|file| file.to_string_lossy().contains("inotify"))
        });
        let command = first.process();
        command.kill();
        first.finish();
        gone(command.pid);
        let mut innocent = Innocent::with_pid(&env, command.pid, true);
        env.write("go", "");
        second.finish().expect(0);
        assert_eq!(env.state("web"), "running", "{word}");
        env.ok(&["stop", "--force"]);
        innocent.assert_untouched();
    }
}

/// `run` has attached a service that it did not start; its leader crashes.
#[test]
fn of_a_service_that_run_attends() {
    if !in_namespace("reused_meanwhile::of_a_service_that_run_attends") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env.service("web").does("catch=TERM+CONT")]);
    env.up();
    let leader = env.pid("web");
    let run = env.pidctl(&["run"]).spawn();
    await_that("it is not attached", || {
        (run.stdout() + &run.stderr()).contains("web")
    });
    leader.kill();
    gone(leader.pid);
    let mut innocent = Innocent::with_pid(&env, leader.pid, true);
    run.finish().expect(1);
    innocent.assert_untouched();
    assert!(!env.has_pid_file("web"));
}
