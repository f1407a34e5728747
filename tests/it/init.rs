//! `init`: a first table that works, and never one in the place of another.

use std::os::unix::fs::symlink;

use crate::support::{TestEnv, is_root, mode};

#[test]
fn it_is_written_where_it_is_wanted_and_the_next_command_is_told() {
    let env = TestEnv::new();
    let output = env.ok(&["-c", "my table.toml", "init"]);
    assert!(
        output.stdout.contains("pidctl -c 'my table.toml' start"),
        "{output}"
    );
    assert!(!env.exists("services.toml"));
    env.ok(&["-c", "my table.toml", "check"]);
    assert_eq!(mode(&env.path("my table.toml")) & 0o7133, 0);
    assert_eq!(env.ok(&["-q", "init"]).said(), "");
    env.ok(&["start"]);
    env.ok(&["stop"]);
}

#[test]
fn nothing_that_is_there_already_is_touched() {
    let env = TestEnv::new();
    for make in [
        |path: &std::path::Path| symlink("elsewhere.toml", path).unwrap(),
        |path: &std::path::Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        |path: &std::path::Path| std::fs::write(path, "mine").unwrap(),
    ] {
        make(&env.path("services.toml"));
        let output = env.run(&["init"]).expect(1);
        assert!(output.stderr.contains("exists already"), "{output}");
        assert!(!env.exists("elsewhere.toml"));
        env.remove("services.toml");
    }
    env.run(&["-c", "no/such/folder.toml", "init"]).expect(1);
    if is_root() {
        let output = env.as_nobody(&["init"]).run().expect(1);
        output.expect_said("services.toml cannot be made");
    }
}

#[test]
fn a_procfile_becomes_a_table() {
    let env = TestEnv::new();
    env.write(
        "Procfile",
        "web: exec sleep $PORT\nworker: sleep 9\nrelease: true\n",
    );
    env.write(".env", "A=1\n");
    env.ok(&["init", "--from", "Procfile"]);
    let text = env.read("services.toml");
    assert!(text.contains("env_file = \".env\""), "{text}");
    env.ok(&["check"]);
    env.ok(&["start", "worker"]);
    env.ok(&["stop"]);

    env.remove("services.toml");
    env.write("Procfile", "web sleep\n");
    let output = env.run(&["init", "--from", "Procfile"]).expect(2);
    assert!(output.stderr.starts_with("Procfile:1: "), "{output}");
    env.run(&["init", "--from", "missing"]).expect(2);
    assert!(!env.exists("services.toml"));
}

#[test]
fn a_procfile_of_another_folder_is_no_surprise() {
    let env = TestEnv::new();
    env.write("app/Procfile", "web: ./web\n");
    let output = env.ok(&["init", "--from", "app/Procfile"]);
    assert!(
        output
            .stderr
            .contains("will run in the folder of the new table"),
        "{output}"
    );
}
