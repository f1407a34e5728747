//! `drill`: what it measures, and that it leaves everything as it found it.

use nix::sys::signal::Signal;

use crate::support::{TestEnv, await_that};

#[test]
fn who_is_left_behind_is_told_by_name() {
    let env = TestEnv::new();
    let web = env.service("web").words(&[
        "say=hello",
        "exit-on=TERM",
        "child=setsid,ignore=TERM,comm=worker",
    ]);
    env.table(&[web.key("stop_timeout = '500ms'")]);
    let output = env.run(&["--json", "drill"]).expect(1);
    let web = output.service("web");
    assert_eq!(web["outcome"], "fail");
    assert_eq!(web["killed"], true);
    assert_eq!(web["left_behind"], 1);
    assert_eq!(web["exit_status"], 0);
    let elapsed = web["elapsed_ms"].as_u64().unwrap();
    assert!((500..5_000).contains(&elapsed), "{elapsed}");
    let detail = web["detail"].as_str().unwrap();
    assert!(detail.contains("(worker)"), "{detail}");
    let processes = web["processes"].as_array().unwrap();
    let worker = processes.iter().find(|one| one["command"] == "worker");
    let worker = worker.unwrap();
    assert_eq!(worker["reception"], "ignores");
    assert_eq!(worker["left_behind"], true);
    assert_eq!(web["logged"], serde_json::json!(["got SIGTERM"]));
    env.assert_nobody_left();

    let text = env.run(&["drill"]).expect(1).stdout;
    assert!(text.contains("FAIL") && text.contains("(worker)"), "{text}");
    assert!(text.contains("| got SIGTERM"), "{text}");
}

#[test]
fn how_each_takes_the_signal_is_told() {
    let env = TestEnv::new();
    env.table(&[
        env.service("catches").does("exit-on=TERM"),
        env.service("default").shell("exec sleep 600"),
        env.service("ignores")
            .does("ignore=TERM")
            .key("stop_timeout = '100ms'"),
        env.service("blocks").does("sigwait=TERM"),
    ]);
    let output = env.run(&["--json", "drill"]).expect(1);
    for id in ["catches", "default", "ignores", "blocks"] {
        assert_eq!(output.service(id)["processes"][0]["reception"], id);
    }
    assert_eq!(output.service("default")["exit_status"], 143);
    assert_eq!(output.service("default")["exit_signal"], "SIGTERM");
    assert_eq!(output.service("ignores")["left_behind"], 0);
    assert_eq!(output.service("blocks")["outcome"], "pass");
    env.assert_nobody_left();
}

#[test]
fn who_got_no_signal_is_told() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit-on=TERM child=exit-on=TERM");
    let web = web.key("stop_scope = 'leader'");
    env.table(&[web.key("stop_timeout = '300ms'")]);
    let output = env.run(&["--json", "drill"]).expect(1);
    let web = output.service("web");
    let signalled: Vec<_> = web["processes"].as_array().unwrap().iter().collect();
    let count = |wanted| {
        signalled
            .iter()
            .filter(|one| one["signalled"] == wanted)
            .count()
    };
    assert_eq!((count(true), count(false)), (1, 1), "{web}");
    assert!(
        web["detail"]
            .as_str()
            .unwrap()
            .contains("got no signal: PID")
    );
    assert_eq!(web["left_behind"], 1);
}

#[test]
fn when_the_port_was_free_is_told() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does("listen exit-on=TERM slow=200");
    let id = web.id();
    env.table(&[web]);
    let web = env.ok(&["--json", "drill"]).service(&id);
    assert_eq!(web["port_released"], true);
    let after = web["port_released_ms"].as_u64().unwrap();
    assert!((200..10_000).contains(&after), "{after}");
}

#[test]
fn what_it_depends_on_stays_up_until_its_turn_and_all_is_stopped_in_the_end() {
    let env = TestEnv::new();
    let journal = format!("journal={} exit-on=TERM", env.at("journal"));
    env.table(&[
        env.service("db").does(&journal),
        env.service("web").does(&journal).key("depends_on = ['db']"),
    ]);
    let output = env.ok(&["--json", "drill", "web"]);
    assert_eq!(output.ids(), ["web"]);
    let order = [
        "db start",
        "web start",
        "web got SIGTERM",
        "web exit",
        "db got SIGTERM",
        "db exit",
    ];
    assert_eq!(env.read("journal").lines().collect::<Vec<_>>(), order);
    env.assert_nobody_left();

    env.remove("journal");
    assert_eq!(env.ok(&["--json", "drill"]).ids(), ["db", "web"]);
    assert_eq!(env.read("journal").lines().collect::<Vec<_>>(), order);
    env.assert_nobody_left();
}

