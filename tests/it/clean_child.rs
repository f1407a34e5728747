//! A clean child: what a service inherits, whatever the caller had.

use nix::sys::resource::Resource;
use nix::sys::signal::Signal;

use crate::support::{Process, TestEnv};

const HOSTILE: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGCHLD,
    Signal::SIGUSR1,
    Signal::SIGXFSZ,
];
const BLOCKED: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGCHLD,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// A table of one service that writes down what it was given.
fn telling(env: &TestEnv) {
    let dump = format!("dump={}", env.at("given"));
    env.table(&[env.service("web").does(&dump)]);
}

fn given(env: &TestEnv, name: &str) -> String {
    let status = env.read("given.status");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.strip_prefix(':'));
    value
        .unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .to_owned()
}

/// The set without 32 and 33: they are the C library's own, and its posix_spawn(3), by which tests
/// are often started, leaves them ignored.
fn signals(env: &TestEnv, set: &str) -> u64 {
    let bits = u64::from_str_radix(&given(env, set), 16).expect("a signal set");
    bits & !(0b11 << 31)
}

#[test]
fn dispositions_are_the_default_and_the_mask_is_empty() {
    let env = TestEnv::new();
    telling(&env);
    env.pidctl(&["start"])
        .signals(HOSTILE, BLOCKED)
        .run()
        .expect(0);
    env.await_ready();
    for set in ["SigIgn", "SigBlk", "SigCgt"] {
        assert_eq!(signals(&env, set), 0, "{set}");
    }
}

#[test]
fn pidctl_itself_works_for_a_caller_that_ignores_and_blocks_signals() {
    let env = TestEnv::new();
    let bad = env.service("bad").does("exit=37").key("start_attempts = 1");
    env.table(&[
        env.service("web")
            .does("child=ignore=TERM")
            .key("stop_timeout = '300ms'"),
        bad,
    ]);
    let call = |args: &[&str]| env.pidctl(args).signals(HOSTILE, BLOCKED);
    let output = call(&["start"]).run().expect(1);
    assert!(
        output.said().contains("37"),
        "the exit status is lost: {output}"
    );
    env.await_file("ready/web");
    call(&["status", "web"]).run().expect(0);
    assert_eq!(
        call(&["--json", "stop"]).run().expect(0).outcome("web"),
        "killed"
    );
    env.assert_nobody_left();
}

#[test]
fn a_session_and_a_group_of_its_own() {
    let env = TestEnv::new();
    telling(&env);
    env.up();
    let web = env.pid("web");
    assert_eq!(web.session(), web.pid);
    assert_eq!(web.group(), web.pid);
}

#[test]
fn no_descriptor_but_its_three() {
    let env = TestEnv::new();
    telling(&env);
    env.sh("exec 7>seven 8</dev/null 9>nine; exec 6>&1; \"$PIDCTL\" start")
        .run()
        .expect(0);
    env.await_ready();
    let fds = env.read("given.fds");
    let lines: Vec<&str> = fds.lines().collect();
    let log = format!("{}", env.path("logs/web.log").display());
    assert_eq!(
        lines,
        ["0 /dev/null", &format!("1 {log}"), &format!("2 {log}")]
    );
}

#[test]
fn a_caller_that_captures_the_output_gets_it_at_once() {
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid,ignore=TERM")]);
    let script = "exec 9>held; x=$(\"$PIDCTL\" start 2>&1); echo \"captured: $x\" | cat";
    let output = env.sh(script).run().expect(0);
    assert!(output.stdout.contains("captured:"), "{output}");
    assert!(output.stdout.contains("web"), "{output}");
    assert_eq!(env.state("web"), "running");
}

#[test]
fn every_attempt_and_every_instance_begins_clean() {
    let env = TestEnv::new();
    telling(&env);
    env.up();
    env.forget_ready();
    env.pidctl(&["restart"])
        .signals(HOSTILE, BLOCKED)
        .run()
        .expect(0);
    env.await_ready();
    assert_eq!(signals(&env, "SigIgn"), 0);
    assert_eq!(env.read("given.fds").lines().count(), 3);
}

#[test]
fn resource_limits_are_the_callers() {
    let env = TestEnv::new();
    telling(&env);
    let call = env
        .pidctl(&["start"])
        .limit_resource(Resource::RLIMIT_NOFILE, 123);
    call.run().expect(0);
    env.await_ready();
    let limits = env.read("given.limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = line.expect("a limit").split_whitespace().collect();
    assert_eq!(words[3..5], ["123", "123"]);
}

#[test]
fn it_stays_in_the_callers_cgroup() {
    let env = TestEnv::new();
    telling(&env);
    env.up();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(env.read("given.cgroup"), own);
}

#[test]
fn the_umask_of_the_caller_does_not_matter_to_the_pid_file() {
    for umask in ["000", "022", "077"] {
        let env = TestEnv::new();
        env.table(&[env.service("web")]);
        env.sh(&format!("umask {umask}; \"$PIDCTL\" start"))
            .run()
            .expect(0);
        let pid = env.pid("web");
        assert_eq!(env.read("pids/web.pid"), format!("{}\n", pid.pid));
        assert_eq!(
            crate::support::mode(&env.path("pids/web.pid")),
            0o644,
            "umask {umask}"
        );
        assert_eq!(
            crate::support::mode(&env.path("pids")),
            0o755,
            "umask {umask}"
        );
        let uid = nix::unistd::geteuid();
        use std::os::unix::fs::MetadataExt;
        for entry in std::fs::read_dir(env.path("pids")).unwrap().flatten() {
            let file = entry.metadata().unwrap();
            assert_eq!(file.uid(), uid.as_raw());
            assert_eq!(file.mode() & 0o022, 0, "{:?}", entry.path());
        }
        env.ok(&["stop"]);
    }
}

#[test]
fn nothing_of_pidctl_stays_once_it_has_started_a_service() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    let others: Vec<Process> = env
        .survivors()
        .into_iter()
        .filter(|process| *process != leader)
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
