//! Services that do their worst: after `stop` nobody of them is left.

use crate::support::{TestEnv, copy_program, testee};

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
