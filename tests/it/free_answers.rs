//! What `free` answers, and whom it leaves alone: the cases beyond the plain stranger on a port.

use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::support::{Output, TestEnv, copy_program, is_root, testee};

fn on(port: u16) -> String {
    format!("port={port}")
}

fn entry(output: &Output, port: u16, protocol: &str) -> Value {
    let json = output.json();
    let ports = json["ports"].as_array().expect("ports").clone();
    let is_it = |one: &Value| one["port"] == port && one["protocol"] == protocol;
    let found = ports.into_iter().find(is_it);
    found.unwrap_or_else(|| panic!("no {port}/{protocol}: {output}"))
}

fn tcp(output: &Output, port: u16) -> Value {
    entry(output, port, "tcp")
}

#[test]
fn a_client_is_no_holder() {
    let env = TestEnv::new();
    // The listener is this test itself, an ancestor of pidctl: refused, and its client not named.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = env.stranger(&[&format!("client={port}")]);
    let output = env
        .run(&["--json", "free", "-f", &port.to_string()])
        .expect(1);
    let answer = tcp(&output, port);
    assert_eq!(answer["outcome"], "refused");
    assert!(!answer.to_string().contains(&client.pid()), "{output}");
    client.assert_alive();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn both_protocols_are_told_apart() {
    let env = TestEnv::new();
    let port = env.free_port();
    let one = env.stranger(&["listen", &on(port)]);
    let two = env.stranger(&["udp", &on(port)]);
    let output = env.ok(&["--json", "free", "--tcp", "--udp", &port.to_string()]);
    for (protocol, holder) in [("tcp", one), ("udp", two)] {
        let answer = entry(&output, port, protocol);
        assert_eq!(answer["outcome"], "freed");
        assert_eq!(answer["processes"][0]["pid"].to_string(), holder.pid());
        holder.assert_ended();
    }
}

#[test]
fn the_keys_are_always_there() {
    let env = TestEnv::new();
    let port = env.free_port();
    let _holder = env.stranger(&["listen", &on(port)]);
    let output = env.ok(&["--json", "free", &port.to_string()]);
    let answer = tcp(&output, port);
    for key in [
        "port",
        "protocol",
        "outcome",
        "processes",
        "held_by",
        "detail",
        "receipts",
    ] {
        assert!(
            answer.as_object().unwrap().contains_key(key),
            "{key}: {answer}"
        );
    }
    let process = &answer["processes"][0];
    for key in ["pid", "name", "user", "outcome", "service", "detail"] {
        assert!(
            process.as_object().unwrap().contains_key(key),
            "{key}: {process}"
        );
    }
    assert_eq!(process["outcome"], "stopped");
    assert_eq!(answer["receipts"][0]["signal"], "SIGTERM");
    assert_eq!(answer["receipts"][0]["result"], "ended");
}

#[test]
fn children_of_a_holder_end_with_it_and_its_parent_does_not() {
    let env = TestEnv::new();
    let port = env.free_port();
    let child = format!("child=listen,port={port},child=silent,tree=1x2");
    let parent = env.stranger(&[&child]);
    let before = env.members().len();
    assert!(before > 2, "{:#?}", env.members());
    env.ok(&["free", &port.to_string()]);
    parent.assert_alive();
    let left = env.members();
    assert!(
        left.iter()
            .all(|one| one.process.pid.to_string() == parent.pid()),
        "{left:#?}"
    );
}

#[test]
fn a_holder_that_a_supervisor_starts_again_is_a_failure_and_the_supervisor_is_named() {
    let env = TestEnv::new();
    let port = env.free_port();
    let testee = testee().display().to_string();
    let script =
        format!("rm -f up; while [ ! -e enough ]; do {testee} listen port={port} ready=up; done");
    let supervisor = env.sh(&script).spawn();
    env.await_file("up");
    let output = env.run(&["--json", "free", &port.to_string()]).expect(1);
    let answer = tcp(&output, port);
    assert_eq!(answer["outcome"], "failed");
    assert_eq!(answer["processes"][0]["outcome"], "stopped");
    let detail = answer["detail"].to_string();
    assert!(
        detail.contains(&supervisor.process().pid.to_string()),
        "{detail}"
    );
    assert!(supervisor.process().is_alive());
    env.write("enough", "");
    env.ok(&["free", &port.to_string()]);
    supervisor.finish();
}

#[test]
fn what_name_leaves_out_is_not_ended_with_its_parent() {
    let env = TestEnv::new();
    let port = env.free_port();
    let child = format!("child=listen,reuseport,port={port},comm=child");
    let parent = env.stranger(&["listen", "reuseport", "comm=parent", &on(port), &child]);
    let text = port.to_string();
    let output = env
        .run(&["--json", "free", "--name", "parent", &text])
        .expect(1);
    assert_eq!(tcp(&output, port)["outcome"], "refused");
    parent.assert_alive();
    // The child alone can be had.
    let output = env
        .run(&["--json", "free", "--name", "child", &text])
        .expect(1);
    let answer = tcp(&output, port);
    assert_eq!(answer["outcome"], "refused");
    assert!(answer.to_string().contains("\"stopped\""), "{answer}");
    parent.assert_alive();
    env.ok(&["free", "--name", "parent", &text]);
    parent.assert_ended();
}

/// Known by its name alone, without any Docker.
#[test]
fn what_is_managed_is_refused_with_what_to_do_instead() {
    let env = TestEnv::new();
    let port = env.free_port();
    let proxy = env.stranger(&["listen", "comm=docker-proxy", &on(port)]);
    let text = port.to_string();
    let output = env.run(&["--json", "free", &text]).expect(1);
    let answer = tcp(&output, port);
    assert_eq!(answer["outcome"], "refused");
    let detail = answer["detail"].as_str().unwrap();
    assert!(
        detail.contains("docker stop") && detail.contains("--managed"),
        "{detail}"
    );
    proxy.assert_alive();
    env.ok(&["free", "--managed", &text]);
    proxy.assert_ended();
}

#[test]
fn names_are_comm_or_the_base_name_of_the_program() {
    let env = TestEnv::new();
    for name in ["stranger", "next-server (v1"] {
        let port = env.free_port();
        let text = port.to_string();
        let holder = env.stranger(&["listen", "comm=next-server (v1", &on(port)]);
        env.run(&["free", &text, "--name", "next-server"]).expect(1);
        holder.assert_alive();
        env.ok(&["free", &text, "--name", name]);
        holder.assert_ended();
    }
}

#[test]
fn a_service_of_another_table_is_refused_with_the_way_to_stop_it() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table_in("else where/services.toml", "", &[web]);
    let table = env.at("else where/services.toml");
    env.ok(&["-c", &table, "start"]);
    env.await_ready();
    // Without any table, and with another one.
    for with_table in [false, true] {
        if with_table {
            env.table_in("services.toml", "", &[env.service("mine")]);
        }
        let output = env
            .run(&["--json", "free", "-f", &port.to_string()])
            .expect(1);
        let answer = tcp(&output, port);
        assert_eq!(answer["outcome"], "refused");
        let detail = answer["detail"].as_str().unwrap().to_owned();
        let way = format!("pidctl -c '{table}' stop {id}");
        assert!(detail.contains(&way), "{detail}");
    }
    assert_eq!(
        env.ok(&["-c", &table, "--json", "stop"]).outcome(&id),
        "stopped"
    );
}

