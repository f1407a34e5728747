//! `status`: what it says of every state, by its words and by its exit status.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{TestEnv, await_that, chmod, entry, is_root};

#[test]
fn running_is_0_and_told_in_full() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen child=setsid");
    let id = web.id();
    env.table(&[web]);
    env.up();
    let web = env.ok(&["--json", "status"]).service(&id);
    assert_eq!(web["state"], "running");
    assert_eq!(web["name"], "web");
    assert_eq!(web["port"], port);
    assert_eq!(web["pid"], env.pid(&id).pid);
    assert_eq!(web["processes"], 2);
    assert!(web["memory_bytes"].as_u64().unwrap() > 100_000, "{web}");
    assert!(web["uptime_s"].as_f64().unwrap() < 600.0, "{web}");
    assert_eq!(web["health"], "ok");
    assert_eq!(web["changed"], json!([]));
    assert!(
        web["log"]
            .as_str()
            .unwrap()
            .ends_with(&format!("logs/{id}.log"))
    );
    let started = web["started_at"].as_str().unwrap();
    assert!(started.contains('T') && started.ends_with('Z'), "{started}");
}

#[test]
fn the_keys_of_the_document_are_all_there_also_where_there_is_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let web = env.run(&["--json", "status"]).expect(3).service("web");
    let keys: BTreeSet<&str> = web
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
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
    for key in expected {
        assert!(keys.contains(key), "{key} is missing: {web}");
    }
    for key in ["port", "pid", "started_at", "uptime_s"] {
        assert_eq!(web[key], Value::Null, "{key}");
    }
    assert_eq!(web["state"], "stopped");
    assert_eq!(web["health"], "none");
}

#[test]
fn the_table_shows_a_line_a_service() {
    let env = TestEnv::new();
    env.table(&[
        env.service("web").key("description = 'The dashboard'"),
        env.service("off"),
    ]);
    env.ok(&["start", "web"]);
    let output = env.run(&["status"]).expect(3);
    let line = |id: &str| {
        let line = output.stdout.lines().find(|line| line.contains(id));
        line.unwrap_or_else(|| panic!("no {id}: {output}"))
            .to_owned()
    };
    assert!(line("web").contains("running"));
    assert!(line("web").contains(&env.pid_text("web")));
    assert!(line("web").contains("The dashboard"));
    assert!(line("off").contains("stopped"));
}

#[test]
fn quiet_shows_what_is_not_running_alone() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("off")]);
    env.ok(&["start", "web"]);
    let output = env.run(&["status", "-q"]).expect(3).expect_said("off");
    assert!(!output.said().contains("web"), "{output}");
    assert_eq!(env.ok(&["status", "-q", "web"]).said(), "");
    assert_eq!(
        env.ok(&["status", "-q", "--json", "web"]).state("web"),
        "running"
    );
}

#[test]
fn stopped_is_3_and_stale_and_orphaned_are_1() {
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid"), env.service("off")]);
    assert_eq!(
        env.run(&["--json", "status"]).expect(3).state("web"),
        "stopped"
    );
    env.ok(&["start", "web"]);
    env.await_file("ready/web");
    env.run(&["status"]).expect(3);
    env.ok(&["status", "web"]);
    let (leader, child) = (env.pid("web"), env.member("setsid"));
    leader.kill();
    await_that("it lives", || !leader.is_alive());
    assert_eq!(
        env.run(&["--json", "status"]).expect(1).state("web"),
        "orphaned"
    );
    child.kill();
    await_that("it lives", || !child.is_alive());
    assert_eq!(
        env.run(&["--json", "status"]).expect(1).state("web"),
        "stale"
    );
}

#[test]
fn unhealthy_and_starting_are_150_and_stopping_too() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = format!(
        "listen listen-when={} failing-until={} exit-on=TERM linger={}",
        env.at("go"),
        env.at("well"),
        env.at("end")
    );
    let web = env.service("web").port(port).does(&words);
    let id = web.id();
    env.table(&[web.key("health = 'http'\nstop_timeout = '10m'")]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_ready();
    let status = || env.run(&["--json", "status"]);
    assert_eq!(status().expect(150).state(&id), "starting");
    env.write("go", "");
    env.write("well", "");
    start.finish().expect(0);
    assert_eq!(status().expect(0).service(&id)["health"], "ok");
    env.remove("well");
    let sick = status().expect(150);
    assert_eq!(sick.state(&id), "unhealthy");
    assert_eq!(sick.service(&id)["health"], "failing");
    let start = env.ok(&["start"]);
    assert!(start.said().contains("unhealthy"), "{start}");
    let stop = env.pidctl(&["stop"]).spawn();
    await_that("no signal came", || env.log(&id).contains("got SIGTERM"));
    assert_eq!(status().expect(150).state(&id), "stopping");
    env.write("end", "");
    stop.finish().expect(0);
}

