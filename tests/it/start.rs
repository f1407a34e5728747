//! `start`: brings up what is not up, tells what it did, and leaves nothing half done.

use crate::support::{TestEnv, await_that};

#[test]
fn starts_what_is_not_running_and_leaves_alone_what_is() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    let first = env.up();
    assert_eq!(first.ids(), ["one", "two"]);
    for id in ["one", "two"] {
        assert_eq!(first.outcome(id), "started");
        assert_eq!(first.service(id)["attempts"], 1);
        assert_eq!(first.service(id)["pid"], env.pid(id).pid);
    }
    let (one, two) = (env.pid("one"), env.pid("two"));
    let second = env.ok(&["--json", "start"]);
    assert_eq!(second.outcome("one"), "already_running");
    assert_eq!(second.service("one")["pid"], one.pid);
    assert_eq!((env.pid("one"), env.pid("two")), (one, two));
    assert_eq!(env.members().len(), 2);
}

#[test]
fn prints_one_line_a_service_on_standard_output() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    let lines = env.ok(&["start"]).stdout;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.lines().next().unwrap().contains("one"), "{lines}");
    assert!(!lines.contains('\x1b'), "escape codes: {lines}");
}

#[test]
fn quiet_says_nothing_of_success() {
    let env = TestEnv::new();
    env.table(&[env.service("one")]);
    assert_eq!(env.ok(&["-q", "start"]).stdout, "");
    assert_eq!(env.state("one"), "running");
}

#[test]
fn a_name_selects_every_service_of_that_name_and_an_id_one() {
    let env = TestEnv::new();
    let (low, high) = (env.free_port(), env.free_port());
    let first = env.service("web").port(low).does("listen");
    let second = env.service("web").port(high).does("listen");
    let (first_id, second_id) = (first.id(), second.id());
    env.table(&[first, second, env.service("other")]);
    let by_id = env.ok(&["--json", "start", &second_id]);
    assert_eq!(by_id.ids(), [second_id.as_str()]);
    let by_name = env.ok(&["--json", "start", "-s", "web"]);
    assert_eq!(by_name.ids(), [first_id.clone(), second_id.clone()]);
    assert_eq!(by_name.outcome(&first_id), "started");
    assert_eq!(by_name.outcome(&second_id), "already_running");
    assert!(!env.has_pid_file("other"));
}

#[test]
fn an_unknown_service_is_a_usage_error_and_touches_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("dashboard"), env.service("worker")]);
    for command in ["start", "stop", "status", "restart"] {
        let output = env.run(&[command, "worker", "dashbord"]).expect(2);
        assert!(output.stderr.contains("dashbord"), "{output}");
        assert!(output.stderr.contains("dashboard"), "nearest: {output}");
    }
    assert!(env.members().is_empty());
    assert!(!env.has_pid_file("worker"));
}

