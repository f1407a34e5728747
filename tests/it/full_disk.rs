//! A full disk, no descriptors, no right to write: told per service, and nothing untracked.

use std::path::Path;

use nix::sys::resource::Resource;

use crate::support::{Invocation, Output, TestEnv, is_root};

/// Runs the script where `small/` is a file system of a few pages.
fn on_a_small_disk(env: &TestEnv, script: &str) -> Option<Output> {
    let unshare = Path::new("/usr/bin/unshare");
    if !is_root() || !unshare.exists() {
        eprintln!("skipped: needs root and unshare(1)");
        return None;
    }
    env.write("small/file", "");
    let script =
        format!("mount -t tmpfs -o size=16k,nr_inodes=64,mode=755 none small || exit 77\n{script}");
    let call: Invocation = env
        .program(unshare)
        .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
        .args(&["-m", "--propagation", "private", "/bin/sh", "-c", &script]);
    let output = call.run();
    if output.code() == 77 {
        eprintln!("skipped: {output}");
        return None;
    }
    Some(output)
}

#[test]
fn a_start_on_a_full_disk_fails_by_name_and_leaves_nobody() {
    let env = TestEnv::new();
    let entries = [env.service("one").does("child=setsid"), env.service("two")];
    env.table_in("services.toml", "pids_dir = 'small/pids'", &entries);
    let script = "mkdir small/pids; cat /dev/zero > small/fill 2>/dev/null
        \"$PIDCTL\" --json start; echo $? > code
        \"$PIDCTL\" stop >/dev/null; exit 0";
    let Some(output) = on_a_small_disk(&env, script) else {
        return;
    };
    assert_eq!(env.read("code"), "1\n", "{output}");
    assert!(output.stdout.contains("\"one\"") && output.stdout.contains("\"two\""));
    env.assert_nobody_left();
}

#[test]
fn a_stop_on_a_full_disk_ends_the_processes() {
    let env = TestEnv::new();
    let web = env
        .service("web")
        .does("child=double-fork,setsid,ignore=TERM");
    let head = "pids_dir = 'small/pids'\nlogs_dir = 'small/logs'";
    env.table_in("services.toml", head, &[web.key("stop_timeout = '300ms'")]);
    let script = "\"$PIDCTL\" start || exit 1
        while ! test -e ready/web; do :; done
        cat /dev/zero > small/fill 2>/dev/null
        \"$PIDCTL\" stop; echo $? > code; exit 0";
    let Some(output) = on_a_small_disk(&env, script) else {
        return;
    };
    env.assert_nobody_left();
    assert!(
        ["0\n", "1\n"].contains(&env.read("code").as_str()),
        "{output}"
    );
}

#[test]
fn a_stop_on_a_read_only_disk_ends_the_processes_and_tells_what_could_not_be_removed() {
    let env = TestEnv::new();
    let web = env.service("web").does("child=setsid");
    let head = "pids_dir = 'small/pids'\nlogs_dir = 'small/logs'";
    env.table_in("services.toml", head, &[web]);
    // Writers to the log keep the file system from becoming read-only: a bind mount does.
    let script = "\"$PIDCTL\" start || exit 1
        while ! test -e ready/web; do :; done
        mount --bind small small && mount -o remount,bind,ro small || exit 77
        \"$PIDCTL\" stop; echo $? > code
        \"$PIDCTL\" status >/dev/null; exit 0";
    let Some(output) = on_a_small_disk(&env, script) else {
        return;
    };
    env.assert_nobody_left();
    assert_eq!(env.read("code"), "1\n", "{output}");
    assert!(
        output.stderr.contains("web") || output.stdout.contains("web"),
        "{output}"
    );
}

#[test]
fn few_descriptors_are_told_or_enough_and_nothing_is_untracked() {
    for limit in [4, 6, 8, 10, 16, 24] {
        let env = TestEnv::new();
        let entries: Vec<_> = (0..6)
            .map(|index| env.service(&format!("web{index}")).does("child=setsid"))
            .collect();
        env.table(&entries);
        let call = env
            .pidctl(&["start"])
            .limit_resource(Resource::RLIMIT_NOFILE, limit);
        let output = call.run();
        let members = env.members();
        if output.code() == 0 {
            assert!(members.len() >= 6, "limit {limit}: {output}");
        }
        let status = env.run(&["--json", "status"]);
        for member in &members {
            assert_ne!(
                status.state(&member.service),
                "stopped",
                "limit {limit}: {status}"
            );
        }
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn a_stop_with_few_descriptors_never_lies() {
    for limit in [4, 8, 12, 20] {
        let env = TestEnv::new();
        let entries: Vec<_> = (0..6)
            .map(|index| {
                env.service(&format!("web{index}"))
                    .does("child=setsid tree=1x3")
            })
            .collect();
        env.table(&entries);
        env.up();
        let call = env
            .pidctl(&["stop"])
            .limit_resource(Resource::RLIMIT_NOFILE, limit);
        let output = call.run();
        if output.code() == 0 {
            env.assert_nobody_left();
        }
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn no_more_processes_is_told_by_name() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.write("mine/file", "");
    std::os::unix::fs::chown(env.path("mine"), Some(60_001), Some(60_001)).unwrap();
    let web = env.service("web").exec(&["/bin/sleep", "600"]);
    env.table_in("mine/services.toml", "", &[web]);
    let copy = env.path("pidctl");
    crate::support::copy_program(Path::new(env!("CARGO_BIN_EXE_pidctl")), &copy);
    // A user of its own, whose only process this is.
    let output = env
        .program(&copy)
        .args(&["-c", &env.at("mine/services.toml"), "--json", "start"])
        .limit_resource(Resource::RLIMIT_NPROC, 1)
        .user(60_001, 60_001)
        .run();
    assert_eq!(output.code(), 1, "{output}");
    assert_eq!(output.outcome("web"), "failed");
    assert!(env.survivors().is_empty());
}
