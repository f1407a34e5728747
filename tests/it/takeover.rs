//! Who else is on the port: taken over if it may be, named and left alone if not.

use std::net::TcpStream;
use std::path::Path;

use crate::support::{Bystander, Entry, TestEnv, is_root, testee};

/// An entry that listens on a free port, and the port.
fn web(env: &TestEnv) -> (Entry, u16) {
    let port = env.free_port();
    (env.service("web").port(port).does("listen"), port)
}

fn on(port: u16) -> String {
    format!("port={port}")
}

/// `start` fails, names the holder, and leaves it alone.
#[track_caller]
fn refused(env: &TestEnv, id: &str, holder: &Bystander) {
    let output = env.run(&["--json", "start", id]).expect(1);
    assert_eq!(output.outcome(id), "failed");
    let detail = output.service(id)["detail"].to_string();
    assert!(detail.contains(&holder.pid()), "unnamed: {output}");
    holder.assert_alive();
    assert!(!env.has_pid_file(id));
    env.assert_nobody_left();
}

#[test]
fn a_stray_copy_of_the_command_is_stopped_and_the_service_started() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let stray = env.bystander(&["listen", &on(port)]);
    let output = env.up();
    assert_eq!(output.outcome(&id), "started");
    stray.assert_ended();
    assert_eq!(env.state(&id), "running");
}

#[test]
fn a_stubborn_stray_copy_is_killed() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    env.table(&[web.key("stop_timeout = '300ms'")]);
    let stray = env.bystander(&["listen", "ignore=TERM", &on(port)]);
    env.up();
    stray.assert_ended();
}

#[test]
fn a_stranger_is_named_and_left_alone() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web, env.service("other")]);
    let stranger = env.stranger(&["listen", &on(port)]);
    refused(&env, &id, &stranger);
    let output = env.run(&["start"]).expect(1);
    assert!(output.said().contains("stranger"), "its name: {output}");
    assert_eq!(env.state("other"), "running");
}

#[test]
fn process_names_make_a_stranger_known() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    env.table(&[web.key("process_names = ['nobody', 'stranger']")]);
    let stranger = env.stranger(&["listen", &on(port)]);
    env.up();
    stranger.assert_ended();
}

#[test]
fn takeover_any_stops_a_stranger() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    env.table(&[web.key("takeover = 'any'")]);
    let stranger = env.stranger(&["listen", &on(port)]);
    env.up();
    stranger.assert_ended();
}

#[test]
fn takeover_never_spares_a_copy() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web.key("takeover = 'never'")]);
    let stray = env.bystander(&["listen", &on(port)]);
    refused(&env, &id, &stray);
}

#[test]
fn the_command_line_outweighs_the_table() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let stranger = env.stranger(&["listen", &on(port)]);
    env.run(&["start", "--takeover", "never"]).expect(1);
    stranger.assert_alive();
    let output = env.ok(&["--json", "start", "--takeover", "any"]);
    assert_eq!(output.outcome(&id), "started");
    stranger.assert_ended();
}

#[test]
fn where_one_holder_does_not_qualify_none_is_touched_and_it_is_named() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let words = ["listen", "reuseport", &on(port)];
    let stray = env.bystander(&words);
    let stranger = env.stranger(&words);
    refused(&env, &id, &stranger);
    stray.assert_alive();
}

#[test]
fn the_children_of_a_stray_go_with_it() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    env.table(&[web]);
    let stray = env.bystander(&["listen", "tree=1x2", &on(port)]);
    env.up();
    stray.assert_ended();
    let leader = env.members();
    assert_eq!(leader.len(), 1, "{leader:#?}");
}

#[test]
fn an_instance_of_another_service_is_never_taken_over() {
    let env = TestEnv::new();
    let port = env.free_port();
    let thief = env.service("thief").does(&format!("listen port={port}"));
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[thief, web.key("takeover = 'any'")]);
    env.ok(&["start", "thief"]);
    env.await_file("ready/thief");
    let holder = env.pid("thief");
    let output = env.run(&["--json", "start", &id]).expect(1);
    assert!(
        output.service(&id)["detail"]
            .to_string()
            .contains(&holder.pid.to_string())
    );
    env.ok(&["stop", &id]);
    assert!(holder.is_alive());
    assert_eq!(env.state("thief"), "running");
}

#[test]
fn a_process_of_another_user_is_a_stranger() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    let program = env.path("program");
    crate::support::copy_program(&testee(), &program);
    env.table(&[web.exec(&[&env.at("program"), "listen"])]);
    let mut other = env
        .program(&program)
        .args(&[
            "setsid",
            "listen",
            &on(port),
            &format!("fifo={}", env.at("bystanders")),
        ])
        .user(65534, 65534)
        .spawn();
    other.await_stdout("ready");
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome(&id), "failed");
    assert!(!other.has_ended());
}

