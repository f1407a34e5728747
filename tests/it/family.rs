//! Nobody left behind: however a process leaves its family, `stop` finds and ends it.

use crate::support::{TestEnv, await_that};

/// Starts one service of this kind, stops it, and proves that it is gone.
#[track_caller]
fn ends(words: &[&str], outcome: &str) {
    let env = TestEnv::new();
    let timeout = if outcome == "killed" { "500ms" } else { "20s" };
    let key = format!("stop_timeout = '{timeout}'");
    env.table(&[env.service("web").words(words).key(key)]);
    env.up();
    let output = env.ok(&["--json", "stop"]);
    env.assert_nobody_left();
    assert_eq!(output.outcome("web"), outcome, "{output}");
    let signals = output.service("web")["signals"].to_string();
    assert!(signals.contains("SIGTERM"), "{output}");
    assert_eq!(signals.contains("SIGKILL"), outcome == "killed", "{output}");
    assert!(!env.has_pid_file("web"));
    assert_eq!(
        env.run(&["--json", "status"]).expect(3).state("web"),
        "stopped"
    );
}

macro_rules! families {
    ($($name:ident: $outcome:literal [$($word:literal),*];)*) => {
        $(#[test] fn $name() { ends(&[$($word),*], $outcome); })*
    };
}

families! {
    a_plain_process: "stopped" [];
    a_process_that_ignores_the_signal: "killed" ["ignore=TERM"];
    a_process_that_blocks_the_signal_and_obeys: "stopped" ["sigwait=TERM"];
    a_process_that_exits_slowly: "stopped" ["exit-on=TERM", "slow=300"];
    a_child_that_ignores_the_signal_while_the_leader_exits_at_once:
        "killed" ["child=ignore=TERM"];
    a_child_with_a_session_of_its_own: "stopped" ["child=setsid"];
    a_stubborn_child_with_a_session_of_its_own: "killed" ["child=setsid,ignore=TERM"];
    a_child_with_a_group_of_its_own: "stopped" ["child=setpgid"];
    a_stubborn_child_with_a_group_of_its_own: "killed" ["child=setpgid,ignore=TERM"];
    a_double_forked_child: "stopped" ["child=double-fork"];
    a_stubborn_double_forked_child: "killed" ["child=double-fork,ignore=TERM"];
    a_double_forked_child_with_a_session: "stopped" ["child=double-fork,setsid"];
    a_stubborn_double_forked_child_with_a_session:
        "killed" ["child=double-fork,setsid,ignore=TERM"];
    who_double_forked_and_wiped_its_environment: "stopped" ["child=double-fork,setsid,wipe-env"];
    who_double_forked_and_rewrote_its_title: "stopped" ["child=double-fork,setsid,title=other"];
    who_double_forked_and_replaced_its_descriptors: "stopped" ["child=double-fork,setsid,null-fds"];
    who_double_forked_and_closed_its_descriptors: "stopped" ["child=double-fork,setsid,close-fds"];
    who_left_the_session_but_wiped_and_closed_everything:
        "stopped" ["child=setsid,wipe-env,null-fds"];
    who_shed_every_trace_while_its_start_was_awaited:
        "stopped" ["child=double-fork,setsid,wipe-env,null-fds"];
    a_stopped_process: "stopped" ["stop"];
    a_stopped_child: "stopped" ["child=stop"];
    a_stopped_child_that_is_stubborn_too: "killed" ["child=stop,setsid,ignore=TERM"];
    a_tree: "stopped" ["tree=3x2"];
    a_stubborn_tree: "killed" ["ignore=TERM", "tree=2x3"];
    a_process_that_rewrote_its_title: "stopped" ["title=web: master process"];
    a_process_with_an_unbalanced_name: "stopped" ["comm=web) R 1 1", "child=setsid,comm=next-server (v1"];
    a_process_with_a_newline_in_its_name: "stopped" ["comm=) S 1\n2 (", "child=setsid"];
    a_process_whose_leading_thread_has_ended: "stopped" ["leader-thread-exits"];
    a_parent_that_never_reaps: "stopped" ["zombies=3", "child=setsid,zombies=2"];
    who_wiped_its_environment_itself: "stopped" ["wipe-env", "child=setsid"];
}

#[test]
fn who_forks_a_successor_when_told_to_end() {
    let env = TestEnv::new();
    let phoenix = env.service("web").does("exit-on=TERM succeed=5");
    env.table(&[phoenix.key("stop_timeout = '1s'")]);
    env.up();
    // Its successors may be told to end one by one, or be killed: dead they are.
    let output = env.ok(&["--json", "stop"]);
    env.assert_nobody_left();
    assert!(["stopped", "killed"].contains(&output.outcome("web").as_str()));
}

#[test]
fn who_forks_and_exits_all_the_time_and_heeds_no_signal() {
    let env = TestEnv::new();
    let hopper = "child=double-fork,setsid,ignore=TERM,hop=1000000 child=ignore=TERM,hop=1000000";
    env.table(&[env
        .service("web")
        .does(hopper)
        .key("stop_timeout = '500ms'")]);
    env.up();
    // On a machine that is too busy it may outrun us; then that is said, and never that it stopped.
    let output = env.run(&["--json", "stop"]);
    match output.code() {
        0 => env.assert_nobody_left(),
        _ => assert_eq!(output.outcome("web"), "failed", "{output}"),
    }
}

/// Generation after generation without a pause, each in a session of its own: whoever a walk has found
/// may have left a successor by then.
#[test]
fn who_hops_from_session_to_session_while_it_is_killed() {
    for bears in ["title=x", "title=x", "title=x", "title=x", "null-fds"] {
        let env = TestEnv::new();
        let hopper = format!("child=double-fork,ignore=TERM,hop=1000000,hop-session,rush,{bears}");
        let web = env.service("web").does(&hopper);
        env.table(&[web.key("stop_timeout = '100ms'")]);
        env.up();
        let output = env.run(&["--json", "stop"]);
        // As above: it may be said that it could not be ended, and never that it stopped.
        match output.code() {
            0 => env.assert_nobody_left(),
            _ => assert_eq!(output.outcome("web"), "failed", "{output}"),
        }
    }
}

/// A walk finds one that lives together with one that has ended since.
#[test]
fn whose_generations_each_leave_one_behind() {
    for _ in 0..4 {
        let env = TestEnv::new();
        let hopper = "child=double-fork,setsid,ignore=TERM,hop=300,hop-leaves";
        let web = env.service("web").does(hopper);
        env.table(&[web.key("stop_timeout = '50ms'")]);
        env.up();
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn what_outlives_a_leader_that_crashed() {
    for child in [
        "child=double-fork",
        "child=setsid",
        "child=title=x",
        "tree=2x2",
    ] {
        let env = TestEnv::new();
        env.table(&[env.service("web").does(child)]);
        env.up();
        let leader = env.pid("web");
        leader.kill();
        await_that("the leader lives", || !leader.is_alive());
        let status = env.run(&["--json", "status"]).expect(1);
        assert_eq!(status.state("web"), "orphaned", "{child}: {status}");
        assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stopped");
        env.assert_nobody_left();
        assert!(!env.has_pid_file("web"));
    }
}

#[test]
fn the_family_of_one_service_is_not_that_of_another() {
    let env = TestEnv::new();
    let children = "child=setsid child=double-fork,setsid tree=1x2";
    env.table(&[
        env.service("one").does(children),
        env.service("two").does(children),
    ]);
    env.up();
    let other: Vec<_> = env
        .members()
        .into_iter()
        .filter(|one| one.service == "two")
        .collect();
    assert_eq!(other.len(), 5);
    env.ok(&["stop", "one"]);
    assert!(env.members().iter().all(|one| one.service == "two"));
    assert!(other.iter().all(|one| one.process.is_alive()));
    assert_eq!(env.state("two"), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

/// A service that starts another table's or its own table's service is not its family.
#[test]
fn an_instance_that_a_service_started_by_pidctl_is_not_its_family() {
    let env = TestEnv::new();
    let run = format!("run={} start inner", env!("CARGO_BIN_EXE_pidctl"));
    let when = format!("run-when={}", env.at("go"));
    env.table(&[
        env.service("outer").words(&[&run, &when]),
        env.service("inner"),
    ]);
    env.ok(&["start", "outer"]);
    env.write("go", "");
    await_that("it did not run", || env.log("outer").contains("ran:"));
    let inner = env.pid("inner");
    assert_eq!(
        env.ok(&["--json", "stop", "outer"]).service("outer")["processes"],
        1
    );
    assert!(inner.is_alive());
    assert_eq!(env.state("inner"), "running");
}

#[test]
fn processes_counts_the_whole_family() {
    let env = TestEnv::new();
    let words = "child=setsid child=double-fork,setsid tree=1x2";
    env.table(&[env.service("web").does(words)]);
    env.up();
    assert_eq!(env.ok(&["--json", "stop"]).service("web")["processes"], 5);
    env.assert_nobody_left();
}

#[test]
fn a_start_that_fails_leaves_nobody_who_shed_every_trace() {
    let env = TestEnv::new();
    let words = "child=double-fork,setsid,wipe-env,null-fds exit=3";
    let web = env.service("web").does(words).key("start_attempts = 1");
    env.table(&[web]);
    env.run(&["start"]).expect(1);
    env.assert_nobody_left();
}
