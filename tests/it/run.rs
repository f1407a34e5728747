//! `run`: services in the foreground, beside other commands, in pipes and as PID 1.

use std::io::Read;

use nix::sys::signal::Signal;

use crate::support::{NOBODY, Process, Running, TestEnv, await_that, is_root};

/// `run` says so: an end before that would be one of the start.
fn await_started(run: &Running, id: &str) {
    await_that("it is not started", || {
        let said = run.stdout() + &run.stderr();
        let is_it = |line: &str| line.starts_with(&format!("{id} ")) && line.contains(" started ");
        said.lines().any(is_it)
    });
}

#[test]
fn the_output_of_this_start_is_shown_and_not_an_older_one() {
    let env = TestEnv::new();
    let unfinished = "printf fresh; exec sleep 600";
    env.table(&[
        env.service("one").words(&["say=hello", "complain=oh"]),
        env.service("two").shell(unfinished),
    ]);
    env.write("logs/one.log", "an older line\n");
    let run = env.pidctl(&["run"]).spawn();
    run.await_stdout("hello");
    await_started(&run, "two");
    run.signal(Signal::SIGTERM);
    let output = run.finish().expect(0);
    // What pidctl says begins in the column of what the services say.
    for line in [
        "one | hello\n",
        "one | oh\n",
        "two | fresh\n",
        "\none   started  ",
    ] {
        assert!(output.stdout.contains(line), "no {line:?} in {output}");
    }
    assert!(!output.stdout.contains("older"), "{output}");
    assert!(output.stderr.contains("another Ctrl-C"), "{output}");
    assert!(env.log("one").contains("hello"), "the log is written too");
    env.assert_nobody_left();
}

#[test]
fn the_first_that_fails_stops_the_rest_where_asked_to() {
    let env = TestEnv::new();
    let bad = format!("exit=4 exit-when={}", env.at("end"));
    env.table(&[env.service("good"), env.service("bad").does(&bad)]);
    let run = env.pidctl(&["run", "--exit-on-failure"]).spawn();
    await_started(&run, "good");
    await_started(&run, "bad");
    env.write("end", "");
    let output = run.finish().expect(1);
    assert!(
        output.stderr.contains("failed: bad (exit status 4)"),
        "{output}"
    );
    env.assert_nobody_left();
    assert!(!env.has_pid_file("good") && !env.has_pid_file("bad"));
}

#[test]
fn without_that_the_others_go_on_and_the_failure_is_told_in_the_end() {
    let env = TestEnv::new();
    env.table(&[
        env.service("good"),
        env.service("bad").does("exit=4").key("start_attempts = 1"),
        env.service("last").key("depends_on = ['bad']"),
    ]);
    let run = env.pidctl(&["run", "--json"]).spawn();
    await_started(&run, "good");
    await_that("it is not skipped", || run.stderr().contains("skipped"));
    run.signal(Signal::SIGTERM);
    let output = run.finish().expect(1);
    assert_eq!(output.outcome("good"), "stopped");
    assert_eq!(output.outcome("bad"), "failed");
    assert_eq!(output.outcome("last"), "skipped");
    assert_eq!(output.ids(), ["good", "bad", "last"]);
    env.assert_nobody_left();
}

/// It takes part in the start that is under way.
#[test]
fn a_failure_ends_starts_that_are_under_way() {
    let env = TestEnv::new();
    let never = format!("listen listen-when={}", env.at("never"));
    let slow = env.service("slow").port(env.free_port()).does(&never);
    env.table(&[
        slow.key("ready_timeout = '10m'"),
        env.service("bad").does("exit=4").key("start_attempts = 1"),
    ]);
    let run = env.pidctl(&["run", "--exit-on-failure"]).run().expect(1);
    assert!(run.stderr.contains("failed: bad"), "{run}");
    env.assert_nobody_left();
}

