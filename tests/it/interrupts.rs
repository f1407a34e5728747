//! Ctrl-C and its kin in the middle of a command, and pidctl itself killed at any instant.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{TestEnv, await_that};

#[test]
fn interrupted_start_stops_what_is_not_ready_and_keeps_what_is() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let env = TestEnv::new();
        let never = format!("listen listen-when={} child=setsid", env.at("never"));
        let slow = env.service("slow").port(env.free_port()).does(&never);
        let id = slow.id();
        env.table(&[slow.key("ready_timeout = '10m'"), env.service("quick")]);
        let start = env.pidctl(&["start"]).spawn();
        env.await_ready();
        env.await_event("quick", "ready");
        start.signal(signal);
        start.finish().expect(code);
        assert_eq!(env.state("quick"), "running");
        assert_eq!(env.state(&id), "stopped");
        assert!(!env.has_pid_file(&id));
        assert_eq!(env.members().len(), 1);
    }
}

#[test]
fn interrupted_prepare_leaves_nobody() {
    let env = TestEnv::new();
    let begun = env.at("begun");
    let prepare = format!("prepare = \"touch {begun}; sleep 600 & sleep 600\"");
    env.table(&[env.service("web").key(prepare)]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_file("begun");
    start.signal(Signal::SIGINT);
    start.finish().expect(130);
    assert!(env.survivors().is_empty(), "{:?}", env.survivors());
    assert!(env.members().is_empty());
}

#[test]
fn the_first_interrupt_of_a_stop_escalates_and_the_outcome_decides() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let env = TestEnv::new();
        let stubborn = env
            .service("web")
            .does("catch=TERM child=setsid,ignore=TERM");
        env.table(&[stubborn.key("stop_timeout = '10m'")]);
        env.up();
        let stop = env.pidctl(&["--json", "stop"]).spawn();
        await_that("no signal came", || env.log("web").contains("got SIGTERM"));
        stop.signal(signal);
        assert_eq!(stop.finish().expect(0).outcome("web"), "killed");
        env.assert_nobody_left();
        assert!(!env.has_pid_file("web"));
    }
}

#[test]
fn a_hangup_does_not_interrupt_a_stop() {
    let env = TestEnv::new();
    let words = format!("exit-on=TERM linger={}", env.at("go"));
    env.table(&[env.service("web").does(&words).key("stop_timeout = '10m'")]);
    env.up();
    let mut stop = env.pidctl(&["--json", "stop"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    stop.signal(Signal::SIGHUP);
    // Something else that pidctl does must come after it.
    env.run(&["status"]).expect(150);
    assert!(!stop.has_ended());
    env.write("go", "");
    assert_eq!(stop.finish().expect(0).outcome("web"), "stopped");
}

#[test]
fn a_restart_interrupted_in_its_stop_starts_nothing() {
    let env = TestEnv::new();
    let web = env.service("web").does("catch=TERM");
    env.table(&[web.key("stop_timeout = '10m'")]);
    env.up();
    let restart = env.pidctl(&["restart"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    restart.signal(Signal::SIGINT);
    restart.finish().expect(130);
    env.assert_nobody_left();
    assert_eq!(env.state("web"), "stopped");
}

#[test]
fn a_stop_that_was_killed_is_taken_up_by_the_next() {
    let env = TestEnv::new();
    let words = "catch=TERM child=setsid,catch=TERM child=double-fork,setsid,ignore=TERM";
    env.table(&[env.service("web").does(words).key("stop_timeout = '10m'")]);
    env.up();
    let stop = env.pidctl(&["stop"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    stop.process().kill();
    stop.finish().expect(137);
    let status = env.run(&["--json", "status"]);
    assert_ne!(status.state("web"), "stopped");
    assert_eq!(env.ok(&["--json", "stop", "-f"]).outcome("web"), "killed");
    env.assert_nobody_left();
}

/// Killed while it waits for a service that is not ready: the service is known all the same.
#[test]
fn a_start_that_was_killed_while_it_waited_left_nothing_untracked() {
    let env = TestEnv::new();
    let words = format!(
        "listen listen-when={} only={}",
        env.at("go"),
        env.at("only")
    );
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_ready();
    start.process().kill();
    start.finish().expect(137);
    assert_eq!(env.state(&id), "starting");
    env.write("go", "");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "already_running");
    assert!(!env.read("only").contains("violation"));
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

/// Killed at instants spread over its whole run.
#[test]
fn a_start_that_was_killed_at_any_instant_left_nothing_untracked() {
    let env = TestEnv::new();
    let words = format!("only={} child=setsid,double-fork", env.at("only"));
    env.table(&[
        env.service("one").does(&words),
        env.service("two").does("child=setsid"),
    ]);
    for step in 0..40 {
        let start = env.pidctl(&["start"]).spawn();
        let since = Instant::now();
        while since.elapsed() < Duration::from_micros(400 * step) {
            std::hint::spin_loop();
        }
        start.process().kill();
        start.finish();
        // A child at the gate sees the end of its parent and leaves without exec.
        env.await_no_pidctl();
        let status = env.run(&["--json", "status"]);
        for member in env.members() {
            let state = status.state(&member.service);
            assert_ne!(
                state, "stopped",
                "step {step}: {member:?} is not shown: {status}"
            );
        }
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
    assert!(!env.exists("only") || !env.read("only").contains("violation"));
    env.up();
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

/// Killed at instants spread over a stop that has to kill; a family frozen for it is not lost.
#[test]
fn a_stop_that_was_killed_at_any_instant_is_made_good_by_the_next() {
    let env = TestEnv::new();
    let words = "ignore=TERM child=setsid,ignore=TERM child=double-fork,setsid,ignore=TERM";
    env.table(&[env.service("web").does(words)]);
    for step in 0..15 {
        env.up();
        let stop = env.pidctl(&["stop", "-f"]).spawn();
        let since = Instant::now();
        while since.elapsed() < Duration::from_micros(700 * step) {
            std::hint::spin_loop();
        }
        stop.process().kill();
        stop.finish();
        let status = env.run(&["--json", "status"]);
        if !env.members().is_empty() {
            assert_ne!(status.state("web"), "stopped", "step {step}: {status}");
        }
        env.ok(&["stop", "-f"]);
        env.assert_nobody_left();
        assert!(!env.has_pid_file("web"));
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    let script = "{ \"$PIDCTL\" start; echo $? >code; } | true; cat code";
    assert_eq!(env.sh(script).run().expect(0).stdout, "0\n");
    assert_eq!(env.state("one"), "running");
    let script = "{ \"$PIDCTL\" stop; echo $? >code; } | true; cat code";
    assert_eq!(env.sh(script).run().expect(0).stdout, "0\n");
    env.assert_nobody_left();
}

/// A result that nobody can read was not told, so the command did not do all it should.
#[test]
fn a_full_standard_output_is_told_and_is_a_failure() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = env.pidctl(&["start"]).stdout(full).run().expect(1);
    assert!(output.said().contains("standard output"), "{output}");
    assert_eq!(env.state("web"), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}
