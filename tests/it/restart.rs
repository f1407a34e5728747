//! `restart`: stop, then start, also from inside the service itself.

use crate::support::{TestEnv, await_that, entry};

#[test]
fn replaces_the_instance_and_reports_both_halves() {
    let env = TestEnv::new();
    let only = format!("only={} child=setsid", env.at("only"));
    env.table(&[env.service("web").does(&only), env.service("other")]);
    env.up();
    let (old, other) = (env.pid("web"), env.pid("other"));
    let output = env.ok(&["--json", "restart", "web"]);
    let json = output.json();
    let stopped = entry(&json["stop"], "web").expect("its stop");
    let started = entry(&json["start"], "web").expect("its start");
    assert_eq!(stopped["outcome"], "stopped");
    assert_eq!(started["outcome"], "started");
    assert_eq!(started["pid"], env.pid("web").pid);
    assert_ne!(env.pid("web"), old);
    assert_eq!(env.pid("other"), other);
    assert!(!env.read("only").contains("violation"));
}

#[test]
fn starts_what_was_not_running() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let json = env.ok(&["--json", "restart"]).json();
    assert_eq!(
        entry(&json["stop"], "web").unwrap()["outcome"],
        "not_running"
    );
    assert_eq!(entry(&json["start"], "web").unwrap()["outcome"], "started");
}

#[test]
fn takes_the_options_of_both() {
    let env = TestEnv::new();
    let port = env.free_port();
    let later = format!("ignore=TERM listen listen-when={}", env.at("never"));
    let web = env.service("web").port(port).does(&later);
    let id = web.id();
    env.table(&[web.key("stop_timeout = '10m'")]);
    env.ok(&["start", "--no-wait"]);
    env.await_ready();
    let old = env.pid(&id);
    env.ok(&["restart", "-t", "200ms", "--no-wait"]);
    assert!(!old.is_alive());
    assert_ne!(env.pid(&id), old);
}

#[test]
fn a_changed_table_takes_effect() {
    let env = TestEnv::new();
    let dump = format!("dump={}", env.at("given"));
    let web = |value: &str| {
        let key = format!("env = {{ SETTING = '{value}' }}");
        env.service("web").does(&dump).key(key)
    };
    env.table(&[web("old")]);
    env.up();
    env.table(&[web("new")]);
    let status = env.ok(&["--json", "status"]);
    assert_eq!(
        status.service("web")["changed"],
        serde_json::json!(["table"])
    );
    env.forget_ready();
    env.ok(&["restart"]);
    env.await_ready();
    assert!(env.read("given.environ").contains("SETTING=new"));
    let status = env.ok(&["--json", "status"]);
    assert_eq!(status.service("web")["changed"], serde_json::json!([]));
}

#[test]
fn what_could_not_be_stopped_is_not_started() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("other")]);
    env.up();
    let old = env.pid("other");
    env.ok(&["stop", "web"]);
    std::fs::create_dir(env.path("pids/web.pid")).unwrap();
    let output = env.run(&["--json", "restart"]).expect(1);
    let json = output.json();
    assert_eq!(entry(&json["stop"], "web").unwrap()["outcome"], "failed");
    let start = entry(&json["start"], "web");
    assert!(
        start.is_none_or(|start| start["outcome"] != "started"),
        "{output}"
    );
    assert_ne!(env.pid("other"), old);
    assert_eq!(env.members().len(), 1);
}

/// A web service with a "restart" button.
#[test]
fn a_service_may_restart_itself() {
    for own in ["", " child=setsid,ignore=TERM"] {
        let env = TestEnv::new();
        let port = env.free_port();
        let words = format!(
            "listen only={} run-when={}{own}",
            env.at("only"),
            env.at("go")
        );
        let mut words: Vec<&str> = words.split(' ').collect();
        let run = format!("run={} restart web", env!("CARGO_BIN_EXE_pidctl"));
        words.push(&run);
        let web = env.service("web").port(port).words(&words);
        let id = web.id();
        env.table(&[web.key("stop_timeout = '1s'")]);
        env.up();
        let old: Vec<_> = env.members().into_iter().map(|one| one.process).collect();
        let leader = env.pid(&id);
        env.write("go", "");
        await_that("no new instance is running", || {
            env.has_pid_file(&id)
                && env.pid_text(&id) != leader.pid.to_string()
                && env.state(&id) == "running"
        });
        assert!(old.iter().all(|process| !process.is_alive()), "{old:?}");
        assert!(!env.read("only").contains("violation"));
        env.await_no_pidctl();
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn dry_run_forecasts_both_halves_and_touches_nothing() {
    let env = TestEnv::new();
    let web = |env: &TestEnv, port| {
        let web = env.service("web").port(port).does("listen");
        web.key("depends_on = ['db']")
    };
    let port = env.free_port();
    let id = web(&env, port).id();
    env.table(&[env.service("db"), web(&env, port), env.service("retired")]);
    env.up();
    env.table(&[env.service("db"), web(&env, port)]);
    let before = env.members().len();
    let (leader, db) = (env.pid(&id), env.pid("db"));
    let all = env.ok(&["--json", "restart", "--dry-run"]).json();
    for id in ["db", &id] {
        assert_eq!(entry(&all["stop"], id).unwrap()["outcome"], "stopped");
        // Its own port is no obstacle: who holds it would have been stopped.
        let start = entry(&all["start"], id).unwrap();
        assert_eq!(start["outcome"], "started", "{start}");
        assert!(start["pid"].is_null() && start["detail"].is_null());
    }
    assert_eq!(entry(&all["stop"], "retired"), None);
    let one = env.ok(&["--json", "restart", "--dry-run", &id]).json();
    assert_eq!(entry(&one["stop"], "db"), None);
    let kept = entry(&one["start"], "db").unwrap();
    assert_eq!(kept["outcome"], "already_running");
    assert_eq!(kept["pid"], db.pid);
    let text = env.ok(&["restart", "--dry-run"]).stdout;
    assert!(text.contains("would be stopped") && text.contains("would start"));
    assert!(!text.contains("already running") && !text.contains("retired"));
    assert_eq!(env.members().len(), before);
    assert!(leader.is_alive() && db.is_alive());
}

#[test]
fn dry_run_foresees_what_is_not_started() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("other")]);
    env.ok(&["start", "other"]);
    std::fs::create_dir(env.path("pids/web.pid")).unwrap();
    for args in [
        &["--json", "restart", "--dry-run"][..],
        &["--json", "restart"],
    ] {
        let output = env.run(args).expect(1);
        let json = output.json();
        for (half, web, other) in [
            ("stop", "failed", "stopped"),
            ("start", "skipped", "started"),
        ] {
            let outcome = |id| entry(&json[half], id).unwrap()["outcome"].clone();
            assert_eq!(outcome("web"), web, "{output}");
            assert_eq!(outcome("other"), other, "{output}");
        }
    }
}
