//! PIDs reused for real, wherever one is on disk between two commands. In a PID namespace of its own,
//! where the next PID can be chosen; root alone can have one.

// What runs in the child before exec cannot be said otherwise.
#![allow(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::support::{Process, TestEnv, await_that, is_root};

/// Runs the test of that name again as a process of a new PID namespace, and is true in it.
pub fn in_namespace(name: &str) -> bool {
    if std::env::var_os("PIDCTL_IN_NAMESPACE").is_some() {
        return true;
    }
    if !is_root() {
        eprintln!("skipped: needs root");
        return false;
    }
    // The shell reaps the orphans, as init would.
    let output = Command::new("unshare")
        .args([
            "-pf",
            "--mount-proc",
            "sh",
            "-c",
            "\"$0\" --exact \"$1\"; exit $?",
        ])
        .arg(std::env::current_exe().expect("this test"))
        .arg(name)
        .env("PIDCTL_IN_NAMESPACE", "1")
        .output()
        .expect("unshare(1)");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a PID namespace: {said}"
    );
    false
}

/// An innocent process that has exactly this PID: the same program with the same words, and in a
/// session of its own where `session`.
pub struct Innocent {
    child: std::process::Child,
}

/// Seconds since boot.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("/proc/uptime");
    let first = text.split(' ').next().expect("a number");
    first.parse().expect("seconds")
}

impl Innocent {
    pub fn with_pid(env: &TestEnv, pid: i32, session: bool) -> Innocent {
        gone(pid);
        // Start times are counted in ticks of 10 ms. Without ns_last_pid no number comes round in one.
        let since = uptime();
        await_that("the clock stands still", || uptime() > since + 0.02);
        for _ in 0..1000 {
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("ns_last_pid");
            let mut command = Command::new(crate::support::testee());
            command
                .arg("catch=TERM+CONT")
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("PIDCTL_TEST", env.dir())
                .current_dir(env.dir())
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            if session {
                // SAFETY: one system call, nothing is allocated.
                unsafe {
                    command.pre_exec(|| {
                        nix::unistd::setsid()?;
                        Ok(())
                    })
                };
            }
            let mut child = command.spawn().expect("an innocent");
            if child.id() as i32 == pid {
                return Innocent { child };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("PID {pid} cannot be had");
    }

    pub fn assert_untouched(&mut self) {
        assert!(
            self.child.try_wait().expect("wait").is_none(),
            "the innocent was ended"
        );
    }
}

impl Innocent {
    /// Its number is free then.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        self.end();
    }
}

fn kill_all(env: &TestEnv) {
    let own = std::process::id() as i32;
    for process in env.survivors() {
        if process.pid != own {
            process.kill();
        }
    }
    await_that("somebody lives", || env.survivors().is_empty());
}

pub fn gone(pid: i32) {
    await_that("the PID is still taken", || Process::of(pid).is_none());
}

/// The record's leader crashed, and its PID is an innocent's; with and without the PID file.
#[test]
fn the_leader_of_a_record() {
    if !in_namespace("reused::the_leader_of_a_record") {
        return;
    }
    for (keep_file, first) in [
        (true, "stop"),
        (false, "stop"),
        (true, "start"),
        (false, "start"),
    ] {
        let env = TestEnv::new();
        env.table(&[env.service("web").does("catch=TERM+CONT exit-on=TERM")]);
        env.up();
        let leader = env.pid("web").pid;
        kill_all(&env);
        gone(leader);
        let mut innocent = Innocent::with_pid(&env, leader, true);
        if !keep_file {
            env.remove("pids/web.pid");
        }
        assert_ne!(env.state("web"), "running");
        env.ok(&[first]);
        innocent.assert_untouched();
        if first == "start" {
            assert_ne!(env.pid("web").pid, leader);
        }
        env.ok(&["restart"]);
        env.ok(&["stop", "--force"]);
        innocent.assert_untouched();
    }
}

/// A script's PID file, written before its process died and another got the PID: same program, same
/// command line, but younger than the file.
#[test]
fn a_pid_file_without_a_record() {
    if !in_namespace("reused::a_pid_file_without_a_record") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env.service("web").exec(&[
        &crate::support::testee().display().to_string(),
        "catch=TERM+CONT",
    ])]);
    fs::create_dir(env.path("pids")).expect("a folder");
    let pid = 3000;
    env.write("pids/web.pid", format!("{pid}\n"));
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    let file = fs::File::options()
        .write(true)
        .open(env.path("pids/web.pid"));
    file.expect("a file").set_modified(old).expect("a time");
    let mut innocent = Innocent::with_pid(&env, pid, true);
    assert_eq!(env.state("web"), "stale");
    env.ok(&["stop", "--force"]);
    innocent.assert_untouched();
    env.write("pids/web.pid", format!("{pid}\n"));
    let file = fs::File::options()
        .write(true)
        .open(env.path("pids/web.pid"));
    file.expect("a file").set_modified(old).expect("a time");
    env.ok(&["start"]);
    assert_ne!(env.pid("web").pid, pid);
    env.ok(&["stop"]);
    innocent.assert_untouched();
}

/// The members that a stop or a daemon wrote into the record; one of them is an innocent's PID now.
#[test]
fn a_member_of_a_record() {
    if !in_namespace("reused::a_member_of_a_record") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .does("child=catch=TERM child=setsid,double-fork daemonize")
        .key("daemonizes = true")]);
    env.up();
    let leader = env.pid("web").pid;
    // One that init reaps at once.
    let mut member = None;
    await_that("no member is init's child", || {
        member = env
            .survivors()
            .into_iter()
            .find(|one| one.pid != leader && one.parent() == 1);
        member.is_some()
    });
    let member = member.expect("a member");
    member.kill();
    gone(member.pid);
    let mut innocent = Innocent::with_pid(&env, member.pid, true);
    env.ok(&["stop", "--force"]);
    innocent.assert_untouched();
}

/// The session that pidctl made is gone with all its processes, and an innocent leads one of that
/// number, while others of the family live in sessions of their own.
#[test]
fn the_number_of_a_session() {
    if !in_namespace("reused::the_number_of_a_session") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid,double-fork")]);
    env.up();
    let leader = env.pid("web");
    leader.kill();
    gone(leader.pid);
    let mut innocent = Innocent::with_pid(&env, leader.pid, true);
    assert_eq!(env.state("web"), "orphaned");
    env.ok(&["stop", "--force"]);
    innocent.assert_untouched();
    let own = innocent.child.id() as i32;
    assert!(env.survivors().iter().all(|one| one.pid == own));
}

/// Who started, or stopped, died, and an innocent has its PID: it is no command at work.
#[test]
fn the_command_behind_a_claim() {
    if !in_namespace("reused::the_command_behind_a_claim") {
        return;
    }
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .does("exit-on=TERM slow=2000")
        .key("prepare = \"test -e begun && exit; touch begun; sleep 600\"")
        .key("stop_timeout = \"20s\"")]);
    let start = env.pidctl(&["start"]).spawn();
    env.await_file("begun");
    let starter = start.process();
    starter.kill();
    start.finish();
    gone(starter.pid);
    let mut first = Innocent::with_pid(&env, starter.pid, true);
    env.up();
    let stop = env.pidctl(&["stop"]).spawn();
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    let stopper = stop.process();
    stopper.kill();
    stop.finish();
    gone(stopper.pid);
    let mut second = Innocent::with_pid(&env, stopper.pid, true);
    assert_ne!(env.state("web"), "stopping");
    env.ok(&["start"]);
    env.ok(&["stop", "--force"]);
    first.assert_untouched();
    second.assert_untouched();
}
