//! Never the wrong process: whatever a PID file says, only who is proven is signalled.

use std::time::{Duration, SystemTime};

use crate::support::{TestEnv, await_that, is_root, testee};

#[test]
fn a_pid_file_that_names_an_innocent_process_is_stale_and_nobody_is_signalled() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let innocent = env.stranger(&["catch=TERM"]);
    env.write("pids/web.pid", format!("{}\n", innocent.pid()));
    let status = env.run(&["--json", "status"]).expect(1);
    assert_eq!(status.state("web"), "stale");
    let stop = env.ok(&["--json", "stop"]);
    assert_eq!(stop.outcome("web"), "stale_removed");
    assert_eq!(stop.service("web")["signals"], serde_json::json!([]));
    assert!(!env.has_pid_file("web"));
    innocent.assert_alive();
}

#[test]
fn the_same_program_with_another_command_line_is_innocent_too() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let innocent = env.bystander(&["say=somebody else's"]);
    env.write("pids/web.pid", innocent.pid());
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stale_removed");
    innocent.assert_alive();
}

#[test]
fn start_replaces_a_stale_pid_file_and_tells() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let innocent = env.stranger(&[]);
    env.write("pids/web.pid", innocent.pid());
    let output = env.ok(&["start"]);
    assert!(output.said().contains("stale"), "{output}");
    assert_ne!(env.pid_text("web"), innocent.pid());
    assert_eq!(env.state("web"), "running");
    innocent.assert_alive();
}

#[test]
fn a_record_outweighs_a_pid_file_that_somebody_overwrote() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let innocent = env.stranger(&[]);
    env.write("pids/web.pid", innocent.pid());
    env.run(&["status"]);
    env.ok(&["stop"]);
    env.assert_nobody_left();
    innocent.assert_alive();
}

#[test]
fn a_service_is_known_and_stopped_after_its_pid_file_was_removed() {
    let env = TestEnv::new();
    env.table(&[env.service("web").does("child=setsid")]);
    env.up();
    let leader = env.pid("web");
    env.sh("rm -f pids/*.pid").run().expect(0);
    let status = env.ok(&["--json", "status"]);
    assert_eq!(status.state("web"), "running");
    assert_eq!(status.service("web")["pid"], leader.pid);
    assert_eq!(
        env.ok(&["--json", "start"]).outcome("web"),
        "already_running"
    );
    env.sh("rm -f pids/*.pid").run().expect(0);
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stopped");
    env.assert_nobody_left();
}

/// What every start script of old does; `services` of it are moved over without a restart.
#[test]
fn a_pid_file_of_an_old_script_is_recognised_and_the_service_stopped() {
    let env = TestEnv::new();
    let port = env.free_port();
    let program = testee().display().to_string();
    let plain = env.service("plain").exec(&[&program, "say=plain"]);
    let web = env
        .service("web")
        .port(port)
        .shell(&format!("{program} listen"));
    let id = web.id();
    env.table(&[plain, web]);
    let script = format!(
        "mkdir pids; {program} say=plain >plain.log 2>&1 & echo $! > pids/plain.pid
         PORT={port} nohup {program} listen >web.log 2>&1 & echo $! > pids/{id}.pid"
    );
    env.sh(&script)
        .stdout(std::process::Stdio::null())
        .run()
        .expect(0);
    await_that("not ready", || {
        env.read("plain.log").contains("ready") && env.read("web.log").contains("ready")
    });
    let status = env.ok(&["--json", "status"]);
    assert_eq!(status.state("plain"), "running");
    assert_eq!(status.state(&id), "running");
    let output = env.ok(&["--json", "start"]);
    assert_eq!(output.outcome("plain"), "already_running");
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(output.outcome("plain"), "stopped");
    assert_eq!(output.outcome(&id), "stopped");
    env.assert_nobody_left();
    assert!(!env.has_pid_file("plain") && !env.has_pid_file(&id));
}