#[test]
fn death_by_a_signal_is_a_failure() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let run = env.pidctl(&["run", "--json"]).spawn();
    await_started(&run, "web");
    env.pid("web").kill();
    let web = run.finish().expect(1).service("web");
    assert_eq!(web["outcome"], "failed");
    assert_eq!(web["exit_status"], 137);
    assert_eq!(web["exit_signal"], "SIGKILL");
    assert!(!env.has_pid_file("web"));
}

#[test]
fn what_a_leader_leaves_is_stopped() {
    let env = TestEnv::new();
    let words = format!("child=setsid exit=0 exit-when={}", env.at("end"));
    env.table(&[env.service("web").does(&words)]);
    let run = env.pidctl(&["run"]).spawn();
    await_started(&run, "web");
    env.write("end", "");
    let output = run.finish().expect(0);
    assert!(
        output.stdout.contains("stopped what it left: 1"),
        "{output}"
    );
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
    assert_eq!(env.state("web"), "stopped");
}

#[test]
fn a_stop_by_another_command_is_told_and_no_failure() {
    let env = TestEnv::new();
    env.table(&[env.service("one"), env.service("two")]);
    let run = env.pidctl(&["run"]).spawn();
    await_started(&run, "one");
    await_started(&run, "two");
    env.ok(&["stop", "one"]);
    run.await_stdout("one   stopped");
    env.ok(&["stop", "two"]);
    let output = run.finish().expect(0);
    assert!(output.stdout.contains("by another command"), "{output}");
}

#[test]
fn a_restart_by_another_command_is_followed_on() {
    let env = TestEnv::new();
    env.table(&[env.service("web").words(&["say=hello"])]);
    let run = env.pidctl(&["run"]).spawn();
    await_started(&run, "web");
    for round in 2..=4 {
        let before = env.pid_text("web");
        // The only service is down in between; that is not the end.
        env.ok(&["restart"]);
        assert_ne!(env.pid_text("web"), before);
        await_that("no output of the new one", || {
            run.stdout().matches("hello").count() == round
        });
        run.await_stdout(&format!("PID {}, by another command", env.pid_text("web")));
    }
    run.signal(Signal::SIGINT);
    run.finish().expect(0);
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_stop_and_a_start_beside_others_are_followed_on() {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("other")]);
    let run = env.pidctl(&["run"]).spawn();
    await_started(&run, "web");
    await_started(&run, "other");
    env.ok(&["stop", "web"]);
    run.await_stdout("web     stopped");
    env.ok(&["start", "web"]);
    run.await_stdout(&format!("PID {}, by another command", env.pid_text("web")));
    run.signal(Signal::SIGINT);
    run.finish().expect(0);
    env.assert_nobody_left();
}

#[test]
fn a_command_that_goes_to_the_background_later_is_followed() {
    let env = TestEnv::new();
    let words = format!("listen daemonize-when={}", env.at("leave"));
    let web = env.service("web").port(env.free_port()).does(&words);
    let id = web.id();
    env.table(&[web]);
    let run = env.pidctl(&["run"]).spawn();
    await_started(&run, &id);
    let before = env.pid_text(&id);
    env.write("leave", "");
    run.await_stdout("followed");
    assert_ne!(env.pid_text(&id), before);
    assert_eq!(env.state(&id), "running");
    run.signal(Signal::SIGTERM);
    run.finish().expect(0);
    env.assert_nobody_left();
    assert!(!env.has_pid_file(&id));
}

#[test]
fn interrupted_while_it_starts_it_leaves_nobody() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let env = TestEnv::new();
        let never = format!("listen listen-when={} child=setsid", env.at("never"));
        let slow = env.service("slow").port(env.free_port()).does(&never);
        env.table(&[slow.key("ready_timeout = '10m'"), env.service("quick")]);
        let run = env.pidctl(&["run"]).spawn();
        env.await_ready();
        await_started(&run, "quick");
        run.signal(signal);
        run.finish().expect(0);
        env.assert_nobody_left();
        assert_eq!(env.run(&["status"]).code(), 3);
    }
}

