//! `stop`: signals, waits and escalations, and what is told of them.

use std::time::Duration;

use serde_json::json;

use crate::support::{TestEnv, await_that};

#[test]
fn what_does_not_run_is_a_success() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("web"), "not_running");
    assert_eq!(output.service("web")["signals"], json!([]));
    env.up();
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stopped");
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "not_running");
}

#[test]
fn the_stop_signal_is_the_tables() {
    let env = TestEnv::new();
    for (index, signal) in ["'SIGINT'", "'usr1'", "3"].iter().enumerate() {
        let name = format!("web{index}");
        let key = format!("stop_signal = {signal}");
        let web = env.service(&name).does("catch=TERM exit-on=INT+USR1+QUIT");
        env.table(&[web.key(key)]);
        env.up();
        let output = env.ok(&["--json", "stop"]);
        assert_eq!(output.outcome(&name), "stopped");
        let expected = ["SIGINT", "SIGUSR1", "SIGQUIT"][index];
        assert_eq!(output.service(&name)["signals"], json!([expected]));
        let log = env.log(&name);
        assert!(log.contains(&format!("got {expected}")), "{log}");
        assert!(!log.contains("got SIGTERM"), "{log}");
    }
}

#[test]
fn a_schedule_is_followed_step_by_step_until_the_service_obeys() {
    let env = TestEnv::new();
    let web = env.service("web").does("catch=INT+HUP exit-on=QUIT");
    env.table(&[web.key("stop_schedule = 'INT/200ms/HUP/0.2/QUIT/20s'")]);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("web"), "stopped");
    assert_eq!(
        output.service("web")["signals"],
        json!(["SIGINT", "SIGHUP", "SIGQUIT"])
    );
}

#[test]
fn who_is_stopped_on_the_way_is_let_go_on_to_obey_the_next_signal() {
    let env = TestEnv::new();
    let web = env.service("web").does("catch=TERM exit-on=INT");
    env.table(&[web.key("stop_schedule = 'TERM/1s/INT/10s'")]);
    env.up();
    let stop = env.pidctl(&["--json", "stop"]).spawn();
    await_that("the first signal has not come", || {
        env.log("web").contains("got SIGTERM")
    });
    env.pid("web").signal(libc::SIGSTOP);
    let output = stop.finish().expect(0);
    assert_eq!(output.outcome("web"), "stopped");
    assert_eq!(
        output.service("web")["signals"],
        json!(["SIGTERM", "SIGINT"])
    );
}

#[test]
fn sigkill_always_ends_a_schedule() {
    let env = TestEnv::new();
    let web = env.service("web").does("ignore=INT+QUIT");
    env.table(&[web.key("stop_schedule = 'INT/200ms/QUIT/200ms'")]);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("web"), "killed");
    assert_eq!(
        output.service("web")["signals"],
        json!(["SIGINT", "SIGQUIT", "SIGKILL"])
    );
    env.assert_nobody_left();
}

#[test]
fn a_timeout_on_the_command_line_cuts_a_schedule_to_its_first_signal() {
    let env = TestEnv::new();
    let web = env.service("web").does("catch=INT+QUIT");
    env.table(&[web.key("stop_schedule = 'INT/10m/QUIT/10m'")]);
    env.up();
    let output = env.ok(&["--json", "stop", "-t", "200ms"]);
    assert_eq!(
        output.service("web")["signals"],
        json!(["SIGINT", "SIGKILL"])
    );
    assert!(!env.log("web").contains("SIGQUIT"));
}

#[test]
fn force_and_a_timeout_of_zero_kill_at_once() {
    for options in [&["--force"][..], &["-f"], &["-t", "0"]] {
        let env = TestEnv::new();
        let web = env
            .service("web")
            .does("catch=TERM child=setsid,catch=TERM");
        env.table(&[web.key("stop_timeout = '10m'")]);
        env.up();
        let output = env.ok(&[&["--json", "stop"], options].concat());
        assert_eq!(output.outcome("web"), "killed");
        assert_eq!(output.service("web")["signals"], json!(["SIGKILL"]));
        env.assert_nobody_left();
        assert!(!env.log("web").contains("got"), "a signal came first");
    }
}