#[test]
fn a_service_older_than_its_ready_timeout_is_no_longer_starting() {
    let env = TestEnv::new();
    let words = format!("listen listen-when={}", env.at("never"));
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web.key("ready_timeout = '300ms'")]);
    env.ok(&["start", "--no-wait"]);
    await_that("it is still starting", || env.state(&id) == "unhealthy");
    env.run(&["status"]).expect(150);
}

#[test]
fn unknown_is_4_and_outweighs_all_others() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("bad"), env.service("stale")]);
    env.ok(&["start", "web"]);
    std::fs::create_dir(env.path("pids/bad.pid")).unwrap();
    env.write("pids/stale.pid", "garbage");
    let status = env.run(&["--json", "status"]).expect(4);
    assert_eq!(status.state("web"), "running");
    assert_eq!(status.state("bad"), "unknown");
    assert_eq!(status.state("stale"), "stale");
}

#[test]
fn a_foreign_holder_of_the_port_is_named() {
    let env = TestEnv::new();
    let port = env.free_port();
    let last = "say=last";
    let stranger = env.stranger(&["listen", &format!("port={port}"), last]);
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let status = env.run(&["--json", "status"]).expect(3);
    assert_eq!(status.state(&id), "stopped");
    let detail = status.service(&id)["detail"].to_string();
    assert!(detail.contains(&stranger.pid()), "{detail}");
    assert!(detail.contains(last), "it is not told in full: {detail}");
    let text = env.run(&["status"]).expect(3);
    assert!(text.said().contains(&stranger.pid()), "{text}");
}

#[test]
fn a_changed_table_and_a_changed_executable_are_told() {
    let env = TestEnv::new();
    let program = env.at("program");
    crate::support::copy_program(&crate::support::testee(), &env.path("program"));
    let entry = || env.service("web").exec(&[&program, "say=x"]);
    env.table(&[entry()]);
    env.ok(&["start"]);
    let changed = || env.ok(&["--json", "status"]).service("web")["changed"].clone();
    assert_eq!(changed(), json!([]));
    crate::support::copy_program(&crate::support::testee(), &env.path("newer"));
    std::fs::rename(env.path("newer"), &program).unwrap();
    assert_eq!(changed(), json!(["executable"]));
    env.table(&[entry().key("env = { A = '1' }")]);
    assert_eq!(changed(), json!(["table", "executable"]));
    assert!(env.ok(&["start"]).said().contains("changed"));
}

#[test]
fn needs_no_right_to_write_and_changes_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("off")]);
    env.run(&["status"]).expect(3);
    assert!(!env.exists("pids") && !env.exists("logs"));
    env.ok(&["start", "web"]);
    env.write("pids/off.pid", "garbage");
    let before = listing(&env);
    env.run(&["status"]).expect(1);
    assert_eq!(listing(&env), before);
    if is_root() {
        // Another user may look as well.
        let output = env.as_nobody(&["--json", "status", "web"]).run();
        assert!([0, 4].contains(&output.code()), "{output}");
    }
}

fn listing(env: &TestEnv) -> String {
    env.sh("ls -laiR --time-style=full-iso pids logs")
        .run()
        .expect(0)
        .stdout
}

#[test]
fn watch_draws_again_and_again() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let watch = env.pidctl(&["status", "--watch=50ms"]).spawn();
    watch.await_stdout("stopped");
    env.ok(&["start"]);
    watch.await_stdout("running");
    watch.signal(nix::sys::signal::Signal::SIGINT);
    watch.finish();
}

#[test]
fn watch_keeps_every_row_it_was_asked_for() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("old")]);
    env.up();
    env.table(&[env.service("web")]);
    let watch = env
        .pidctl(&["--json", "status", "--watch=50ms", "web", "old"])
        .spawn();
    watch.await_stdout("not in the table");
    let records = env.path("pids/.pidctl.records");
    chmod(&records, 0o666);
    watch.await_stdout("unknown");
    chmod(&records, 0o644);
    // With it goes the record, the last that tells of it.
    env.ok(&["stop", "old"]);
    watch.await_stdout("stopped");
    watch.signal(nix::sys::signal::Signal::SIGINT);
    let output = watch.finish();
    let looks: Vec<[Value; 2]> = output
        .stdout
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).expect("a document");
            ["web", "old"].map(|id| entry(&document, id).expect("its row")["state"].clone())
        })
        .collect();
    assert!(
        looks.contains(&[json!("unknown"), json!("unknown")]),
        "{output}"
    );
    let last = looks.last().expect("a look");
    assert_eq!(*last, [json!("running"), json!("stopped")], "{output}");
}
