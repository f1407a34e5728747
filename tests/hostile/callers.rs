//! Callers that leave pidctl with as little as a caller can: it works, or says clearly why not.

use nix::fcntl::OFlag;
use nix::sys::resource::Resource;
use std::fs;
use std::path::Path;

use crate::support::{NOBODY, Output, TestEnv, chmod, copy_program, is_root, testee};

fn env_of_one() -> TestEnv {
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid,double-fork")]);
    env
}

fn works(env: &TestEnv, before: &str) {
    let script = |words: &str| {
        let line = format!(
            "{before} \"$PIDCTL\" -c {} {words}",
            env.at("services.toml")
        );
        env.sh(&line).run().expect(0)
    };
    script("start");
    assert_eq!(env.state("web"), "running", "{before}");
    script("stop");
    env.assert_nobody_left();
}

fn fails_clearly(env: &TestEnv, output: Output, what: &str) {
    assert!(output.code() == 1 || output.code() == 2, "{output}");
    assert!(output.said().contains(what), "no {what:?} in {output}");
    assert!(!output.said().contains("panicked"), "{output}");
    env.assert_nobody_left();
}

#[test]
fn closed_descriptors_and_no_environment() {
    let env = env_of_one();
    let home = format!("exec env -i PIDCTL_TEST={}", env.dir().display());
    works(&env, &home);
    works(&env, "exec 0<&- 1>&- 2>&-;");
    works(&env, "umask 077;");
    works(&env, "umask 000;");
    works(&env, "unset HOME PATH;");
    works(&env, "trap '' INT QUIT TERM CHLD HUP;");
}

#[test]
fn a_cwd_that_was_deleted() {
    let env = env_of_one();
    works(&env, "mkdir gone; cd gone; rmdir ../gone;");
}

#[test]
fn standard_output_that_is_full() {
    let env = env_of_one();
    env.sh("exec \"$PIDCTL\" start >/dev/full 2>&1").run();
    assert_eq!(env.state("web"), "running");
    env.sh("exec \"$PIDCTL\" stop >/dev/full 2>&1").run();
    env.assert_nobody_left();
}

#[test]
fn sixteen_descriptors() {
    let env = env_of_one();
    let start = env.pidctl(&["start"]);
    let start = start.limit_resource(Resource::RLIMIT_NOFILE, 16).run();
    if start.code() != 0 {
        assert!(start.said().contains("web"), "{start}");
    }
    let stop = env.pidctl(&["stop"]);
    let stop = stop.limit_resource(Resource::RLIMIT_NOFILE, 16).run();
    if stop.code() != 0 {
        assert!(stop.said().contains("web"), "{stop}");
        env.ok(&["stop"]);
    }
    env.assert_nobody_left();
}

#[test]
fn no_descriptor_to_spare() {
    let env = env_of_one();
    for limit in 3..14 {
        let start = env.pidctl(&["start"]);
        let start = start.limit_resource(Resource::RLIMIT_NOFILE, limit).run();
        assert!(!start.said().contains("panicked"), "{limit}: {start}");
        assert!(start.code() == 0 || !start.said().is_empty(), "{limit}");
        env.ok(&["stop"]);
        env.assert_nobody_left();
    }
}

#[test]
fn files_that_may_not_grow() {
    let env = env_of_one();
    let start = env.pidctl(&["start"]);
    // SIGXFSZ would end it: the service keeps the limit, so it must not write.
    let start = start.limit_resource(Resource::RLIMIT_FSIZE, 1).run();
    assert_ne!(start.code(), 0, "{start}");
    assert!(!start.said().contains("panicked"), "{start}");
    env.run(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn no_more_processes() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    for name in ["pids", "logs"] {
        fs::create_dir(env.path(name)).expect("a folder");
        std::os::unix::fs::chown(env.path(name), Some(NOBODY), Some(NOBODY)).expect("chown");
    }
    let start = env.as_nobody(&["start"]);
    let start = start.limit_resource(Resource::RLIMIT_NPROC, 0).run();
    fails_clearly(&env, start, "web");
}

#[test]
fn no_proc_at_all() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    let script = "mount -t tmpfs none /proc && exec \"$PIDCTL\" start";
    let output = env
        .program(Path::new("unshare"))
        .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
        .args(&["-m", "sh", "-c", script])
        .run();
    fails_clearly(&env, output, "/proc");
}