#[test]
fn a_service_is_stopped_by_its_own_schedule_and_told_apart() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does("listen ignore=TERM exit-on=INT")
        .key("stop_signal = 'INT'");
    let id = web.id();
    env.table(&[web]);
    env.up();
    let pid = env.pid_text(&id);
    let text = env.ok(&["free", "--dry-run", &port.to_string()]);
    assert!(text.said().contains(&format!("service {id}")), "{text}");
    assert!(text.said().contains(&pid), "{text}");
    assert_eq!(env.state(&id), "running");
    let output = env.ok(&["--json", "free", &port.to_string()]);
    let answer = tcp(&output, port);
    assert_eq!(answer["held_by"], "service");
    assert_eq!(answer["processes"][0]["service"], id.as_str());
    assert_eq!(answer["processes"][0]["outcome"], "stopped");
    assert!(
        !answer["receipts"].to_string().contains("SIGTERM"),
        "{answer}"
    );
    env.assert_nobody_left();
    assert!(!env.has_pid_file(&id));
}

/// A script's PID file without a record: the proof makes it a service all the same.
#[test]
fn a_service_that_only_a_pid_file_tells_of_loses_that_too() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let holder = env.bystander(&["listen", &on(port)]);
    env.write(&format!("pids/{id}.pid"), format!("{}\n", holder.pid()));
    let output = env.ok(&["--json", "free"]);
    assert_eq!(tcp(&output, port)["held_by"], "service");
    holder.assert_ended();
    assert!(!env.has_pid_file(&id));
}

