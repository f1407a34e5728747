//! Health: when a service is ready, and how it is told later that it is not well.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::support::{Entry, Output, TestEnv, await_that, is_root};

fn web(env: &TestEnv, words: &str) -> (Entry, String) {
    let web = env.service("web").port(env.free_port()).does(words);
    let id = web.id();
    (web, id)
}

/// Starts, expects that it waits, lets it become healthy, expects that it succeeds.
#[track_caller]
fn waits_until(env: &TestEnv, id: &str, healthy: impl FnOnce()) {
    let mut start = env.pidctl(&["--json", "start"]).spawn();
    env.await_ready();
    await_that("it is not starting", || env.state(id) == "starting");
    assert!(!start.has_ended());
    healthy();
    let output = start.finish().expect(0);
    assert_eq!(output.outcome(id), "started");
    assert!(output.service(id)["ready_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(env.ok(&["--json", "status"]).service(id)["health"], "ok");
}

#[test]
fn with_a_port_ready_is_listening() {
    let env = TestEnv::new();
    let (web, id) = web(&env, &format!("listen listen-when={}", env.at("go")));
    env.table(&[web]);
    waits_until(&env, &id, || env.write("go", ""));
}

#[test]
fn a_child_that_listens_makes_its_service_ready() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "child=setsid,listen");
    env.table(&[web]);
    assert_eq!(env.up().outcome(&id), "started");
    assert_eq!(env.pid(&id), env.members()[0].process);
}

#[test]
fn http_waits_for_a_good_answer() {
    let env = TestEnv::new();
    let (web, id) = web(&env, &format!("listen failing-until={}", env.at("well")));
    env.table(&[web.key("health = 'http'")]);
    waits_until(&env, &id, || env.write("well", ""));
}

#[test]
fn http_takes_2xx_and_3xx_of_its_path_alone() {
    for (path, healthy) in [("/fine?x=1", true), ("/moved", true), ("/missing", false)] {
        let env = TestEnv::new();
        let (web, id) = web(&env, "listen");
        env.table(&[web.key(format!("health = {{ http = '{path}' }}"))]);
        let output = env.run(&["--json", "start", "--ready-timeout", "2s"]);
        assert_eq!(output.code() == 0, healthy, "{path}: {output}");
        assert_eq!(output.outcome(&id) == "started", healthy, "{path}");
    }
}

#[test]
fn http_may_ask_another_address() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen6");
    let port = web.port.unwrap();
    let key = format!("health = {{ http = 'http://localhost:{port}/x', timeout = '1s' }}");
    env.table(&[web.key(key)]);
    assert_eq!(env.up().outcome(&id), "started");
}

/// Runs the script where `hosts` is what the resolver reads; `None` where that cannot be.
fn with_own_hosts(env: &TestEnv, script: &str) -> Option<Output> {
    let unshare = Path::new("/usr/bin/unshare");
    if !is_root() || !unshare.exists() {
        eprintln!("skipped: needs root and unshare(1)");
        return None;
    }
    let script = format!("mount --bind hosts /etc/hosts || exit 77\n{script}");
    let call = env
        .program(unshare)
        .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
        .args(&["-m", "--propagation", "private", "/bin/sh", "-c", &script]);
    let output = call.run();
    (output.code() != 77).then_some(output)
}

#[test]
fn http_may_ask_a_host_by_its_name() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen");
    let port = web.port.unwrap();
    env.write("hosts", "127.0.0.1 web.invalid\n");
    env.table(&[web.key(format!(
        "health = {{ http = 'http://web.invalid:{port}/x' }}"
    ))]);
    let script = "$PIDCTL --json start && $PIDCTL --json status";
    if let Some(output) = with_own_hosts(&env, script) {
        assert_eq!(output.code(), 0, "{output}");
        assert_eq!(env.run(&["--json", "status"]).state(&id), "unhealthy");
        let other = env.run(&["status"]).expect(150);
        assert!(other.stdout.contains("web.invalid"), "{other}");
    }
}