#[test]
fn under_nohup_the_end_of_the_terminal_is_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    let mut run = env.pidctl(&["run"]).signals(&[Signal::SIGHUP], &[]).spawn();
    await_started(&run, "web");
    run.signal(Signal::SIGHUP);
    env.ok(&["status"]);
    assert!(!run.has_ended());
    run.signal(Signal::SIGTERM);
    let output = run.finish().expect(0);
    assert!(output.stdout.contains("web  stopped"), "{output}");
}

/// timeout(1) sends its signal to the process and then to the group.
#[test]
fn signals_that_come_together_are_one() {
    let env = TestEnv::new();
    let web = env.service("web").does("exit-on=TERM slow=300");
    env.table(&[web.key("stop_timeout = '10m'")]);
    let run = env.pidctl(&["run", "--json"]).spawn();
    await_started(&run, "web");
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGINT);
    assert_eq!(run.finish().expect(0).outcome("web"), "stopped");
}

#[test]
fn a_reader_that_goes_stops_everything_gracefully() {
    let env = TestEnv::new();
    let journal = format!("journal={} exit-on=TERM", env.at("journal"));
    env.table(&[env.service("web").does(&journal)]);
    let script = "{ \"$PIDCTL\" run; echo $? >code; } | { read line; }; cat code";
    let output = env.sh(script).run().expect(0);
    assert_eq!(output.stdout, "0\n", "{output}");
    assert!(env.read("journal").contains("got SIGTERM"));
    env.assert_nobody_left();
}

#[test]
fn a_reader_that_does_not_read_hinders_no_signal() {
    // As another user it may not open the pipe again.
    for as_nobody in [false, true] {
        if as_nobody && !is_root() {
            continue;
        }
        let env = TestEnv::new();
        let wordy = "head -c 1000000 /dev/zero | tr '\\0' x; exec sleep 600";
        env.table(&[env.service("web").shell(wordy)]);
        let call = |args: &[&str]| match as_nobody {
            false => env.pidctl(args),
            true => env.as_nobody(args),
        };
        for folder in ["pids", "logs"] {
            std::fs::create_dir(env.path(folder)).unwrap();
            if as_nobody {
                std::os::unix::fs::chown(env.path(folder), Some(NOBODY), None).unwrap();
            }
        }
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let run = call(&["run"]).stdout(writer).spawn();
        await_that("it is not up", || call(&["status"]).run().code() == 0);
        run.signal(Signal::SIGINT);
        await_that("it is not stopped", || env.survivors().is_empty());
        let mut text = Vec::new();
        std::fs::File::from(reader).read_to_end(&mut text).unwrap();
        run.finish().expect(0);
        assert!(text.len() > 1_000_000, "{}", text.len());
    }
}

/// The process itself, which unshare(1) has forked.
fn child_of(run: &Running) -> Process {
    let unshare = run.process().pid;
    let path = format!("/proc/{unshare}/task/{unshare}/children");
    let mut child = None;
    await_that("no child", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        child = text.trim().parse().ok().and_then(Process::of);
        child.is_some()
    });
    child.unwrap()
}

#[test]
fn as_pid_1_it_reaps_and_stops_gracefully() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    let orphan = "child=double-fork,setsid,exit-after=100";
    let words = format!(
        "journal={} exit-on=TERM {orphan} {orphan}",
        env.at("journal")
    );
    env.table(&[env.service("web").does(&words)]);
    let pidctl = env!("CARGO_BIN_EXE_pidctl");
    let unshare = std::path::Path::new("/usr/bin/unshare");
    let run = env
        .program(unshare)
        .args(&["-pf", "--mount-proc", pidctl, "run"])
        .spawn();
    run.await_stdout("web  started");
    let init = child_of(&run);
    await_that("orphans are not reaped", || {
        let children = init.file(&format!("task/{}/children", init.pid));
        String::from_utf8_lossy(&children)
            .split_whitespace()
            .count()
            == 1
    });
    init.signal(Signal::SIGTERM as i32);
    run.finish().expect(0);
    assert!(env.read("journal").contains("got SIGTERM"));
    env.assert_nobody_left();
    assert!(!env.has_pid_file("web"));
}