#[test]
fn whoever_shares_the_port_with_a_service_is_ended_as_well() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen reuseport");
    let id = web.id();
    env.table(&[web]);
    env.up();
    let other = env.stranger(&["listen", "reuseport", &on(port)]);
    let output = env.ok(&["--json", "free", &port.to_string()]);
    assert_eq!(tcp(&output, port)["processes"].as_array().unwrap().len(), 2);
    other.assert_ended();
    assert_eq!(env.state(&id), "stopped");
}

#[test]
fn a_table_with_a_mistake_touches_nobody() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    env.write("services.toml", "[[service]]\nname = 7\n");
    let output = env.run(&["free", "-f", &port.to_string()]).expect(2);
    assert!(output.stderr.starts_with("services.toml:"), "{output}");
    holder.assert_alive();
    // A table that was asked for and is not there is a mistake too.
    env.run(&["-c", "nowhere.toml", "free", &port.to_string()])
        .expect(2);
    holder.assert_alive();
}

#[test]
fn records_that_cannot_be_trusted_make_nobody_a_stranger() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    env.up();
    crate::support::chmod(&env.path("pids"), 0o777);
    let text = port.to_string();
    let output = env.run(&["--json", "free", &text]).expect(1);
    assert_eq!(tcp(&output, port)["outcome"], "failed");
    // Nor from a place without that table.
    let output = env
        .pidctl(&["--json", "free", &text])
        .cwd("/proc")
        .run()
        .expect(1);
    assert_eq!(tcp(&output, port)["outcome"], "failed");
    crate::support::chmod(&env.path("pids"), 0o755);
    assert_eq!(env.state(&id), "running");
}

#[test]
fn nothing_is_made_where_only_a_stranger_was_ended() {
    let env = TestEnv::new();
    let port = env.free_port();
    env.table(&[env.service("web")]);
    let holder = env.stranger(&["listen", &on(port)]);
    env.ok(&["free", &port.to_string()]);
    holder.assert_ended();
    assert!(!env.exists("pids") && !env.exists("logs"));
}

#[test]
fn an_event_tells_of_the_freed_port_where_there_is_a_log() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    env.write("logs/events.jsonl", "");
    let holder = env.stranger(&["listen", &on(port)]);
    env.ok(&["free"]);
    let events = env.events();
    let freed = events
        .iter()
        .find(|event| event["event"] == "port_freed")
        .expect("an event");
    assert_eq!(freed["service"], id.as_str());
    assert_eq!(freed["pid"].to_string(), holder.pid());
    assert_eq!(freed["port"], port);
    let signal = events
        .iter()
        .find(|event| event["event"] == "signal")
        .expect("a signal");
    assert_eq!(signal["service"], Value::Null);
}