/// It has no record that would go with it; while it is being stopped, a start must learn of it.
#[test]
fn a_stop_of_what_a_pid_file_alone_proves_is_told_and_leaves_no_claim() {
    let env = TestEnv::new();
    let program = testee().display().to_string();
    let linger = format!("linger={}", env.at("go"));
    let web = env
        .service("web")
        .exec(&[&program, "exit-on=TERM", &linger]);
    env.table(&[web.key("stop_timeout = '1m'")]);
    let script = format!(
        "mkdir pids; {program} exit-on=TERM {linger} >web.log 2>&1 & echo $! > pids/web.pid"
    );
    env.sh(&script)
        .stdout(std::process::Stdio::null())
        .run()
        .expect(0);
    await_that("not ready", || env.read("web.log").contains("ready"));
    let stop = env.pidctl(&["--json", "stop"]).spawn();
    await_that("no signal came", || env.read("web.log").contains("SIGTERM"));
    assert_eq!(env.state("web"), "stopping");
    env.write("go", "");
    assert_eq!(stop.finish().expect(0).outcome("web"), "stopped");
    env.assert_nobody_left();
    assert_eq!(env.read("pids/.pidctl.records"), "");
}

#[test]
fn a_process_younger_than_the_pid_file_is_not_the_one_that_was_written_down() {
    let env = TestEnv::new();
    let program = testee().display().to_string();
    let fifo = format!("fifo={}", env.at("bystanders"));
    env.table(&[env.service("web").exec(&[&program, "setsid", &fifo])]);
    let script = format!("mkdir pids; {program} setsid {fifo} >log 2>&1 & echo $! > pids/web.pid");
    env.sh(&script)
        .stdout(std::process::Stdio::null())
        .run()
        .expect(0);
    await_that("not ready", || env.read("log").contains("ready"));
    let process = env.pid("web");
    let file = std::fs::File::options()
        .write(true)
        .open(env.path("pids/web.pid"))
        .unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    file.set_modified(yesterday).unwrap();
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stale_removed");
    assert!(process.is_alive());
    process.kill();
}

/// `sh` is the service's program, its command line is the table's: but it calls pidctl itself.
#[test]
fn an_ancestor_of_pidctl_is_never_signalled() {
    let env = TestEnv::new();
    let script =
        "mkdir pids; echo $$ > pids/web.pid; \"$PIDCTL\" -q stop -f; echo survived; ls pids";
    env.table(&[env.service("web").exec(&["/bin/sh", "-c", script])]);
    let output = env.sh(script).run().expect(0);
    // It was no service of ours, so the PID file was stale.
    assert_eq!(output.stdout, "survived\n", "{output}");
}

#[test]
fn a_zombie_is_dead() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    // Its parent, this test, does not wait for it.
    let mut child = env.program(&testee()).args(&["exit=0"]).spawn();
    let zombie = child.process();
    await_that("no zombie", || zombie.state() == Some('Z'));
    env.write("pids/web.pid", zombie.pid.to_string());
    assert_eq!(
        env.run(&["--json", "status"]).expect(1).state("web"),
        "stale"
    );
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stale_removed");
    assert!(child.has_ended());
}

/// The PID of a crashed service, given to another process: in a PID namespace of its own, where
/// the next PID can be chosen.
#[test]
fn a_pid_that_was_given_to_another_process_is_not_hit() {
    let unshare = std::path::Path::new("/usr/bin/unshare");
    if !is_root() || !unshare.exists() {
        eprintln!("skipped: needs root and unshare(1)");
        return;
    }
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let program = testee().display().to_string();
    let fifo = env.at("bystanders");
    let script = format!(
        "\"$PIDCTL\" start || exit 10
         pid=$(cat pids/web.pid)
         kill -9 $pid
         while kill -0 $pid 2>/dev/null && ! grep -q 'State:.Z' /proc/$pid/status; do :; done
         n=0
         while :; do
           echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid || exit 11
           {program} fifo={fifo} say=web & other=$!
           [ $other = $pid ] && break
           kill -9 $other; n=$((n + 1)); [ $n -gt 200 ] && exit 12
         done
         \"$PIDCTL\" --json status > status.json
         \"$PIDCTL\" --json stop --force > stop.json || exit 13
         kill -0 $pid && grep -q 'State:.[SR]' /proc/$pid/status && echo innocent lives
         kill -9 $pid"
    );
    let output = env
        .program(unshare)
        .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
        .args(&["-pf", "--mount-proc", "/bin/sh", "-c", &script])
        .run();
    if output.code() == 11 || output.stderr.contains("unshare") {
        eprintln!("skipped: {output}");
        return;
    }
    let output = output.expect(0);
    assert!(output.stdout.contains("innocent lives"), "{output}");
    assert!(env.read("status.json").contains("\"stale\""));
    assert!(env.read("stop.json").contains("\"stale_removed\""));
}
