//! Services that become another user: a setuid program, started by an ordinary user.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::support::{NOBODY, Process, TestEnv, chmod, copy_program, is_root, testee};

/// A table whose service an ordinary user starts through a setuid-root setpriv(1), which makes it
/// the user `uid` wholly, or leaves it half; PID files and logs are the ordinary user's.
fn env_of(setpriv: &[&str], words: &[&str]) -> Option<TestEnv> {
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        eprintln!("skipped: needs root and setpriv(1)");
        return None;
    }
    let env = TestEnv::new();
    copy_program(&testee(), &env.path("program"));
    copy_program(Path::new("/usr/bin/setpriv"), &env.path("becomes"));
    fs::set_permissions(env.path("becomes"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    let (becomes, program) = (env.at("becomes"), env.at("program"));
    let ready = format!("ready={}", env.at("ready/web"));
    let mut command = vec![becomes.as_str()];
    command.extend(setpriv);
    command.extend([program.as_str(), &ready]);
    command.extend(words);
    env.table(&[env
        .service("web")
        .exec(&command)
        .key("stop_timeout = \"300ms\"")]);
    give(&env, NOBODY);
    Some(env)
}

/// The folders and all that is in them.
fn give(env: &TestEnv, uid: u32) {
    for name in ["pids", "logs"] {
        let _ = fs::create_dir(env.path(name));
        chmod(&env.path(name), 0o755);
        chown(env.path(name), Some(uid), Some(uid)).expect("chown");
        for file in fs::read_dir(env.path(name)).expect("a folder").flatten() {
            chown(file.path(), Some(uid), Some(uid)).expect("chown");
        }
    }
}

fn start(env: &TestEnv) -> Process {
    env.as_nobody(&["start"]).run().expect(0);
    env.await_file("ready/web");
    env.pid("web")
}

#[test]
fn who_became_root_is_kept_and_told_by_its_user_and_ended_by_root() {
    let words = ["child=setsid", "child=double-fork,setsid"];
    let Some(env) = env_of(&["--reuid", "0", "--regid", "0", "--clear-groups"], &words) else {
        return;
    };
    let leader = start(&env);
    assert_eq!(leader.status("Uid"), "0\t0\t0\t0");
    let status = env.as_nobody(&["--json", "status"]).run().expect(0);
    assert_eq!(status.state("web"), "running");
    for words in [&["stop"][..], &["stop", "--force"], &["restart"]] {
        let stop = env.as_nobody(words).run().expect(1);
        assert!(stop.said().contains("may not signal"), "{stop}");
        assert!(leader.is_alive(), "{stop}");
        assert_eq!(env.pid("web"), leader);
        assert_eq!(env.survivors().len(), 3, "{stop}");
        let status = env.as_nobody(&["--json", "status"]).run().expect(0);
        assert_eq!(status.state("web"), "running", "{status}");
    }
    let again = env.as_nobody(&["--json", "start"]).run().expect(0);
    assert_eq!(again.outcome("web"), "already_running");
    // Root believes no PID file that another could have written, and ends it once it is root's.
    env.run(&["stop"]).expect(1).expect_said("refused");
    assert!(leader.is_alive());
    give(&env, 0);
    env.ok(&["stop"]);
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
}

/// The effective user alone is root: its starter may signal it, but sees neither its environment nor
/// its descriptors.
#[test]
fn who_is_root_in_effect_alone_is_ended_by_its_user() {
    let Some(env) = env_of(
        &["--euid", "0"],
        &["ignore=TERM", "child=double-fork,setsid"],
    ) else {
        return;
    };
    let leader = start(&env);
    assert_eq!(leader.status("Uid"), format!("{NOBODY}\t0\t0\t0"));
    let stop = env.as_nobody(&["--json", "stop"]).run().expect(0);
    assert_eq!(stop.outcome("web"), "killed");
    env.assert_nobody_left();
}

/// It gives its user up for another, of whom the caller is not root either.
#[test]
fn who_became_a_third_user_is_not_lost() {
    let Some(env) = env_of(
        &["--reuid", "60003", "--clear-groups"],
        &["child=double-fork,setsid"],
    ) else {
        return;
    };
    let leader = start(&env);
    let stop = env.as_nobody(&["stop"]).run().expect(1);
    assert!(stop.said().contains("may not signal"), "{stop}");
    assert!(leader.is_alive());
    give(&env, 0);
    env.ok(&["stop"]);
    env.assert_nobody_left();
}