#[test]
fn nonsense_is_a_usage_error() {
    let env = TestEnv::new();
    for port in ["0", "65536", "http", "90-80", "1-", "-5", "80,81", ""] {
        env.run(&["free", "--dry-run", "--", port]).expect(2);
    }
}

#[test]
fn a_free_range_is_one_line() {
    let env = TestEnv::new();
    let port = env.free_port();
    // Nobody is given these by the kernel, and no test leases them.
    let output = env.ok(&["free", "--dry-run", "2-7"]);
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    let output = env.ok(&["--json", "free", "--dry-run", "2-7", &port.to_string(), "5"]);
    assert_eq!(output.json()["ports"].as_array().unwrap().len(), 7);
}

/// Three users: root's listener in front of an ordinary user, and that of another ordinary user.
#[test]
fn another_users_listener_is_named_by_its_user_and_no_free_port() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let program = env.path("program");
    copy_program(&testee(), &program);
    let fifo = format!("fifo={}", env.at("bystanders"));
    let words = ["setsid", "listen", &on(port), &fifo];
    let mut other = env
        .program(&program)
        .args(&words)
        .user(65534, 65534)
        .spawn();
    other.await_stdout("ready");
    let copy = env.path("pidctl");
    copy_program(std::path::Path::new(env!("CARGO_BIN_EXE_pidctl")), &copy);
    for dry_run in [&["--dry-run"][..], &[]] {
        let port_text = port.to_string();
        let words = [&["--json", "free", &port_text], dry_run].concat();
        let output = env
            .program(&copy)
            .args(&words)
            .user(65533, 65533)
            .run()
            .expect(1);
        let answer = tcp(&output, port);
        assert_eq!(answer["outcome"], "failed");
        assert_eq!(answer["held_by"], "hidden");
        assert_eq!(answer["processes"][0]["pid"], Value::Null);
        assert_eq!(answer["processes"][0]["user"], "nobody");
        assert!(!other.has_ended());
    }
    env.ok(&["free", &port.to_string()]);
    assert!(!other.process().is_alive());
}

/// Seen from a PID namespace that it is not in, the holder is no process.
#[test]
fn a_holder_in_another_namespace_is_nobody_visible() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let script = format!("exec unshare -pf --mount-proc $PIDCTL --json free {port}");
    let output = env.sh(&script).run().expect(1);
    let answer = tcp(&output, port);
    assert_eq!(answer["held_by"], "nobody");
    assert_eq!(answer["outcome"], "failed");
    holder.assert_alive();
}

/// /proc that shows an ordinary user its own processes alone.
#[test]
fn hidden_processes_are_not_nobody() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", &on(port)]);
    let copy = env.path("pidctl");
    copy_program(std::path::Path::new(env!("CARGO_BIN_EXE_pidctl")), &copy);
    let script = format!(
        "exec unshare -m sh -c 'mount -t proc -o hidepid=2 proc /proc && \
         exec setpriv --reuid 65533 --regid 65533 --clear-groups {} --json free {port}'",
        copy.display()
    );
    let output = env.sh(&script).run().expect(1);
    assert_eq!(tcp(&output, port)["held_by"], "hidden");
    holder.assert_alive();
}

#[test]
fn the_first_interrupt_escalates() {
    let env = TestEnv::new();
    let port = env.free_port();
    let holder = env.stranger(&["listen", "ignore=TERM", &on(port)]);
    let free = env
        .pidctl(&["--json", "free", "-t", "1h", &port.to_string()])
        .spawn();
    // It takes SIGINT as a message from then on.
    crate::support::await_that("no signalfd", || {
        free.process().has_signal("SigBlk", libc::SIGINT)
    });
    free.signal(nix::sys::signal::Signal::SIGINT);
    let output = free.finish().expect(0);
    assert_eq!(tcp(&output, port)["processes"][0]["outcome"], "killed");
    holder.assert_ended();
}