#[test]
fn a_scope_of_leader_spares_the_family_the_stop_signal_but_not_the_end() {
    let env = TestEnv::new();
    let web = env
        .service("web")
        .does("exit-on=TERM child=catch=TERM child=setsid,catch=TERM");
    let keys = "stop_scope = 'leader'\nstop_timeout = '500ms'";
    env.table(&[web.key(keys)]);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("web"), "killed");
    assert_eq!(env.log("web").matches("got SIGTERM").count(), 1);
    env.assert_nobody_left();
}

#[test]
fn a_family_is_signalled_once_each() {
    let env = TestEnv::new();
    let words = "exit-on=TERM child=exit-on=TERM child=double-fork,setsid,exit-on=TERM";
    env.table(&[env.service("web").does(words)]);
    env.up();
    env.ok(&["stop"]);
    assert_eq!(env.log("web").matches("got SIGTERM").count(), 3);
}

#[test]
fn eight_stubborn_services_end_together_in_about_one_timeout() {
    let env = TestEnv::new();
    let entries: Vec<_> = (0..8)
        .map(|index| {
            let web = env.service(&format!("web{index}")).does("ignore=TERM");
            web.key("stop_timeout = '2s'")
        })
        .collect();
    env.table(&entries);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    env.assert_nobody_left();
    for index in 0..8 {
        assert_eq!(output.outcome(&format!("web{index}")), "killed");
    }
    let one = Duration::from_secs(2);
    assert!(output.elapsed >= one, "nobody waited: {output}");
    assert!(output.elapsed < 4 * one, "one after the other? {output}");
}

#[test]
fn the_end_of_a_service_ends_the_wait_for_it() {
    let env = TestEnv::new();
    env.table(&[env.service("web").key("stop_timeout = '10m'")]);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("web"), "stopped");
    assert!(output.service("web")["elapsed_ms"].as_f64().unwrap() < 30_000.0);
}

#[test]
fn a_deadline_holds_for_the_whole_command_and_all_levels() {
    let env = TestEnv::new();
    let stubborn = |name: &str, needs: &str| {
        let keys = format!("stop_timeout = '10m'\ndepends_on = [{needs}]");
        env.service(name).does("ignore=TERM").key(keys)
    };
    env.table(&[
        stubborn("db", ""),
        stubborn("api", "'db'"),
        stubborn("web", "'api'"),
    ]);
    env.up();
    let output = env.ok(&["--json", "stop", "--deadline", "3s"]);
    env.assert_nobody_left();
    for id in ["db", "api", "web"] {
        assert_eq!(output.outcome(id), "killed");
    }
    assert!(output.elapsed < Duration::from_secs(6), "{output}");
}

#[test]
fn a_deadline_leaves_every_level_some_of_its_time() {
    let env = TestEnv::new();
    let journal = format!("journal={} catch=TERM", env.at("journal"));
    let stubborn = |name: &str| env.service(name).does(&journal).key("stop_timeout = '10m'");
    env.table(&[stubborn("db"), stubborn("web").key("depends_on = ['db']")]);
    env.up();
    env.ok(&["stop", "--deadline", "2s"]);
    // The dependency is told as well, not only killed.
    assert!(env.read("journal").contains("db got SIGTERM"));
}

#[test]
fn one_failure_does_not_stop_the_rest() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("bad"), env.service("two")]);
    env.ok(&["start", "one", "two"]);
    std::fs::create_dir(env.path("pids/bad.pid")).unwrap();
    let output = env.run(&["--json", "stop"]).expect(1);
    assert_eq!(output.outcome("bad"), "failed");
    assert_eq!(output.outcome("one"), "stopped");
    assert_eq!(output.outcome("two"), "stopped");
    env.assert_nobody_left();
}

