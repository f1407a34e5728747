//! `adopt`: a process that runs already becomes the service, if it is proven to be it.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Bystander, Entry, TestEnv, testee};

/// An entry that listens on a free port, and a process of its command that no pidctl started.
fn stray(env: &TestEnv) -> (Entry, Bystander) {
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let stray = env.bystander(&["listen", &format!("port={port}")]);
    (web, stray)
}

fn adopted(env: &TestEnv, id: &str, code: i32) -> Value {
    let output = env.run(&["--json", "adopt", id]).expect(code);
    output.service(id)
}

#[test]
fn the_holder_of_the_port_becomes_the_service() {
    let env = TestEnv::new();
    let (web, stray) = stray(&env);
    let id = web.id();
    env.table(&[web]);
    let answer = adopted(&env, &id, 0);
    assert_eq!(answer["outcome"], "adopted");
    assert_eq!(answer["pid"].to_string(), stray.pid());
    assert_eq!(env.pid_text(&id), stray.pid());
    assert_eq!(env.state(&id), "running");
    let events = env.events();
    assert!(events.iter().any(|event| event["event"] == "adopted"));
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "stopped");
    stray.assert_ended();
    assert!(!env.has_pid_file(&id));
}

#[test]
fn after_its_pid_file_was_removed_it_is_still_known() {
    let env = TestEnv::new();
    let (web, stray) = stray(&env);
    let id = web.id();
    env.table(&[web]);
    adopted(&env, &id, 0);
    env.remove(&format!("pids/{id}.pid"));
    assert_eq!(env.state(&id), "running");
    env.ok(&["stop"]);
    stray.assert_ended();
}

#[test]
fn its_children_end_with_it() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen tree=1x2");
    let id = web.id();
    env.table(&[web]);
    let stray = env.bystander(&["listen", "tree=1x2", &format!("port={port}")]);
    assert_eq!(adopted(&env, &id, 0)["pid"].to_string(), stray.pid());
    env.ok(&["stop"]);
    stray.assert_ended();
    assert!(env.members().is_empty());
}

#[test]
fn twice_is_no_more_than_once() {
    let env = TestEnv::new();
    let (web, stray) = stray(&env);
    let id = web.id();
    env.table(&[web]);
    adopted(&env, &id, 0);
    let answer = adopted(&env, &id, 0);
    assert_eq!(answer["outcome"], "already_running");
    assert_eq!(answer["pid"].to_string(), stray.pid());
    let output = env.ok(&["--json", "start"]);
    assert_eq!(output.outcome(&id), "already_running");
    stray.assert_alive();
}

#[test]
fn a_running_service_is_not_replaced() {
    let env = TestEnv::new();
    let web = env.service("web").does("");
    env.table(&[web]);
    env.up();
    let own = env.pid("web");
    let other = env.bystander(&[]);
    let call = ["--json", "adopt", "web", "--pid", &other.pid()];
    let output = env.run(&call).expect(1);
    assert_eq!(output.outcome("web"), "failed");
    assert_eq!(env.pid("web"), own);
    other.assert_alive();
}

/// Without a port the command line is the table's; then its PID is needed.
#[test]
fn a_process_without_a_port_is_named() {
    let env = TestEnv::new();
    env.table(&[env.service("worker").does("")]);
    let ready = format!("ready={}", env.at("ready/worker"));
    let stray = env.program(&testee()).arg(ready).spawn();
    env.await_file("ready/worker");
    let pid = stray.process().pid.to_string();
    env.run(&["adopt", "worker"]).expect(1).expect_said("--pid");
    let output = env.ok(&["--json", "adopt", "worker", "--pid", &pid]);
    assert_eq!(output.outcome("worker"), "adopted");
    assert_eq!(env.ok(&["--json", "stop"]).outcome("worker"), "stopped");
    assert!(env.members().is_empty());
    stray.finish();
}

#[test]
fn another_program_is_refused_and_left_alone() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let stranger = env.stranger(&["listen", &format!("port={port}")]);
    let answer = adopted(&env, &id, 1);
    assert_eq!(answer["outcome"], "failed");
    assert_eq!(answer["pid"], Value::Null);
    assert!(answer["detail"].to_string().contains(&stranger.pid()));
    assert!(!env.has_pid_file(&id));
    stranger.assert_alive();
}

#[test]
fn a_process_that_does_not_hold_the_port_is_refused() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let idle = env.bystander(&[]);
    let output = env.run(&["adopt", &id, "--pid", &idle.pid()]).expect(1);
    assert!(output.said().contains(&port.to_string()), "{output}");
    assert!(!env.has_pid_file(&id));
    env.run(&["adopt", &id]).expect(1).expect_said("nobody");
}

#[test]
fn an_instance_of_another_service_is_refused() {
    let env = TestEnv::new();
    let port = env.free_port();
    let listen = format!("listen port={port}");
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[env.service("thief").does(&listen), web]);
    env.ok(&["start", "thief"]);
    env.await_file("ready/thief");
    let answer = adopted(&env, &id, 1);
    assert!(answer["detail"].to_string().contains("thief"), "{answer}");
    assert_eq!(env.state("thief"), "running");
    assert!(!env.has_pid_file(&id));
}

#[test]
fn nonsense_is_a_usage_error() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    for pid in ["0", "1", "-5", "x", "99999999999"] {
        env.run(&["adopt", "web", &format!("--pid={pid}")])
            .expect(2);
    }
    env.run(&["adopt", "wbe"]).expect(2).expect_said("web");
    env.run(&["adopt"]).expect(2);
    // No process, or only a thread of one.
    let output = env.run(&["adopt", "web", "--pid", "4194304"]).expect(1);
    assert!(output.said().contains("no process"), "{output}");
}

/// What `npm start` does: the process that was started does not listen, its child does.
#[test]
fn the_parent_that_is_the_command_is_adopted_for_its_listening_child() {
    let env = TestEnv::new();
    let port = env.free_port();
    let script: PathBuf = env.path("serve.sh");
    let testee = testee().display().to_string();
    env.write(
        "serve.sh",
        format!(
            "#!/bin/sh\n{testee} listen port={port} ready={} & wait\n",
            env.at("ready/one")
        ),
    );
    crate::support::chmod(&script, 0o755);
    let web = env
        .service("web")
        .port(port)
        .exec(&[&script.display().to_string()]);
    let id = web.id();
    env.table(&[web]);
    let parent = env.program(&script).spawn();
    env.await_file("ready/one");
    let answer = adopted(&env, &id, 0);
    assert_eq!(answer["pid"], parent.process().pid);
    env.ok(&["stop"]);
    assert!(env.members().is_empty());
    parent.finish();
}