/// A real chroot: the system's folders and the test's own, and `/proc` where it is asked for.
fn in_chroot(env: &TestEnv, proc: &str, words: &str) -> Output {
    // The build may be anywhere; a chroot shows what is bound into it.
    if !env.exists("pidctl") {
        copy_program(Path::new(env!("CARGO_BIN_EXE_pidctl")), &env.path("pidctl"));
    }
    let script = format!(
        "set -e; mkdir -p root{dir} root/proc
         for at in /usr /bin /lib /lib64 /dev /etc {dir}; do
           test -e $at || continue; mkdir -p root$at; mount --bind $at root$at
         done
         {proc}
         exec chroot root {dir}/pidctl -c {dir}/services.toml {words}",
        dir = env.dir().display(),
    );
    let unshare = env.program(Path::new("unshare"));
    let unshare = unshare.args(&["-m", "--propagation", "private", "sh", "-c"]);
    unshare.arg(script).run()
}

#[test]
fn a_chroot_without_proc() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    copy_program(&testee(), &env.path("program"));
    let words = [&env.at("program"), "child=setsid,double-fork"];
    env.table(&[env.service("web").exec(&words)]);
    let mounted = "mount -t proc proc root/proc";
    // With /proc it is a caller like any other, so the chroot itself is in nobody's way.
    in_chroot(&env, mounted, "start").expect(0);
    assert_eq!(env.state("web"), "running");
    let leader = env.pid("web");
    for words in [
        "start",
        "stop",
        "restart",
        "status",
        "free 1",
        "--json status",
    ] {
        let output = in_chroot(&env, "", words);
        assert!([1, 4].contains(&output.code()), "{words}: {output}");
        assert!(output.stderr.contains("/proc"), "{words}: {output}");
        assert!(leader.is_alive() && env.has_pid_file("web"), "{words}");
    }
    in_chroot(&env, mounted, "stop").expect(0);
    env.assert_nobody_left();
    let start = in_chroot(&env, "", "start");
    fails_clearly(&env, start, "/proc");
}

#[test]
fn a_pid_namespace() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    let inside = "set -e; \"$PIDCTL\" start; \"$PIDCTL\" status; \"$PIDCTL\" stop";
    let unshare = env.program(Path::new("unshare"));
    let unshare = unshare.env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"));
    let output = unshare.args(&["-pf", "--mount-proc", "sh", "-c", inside]);
    output.run().expect(0).expect_said("running");
    env.assert_nobody_left();
}

/// Its /proc shows other processes under the numbers that pidctl forks, holds and signals.
#[test]
fn a_pid_namespace_without_its_own_proc() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    env.up();
    let leader = env.pid("web");
    for words in ["start", "stop", "status", "free 1"] {
        // The shell is PID 1, so that no number is pidctl's by chance.
        let inside = format!("\"$PIDCTL\" {words}; exit $?");
        let unshare = env.program(Path::new("unshare"));
        let unshare = unshare.env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"));
        let output = unshare.args(&["-pf", "sh", "-c", &inside]).run();
        assert!([1, 4].contains(&output.code()), "{words}: {output}");
        assert!(output.stderr.contains("PID namespace"), "{words}: {output}");
        assert!(leader.is_alive() && env.has_pid_file("web"), "{words}");
    }
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_pipe_that_is_full() {
    let env = env_of_one();
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).expect("a pipe");
    while nix::unistd::write(&write, &[0; 4096]).is_ok() {}
    for words in ["start", "stop"] {
        // It does not wait for a reader that does not read: what it says is lost, which is a failure.
        let full = write.try_clone().expect("a descriptor");
        let output = env.pidctl(&[words]).stdout(full).run().expect(1);
        assert!(output.stderr.contains("standard output"), "{output}");
        let state = env.state("web");
        assert_eq!(state == "running", words == "start", "{words}: {state}");
    }
    env.assert_nobody_left();
    drop(read);
}

#[test]
fn a_full_disk_under_the_pid_folder_and_one_that_may_not_be_written() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    let folders = "mkdir -p pids; mount -t tmpfs -o size=4k,mode=755 none pids";
    let fill = "head -c 100000 /dev/zero >pids/fill 2>/dev/null";
    let full = format!("{folders}; {fill}; \"$PIDCTL\" start");
    let read_only = format!("{folders} && mount -o remount,ro pids && \"$PIDCTL\" start");
    for script in [full, read_only] {
        let output = env
            .program(Path::new("unshare"))
            .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
            .args(&["-m", "sh", "-c", &script])
            .run();
        fails_clearly(&env, output, "web");
    }
}

#[test]
fn a_pid_folder_that_everybody_may_write() {
    let env = env_of_one();
    env.up();
    chmod(&env.path("pids"), 0o777);
    for words in [["start"], ["stop"]] {
        let output = env.run(&words);
        assert_eq!(output.code(), 1, "{output}");
        assert!(output.said().contains("chmod"), "{output}");
    }
    chmod(&env.path("pids"), 0o755);
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn an_ordinary_user_before_roots_service() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = env_of_one();
    env.up();
    let stop = env.as_nobody(&["stop"]).run();
    assert_eq!(stop.code(), 1, "{stop}");
    assert_eq!(env.state("web"), "running");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}