#[test]
fn only_the_named_are_stopped_and_running_dependents_are_told() {
    let env = TestEnv::new();
    env.table(&[
        env.service("db"),
        env.service("api").key("depends_on = ['db']"),
    ]);
    env.up();
    let output = env.ok(&["stop", "db"]);
    assert!(output.said().contains("api"), "{output}");
    assert_eq!(env.state("db"), "stopped");
    assert_eq!(env.state("api"), "running");
}

#[test]
fn dry_run_forecasts_and_touches_nothing() {
    let env = TestEnv::new();
    env.table(&[
        env.service("meek").does("child=setsid"),
        env.service("stubborn")
            .does("ignore=TERM")
            .key("stop_timeout = '7s'"),
    ]);
    env.up();
    let before = env.members();
    let file = env.pid_text("meek");
    let output = env.ok(&["stop", "--dry-run"]);
    for member in &before {
        assert!(member.process.is_alive());
        let pid = member.process.pid.to_string();
        assert!(output.stdout.contains(&pid), "{pid} is missing: {output}");
    }
    assert!(output.stdout.contains("SIGKILL"), "{output}");
    assert!(output.stdout.contains("7s"), "{output}");
    assert_eq!(env.pid_text("meek"), file);
    env.ok(&["status"]);
}

#[test]
fn dry_run_foresees_how_far_a_schedule_goes() {
    let env = TestEnv::new();
    let web = env.service("web").does("ignore=INT");
    env.table(&[web.key("stop_schedule = 'INT/10ms/TERM/5s/QUIT/5s'")]);
    env.up();
    let foreseen = env.ok(&["--json", "stop", "--dry-run"]);
    let stopped = env.ok(&["--json", "stop"]);
    for output in [&foreseen, &stopped] {
        assert_eq!(output.outcome("web"), "stopped", "{output}");
        let signals = serde_json::json!(["SIGINT", "SIGTERM"]);
        assert_eq!(output.service("web")["signals"], signals, "{output}");
    }
}

#[test]
fn dry_run_foresees_who_is_taken_over_on_the_port() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = ["listen", &format!("port={port}")];
    let web = env.service("web").port(port).words(&words);
    let id = web.id();
    env.table(&[web]);
    let stray = env.bystander(&words);
    let foreseen = env.ok(&["--json", "stop", "--dry-run"]);
    stray.assert_alive();
    let stopped = env.ok(&["--json", "stop"]);
    stray.assert_ended();
    for output in [&foreseen, &stopped] {
        assert_eq!(output.outcome(&id), "stopped", "{output}");
        assert_eq!(output.service(&id)["pid"], stray.process().pid, "{output}");
        assert_eq!(output.service(&id)["processes"], 1, "{output}");
    }
}

#[test]
fn dry_run_of_what_does_not_run_succeeds() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.ok(&["stop", "--dry-run"]).expect_said("web");
    assert!(!env.exists("pids/web.pid"));
}

#[test]
fn a_service_that_ends_between_two_commands_is_seen_as_gone() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    leader.kill();
    await_that("it lives", || !leader.is_alive());
    let status = env.run(&["--json", "status"]).expect(1);
    assert_eq!(status.state("web"), "stale");
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stale_removed");
    assert!(!env.has_pid_file("web"));
    assert_eq!(
        env.run(&["--json", "status"]).expect(3).state("web"),
        "stopped"
    );
}

#[test]
fn two_stops_at_once_both_succeed() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit-on=TERM slow=500");
    env.table(&[web]);
    env.up();
    let calls: Vec<_> = (0..4)
        .map(|_| env.pidctl(&["--json", "stop"]).spawn())
        .collect();
    for call in calls {
        let outcome = call.finish().expect(0).outcome("web");
        assert!(["stopped", "not_running"].contains(&outcome.as_str()));
    }
    env.assert_nobody_left();
    assert_eq!(env.log("web").matches("ready").count(), 1);
}