/// A user that it may not become, a folder and a file that are gone, a library that is missing.
#[test]
fn a_host_is_looked_up_whatever_the_service_runs_with() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen");
    let port = web.port.unwrap();
    let keys = "cwd = 'work'\nenv_file = 'file'\nenv = { LD_PRELOAD = '/no/library.so' }";
    let health = format!("health = {{ http = 'http://web.invalid:{port}/x' }}");
    env.write("hosts", "127.0.0.1 web.invalid\n");
    env.write("work/own", "");
    env.write("file", "");
    env.table(&[web.key(keys).key(health)]);
    let script = "$PIDCTL --json start >&2 || exit 1; rm -r work file
        $PIDCTL --json status";
    if let Some(output) = with_own_hosts(&env, script) {
        assert_eq!(output.state(&id), "running", "{output}");
    }
    env.ok(&["stop"]);
}

#[test]
fn an_ordinary_user_may_ask_a_host_for_a_service_of_another_user() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen");
    let port = web.port.unwrap();
    let health = format!("health = {{ http = 'http://web.invalid:{port}/x' }}");
    env.write("hosts", "127.0.0.1 web.invalid\n");
    env.table(&[web.key("user = 'root'").key(health)]);
    let script = "$PIDCTL start >&2 || exit 1
        setpriv --reuid 65534 --regid 65534 --clear-groups ./pidctl --json status";
    env.as_nobody(&["--version"]).run().expect(0);
    if let Some(output) = with_own_hosts(&env, script) {
        assert_eq!(output.service(&id)["health"], "ok", "{output}");
    }
    env.ok(&["stop"]);
}

#[test]
fn a_start_that_waits_does_not_look_its_host_up_for_each_probe() {
    let env = TestEnv::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let health = format!("health = {{ http = 'http://web.invalid:{port}/' }}");
    env.table(&[env.service("web").key(health)]);
    env.write("hosts", "127.0.0.1 web.invalid\n");
    let hosts = env.path("hosts");
    std::thread::spawn(move || {
        for (asked, stream) in server.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 512]);
            let status = match asked {
                // From now on nobody finds it who looks it up again.
                0 => std::fs::write(&hosts, "").map(|()| 503).unwrap(),
                _ => 200,
            };
            let _ = write!(stream, "HTTP/1.1 {status} x\r\n\r\n");
        }
    });
    let script = "$PIDCTL --json start --ready-timeout 3s";
    if let Some(output) = with_own_hosts(&env, script) {
        assert_eq!(output.outcome("web"), "started", "{output}");
        env.ok(&["stop"]);
    }
}

#[test]
fn a_name_that_is_looked_up_for_ever_holds_up_nobody_else() {
    let env = TestEnv::new();
    let health = "health = { http = 'http://slow.invalid:1/', timeout = '200ms' }";
    env.table(&[env.service("slow").key(health), env.service("quick")]);
    // The resolver waits for a writer of this file.
    let script = "$PIDCTL --json start --ready-timeout 600ms";
    env.sh("mkfifo hosts").run().expect(0);
    if let Some(output) = with_own_hosts(&env, script) {
        assert_eq!(output.outcome("slow"), "failed", "{output}");
        let why = output.service("slow")["detail"].to_string();
        assert!(why.contains("slow.invalid"), "{why}");
        assert_eq!(output.outcome("quick"), "started");
        assert_eq!(env.survivors().len(), 1, "{:?}", env.survivors());
        env.ok(&["stop"]);
    }
    env.assert_nobody_left();
}

#[test]
fn a_server_that_never_answers_is_not_healthy() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen silent");
    env.table(&[web.key("health = { http = '/', timeout = '100ms' }")]);
    let output = env
        .run(&["--json", "start", "--ready-timeout", "800ms"])
        .expect(1);
    assert_eq!(output.outcome(&id), "failed");
    env.assert_nobody_left();
}

#[test]
fn the_answer_of_a_stranger_on_its_port_does_not_count() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "listen reuseport failing-until=/nowhere/at/all");
    let port = web.port.unwrap();
    env.table(&[web.key("health = 'http'\ntakeover = 'never'")]);
    let start = env
        .pidctl(&["--json", "start", "--ready-timeout", "2s"])
        .spawn();
    env.await_ready();
    let _stranger = env.stranger(&["listen", "reuseport", &format!("port={port}")]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(start.finish().expect(1).outcome(&id), "failed");
}