#[test]
fn a_client_of_the_port_is_no_holder() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web.key("takeover = 'any'")]);
    env.up();
    let client = env.stranger(&[&format!("client={port}")]);
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "stopped");
    client.assert_alive();
    env.up();
    client.assert_alive();
    env.ok(&["free", &port.to_string()]);
    client.assert_alive();
}

#[test]
fn a_udp_socket_of_the_same_number_is_no_holder_of_a_tcp_port() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let stranger = env.stranger(&["udp", &on(port)]);
    assert_eq!(env.up().outcome(&id), "started");
    stranger.assert_alive();
}

#[test]
fn a_listener_on_the_other_loopback_holds_the_port_too() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let stranger = env.stranger(&["listen6", &on(port)]);
    refused(&env, &id, &stranger);
}

#[test]
fn stop_frees_the_port_of_a_stray_copy_also_where_the_service_was_not_running() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    env.table(&[web]);
    let stray = env.bystander(&["listen", &on(port)]);
    env.ok(&["stop"]);
    stray.assert_ended();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn stop_tells_of_a_stranger_on_the_port_and_does_not_fail() {
    let env = TestEnv::new();
    let (web, port) = web(&env);
    let id = web.id();
    env.table(&[web]);
    let stranger = env.stranger(&["listen", &on(port)]);
    let output = env.ok(&["stop"]);
    assert!(output.said().contains(&stranger.pid()), "{output}");
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome(&id), "not_running");
    stranger.assert_alive();
}

#[test]
fn leftovers_of_the_service_itself_are_stopped_whatever_takeover_says() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does("child=double-fork,setsid,listen exit=0 exit-after=100");
    let id = web.id();
    env.table(&[web.key("takeover = 'never'\ndaemonizes = true")]);
    env.up();
    let daemon = env.pid(&id);
    env.sh("rm -f pids/*.pid").run().expect(0);
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "already_running");
    env.ok(&["stop"]);
    assert!(!daemon.is_alive());
    env.assert_nobody_left();
}

/// For an interpreter the same program is not enough: the script and the folder count.
#[test]
fn another_script_of_the_same_interpreter_is_a_stranger() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return eprintln!("skipped: no {}", python.display());
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let script = "import http.server, sys
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
";
    for name in ["a/app.py", "b/app.py", "a/other.py"] {
        env.write(name, script);
    }
    let number = port.to_string();
    let web = env
        .service("web")
        .port(port)
        .exec(&["/usr/bin/python3", "app.py", &number]);
    let id = web.id();
    env.table(&[web.key("cwd = 'a'")]);
    let run = |folder: &str, file: &str| {
        let call = env.program(Path::new("/usr/bin/setsid"));
        let call = call
            .args(&["/usr/bin/python3", file, &number])
            .cwd(env.path(folder));
        let call = call.spawn();
        crate::support::await_that("it does not listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        call
    };
    for (folder, file) in [("b", "app.py"), ("a", "other.py")] {
        let mut other = run(folder, file);
        env.run(&["start"]).expect(1);
        assert!(!other.has_ended(), "{folder}/{file} was ended");
    }
    let mut copy = run("a", "app.py");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "started");
    assert!(copy.has_ended());
}

/// pyenv, rbenv and the like put a script in front of the real program.
#[test]
fn behind_a_shim_the_script_tells_a_copy_from_a_stranger() {
    let python = Path::new("/usr/bin/python3");
    if !python.exists() {
        return eprintln!("skipped: no {}", python.display());
    }
    let env = TestEnv::new();
    let port = env.free_port();
    env.write("shims/python3", "#!/bin/sh\nexec /usr/bin/python3 \"$@\"\n");
    crate::support::chmod(&env.path("shims/python3"), 0o755);
    let script = "import http.server, sys
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.BaseHTTPRequestHandler).serve_forever()
";
    env.write("app.py", script);
    env.write("other.py", script);
    let number = port.to_string();
    let web = env
        .service("web")
        .port(port)
        .shell(&format!("python3 app.py {number}"));
    let id = web.id();
    let path = format!("env = {{ PATH = '{}:/usr/bin:/bin' }}", env.at("shims"));
    env.table(&[web.key(path)]);
    let run = |file: &str| {
        let call = env.program(Path::new("/usr/bin/setsid"));
        let call = call
            .args(&["/usr/bin/python3", file, &number, "--by-hand"])
            .cwd(env.dir());
        let call = call.spawn();
        crate::support::await_that("it does not listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        call
    };
    let mut other = run("other.py");
    env.run(&["start"]).expect(1);
    assert!(!other.has_ended(), "another script was ended");
    drop(other);
    let mut copy = run("app.py");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "started");
    assert!(copy.has_ended());
}
