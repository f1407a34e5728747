//! Services that do their worst: after `stop` nobody of them is left.

use std::path::Path;

use crate::support::{TestEnv, await_that, copy_program, testee};

fn ends(env: &TestEnv) {
    let stop = env.pidctl(&["stop"]).run();
    assert_eq!(stop.code(), 0, "{stop}");
    env.assert_nobody_left();
}

#[test]
fn a_bounded_fork_bomb() {
    let env = TestEnv::new();
    // Each forks twice and lives on, until a thousand are there or were.
    env.table(&[env
        .service("bomb")
        .shell("trap '' TERM; n=0; bomb() { while [ $n -lt 9 ]; do n=$((n+1)); bomb & done; exec sleep 600; }; bomb")
        .key("stop_timeout = \"200ms\"")]);
    env.ok(&["start"]);
    ends(&env);
}

#[test]
fn a_tree_two_hundred_deep() {
    let env = TestEnv::new();
    env.table(&[env.service("deep").does("tree=200x1")]);
    env.up();
    ends(&env);
}

#[test]
fn a_thousand_children() {
    let env = TestEnv::new();
    env.table(&[env
        .service("wide")
        .shell("i=0; while [ $i -lt 1000 ]; do i=$((i+1)); sleep 600 & done; touch done; wait")]);
    env.ok(&["start"]);
    env.await_file("done");
    ends(&env);
}

#[test]
fn a_leader_whose_first_thread_has_ended() {
    let env = TestEnv::new();
    env.table(&[env.service("threads").does("leader-thread-exits")]);
    env.up();
    assert_eq!(env.state("threads"), "running");
    ends(&env);
}

#[test]
fn names_made_to_be_parsed_wrongly() {
    let env = TestEnv::new();
    env.table(&[
        env.service("one")
            .words(&["comm=a) R 1 1", "child=setsid,double-fork"]),
        env.service("two")
            .words(&["comm=x\n1 (y) S", "child=comm=) Z 0"]),
    ]);
    env.up();
    assert_eq!(env.state("one"), "running");
    assert_eq!(env.state("two"), "running");
    ends(&env);
}

#[test]
fn an_executable_deleted_while_it_runs() {
    let env = TestEnv::new();
    copy_program(&testee(), &env.path("program"));
    let program = env.at("program");
    env.table(&[env.service("web").exec(&[&program, "child=setsid"])]);
    env.ok(&["start"]);
    env.remove("program");
    let status = env.run(&["--json", "status"]);
    assert_eq!(status.state("web"), "running");
    ends(&env);
}

#[test]
fn one_that_closes_all_its_descriptors() {
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .does("close-fds child=setsid,double-fork,close-fds")]);
    env.up();
    ends(&env);
}

#[test]
fn one_that_traces_another_and_one_in_vfork() {
    let env = TestEnv::new();
    let tracer = "import ctypes, os, time\n\
                  libc = ctypes.CDLL(None)\n\
                  child = os.fork()\n\
                  if child == 0:\n    time.sleep(600)\n\
                  libc.ptrace(16, child, 0, 0)\n\
                  open('traced', 'w')\n\
                  while True:\n    time.sleep(600)\n";
    env.write("tracer.py", tracer);
    env.table(&[
        env.service("tracer").exec(&["python3", "tracer.py"]),
        // The shell of `$(...)` and the one that waits for it; dash vforks.
        env.service("vfork").shell("x=$(sleep 600); echo $x"),
    ]);
    env.ok(&["start"]);
    env.await_file("traced");
    ends(&env);
}

/// The child heeds neither SIGTERM nor the end of its terminal, and its output is no log.
#[test]
fn one_in_another_session_with_the_terminal() {
    let script = "import os, pty, signal, sys, time\n\
                  child, master = pty.fork()\n\
                  if child == 0:\n    \
                      signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    \
                      signal.signal(signal.SIGHUP, signal.SIG_IGN)\n    \
                      open('aside', 'w').write(os.ttyname(0) + ' ' + str(os.getsid(0)))\n    \
                      os.rename('aside', 'terminal')\n    \
                      kept = {} if sys.argv[1] == 'wiped' else os.environ\n    \
                      os.execve('/bin/sleep', ['sleep', '600'], kept)\n\
                  while True:\n    time.sleep(600)\n";
    for (environment, crashes) in [("wiped", false), ("kept", false), ("kept", true)] {
        let env = TestEnv::new();
        env.write("terminal.py", script);
        env.table(&[env
            .service("web")
            .exec(&["python3", "terminal.py", environment])
            .key("stop_timeout = \"300ms\"")]);
        env.ok(&["start"]);
        env.await_file("terminal");
        let leader = env.pid("web");
        let text = env.read("terminal");
        assert!(text.starts_with("/dev/pts/"), "{text}");
        assert!(!text.ends_with(&format!(" {}", leader.session())), "{text}");
        if crashes {
            leader.kill();
            await_that("the leader lives", || !leader.is_alive());
        }
        let stop = env.ok(&["--json", "stop"]);
        assert_eq!(stop.outcome("web"), "killed", "{environment}: {stop}");
        env.assert_nobody_left();
    }
}

/// A stranger with the service's comm and its command line, word for word; the file alone is another.
#[test]
fn one_that_renames_itself_to_a_service_s_program() {
    let env = TestEnv::new();
    let (program, stranger) = (testee().display().to_string(), env.path("stranger"));
    copy_program(&testee(), &stranger);
    let port = env.free_port();
    let (fifo, on) = (
        format!("fifo={}", env.at("bystanders")),
        format!("port={port}"),
    );
    let plain = [&program, "comm=testee", &fifo];
    let server = [&program, "comm=testee", &fifo, "listen", &on];
    let web = env.service("web").port(port).exec(&server);
    let id = web.id();
    env.table(&[env.service("plain").exec(&plain), web]);
    let impostor = |words: &[&str]| {
        let script = "exec -a \"$1\" \"$0\" \"${@:2}\"";
        let bash = env.program(Path::new("/bin/bash")).args(&["-c", script]);
        let running = bash.arg(&stranger).args(words).spawn();
        running.await_stdout("ready");
        let shown = running.process().file("cmdline");
        assert_eq!(shown, (words.join("\0") + "\0").into_bytes());
        assert_eq!(running.process().comm(), "testee");
        running
    };

    let alone = impostor(&plain);
    let pid = alone.process().pid.to_string();
    env.write("pids/plain.pid", &pid);
    assert_eq!(env.state("plain"), "stale");
    let stop = env.ok(&["--json", "stop", "--force", "plain"]);
    assert_eq!(stop.outcome("plain"), "stale_removed");
    env.run(&["adopt", "plain", "--pid", &pid]).expect(1);
    env.write("pids/plain.pid", &pid);
    env.ok(&["start", "plain"]);
    assert_ne!(env.pid_text("plain"), pid);
    env.ok(&["stop", "plain"]);
    assert!(alone.process().is_alive());

    let holder = impostor(&server);
    let pid = holder.process().pid.to_string();
    let start = env.run(&["start", &id]).expect(1);
    assert!(start.said().contains(&pid), "{start}");
    env.run(&["adopt", &id]).expect(1);
    env.ok(&["stop", &id]).expect_said(&pid);
    assert!(holder.process().is_alive());
    env.assert_nobody_left();
}

#[test]
fn one_that_floods_its_log() {
    let env = TestEnv::new();
    env.table(&[env
        .service("flood")
        .shell("head -c 1000000000 /dev/zero; sleep 600")
        .key("log_max_size = \"1MiB\"")
        .key("log_keep = 1")]);
    env.ok(&["start"]);
    ends(&env);
}
