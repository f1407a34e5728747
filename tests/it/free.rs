//! `free`: whoever holds a port, told apart and stopped if it may be; with a table or without.

use serde_json::{Value, json};

use crate::support::{Output, TestEnv};

fn port_of(output: &Output, port: u16) -> Value {
    let json = output.json();
    let ports = json["ports"].as_array().expect("ports").clone();
    let found = ports.into_iter().find(|one| one["port"] == port);
    found.unwrap_or_else(|| panic!("no {port}: {output}"))
}

fn on(port: u16) -> String {
    format!("port={port}")
}

#[test]
fn stops_the_holder_of_a_port_without_any_table() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let output = env.ok(&["--json", "free", &port.to_string()]);
    let freed = port_of(&output, port);
    assert_eq!(freed["outcome"], "freed");
    assert_eq!(freed["protocol"], "tcp");
    let process = &freed["processes"][0];
    assert_eq!(process["pid"].to_string(), holder.pid());
    assert_eq!(process["name"], "stranger");
    assert!(process["user"].is_string(), "{process}");
    assert!(process.as_object().unwrap().contains_key("outcome"));
    holder.assert_ended();
    assert!(!env.exists("pids") && !env.exists("logs"));
}

#[test]
fn a_free_port_is_a_success() {
    let env = TestEnv::new();
    let port = env.free_port();
    let output = env.ok(&["--json", "free", &port.to_string()]);
    assert_eq!(port_of(&output, port)["outcome"], "already_free");
    assert_eq!(port_of(&output, port)["processes"], json!([]));
}

#[test]
fn a_range_is_every_port_of_it() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let range = format!("{port}-{port}");
    assert_eq!(
        port_of(&env.ok(&["--json", "free", &range]), port)["outcome"],
        "freed"
    );
    holder.assert_ended();
}

#[test]
fn all_holders_of_a_shared_port_are_stopped() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = ["listen", "reuseport", &on(port)];
    let (one, two) = (env.stranger(&words), env.stranger(&words));
    let output = env.ok(&["--json", "free", &port.to_string()]);
    assert_eq!(
        port_of(&output, port)["processes"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    one.assert_ended();
    two.assert_ended();
}

#[test]
fn workers_that_share_the_socket_are_stopped_with_it() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", "tree=1x3", &on(port)]);
    env.ok(&["free", &port.to_string()]);
    holder.assert_ended();
    assert!(env.members().is_empty());
}

#[test]
fn an_unbalanced_name_hides_nobody() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", "comm=next-server (v1", &on(port)]);
    let output = env.ok(&["--json", "free", &port.to_string()]);
    assert_eq!(
        port_of(&output, port)["processes"][0]["name"],
        "next-server (v1"
    );
    holder.assert_ended();
}

#[test]
fn listeners_of_ipv6_count() {
    for kind in ["listen6", "listen-any"] {
        let env = TestEnv::new();
        let port = env.free_port();
        let holder = env.stranger(&[kind, &on(port)]);
        env.ok(&["free", &port.to_string()]);
        holder.assert_ended();
    }
}

#[test]
fn udp_is_freed_only_where_it_is_asked_for() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["udp", &on(port)]);
    let text = port.to_string();
    let output = env.ok(&["--json", "free", &text]);
    assert_eq!(port_of(&output, port)["outcome"], "already_free");
    holder.assert_alive();
    let output = env.ok(&["--json", "free", "--udp", &text]);
    assert_eq!(port_of(&output, port)["protocol"], "udp");
    holder.assert_ended();
}

#[test]
fn a_stubborn_holder_is_killed_after_the_timeout_or_at_once() {
    for options in [&["-t", "300ms"][..], &["-f"]] {
        let env = TestEnv::new();
        let port = env.free_port().to_string();
        let holder = env.stranger(&["listen", "ignore=TERM", &format!("port={port}")]);
        env.ok(&[&["free", &port], options].concat());
        holder.assert_ended();
    }
}

#[test]
fn holders_that_name_leaves_out_are_refused() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let text = port.to_string();
    let output = env
        .run(&["--json", "free", &text, "--name", "node"])
        .expect(1);
    assert_eq!(port_of(&output, port)["outcome"], "refused");
    holder.assert_alive();
    env.ok(&["free", &text, "--name", "node", "--name", "stranger"]);
    holder.assert_ended();
}

#[test]
fn dry_run_names_the_holder_and_leaves_it() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let output = env.run(&["free", "--dry-run", &port.to_string()]);
    assert!(output.said().contains(&holder.pid()), "{output}");
    holder.assert_alive();
}

#[test]
fn a_service_of_the_table_is_stopped_as_stop_would() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does("listen child=setsid,double-fork");
    let id = web.id();
    env.table(&[web]);
    env.up();
    let output = env.ok(&["--json", "free", &port.to_string()]);
    assert_eq!(port_of(&output, port)["outcome"], "freed");
    env.assert_nobody_left();
    assert!(!env.has_pid_file(&id));
    assert_eq!(env.state(&id), "stopped");
}

#[test]
fn without_a_port_every_port_of_the_table_is_freed() {
    let env = TestEnv::new();
    let (one, two) = (env.free_port(), env.free_port());
    env.table(&[
        env.service("one").port(one).does("listen"),
        env.service("two").port(two).does("listen"),
        env.service("three"),
    ]);
    let stranger = env.stranger(&["listen", &on(one)]);
    let output = env.ok(&["--json", "free"]);
    assert_eq!(port_of(&output, one)["outcome"], "freed");
    assert_eq!(port_of(&output, two)["outcome"], "already_free");
    stranger.assert_ended();
}

#[test]
fn an_ancestor_of_pidctl_is_refused() {
    let env = TestEnv::new();
    let port = env.free_port();
    let run = format!(
        "run={} --json free -f {port} >answer; echo $? >code",
        env!("CARGO_BIN_EXE_pidctl")
    );
    let when = format!("run-when={}", env.at("go"));
    let holder = env.stranger(&["listen", &on(port), &run, &when]);
    env.write("go", "");
    crate::support::await_that("no answer", || {
        env.exists("code") && !env.read("code").is_empty()
    });
    assert_eq!(env.read("code"), "1\n");
    assert!(env.read("answer").contains("\"refused\""));
    holder.assert_alive();
}

#[test]
fn a_holder_that_may_not_be_signalled_is_a_failure() {
    if !crate::support::is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let output = env
        .as_nobody(&["--json", "free", &port.to_string()])
        .run()
        .expect(1);
    assert_eq!(port_of(&output, port)["outcome"], "failed");
    holder.assert_alive();
    // Whoever may not be seen is told by its user, and never as a free port.
    let text = env.as_nobody(&["free", &port.to_string()]).run().expect(1);
    assert!(text.said().contains("root"), "{text}");
}
