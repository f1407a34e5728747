//! One instance, however many commands come at once.

use crate::support::{Running, TestEnv, await_that};

#[test]
fn twenty_starts_at_once_make_one_instance_and_all_succeed() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = format!("listen only={} child=setsid", env.at("only"));
    let web = env.service("web").port(port).does(&words);
    let id = web.id();
    env.table(&[web]);
    let calls: Vec<Running> = (0..20)
        .map(|_| env.pidctl(&["--json", "start"]).spawn())
        .collect();
    let outcomes: Vec<String> = calls
        .into_iter()
        .map(|call| call.finish().expect(0).outcome(&id))
        .collect();
    assert_eq!(outcomes.iter().filter(|one| *one == "started").count(), 1);
    assert_eq!(env.read("only").lines().count(), 1, "{}", env.read("only"));
    assert_eq!(env.state(&id), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_crowd_of_starts_stops_and_restarts_never_makes_two_nor_loses_one() {
    let env = TestEnv::new();
    let words = format!("only={} child=setsid,double-fork", env.at("only"));
    env.table(&[env.service("web").does(&words)]);
    for _ in 0..3 {
        let calls: Vec<Running> = ["start", "stop", "restart", "start", "restart", "stop"]
            .iter()
            .map(|command| env.pidctl(&[command]).spawn())
            .collect();
        for call in calls {
            // A start that a stop has cancelled fails; nothing else may.
            let output = call.finish();
            assert!([0, 1].contains(&output.code()), "{output}");
        }
        assert!(
            !env.read("only").contains("violation"),
            "{}",
            env.read("only")
        );
        let running = env.state("web") == "running";
        assert_eq!(running, env.has_pid_file("web"));
        assert_eq!(running, !env.survivors().is_empty());
    }
    env.ok(&["start"]);
    assert_eq!(env.state("web"), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
}

#[test]
fn nobody_waits_for_the_health_of_another_service() {
    let env = TestEnv::new();
    let words = format!("listen listen-when={}", env.at("go"));
    let slow = env.service("slow").port(env.free_port()).does(&words);
    let id = slow.id();
    env.table(&[slow.key("ready_timeout = '10m'"), env.service("quick")]);
    let start = env.pidctl(&["--json", "start", &id]).spawn();
    env.await_file("ready/slow");
    env.ok(&["start", "quick"]);
    env.ok(&["restart", "quick"]);
    env.ok(&["stop", "quick"]);
    env.run(&["status", "slow"]).expect(150);
    env.write("go", "");
    assert_eq!(start.finish().expect(0).outcome(&id), "started");
}

#[test]
fn services_without_dependencies_come_up_side_by_side() {
    let env = TestEnv::new();
    // Each becomes healthy only once the other one runs.
    let entry = |name: &str, other: &str| {
        let other = env.path("ready").join(other);
        let key = format!("health = {{ command = \"test -e {}\" }}", other.display());
        env.service(name).key(key)
    };
    env.table(&[entry("one", "two"), entry("two", "one")]);
    assert_eq!(env.up().ids(), ["one", "two"]);
}

/// The lock of a command that was stopped in its tracks is not waited for without end.
#[test]
fn a_command_that_hangs_does_not_hang_the_others_for_ever() {
    let env = TestEnv::new();
    let words = format!("listen listen-when={}", env.at("never"));
    let web = env.service("web").port(env.free_port()).does(&words);
    env.table(&[web, env.service("other")]);
    let start = env.pidctl(&["start", "web"]).spawn();
    env.await_file("ready/web");
    start.process().signal(libc::SIGSTOP);
    await_that("it is not stopped", || start.process().state() == Some('T'));
    env.ok(&["start", "other"]);
    env.ok(&["stop"]);
    env.assert_nobody_left();
    start.process().signal(libc::SIGCONT);
    start.finish().expect(1);
}
