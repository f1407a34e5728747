//! The Exec lines are run as systemd would run them.

use super::tests::one;
use crate::config::{Command, Health, StopScope};
use crate::export::quote::tests::NASTY;
use crate::export::sample::{self, Folder};
use crate::export::unit_reader::{assignments, exec_argv, values};
use std::path::PathBuf;
use std::process;
use std::time::Duration;

/// Runs an Exec line of the unit with the environment of the unit alone; the words that it prints.
fn run(unit: &str, key: &str) -> Vec<String> {
    let line = &values(unit, key)[0];
    let argv = exec_argv(line).expect(line);
    let mut command = process::Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear();
    for line in values(unit, "Environment") {
        command.envs(assignments(&line).expect(&line));
    }
    let output = command.output().expect("run");
    assert!(output.status.success(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_terminator('\0').map(String::from).collect()
}

#[test]
fn every_argument_reaches_the_program() {
    let mut service = sample::service("echo", None);
    let mut words = vec!["printf".to_owned(), "%s\\0".to_owned()];
    words.extend(NASTY.iter().map(|word| word.to_string()));
    service.command = Command::Exec(words);
    assert_eq!(run(&one(service.clone()), "ExecStart"), NASTY);
    // And by way of env(1), which an env_file asks for.
    service.env_files = vec![PathBuf::from("/srv/shop/.env")];
    assert_eq!(run(&one(service), "ExecStart"), NASTY);
}

#[test]
fn every_variable_reaches_the_program() {
    for value in NASTY {
        for env_files in [vec![], vec![PathBuf::from("/srv/shop/.env")]] {
            let mut service = sample::service("echo", Some(8000));
            service.health = Health::None;
            service.env_files = env_files;
            service.env = vec![("X".into(), value.to_string())];
            let shell = "printf '%s\\0' \"$X\" \"${PORT}\" $PIDCTL_SERVICE 100%";
            service.command = Command::Shell(shell.into());
            let unit = one(service);
            let expected = [value, "8000", "echo_8000", "100%"];
            assert_eq!(run(&unit, "ExecStart"), expected, "{unit}");
        }
    }
}

#[test]
fn a_name_that_no_unit_takes_goes_through_env() {
    let mut service = sample::service("x", None);
    service.env = vec![("a.b".into(), "1".into())];
    service.command = Command::Exec(vec!["env".into()]);
    let unit = one(service);
    assert!(run(&unit, "ExecStart").concat().contains("a.b=1\n"));
    assert!(!values(&unit, "Environment").concat().contains("a.b"));
}

#[test]
fn a_program_of_any_name_runs() {
    let dir = Folder::new();
    for name in [
        "$HOME",
        "a b",
        "q\"'",
        "back\\slash",
        "new\nline",
        "a=b",
        "%h",
        "-x",
        ";",
    ] {
        let file = dir.0.join(name);
        std::os::unix::fs::symlink("/usr/bin/printf", &file).expect("link");
        let mut service = sample::service("x", None);
        let words = [file.to_str().expect("UTF-8"), "%s\\0", "$HOME"];
        service.command = Command::Exec(words.map(String::from).to_vec());
        assert_eq!(run(&one(service.clone()), "ExecStart"), ["$HOME"], "{name}");
        service.env_files = vec![PathBuf::from("/srv/shop/.env")];
        assert_eq!(run(&one(service), "ExecStart"), ["$HOME"], "{name}");
    }
}

#[test]
fn prepare_is_skipped_where_its_result_exists() {
    let dir = Folder::new();
    let mut service = sample::service("x", None);
    service.prepare = Some(Command::Shell("printf 'ran\\0'".into()));
    assert_eq!(run(&one(service.clone()), "ExecStartPre"), ["ran"]);
    service.creates = Some(dir.0.join("100% $made"));
    let unit = one(service.clone());
    assert_eq!(run(&unit, "ExecStartPre"), ["ran"]);
    std::fs::write(dir.0.join("100% $made"), "").expect("write");
    assert!(run(&unit, "ExecStartPre").is_empty());
    assert_eq!(values(&unit, "TimeoutStartSec"), ["infinity"]);
}

#[test]
fn the_wait_ends_when_somebody_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let mut service = sample::service("x", Some(port));
    service.ready_timeout = Duration::from_millis(1);
    let unit = one(service.clone());
    assert!(run(&unit, "ExecStartPost").is_empty());
    drop(listener);
    let argv = exec_argv(&values(&unit, "ExecStartPost")[0]).expect("argv");
    let status = process::Command::new(&argv[0]).args(&argv[1..]).status();
    assert_eq!(status.expect("run").code(), Some(1), "the limit ends it");

    service.health = Health::Command {
        command: Command::Exec(vec!["test".into(), "a b".into(), "=".into(), "a b".into()]),
        timeout: Duration::from_millis(1500),
        interval: Duration::from_secs(30),
    };
    assert!(run(&one(service), "ExecStartPost").is_empty());
}

#[test]
fn a_dead_main_process_ends_the_wait() {
    let mut service = sample::service("x", None);
    service.health = Health::Command {
        command: Command::Exec(vec!["false".into()]),
        timeout: Duration::from_secs(2),
        interval: Duration::from_secs(30),
    };
    let argv = exec_argv(&values(&one(service), "ExecStartPost")[0]).expect("argv");
    let mut gone = process::Command::new("true").spawn().expect("spawn");
    gone.wait().expect("wait");
    let output = process::Command::new(&argv[0])
        .args(&argv[1..])
        .env("MAINPID", gone.id().to_string())
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(1));
}

