//! Dependencies: started first and ready, stopped last and gone.

use crate::support::{Entry, TestEnv, await_that};

fn keeping(env: &TestEnv, name: &str, words: &str) -> Entry {
    let words = format!("journal={} {words}", env.at("journal"));
    env.service(name).does(&words)
}

fn order(env: &TestEnv, first: &str, second: &str) {
    let journal = env.read("journal");
    let at = |what: &str| {
        let found = journal.lines().position(|line| line == what);
        found.unwrap_or_else(|| panic!("no {what:?} in {journal:?}"))
    };
    assert!(
        at(first) < at(second),
        "{first:?} after {second:?}: {journal}"
    );
}

#[test]
fn a_dependency_is_ready_before_its_dependent_starts_whatever_their_order_in_the_table() {
    let env = TestEnv::new();
    let words = format!("listen listen-when={}", env.at("go"));
    let db = keeping(&env, "db", &words).port(env.free_port());
    let id = db.id();
    let api = keeping(&env, "api", "").key(format!("depends_on = ['{id}']"));
    let web = keeping(&env, "web", "").key("depends_on = ['api', 'db']");
    env.table(&[web, api, db]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_file("ready/db");
    assert!(!env.read("journal").contains("api"));
    env.write("go", "");
    start.finish().expect(0);
    env.await_ready();
    order(&env, &format!("{id} start"), "api start");
    order(&env, "api start", "web start");
}

#[test]
fn naming_a_service_starts_what_it_depends_on() {
    let env = TestEnv::new();
    let api = env.service("api").key("depends_on = ['db']");
    env.table(&[env.service("db"), api, env.service("other")]);
    let output = env.ok(&["--json", "start", "api"]);
    assert_eq!(output.outcome("db"), "started");
    assert_eq!(output.outcome("api"), "started");
    assert!(!env.has_pid_file("other"));
}

#[test]
fn no_deps_starts_the_named_alone() {
    let env = TestEnv::new();
    env.table(&[
        env.service("db"),
        env.service("api").key("depends_on = ['db']"),
    ]);
    env.ok(&["start", "--no-deps", "api"]);
    assert!(env.has_pid_file("api"));
    assert!(!env.has_pid_file("db"));
}

#[test]
fn dependents_of_a_failed_service_are_skipped_and_the_rest_goes_on() {
    let env = TestEnv::new();
    env.table(&[
        env.service("db").does("exit=1").key("start_attempts = 1"),
        env.service("api").key("depends_on = ['db']"),
        env.service("web").key("depends_on = ['api']"),
        env.service("other"),
    ]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome("db"), "failed");
    assert_eq!(output.outcome("api"), "skipped");
    assert_eq!(output.outcome("web"), "skipped");
    assert_eq!(output.outcome("other"), "started");
    assert!(output.service("api")["detail"].to_string().contains("db"));
    assert_eq!(output.service("api")["pid"], serde_json::Value::Null);
    assert_eq!(env.members().len(), 1);
}

#[test]
fn no_wait_still_waits_for_what_somebody_selected_needs() {
    let env = TestEnv::new();
    let later = |file: &str| format!("listen listen-when={}", env.at(file));
    let db = env.service("db").port(env.free_port()).does(&later("db"));
    let api = env.service("api").port(env.free_port()).does(&later("api"));
    let id = api.id();
    env.table(&[db, api.key("depends_on = ['db']")]);
    let start = env.pidctl(&["start", "--no-wait"]).spawn();
    env.await_file("ready/db");
    assert!(!env.has_pid_file(&id));
    env.write("db", "");
    start.finish().expect(0);
    assert_eq!(env.state(&id), "starting");
}

#[test]
fn dependents_are_gone_before_their_dependencies_are_told() {
    let env = TestEnv::new();
    let words = "exit-on=TERM slow=300";
    env.table(&[
        keeping(&env, "db", words),
        keeping(&env, "api", words).key("depends_on = ['db']"),
        keeping(&env, "web", words).key("depends_on = ['api']"),
    ]);
    env.up();
    env.ok(&["stop"]);
    order(&env, "web exit", "api got SIGTERM");
    order(&env, "api exit", "db got SIGTERM");
    env.assert_nobody_left();
}

#[test]
fn the_children_of_a_dependent_are_gone_too_before_its_dependencies_are_told() {
    let env = TestEnv::new();
    let journal = env.at("journal");
    let web = format!("child=setsid,journal={journal},exit-on=TERM,slow=400");
    env.table(&[
        keeping(&env, "db", "exit-on=TERM"),
        env.service("web").does(&web).key("depends_on = ['db']"),
    ]);
    env.up();
    env.ok(&["stop"]);
    order(&env, "web exit", "db got SIGTERM");
}

#[test]
fn a_restart_keeps_the_order_both_ways() {
    let env = TestEnv::new();
    env.table(&[
        keeping(&env, "db", "exit-on=TERM"),
        keeping(&env, "web", "exit-on=TERM").key("depends_on = ['db']"),
    ]);
    env.up();
    env.remove("journal");
    env.forget_ready();
    env.ok(&["restart"]);
    env.await_ready();
    order(&env, "web exit", "db got SIGTERM");
    order(&env, "db start", "web start");
}

#[test]
fn a_dependency_that_runs_already_is_left_alone() {
    let env = TestEnv::new();
    env.table(&[
        env.service("db"),
        env.service("web").key("depends_on = ['db']"),
    ]);
    env.ok(&["start", "db"]);
    let db = env.pid("db");
    let output = env.ok(&["--json", "start", "web"]);
    assert_eq!(output.outcome("db"), "already_running");
    assert_eq!(env.pid("db"), db);
    await_that("it is not running", || env.state("web") == "running");
}