#[test]
fn a_service_that_exits_fails_with_its_status_and_its_last_words() {
    let env = TestEnv::new();
    env.table(&[
        env.service("bad")
            .words(&["complain=no such database", "exit=37"])
            .key("start_attempts = 1"),
        env.service("good"),
    ]);
    let output = env.run(&["start"]).expect(1);
    let said = output.said();
    assert!(said.contains("37"), "exit status: {output}");
    assert!(said.contains("no such database"), "last lines: {output}");
    assert!(!env.has_pid_file("bad"));
    assert_eq!(env.state("good"), "running");
    let json = env.run(&["--json", "start"]).expect(1);
    assert_eq!(json.outcome("bad"), "failed");
    assert_eq!(json.outcome("good"), "already_running");
    assert!(
        json.service("bad")["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("37"))
    );
}

#[test]
fn the_last_words_are_those_of_this_attempt() {
    let env = TestEnv::new();
    let bad = env.service("bad").key("start_attempts = 1");
    env.table(&[bad.words(&["complain=yesterday's trouble", "exit=1"])]);
    env.run(&["start"]).expect(1);
    let bad = env.service("bad").key("start_attempts = 1");
    env.table(&[bad.words(&["complain=today's trouble", "exit=1"])]);
    let output = env.run(&["start"]).expect(1);
    assert!(output.said().contains("today's trouble"), "{output}");
    // The failure itself may have been redirected elsewhere.
    assert!(
        output.stderr.contains("failed; its last output:"),
        "{output}"
    );
    assert!(!output.said().contains("yesterday's"), "{output}");
}

#[test]
fn a_start_that_fails_by_exiting_is_tried_again_as_often_as_the_table_says() {
    let env = TestEnv::new();
    let journal = format!("journal={} exit=1", env.at("journal"));
    env.table(&[env.service("bad").does(&journal).key("start_attempts = 2")]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.service("bad")["attempts"], 2);
    assert_eq!(env.read("journal").matches("start").count(), 2);
}

#[test]
fn a_later_attempt_may_succeed() {
    let env = TestEnv::new();
    let flag = env.at("flag");
    let script = format!("test -e {flag} && exec sleep 600; touch {flag}; exit 1");
    env.table(&[env.service("shy").shell(&script)]);
    let output = env.ok(&["--json", "start"]);
    assert_eq!(output.outcome("shy"), "started");
    assert_eq!(output.service("shy")["attempts"], 2);
}

#[test]
fn a_service_that_is_not_ready_in_time_is_stopped_with_its_family() {
    let env = TestEnv::new();
    let port = env.free_port();
    let never = format!(
        "listen listen-when={} child=setsid,ignore=TERM",
        env.at("never")
    );
    let slow = env.service("slow").port(port).does(&never);
    let id = slow.id();
    env.table(&[slow.key("stop_timeout = '300ms'")]);
    let args = ["--json", "start", "--ready-timeout", "600ms"];
    let output = env.run(&args).expect(1);
    assert_eq!(output.outcome(&id), "failed");
    assert_eq!(output.service(&id)["attempts"], 1, "a time-out is no exit");
    env.assert_nobody_left();
    assert!(!env.has_pid_file(&id));
}

#[test]
fn an_instance_that_dies_within_its_first_moments_was_never_ready() {
    let env = TestEnv::new();
    let brief = env.service("brief").does("exit=5 exit-after=60");
    env.table(&[brief.key("start_attempts = 1")]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome("brief"), "failed");
    assert!(!env.has_pid_file("brief"));
}

#[test]
fn no_wait_returns_before_a_service_is_ready() {
    let env = TestEnv::new();
    let port = env.free_port();
    let later = format!("listen listen-when={}", env.at("go"));
    let web = env.service("web").port(port).does(&later);
    let id = web.id();
    env.table(&[web]);
    let output = env.ok(&["--json", "start", "--no-wait"]);
    assert_eq!(output.outcome(&id), "started");
    assert!(output.service(&id)["ready_ms"].is_null());
    assert_eq!(env.state(&id), "starting");
    env.write("go", "");
    await_that("it is not running", || env.state(&id) == "running");
}

#[test]
fn dry_run_starts_and_writes_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    let output = env.ok(&["start", "--dry-run"]);
    assert!(output.stdout.contains("one") && output.stdout.contains("two"));
    assert!(env.members().is_empty());
    for name in ["pids", "logs"] {
        let folder = std::fs::read_dir(env.path(name));
        assert_eq!(folder.map_or(0, |entries| entries.count()), 0, "{name}");
    }
}

#[test]
fn a_command_that_cannot_be_found_fails_before_it_is_started_and_tells_the_path() {
    let env = TestEnv::new();
    env.table(&[
        env.service("typo")
            .exec(&["no-such-programme-at-all"])
            .key("env = { PATH = '/usr/bin:/some/where' }"),
        env.service("good"),
    ]);
    let output = env.run(&["start"]).expect(1);
    assert!(
        output.said().contains("no-such-programme-at-all"),
        "{output}"
    );
    assert!(output.said().contains("/some/where"), "{output}");
    assert!(!env.has_pid_file("typo"));
    assert_eq!(env.state("good"), "running");
}

#[test]
fn standard_input_is_empty_and_both_outputs_are_the_log() {
    let env = TestEnv::new();
    env.table(&[env
        .service("talker")
        .shell("cat; echo out; echo err >&2; exec sleep 600")]);
    env.write("input", "from the caller");
    let input = std::fs::File::open(env.path("input")).unwrap();
    env.pidctl(&["start"]).stdin(input).run().expect(0);
    await_that("no log", || env.log("talker").contains("err"));
    assert_eq!(env.log("talker"), "out\nerr\n");
}

