//! The testee is what it says it is: without this the other tests prove nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::{PATIENCE, Process, TestEnv, await_that, eventually};

const TERM: i32 = libc::SIGTERM;

/// The processes of a bystander's family but the bystander, as they named themselves.
fn member(env: &TestEnv, word: &str) -> Process {
    env.member(word)
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}

fn await_death(process: Process) {
    await_that("it is alive", || !process.is_alive());
}

#[test]
fn serves_http_on_its_port() {
    let env = TestEnv::new();
    let port = env.free_port();
    let words = [
        "listen",
        &format!("port={port}"),
        &format!("failing-until={}", env.at("well")),
    ];
    let _server = env.bystander(&words);
    assert!(get(port, "/").starts_with("HTTP/1.1 500"));
    env.write("well", "");
    assert!(get(port, "/").starts_with("HTTP/1.1 200"));
    assert!(get(port, "/missing").starts_with("HTTP/1.1 404"));
    assert!(get(port, "/moved").starts_with("HTTP/1.1 302"));
}

#[test]
fn holds_other_kinds_of_sockets() {
    let env = TestEnv::new();
    let (six, any, udp, shared) = (
        env.free_port(),
        env.free_port(),
        env.free_port(),
        env.free_port(),
    );
    let _six = env.bystander(&["listen6", &format!("port={six}")]);
    assert!(TcpStream::connect(("::1", six)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", six)).is_err());
    let _any = env.bystander(&["listen-any", &format!("port={any}")]);
    assert!(TcpStream::connect(("::1", any)).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", any)).is_ok());
    let _udp = env.bystander(&["udp", &format!("port={udp}")]);
    assert!(UdpSocket::bind(("127.0.0.1", udp)).is_err());
    let words = ["listen", "reuseport", &format!("port={shared}")];
    let _first = env.bystander(&words);
    let _second = env.bystander(&words);
}

#[test]
fn listens_when_told_and_connects_as_a_client() {
    let env = TestEnv::new();
    let port = env.free_port();
    let when = format!("listen-when={}", env.at("go"));
    let _server = env.bystander(&["listen", &format!("port={port}"), &when]);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    env.write("go", "");
    await_that("nobody listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let client = env.bystander(&[&format!("client={port}")]);
    client.assert_alive();
}

#[test]
fn dispositions_and_masks_are_as_told() {
    let env = TestEnv::new();
    let plain = env.bystander(&["say=plain"]);
    let plain = plain.process();
    assert!(!plain.has_signal("SigIgn", TERM) && !plain.has_signal("SigCgt", TERM));
    let ignores = env.bystander(&["ignore=TERM+INT"]);
    assert!(ignores.process().has_signal("SigIgn", TERM));
    assert!(ignores.process().has_signal("SigIgn", libc::SIGINT));
    let blocks = env.bystander(&["sigwait=TERM"]);
    assert!(blocks.process().has_signal("SigBlk", TERM));
    assert!(!blocks.process().has_signal("SigCgt", TERM));
    let blocking = blocks.process();
    blocking.signal(TERM);
    await_death(blocking);
    let catches = env.bystander(&["catch=TERM", "exit-on=INT"]);
    assert!(catches.process().has_signal("SigCgt", TERM));
    await_that("it blocks what it catches", || {
        !catches.process().has_signal("SigBlk", TERM)
    });
    catches.process().signal(TERM);
    catches.process().signal(libc::SIGINT);
    await_death(catches.process());
    ignores.process().signal(TERM);
    ignores.assert_alive();
}

#[test]
fn children_escape_by_session_group_and_double_fork() {
    let env = TestEnv::new();
    let leader = env.bystander(&[
        "child=setsid",
        "child=setpgid",
        "child=double-fork,ignore=TERM",
        "child=wipe-env,setsid,ignore=INT",
    ]);
    let leader = leader.process();
    let (session, group) = (member(&env, "setpgid"), member(&env, "double-fork"));
    assert_eq!(session.group(), session.pid);
    assert_eq!(session.parent(), leader.pid);
    assert_ne!(group.parent(), leader.pid);
    assert_eq!(group.session(), leader.pid);
    let members = env.members();
    let own_session = members
        .iter()
        .find(|one| one.words.starts_with("setsid") && one.process.pid != leader.pid)
        .expect("the child with a session of its own");
    assert_eq!(own_session.process.session(), own_session.process.pid);
    let wiped = member(&env, "ignore=INT");
    assert!(wiped.file("environ").is_empty());
    assert_eq!(wiped.parent(), leader.pid);
}

#[test]
fn a_tree_is_as_deep_and_as_wide_as_told() {
    let env = TestEnv::new();
    let _root = env.bystander(&["tree=2x2"]);
    // Two children with two children each, and the root.
    assert_eq!(env.members().len(), 7);
}

#[test]
fn rewrites_its_title_and_its_environment() {
    let env = TestEnv::new();
    let one = env.bystander(&["title=worker: idle", "comm=) R 1 1\nx"]);
    let process = one.process();
    let cmdline = process.file("cmdline");
    assert!(cmdline.starts_with(b"worker: idle"), "{cmdline:?}");
    let environ = process.file("environ");
    assert!(
        !environ.windows(11).any(|part| part == b"PIDCTL_TEST"),
        "{environ:?}"
    );
    assert_eq!(process.comm(), ") R 1 1\nx");
    assert!(process.is_alive());
}

#[test]
fn daemonizes_and_the_parent_exits_when_the_daemon_is_ready() {
    let env = TestEnv::new();
    for fds in ["say=x", "null-fds", "close-fds"] {
        let parent = env.bystander(&["daemonize", "ignore=INT", fds]);
        let leader = parent.process();
        await_that("the parent stays", || !leader.is_alive());
        let daemon = member(&env, "ignore=INT");
        assert_eq!(daemon.session(), daemon.pid);
        let out = std::fs::read_link(format!("/proc/{}/fd/2", daemon.pid));
        match fds {
            "null-fds" => assert_eq!(out.unwrap().as_os_str(), "/dev/null"),
            "close-fds" => assert!(out.is_err()),
            _ => assert!(out.is_ok()),
        }
        daemon.kill();
        await_death(daemon);
    }
}

#[test]
fn stops_itself_and_ends_by_its_leading_thread_alone() {
    let env = TestEnv::new();
    let stopped = env.bystander(&["stop"]);
    await_that("it is not stopped", || {
        stopped.process().state() == Some('T')
    });
    let headless = env.bystander(&["leader-thread-exits"]);
    await_that("the leading thread lives", || {
        headless.process().state() == Some('Z')
    });
    assert!(headless.process().is_alive());
    headless.process().signal(TERM);
    await_death(headless.process());
}

#[test]
fn has_zombies_and_successors() {
    let env = TestEnv::new();
    let parent = env.bystander(&["zombies=2"]);
    let own = parent.process().pid;
    let zombies = || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?))
            .filter(|one| one.parent() == own && one.state() == Some('Z'))
            .count()
    };
    await_that("no two zombies", || zombies() == 2);

    let hops = env.bystander(&["hop=5", "exit-on=TERM"]);
    await_that("it did not hop", || !hops.process().is_alive());
    let heir = env.bystander(&["exit-on=TERM", "succeed=2"]);
    heir.process().signal(TERM);
    await_death(heir.process());
}

#[test]
fn tells_what_it_was_given() {
    let env = TestEnv::new();
    let _one = env.bystander(&[&format!("dump={}", env.at("given"))]);
    let fds = env.read("given.fds");
    let numbers: Vec<&str> = fds.lines().filter_map(|l| l.split(' ').next()).collect();
    // The caller of the tests may have left others open; none of them is the testee's own.
    assert!(numbers.starts_with(&["0", "1"]), "{fds}");
    assert!(!fds.contains(&env.at("")), "{fds}");
    assert!(env.read("given.status").contains("SigIgn:"));
    assert!(env.read("given.environ").contains("PIDCTL_TEST="));
    assert_eq!(env.read("given.cwd"), env.dir().display().to_string());
}

#[test]
fn a_second_instance_is_a_violation_that_is_written_down() {
    let env = TestEnv::new();
    let only = format!("only={}", env.at("only"));
    let first = env.bystander(&[&only]);
    let _second = env.bystander(&[&only]);
    assert_eq!(env.read("only").matches("violation").count(), 1);
    drop(first);
    let _third = env.bystander(&[&only]);
    assert_eq!(env.read("only").matches("instance").count(), 2);
}

#[test]
fn runs_a_command_when_told_and_exits_as_told() {
    let env = TestEnv::new();
    let _one = env.bystander(&[
        &format!("run=echo \"$PIDCTL_TEST\" > {}", env.at("ran")),
        &format!("run-when={}", env.at("go")),
    ]);
    env.write("go", "");
    let expected = format!("{}\n", env.dir().display());
    eventually(PATIENCE, || {
        let ran = std::fs::read_to_string(env.path("ran")).unwrap_or_default();
        (ran == expected).then_some(()).ok_or(ran)
    });
    assert!(!env.exists("go"));
    let leaves = env.bystander(&["exit=3", &format!("exit-when={}", env.at("end"))]);
    leaves.assert_alive();
    env.write("end", "");
    await_death(leaves.process());
}

/// The proof itself: whoever escapes is still seen, and ended when the test ends.
#[test]
fn nobody_escapes_the_test() {
    let env = TestEnv::new();
    let seen: Vec<Process> = {
        let leader = env.bystander(&[
            &format!("fifo={}", env.at("alive")),
            "exit=0",
            "child=setsid,double-fork,wipe-env,ignore=TERM,close-fds",
            "child=double-fork,title=x,stop",
            "child=setsid,double-fork,null-fds,hop=100000",
        ]);
        await_death(leader.process());
        env.survivors()
    };
    assert!(seen.len() >= 2, "{seen:?}");
    let caught = std::panic::catch_unwind(|| env.assert_nobody_left());
    assert!(caught.is_err(), "the proof proved too little");
    let dir = env.dir().to_owned();
    drop(env);
    for process in seen {
        assert!(!process.is_alive(), "{process:?} outlived its test");
    }
    assert!(!dir.exists());
    let listeners = TcpListener::bind(("127.0.0.1", 0));
    assert!(listeners.is_ok());
}
