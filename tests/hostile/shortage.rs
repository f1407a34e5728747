//! Descriptors that run out in the middle of a look, and a gate that cannot be opened: who could not be
//! looked at is not gone, and what could not be let through has not run. In a PID namespace: among few
//! processes no second thread walks, which the tracer would not follow.

use libc::{EMFILE, ENFILE};
use std::process::Command;

use crate::ground::{capture, said};
use crate::reused::in_namespace;
use crate::support::{Process, TestEnv};
use crate::tracer::{Blow, Call, End, trace};

/// Runs pidctl with every call failing that `failing` has an errno for. Its exit status, and all it said.
fn pidctl(env: &TestEnv, words: &[&str], failing: &dyn Fn(&Call) -> Option<i32>) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pidctl"));
    command
        .args(words)
        .current_dir(env.dir())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PIDCTL_TEST", env.dir());
    let output = capture(env);
    let traced = trace(command, &output, 0, Blow::FailAll, failing).expect("a traced pidctl");
    let text = said(env);
    assert!(!traced.hung, "{words:?}: hung, having said {text}");
    assert!(traced.hit.is_some(), "{words:?}: nothing failed: {text}");
    assert!(!text.contains("panicked"), "{words:?}: {text}");
    match traced.end {
        End::Code(code) => (code, text),
        End::Signal(signal) => panic!("{words:?}: signal {signal}, having said {text}"),
    }
}

/// Every opening of that file of /proc, by whichever path, fails for want of descriptors.
fn no_descriptor_for(file: String, errno: i32) -> impl Fn(&Call) -> Option<i32> {
    move |call| {
        let opened = call.opens()?;
        (opened.strip_prefix("/proc/").unwrap_or(&opened) == file).then_some(errno)
    }
}

/// Two services, so that the record names nobody beside the leaders; and the child of the first that
/// ancestry does not show, with this word of its own.
fn with_a_stray(word: &str) -> (TestEnv, Process) {
    let env = TestEnv::new();
    let child = format!("child=double-fork,setsid,{word}");
    env.table(&[env.service("web").does(&child), env.service("other")]);
    env.up();
    let (web, other) = (env.pid("web"), env.pid("other"));
    let survivors = env.survivors();
    let stray = survivors.iter().find(|one| **one != web && **one != other);
    let stray = *stray.unwrap_or_else(|| panic!("no stray in {survivors:?}"));
    (env, stray)
}

/// What a walk reads of the stray: that it is there, its token, and the lock on its output.
#[test]
fn a_walk_that_could_not_look_proves_nothing() {
    if !in_namespace("shortage::a_walk_that_could_not_look_proves_nothing") {
        return;
    }
    for (word, file) in [
        ("title=x", "stat"),
        ("catch=CONT", "environ"),
        ("wipe-env", "fdinfo/1"),
    ] {
        for errno in [EMFILE, ENFILE] {
            let (env, stray) = with_a_stray(word);
            let failing = no_descriptor_for(format!("{}/{file}", stray.pid), errno);
            let (code, text) = pidctl(&env, &["stop", "web"], &failing);
            assert_eq!(code, 1, "{file}: {text}");
            assert!(
                text.contains("too many") || text.contains("Too many"),
                "{file}: {text}"
            );
            // It was told nothing, so it is there still: and is not forgotten.
            assert!(stray.is_alive(), "{file}: {text}");
            assert_eq!(env.state("web"), "orphaned", "{file}: {text}");
            env.ok(&["stop"]);
            env.assert_nobody_left();
        }
    }
}

#[test]
fn a_walk_that_cannot_begin_proves_nothing() {
    if !in_namespace("shortage::a_walk_that_cannot_begin_proves_nothing") {
        return;
    }
    for file in ["/proc", "loadavg"] {
        let (env, stray) = with_a_stray("catch=CONT");
        let failing = no_descriptor_for(file.to_owned(), EMFILE);
        let (code, text) = pidctl(&env, &["stop", "web"], &failing);
        assert_eq!(code, 1, "{file}: {text}");
        assert!(stray.is_alive(), "{file}: {text}");
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn a_leader_that_could_not_be_looked_at_is_not_gone() {
    if !in_namespace("shortage::a_leader_that_could_not_be_looked_at_is_not_gone") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    let failing = no_descriptor_for(format!("{}/stat", leader.pid), EMFILE);
    let (code, text) = pidctl(&env, &["--json", "status"], &failing);
    assert_eq!(code, 4, "{text}");
    for words in [
        &["start"][..],
        &["stop"],
        &["restart"],
        &["stop", "--force"],
    ] {
        let (code, text) = pidctl(&env, words, &failing);
        assert_eq!(code, 1, "{words:?}: {text}");
        assert_eq!(env.pid("web"), leader, "{words:?}: {text}");
        assert_eq!(env.state("web"), "running", "{words:?}");
        assert_eq!(env.survivors(), [leader], "{words:?}: {text}");
    }
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_holder_whose_descriptors_could_not_be_read_leaves_no_port_free() {
    if !in_namespace("shortage::a_holder_whose_descriptors_could_not_be_read_leaves_no_port_free") {
        return;
    }
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let holder = env.bystander(&["listen", &format!("port={port}")]);
    let failing = no_descriptor_for(format!("{}/fd", holder.pid()), EMFILE);
    let port = port.to_string();
    for words in [&["free", &port][..], &["start"]] {
        let (code, text) = pidctl(&env, words, &failing);
        assert_eq!(code, 1, "{words:?}: {text}");
        holder.assert_alive();
        assert!(!env.has_pid_file(&id), "{words:?}: {text}");
    }
}

/// Nobody has passed it, whichever of its calls fails: that is said, and nobody is left behind it.
#[test]
fn a_gate_that_cannot_be_opened() {
    if !in_namespace("shortage::a_gate_that_cannot_be_opened") {
        return;
    }
    let is_gates_write = |call: &Call| {
        let bytes = || call.memory(1, call.args[2].min(64) as usize);
        call.number == libc::SYS_write && !bytes().is_empty() && bytes().iter().all(|b| *b == b'!')
    };
    let is_duplication = |call: &Call| {
        call.number == libc::SYS_fcntl && call.args[1] as i32 == libc::F_DUPFD_CLOEXEC
    };
    type Kind<'a> = &'a dyn Fn(&Call) -> bool;
    let kinds: [(Kind, i32); 3] = [
        (&is_gates_write, libc::EIO),
        (&is_gates_write, libc::EPIPE),
        (&is_duplication, EMFILE),
    ];
    for (kind, errno) in kinds {
        for words in [&["start"][..], &["start", "--no-wait"]] {
            let env = TestEnv::new();
            let prepared = env.service("prepared").key("prepare = \"true\"");
            env.table(&[env.service("web"), prepared]);
            let (code, text) = pidctl(&env, words, &|call| kind(call).then_some(errno));
            assert_eq!(code, 1, "{words:?}: {text}");
            let told = text.matches("be let through to its command").count();
            assert!(told >= 2, "{words:?}: {text}");
            env.await_no_pidctl();
            env.assert_nobody_left();
            for id in ["web", "prepared"] {
                assert_eq!(env.state(id), "stopped", "{words:?}: {text}");
                assert!(!env.has_pid_file(id), "{words:?}: {text}");
            }
            env.up();
            env.ok(&["stop"]);
            env.assert_nobody_left();
        }
    }
}