#[test]
fn what_is_left_of_an_orphaned_instance_is_stopped_before_a_new_one_is_started() {
    let env = TestEnv::new();
    let only = format!("only={} child=setsid", env.at("only"));
    env.table(&[env.service("web").does(&only)]);
    env.up();
    let child = env.member("setsid");
    let leader = env.pid("web");
    leader.kill();
    await_that("the leader lives", || !leader.is_alive());
    assert_eq!(env.state("web"), "orphaned");
    let output = env.up();
    assert_eq!(output.outcome("web"), "started");
    assert!(!child.is_alive());
    assert!(!env.read("only").contains("violation"));
    assert_eq!(env.members().len(), 2);
}

#[test]
fn a_start_that_another_command_has_begun_is_awaited_and_never_undone() {
    let env = TestEnv::new();
    let port = env.free_port();
    let later = format!("listen listen-when={}", env.at("go"));
    let web = env.service("web").port(port).does(&later);
    let id = web.id();
    env.table(&[web]);
    let first = env.pidctl(&["--json", "start"]).spawn();
    env.await_ready();
    let leader = env.pid(&id);
    let args = ["--json", "start", "--ready-timeout", "400ms"];
    env.run(&args).expect(1);
    assert!(leader.is_alive(), "the second start undid the first");
    let second = env.pidctl(&["--json", "start"]).spawn();
    env.write("go", "");
    assert_eq!(first.finish().expect(0).outcome(&id), "started");
    second.finish().expect(0);
    assert_eq!(env.pid(&id), leader);
}

#[test]
fn a_stop_cancels_a_start_that_was_begun_before_it() {
    let env = TestEnv::new();
    let journal = format!("journal={} exit=1 exit-after=100", env.at("journal"));
    env.table(&[env
        .service("bad")
        .does(&journal)
        .key("start_attempts = 1000")]);
    let start = env.pidctl(&["--json", "start"]).spawn();
    await_that("no second attempt", || {
        env.exists("journal") && env.read("journal").matches("start").count() >= 2
    });
    env.ok(&["stop"]);
    let output = start.finish().expect(1);
    assert_eq!(output.outcome("bad"), "failed");
    assert!(
        output.stdout.contains("stopped by another command"),
        "{output}"
    );
    env.assert_nobody_left();
    assert!(!env.has_pid_file("bad"));
}

#[test]
fn a_stop_ends_the_wait_of_a_start_for_readiness() {
    let env = TestEnv::new();
    let never = format!("listen listen-when={}", env.at("never"));
    let web = env.service("web").port(env.free_port()).does(&never);
    let id = web.id();
    env.table(&[web.key("ready_timeout = '10m'")]);
    let start = env.pidctl(&["--json", "start"]).spawn();
    env.await_ready();
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "stopped");
    assert_eq!(start.finish().expect(1).outcome(&id), "failed");
    env.assert_nobody_left();
}

#[test]
fn a_stop_ends_the_prepare_of_a_start() {
    let env = TestEnv::new();
    let begun = env.at("begun");
    let prepare = format!("prepare = \"touch {begun}; exec sleep 600\"");
    env.table(&[env.service("web").key(prepare)]);
    let start = env.pidctl(&["--json", "start"]).spawn();
    env.await_file("begun");
    env.ok(&["stop"]);
    assert_eq!(start.finish().expect(1).outcome("web"), "failed");
    assert!(env.survivors().is_empty(), "{:?}", env.survivors());
}

#[test]
fn a_start_waits_for_a_stop_that_is_under_way_and_then_starts() {
    let env = TestEnv::new();
    let words = format!(
        "exit-on=TERM linger={} only={}",
        env.at("go"),
        env.at("only")
    );
    env.table(&[env.service("web").does(&words).key("stop_timeout = '10m'")]);
    env.up();
    let old = env.pid("web");
    let stop = env.pidctl(&["--json", "stop"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    assert_eq!(env.state("web"), "stopping");
    let start = env.pidctl(&["--json", "start"]).spawn();
    env.write("go", "");
    assert_eq!(stop.finish().expect(0).outcome("web"), "stopped");
    assert_eq!(start.finish().expect(0).outcome("web"), "started");
    assert_ne!(env.pid("web"), old);
    assert!(!env.read("only").contains("violation"));
}
