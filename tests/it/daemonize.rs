//! Commands that go to the background by themselves are followed.

use crate::support::{Member, TestEnv, await_that};

fn followed(words: &str, declared: bool) {
    let env = TestEnv::new();
    let words = format!("{words} only={}", env.at("only"));
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web.key(format!("daemonizes = {declared}"))]);
    let output = env.up();
    assert_eq!(output.outcome(&id), "started", "{output}");
    let daemon = env.pid(&id);
    assert!(daemon.is_alive());
    assert_eq!(daemon.session(), daemon.pid, "the daemon, not its worker");
    assert_eq!(output.service(&id)["pid"], daemon.pid);
    assert_eq!(
        env.ok(&["--json", "status"]).service(&id)["pid"],
        daemon.pid
    );
    assert_eq!(env.state(&id), "running");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "already_running");
    let stop = env.ok(&["--json", "stop"]);
    env.assert_nobody_left();
    assert_eq!(stop.outcome(&id), "stopped");
    assert!(!env.has_pid_file(&id));
    assert!(!env.read("only").contains("violation"));
}

#[test]
fn declared_and_keeping_its_descriptors() {
    followed("listen daemonize", true);
}

#[test]
fn declared_and_replacing_its_descriptors() {
    followed("listen daemonize null-fds", true);
}

#[test]
fn declared_and_closing_its_descriptors() {
    followed("listen daemonize close-fds", true);
}

#[test]
fn declared_and_rewriting_its_title() {
    followed("listen daemonize title=web", true);
}

#[test]
fn declared_with_workers_that_hold_the_port_too() {
    followed("listen daemonize null-fds tree=1x3", true);
}

#[test]
fn declared_with_a_parent_that_leaves_before_the_daemon_is_ready() {
    followed("listen daemonize early", true);
}

#[test]
fn found_and_keeping_its_descriptors() {
    followed("listen daemonize", false);
}

#[test]
fn found_and_replacing_its_descriptors() {
    followed("listen daemonize null-fds", false);
}

#[test]
fn found_and_closing_its_descriptors_with_workers() {
    followed("listen daemonize close-fds tree=1x2", false);
}

#[test]
fn found_with_a_parent_that_leaves_before_the_daemon_is_ready() {
    followed("listen daemonize early null-fds", false);
}

#[test]
fn without_a_port_the_oldest_process_is_followed() {
    for declared in [true, false] {
        let env = TestEnv::new();
        let web = env.service("web").does("daemonize null-fds tree=1x2");
        env.table(&[web.key(format!("daemonizes = {declared}"))]);
        env.up();
        let daemon = env.pid("web");
        assert_eq!(daemon.session(), daemon.pid);
        assert_eq!(env.state("web"), "running");
        assert_eq!(env.ok(&["--json", "stop"]).service("web")["processes"], 3);
        env.assert_nobody_left();
    }
}

#[test]
fn a_declared_daemon_whose_command_fails_has_failed() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit=3 child=setsid,double-fork");
    env.table(&[web.key("daemonizes = true\nstart_attempts = 1")]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome("web"), "failed");
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_declared_daemon_that_leaves_nobody_has_failed() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit=0");
    env.table(&[web.key("daemonizes = true\nstart_attempts = 1")]);
    assert_eq!(
        env.run(&["--json", "start"]).expect(1).outcome("web"),
        "failed"
    );
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_service_that_just_ends_has_not_daemonized() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit=0");
    env.table(&[web.key("start_attempts = 1")]);
    assert_eq!(
        env.run(&["--json", "start"]).expect(1).outcome("web"),
        "failed"
    );
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_daemon_that_goes_to_the_background_after_start_has_returned_is_followed_later() {
    let env = TestEnv::new();
    let words = format!("listen daemonize-when={}", env.at("go"));
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web]);
    env.up();
    let leader = env.pid(&id);
    env.write("go", "");
    await_that("it stays in the foreground", || !leader.is_alive());
    assert_eq!(env.ok(&["--json", "status"]).state(&id), "running");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "already_running");
    let daemon = env.pid(&id);
    assert_ne!(daemon, leader);
    assert!(daemon.is_alive());
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "stopped");
    env.assert_nobody_left();
}

#[test]
fn a_daemon_that_ignores_the_signal_is_killed_with_its_workers() {
    let env = TestEnv::new();
    let words = "listen daemonize null-fds ignore=TERM tree=1x2";
    let web = env.service("web").port(env.free_port()).does(words);
    let id = web.id();
    env.table(&[web.key("daemonizes = true\nstop_timeout = '500ms'")]);
    env.up();
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "killed");
    env.assert_nobody_left();
}

/// It has no traces left, and only one start is still under way: that it must be of that one is wrong.
#[test]
fn what_another_service_left_in_the_background_is_nobody_elses() {
    let env = TestEnv::new();
    let traceless = "daemonize wipe-env null-fds";
    let fast = env.service("fast").port(env.free_port());
    let fast = fast.does(&format!("listen {traceless}"));
    let when = format!("listen daemonize early listen-when={}", env.at("go"));
    let slow = env.service("slow").port(env.free_port()).does(&when);
    let (fast_id, slow_id) = (fast.id(), slow.id());
    env.table(&[fast, slow.key("daemonizes = true")]);
    let start = env.pidctl(&["--json", "start", "--no-wait"]).spawn();
    let parent = start.process().pid;
    let is_stray = |one: &Member| one.service == fast_id && one.process.parent() == parent;
    await_that("it is not in the background", || {
        env.members().iter().any(is_stray)
    });
    let stray = env.members().into_iter().find(is_stray);
    let stray = stray.expect("it has ended").process;
    env.write("go", "");
    let output = start.finish().expect(0);
    assert_eq!(output.outcome(&fast_id), "started", "{output}");
    assert_eq!(output.outcome(&slow_id), "started", "{output}");
    let stop = env.ok(&["--json", "stop", "--takeover", "never", &slow_id]);
    assert_eq!(stop.service(&slow_id)["processes"], 1, "{stop}");
    assert!(stray.is_alive(), "{stop}");
    stray.kill();
    await_that("it is alive", || !stray.is_alive());
    env.assert_nobody_left();
}
