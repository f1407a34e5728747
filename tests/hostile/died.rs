//! What a pidctl that was killed has left half done, the next command finishes.

use nix::sys::signal::Signal;

use crate::support::{TestEnv, await_that, is_root};

#[test]
fn a_start_finishes_the_stop_that_died_before_it() {
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .does("exit-on=TERM slow=700")
        .key("stop_timeout = \"20s\"")]);
    env.up();
    let before = env.pid_text("web");
    let stop = env.pidctl(&["stop"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    stop.signal(Signal::SIGKILL);
    stop.finish();
    // It lives still, and will not for long: that is no running service.
    env.ok(&["start"]);
    assert_ne!(env.pid_text("web"), before);
    assert_eq!(env.state("web"), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_prepare_that_outlives_its_start_is_never_the_service() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let begun = env.at("begun");
    env.table(&[env.service("web").key(format!(
        "prepare = \"test -e {begun} && exit; touch {begun}; exec setpriv --pdeathsig clear sleep 600\""
    ))]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_file("begun");
    await_that("prepare is not itself yet", || {
        env.survivors().iter().any(|one| one.comm() == "sleep")
    });
    start.signal(Signal::SIGKILL);
    start.finish();
    env.up();
    assert!(env.survivors().iter().all(|one| one.comm() != "sleep"));
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_service_killed_by_a_real_time_signal_is_a_failed_start_at_once() {
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .shell("kill -35 $$")
        .key("start_attempts = 1")
        .key("ready_timeout = \"50s\"")]);
    let start = env.run(&["start"]).expect(1);
    assert!(start.elapsed.as_secs() < 20, "{start}");
}

#[test]
fn a_full_standard_error_is_no_panic() {
    let env = TestEnv::new();
    env.write("services.toml", "nonsense");
    let words = "\"$PIDCTL\" status 2>/dev/full";
    env.sh(words).run().expect(2);
}

#[test]
fn what_prepare_left_is_not_what_a_command_went_to_the_background_as() {
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .shell("exit 0")
        .key("prepare = \"sleep 600 & sleep 0.05\"")
        .key("start_attempts = 1")]);
    let start = env.run(&["--json", "start"]).expect(1);
    assert_eq!(start.outcome("web"), "failed");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn what_was_being_written_is_swept_up_by_the_next_command() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    env.ok(&["stop"]);
    let halves = ["pids/.web.pid.new", "pids/..pidctl.records.new"];
    for half in halves {
        env.write(half, "12");
    }
    env.forget_ready();
    env.up();
    env.ok(&["stop"]);
    for half in halves {
        assert!(!env.exists(half), "{half}");
    }
}
