//! Logs: appended, rotated at start, shown and followed; and the log of events.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{TestEnv, await_that};

/// A service that says how often it was started.
fn counting(env: &TestEnv, name: &str, keys: &str) -> crate::support::Entry {
    let script = "n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; echo run $n; ";
    let pad = "printf '%0200d\\n' 0; exec sleep 600";
    env.service(name).shell(&format!("{script}{pad}")).key(keys)
}

fn again(env: &TestEnv, count: usize) {
    env.ok(&["restart"]);
    await_that("no log", || {
        env.log("web").contains(&format!("run {count}\n"))
    });
}

#[test]
fn a_log_is_appended_from_one_instance_to_the_next() {
    let env = TestEnv::new();
    env.table(&[counting(&env, "web", "")]);
    again(&env, 1);
    again(&env, 2);
    assert!(env.log("web").contains("run 1\n"));
    assert!(!env.exists("logs/web.log.1"));
}

#[test]
fn a_log_past_its_size_is_rotated_at_start_and_so_many_are_kept() {
    let env = TestEnv::new();
    env.table(&[counting(&env, "web", "log_max_size = 100\nlog_keep = 2")]);
    for count in 1..=4 {
        again(&env, count);
    }
    assert!(env.log("web").starts_with("run 4\n"));
    assert!(env.read("logs/web.log.1").starts_with("run 3\n"));
    assert!(env.read("logs/web.log.2").starts_with("run 2\n"));
    assert!(!env.exists("logs/web.log.3"));
}

#[test]
fn logs_shows_the_last_lines() {
    let env = TestEnv::new();
    let script = "for n in 1 2 3 4 5 6 7 8; do echo line $n; done; exec sleep 600";
    env.table(&[env.service("web").shell(script)]);
    env.ok(&["start"]);
    await_that("no log", || env.log("web").contains("line 8"));
    let output = env.ok(&["logs", "web", "-n", "2"]).stdout;
    assert!(
        output.contains("line 7") && output.contains("line 8"),
        "{output}"
    );
    assert!(!output.contains("line 6"), "{output}");
}

#[test]
fn logs_of_several_services_have_a_prefix() {
    let env = TestEnv::new();
    env.table(&[
        env.service("one").words(&["say=hello"]),
        env.service("two").words(&["say=world"]),
    ]);
    env.up();
    let output = env.ok(&["logs"]).stdout;
    let has = |id: &str, text: &str| {
        output
            .lines()
            .any(|line| line.contains(id) && line.contains(text))
    };
    assert!(has("one", "hello") && has("two", "world"), "{output}");
    assert!(!env.ok(&["logs", "one"]).stdout.contains("world"));
}

#[test]
fn follow_goes_on_across_rotation_and_restart() {
    let env = TestEnv::new();
    env.table(&[counting(&env, "web", "log_max_size = 100")]);
    again(&env, 1);
    let follow = env.pidctl(&["logs", "web", "-f"]).spawn();
    follow.await_stdout("run 1\n");
    again(&env, 2);
    follow.await_stdout("run 2\n");
    again(&env, 3);
    follow.await_stdout("run 3\n");
    follow.signal(Signal::SIGINT);
    follow.finish();
}

#[test]
fn logs_of_a_service_that_never_ran_are_no_error() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.ok(&["logs"]);
    env.ok(&["logs", "--events"]);
}

#[test]
fn every_event_has_its_keys_and_a_life_is_told_in_full() {
    let env = TestEnv::new();
    let web = env.service("web").does("ignore=TERM");
    env.table(&[
        web.key("stop_timeout = '200ms'"),
        env.service("bad").does("exit=7").key("start_attempts = 1"),
    ]);
    env.run(&["start"]).expect(1);
    env.await_ready();
    let pid = env.pid("web").pid;
    env.ok(&["stop"]);
    let events = env.events();
    for event in &events {
        for key in ["time", "event", "service", "pid", "why"] {
            assert!(event.get(key).is_some(), "{key} is missing: {event}");
        }
        let time = event["time"].as_str().unwrap();
        assert!(
            time.len() >= 20 && &time[10..11] == "T" && time.ends_with('Z'),
            "{time}"
        );
    }
    let web: Vec<&Value> = events
        .iter()
        .filter(|one| one["service"] == "web")
        .collect();
    assert!(web.iter().any(|one| one["pid"] == pid), "{web:#?}");
    let text = format!("{web:?}");
    assert!(
        text.contains("SIGTERM") && text.contains("SIGKILL"),
        "by name: {text}"
    );
    assert!(
        web.len() >= 4,
        "start, ready, signal, escalation, exit: {web:#?}"
    );
    assert!(events.iter().any(|one| one["service"] == "bad"));
    let told = env.ok(&["logs", "--events"]).stdout;
    assert!(told.contains("web") && told.contains("SIGKILL"), "{told}");
    assert!(!told.contains('{'), "in words: {told}");
}

#[test]
fn a_stale_file_that_is_removed_and_a_port_that_is_freed_are_events() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.write("pids/web.pid", "garbage");
    env.ok(&["stop"]);
    assert!(env.events().iter().any(|one| one["service"] == "web"));
}

#[test]
fn a_damaged_event_log_is_read_as_far_as_it_goes() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.write(
        "logs/events.jsonl",
        b"{\"time\": \xff\xff\n\n[]\nnull\n{}\n\0\0\0\n",
    );
    env.up();
    env.ok(&["logs", "--events"]).expect_said("web");
    env.ok(&["stop"]);
}