#[test]
fn a_command_decides_by_its_exit_status_with_the_services_environment() {
    let env = TestEnv::new();
    let (web, id) = web(&env, "say=x");
    env.write("work/file", "");
    env.table(&[web.key(
        "cwd = 'work'\nenv = { FLAG = 'well' }
         health = { command = 'test -e $FLAG -a -n \"$PORT\" -a -n \"$PIDCTL_SERVICE\"' }",
    )]);
    waits_until(&env, &id, || env.write("work/well", ""));
    env.remove("work/well");
    assert_eq!(
        env.run(&["--json", "status"]).expect(150).state(&id),
        "unhealthy"
    );
}

#[test]
fn a_health_command_that_hangs_is_ended_with_all_it_started() {
    let env = TestEnv::new();
    let health = "health = { command = 'sleep 600 & sleep 600', timeout = '200ms' }";
    env.table(&[env.service("web").key(health)]);
    let output = env
        .run(&["--json", "start", "--ready-timeout", "1s"])
        .expect(1);
    assert_eq!(output.outcome("web"), "failed");
    assert!(env.survivors().is_empty(), "{:?}", env.survivors());
}

#[test]
fn the_last_line_of_a_health_command_that_fails_is_told() {
    let env = TestEnv::new();
    // Somebody holds the pipe open after its end.
    let script = r"echo first; printf 'no \033[2Jroute\n' >&2; sleep 600 & exit 3";
    let health = format!("health = {{ command = '''{script}''' }}");
    env.table(&[env.service("web").key(health)]);
    let told = "ended with exit status 3: no ^[[2Jroute";
    let start = env.run(&["start", "--ready-timeout", "500ms"]).expect(1);
    assert!(start.stdout.contains(told), "{start}");
    assert!(env.survivors().is_empty(), "{:?}", env.survivors());
    env.ok(&["start", "--no-wait"]);
    await_that("it is not told", || {
        env.run(&["status"]).stdout.contains(told)
    });
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_health_command_opens_its_own_output_by_name() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let health = "health = { command = 'echo a >/dev/stderr && echo b | tee /dev/stdout' }";
    let web = env.service("web").exec(&["/bin/sleep", "600"]);
    env.table(&[web.key("user = 'nobody'").key(health)]);
    env.run(&["start", "--ready-timeout", "3s"]).expect(0);
    env.ok(&["stop"]);
}

#[test]
fn a_health_command_that_cannot_be_run_tells_why() {
    let env = TestEnv::new();
    env.write("work/own", "");
    let web = env.service("web").key("cwd = 'work'");
    env.table(&[web.key("health = { command = 'true' }")]);
    env.up();
    std::fs::remove_dir_all(env.path("work")).unwrap();
    let status = env.run(&["status"]).expect(150);
    assert!(
        status.stdout.contains("could not change to its cwd: No"),
        "{status}"
    );
    env.ok(&["stop"]);
}

/// A megabyte of variables, so that what is kept of each shows.
#[test]
fn nothing_is_kept_of_a_health_command_that_has_ended() {
    let env = TestEnv::new();
    let big = format!("'{}'", "x".repeat(100_000));
    let variables: Vec<String> = (0..10).map(|n| format!("BIG{n} = {big}")).collect();
    let table = format!("env = {{ {} }}", variables.join(", "));
    // Its parent is pidctl.
    let script = "grep VmRSS /proc/$PPID/status >>sizes; test $(wc -l <sizes) -ge 25";
    let health = format!("health = {{ command = '{script}', timeout = '1m' }}");
    env.table(&[env.service("web").key(table).key(health)]);
    env.up();
    let sizes = env.read("sizes");
    let sizes: Vec<u64> = sizes
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(sizes[24] < sizes[4] + 8_000, "kB: {sizes:?}");
}

#[test]
fn a_health_command_that_writes_much_does_not_wait_for_room() {
    let env = TestEnv::new();
    let health = "health = { command = 'yes | head -c 1000000', timeout = '1m' }";
    env.table(&[env.service("web").key(health)]);
    env.up();
}

#[test]
fn without_a_port_alive_is_healthy() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    assert_eq!(
        env.ok(&["--json", "status"]).service("web")["health"],
        "none"
    );
}

#[test]
fn health_none_does_not_wait_for_the_port() {
    let env = TestEnv::new();
    let (web, id) = web(&env, &format!("listen listen-when={}", env.at("never")));
    env.table(&[web.key("health = 'none'")]);
    assert_eq!(env.up().outcome(&id), "started");
    assert_eq!(env.state(&id), "running");
}