/// The script sees the members of the cgroup in a file of our own making: a shell that notes USR1
/// and ends at USR2, and one that ignores both.
#[test]
fn a_stop_schedule_runs_its_steps_and_ends_with_sigkill() {
    for (scope, notes) in [(StopScope::Family, "USR1 USR2 "), (StopScope::Leader, "")] {
        let dir = Folder::new();
        let spawn = |script: &str| {
            let child = process::Command::new("/bin/sh")
                .args(["-c", script])
                .current_dir(&dir.0)
                .stdout(process::Stdio::piped())
                .spawn();
            let mut child = child.expect("spawn");
            // Its handlers are set once it has said so.
            let mut ready = [0];
            let mut out = child.stdout.take().expect("stdout");
            std::io::Read::read_exact(&mut out, &mut ready).expect("ready");
            child
        };
        // Bounded, so that a failing test leaves nothing behind.
        let wait = "printf r; for i in $(seq 400); do sleep 0.05; done";
        let polite =
            "trap 'printf \"USR1 \" >>notes' USR1; trap 'printf \"USR2 \" >>notes; exit' USR2";
        let mut polite = spawn(&format!("{polite}; {wait}"));
        let mut leader = spawn(&format!("trap '' USR1 USR2; {wait}"));
        std::fs::write(dir.0.join("notes"), "").expect("notes");
        let members = format!("{}\n{}\n", polite.id(), leader.id());
        std::fs::write(dir.0.join("cgroup.procs"), members).expect("members");

        let mut service = sample::service("x", None);
        service.stop_scope = scope;
        service.schedule.steps = [("USR1", 100), ("USR2", 1000)]
            .map(|(name, ms)| (name.parse().expect("signal"), Duration::from_millis(ms)))
            .to_vec();
        let unit = one(service);
        let mut argv = exec_argv(&values(&unit, "ExecStop")[0]).expect("argv");
        let found = "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cgroup.procs";
        assert!(argv[2].contains(found));
        argv[2] = argv[2].replace(found, "cgroup.procs");
        let output = process::Command::new(&argv[0])
            .args(&argv[1..])
            .env("MAINPID", leader.id().to_string())
            .current_dir(&dir.0)
            .output()
            .expect("run");
        assert!(output.status.success(), "{output:?}");
        leader.wait().expect("wait");
        polite.wait().expect("wait");
        let told = std::fs::read_to_string(dir.0.join("notes")).expect("notes");
        assert_eq!(told, notes);
    }
}