#[test]
fn a_running_service_is_refused_and_nothing_is_touched() {
    let env = TestEnv::new();
    let journal = format!("journal={}", env.at("journal"));
    env.table(&[
        env.service("one").does(&journal),
        env.service("two").does(&journal),
    ]);
    env.ok(&["start", "one"]);
    let leader = env.pid("one");
    let output = env.run(&["--json", "drill"]).expect(1);
    let detail = |id: &str| output.service(id)["detail"].as_str().unwrap().to_owned();
    assert!(detail("one").contains("--live"), "{output}");
    assert!(detail("two").contains("because of one"), "{output}");
    assert_eq!(env.read("journal"), "one start\n");
    assert!(leader.is_alive());
    // One that is only depended on may run, and goes on.
    env.table(&[
        env.service("one").does(&journal),
        env.service("two")
            .does(&journal)
            .key("depends_on = ['one']"),
    ]);
    env.ok(&["drill", "two"]);
    assert!(leader.is_alive());
    assert_eq!(env.state("one"), "running");
}

#[test]
fn live_it_drills_what_runs_and_starts_it_again() {
    let env = TestEnv::new();
    let journal = format!("journal={} exit-on=TERM", env.at("journal"));
    env.table(&[
        env.service("up").does(&journal),
        env.service("down").does(&journal),
    ]);
    env.ok(&["start", "up"]);
    let before = env.pid("up");
    let output = env.ok(&["--json", "drill", "--live", "--repeat", "2"]);
    for id in ["up", "down"] {
        let service = output.service(id);
        assert_eq!(service["outcome"], "pass", "{output}");
        assert_eq!(service["runs"].as_array().unwrap().len(), 2);
    }
    assert!(!before.is_alive());
    assert_eq!(env.state("up"), "running");
    assert_eq!(env.state("down"), "stopped");
    assert_eq!(env.read("journal").matches("up start").count(), 3);
    assert_eq!(env.read("journal").matches("down start").count(), 2);
}

#[test]
fn each_run_is_told() {
    let env = TestEnv::new();
    env.table(&[
        env.service("db"),
        env.service("web").key("depends_on = ['db']"),
    ]);
    let output = env.ok(&["--json", "drill", "--repeat", "3"]);
    for id in ["db", "web"] {
        let runs = output.service(id)["runs"].clone();
        let passed = runs.as_array().unwrap().iter();
        assert_eq!(passed.filter(|run| run["outcome"] == "pass").count(), 3);
    }
    let text = env.ok(&["drill", "--repeat", "2"]).stdout;
    assert!(text.contains("pass 2/2"), "{text}");
}

#[test]
fn interrupted_it_leaves_everything_as_it_was() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let env = TestEnv::new();
        let stubborn = env.service("web").does("catch=TERM");
        env.table(&[
            env.service("db"),
            env.service("live"),
            stubborn
                .key("stop_timeout = '10m'")
                .key("depends_on = ['db']"),
        ]);
        env.ok(&["start", "live"]);
        let drill = env.pidctl(&["drill", "--live", "--repeat", "5"]).spawn();
        await_that("no signal came", || {
            env.exists("logs/web.log") && env.log("web").contains("got SIGTERM")
        });
        drill.signal(signal);
        drill.finish().expect(code);
        assert_eq!(env.state("live"), "running");
        assert_eq!(env.state("web"), "stopped");
        assert_eq!(env.state("db"), "stopped");
        assert_eq!(env.members().len(), 1);
    }
}

#[test]
fn interrupted_while_it_starts_it_leaves_nobody() {
    let env = TestEnv::new();
    let never = format!("listen listen-when={}", env.at("never"));
    let slow = env.service("slow").port(env.free_port()).does(&never);
    env.table(&[slow.key("ready_timeout = '10m'"), env.service("quick")]);
    let drill = env.pidctl(&["drill"]).spawn();
    env.await_ready();
    drill.signal(Signal::SIGINT);
    drill.finish().expect(130);
    env.assert_nobody_left();
}

#[test]
fn one_that_does_not_start_fails_with_its_last_lines() {
    let env = TestEnv::new();
    let bad = env
        .service("bad")
        .words(&["complain=no <such> thing", "exit=3"]);
    env.table(&[bad.key("start_attempts = 1"), env.service("good")]);
    let output = env
        .run(&["--json", "drill", "--junit", "report.xml"])
        .expect(1);
    assert_eq!(output.outcome("good"), "pass");
    let bad = output.service("bad");
    assert!(
        bad["detail"]
            .as_str()
            .unwrap()
            .contains("could not be started")
    );
    assert_eq!(bad["killed"], serde_json::Value::Null);
    assert_eq!(bad["logged"][0], "no <such> thing");
    let report = env.read("report.xml");
    for part in [
        "<testsuites name=\"pidctl drill\" tests=\"2\" failures=\"1\"",
        "name=\"good\"",
        "<failure message=\"could not be started: ",
        "no &lt;such&gt; thing",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_touched() {
    let env = TestEnv::new();
    let journal = format!("journal={}", env.at("journal"));
    env.table(&[env.service("web").does(&journal)]);
    env.run(&["drill", "--junit", "no/such/folder.xml"])
        .expect(1);
    assert!(!env.exists("journal"));
}
