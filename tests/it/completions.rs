//! `completions`: driven by real shells where there are any, as they drive it.

use std::path::Path;

use crate::support::TestEnv;

/// Completes the last word in a bash that has sourced the script; the replies, one a line.
fn bash(env: &TestEnv, words: &[&str]) -> Option<Vec<String>> {
    let bash = Path::new("/bin/bash");
    if !bash.exists() {
        return None;
    }
    let script = r#"
        pidctl() { "$PIDCTL" "$@"; }
        source <("$PIDCTL" completions bash)
        name=${1##*/}
        read -ra spec < <(complete -p "$name")
        for ((i = 0; i < ${#spec[@]}; i++)); do
            [[ ${spec[i]} == -F ]] && function=${spec[i+1]}
        done
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
        "$function" "$1" "${!#}" ""
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let call = env.program(bash).args(&["--norc", "-c", script, "bash"]);
    let output = call
        .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
        .args(words)
        .run()
        .expect(0);
    assert_eq!(
        output.stderr, "",
        "said into the line being typed: {output}"
    );
    let lines = output.stdout.lines().filter(|line| !line.is_empty());
    Some(lines.map(str::to_owned).collect())
}

#[track_caller]
fn assert_completes(env: &TestEnv, words: &[&str], expected: &[&str]) {
    if let Some(replies) = bash(env, words) {
        assert_eq!(replies, expected, "{words:?}");
    }
}

fn env_with_a_table() -> TestEnv {
    let env = TestEnv::new();
    env.table(&[
        env.service("web").port(8000),
        env.service("web").port(8001),
        env.service("worker"),
    ]);
    env
}

#[test]
fn services_come_from_the_table_at_hand() {
    let env = env_with_a_table();
    let all = ["web_8000", "web_8001", "worker"];
    for command in ["start", "stop", "restart", "status", "logs"] {
        assert_completes(&env, &["pidctl", command, ""], &all);
    }
    assert_completes(&env, &["pidctl", "stop", "wo"], &["worker"]);
    assert_completes(&env, &["pidctl", "-q", "stop", "-s", "web"], &all[..2]);
    // What is on the line already is not wanted again.
    assert_completes(&env, &["pidctl", "stop", "web_8000", "w"], &all[1..]);
    env.table_in("other/my.toml", "", &[env.service("mine")]);
    for option in [
        &["-c", "other/my.toml"][..],
        &["--config=other/my.toml"],
        &["-c", "~/other/my.toml"],
    ] {
        let words = [&["pidctl"], option, &["stop", ""]].concat();
        assert_completes(&env, &words, &["mine"]);
    }
}

#[test]
fn commands_options_and_their_words_are_completed() {
    let env = env_with_a_table();
    assert_completes(&env, &["pidctl", "sta"], &["start", "status"]);
    assert_completes(&env, &["pidctl", "start", "--no-w"], &["--no-wait"]);
    assert_completes(&env, &["pidctl", "start", "--takeover", "m"], &["matching"]);
    assert_completes(&env, &["pidctl", "completions", "z"], &["zsh"]);
    assert_completes(&env, &["pidctl", "man", "resta"], &["restart"]);
}

#[test]
fn a_drop_in_name_is_its_command_with_the_table_beside_it() {
    let env = env_with_a_table();
    env.table_in(
        "deploy/services.toml",
        "",
        &[env.service("api"), env.service("app")],
    );
    assert_completes(&env, &["deploy/stop_all_services.sh", "a"], &["api", "app"]);
    assert_completes(
        &env,
        &["deploy/stop_all_services.sh", "--dead"],
        &["--deadline"],
    );
    assert_completes(&env, &["deploy/start_all_services.sh", "--dead"], &[]);
}

#[test]
fn without_a_table_or_with_a_broken_one_it_is_silent_and_does_not_wait() {
    let env = TestEnv::new();
    env.write("services.toml", "nonsense = [");
    nix::unistd::mkfifo(&env.path("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for table in ["services.toml", "fifo.toml", "missing.toml", "."] {
        assert_completes(&env, &["pidctl", "-c", table, "stop", "w"], &[]);
    }
    assert_completes(&env, &["pidctl", "nonsense", "x"], &[]);
    // Asked wrongly, it fails without a word.
    for shell in ["bash", "zsh", "fish", "nonsense", ""] {
        for words in [&["--"][..], &[], &["x"]] {
            let output = env
                .pidctl(words)
                .env("_PIDCTL_COMPLETE", shell)
                .run()
                .expect(1);
            assert_eq!(output.said(), "");
        }
    }
}

#[test]
fn the_script_names_the_binary_by_a_path_that_holds_from_everywhere() {
    let env = env_with_a_table();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = env.ok(&["completions", shell]).stdout;
        assert!(
            script.contains(env!("CARGO_BIN_EXE_pidctl")),
            "{shell}: {script}"
        );
        assert!(script.contains("stop_all_services.sh"), "{shell}");
    }
    let zsh = env.ok(&["completions", "zsh"]).stdout;
    assert!(zsh.starts_with("#compdef pidctl\n"), "{zsh}");
    assert!(zsh.contains("_clap_dynamic_completer_pidctl() {"), "{zsh}");
}

#[test]
fn other_shells_take_the_script() {
    let env = env_with_a_table();
    for (shell, check) in [("zsh", "-n"), ("fish", "--no-execute")] {
        let Some(program) = ["/bin", "/usr/bin"]
            .map(|folder| Path::new(folder).join(shell))
            .into_iter()
            .find(|program| program.exists())
        else {
            continue;
        };
        env.write("script", env.ok(&["completions", shell]).stdout);
        env.program(&program)
            .args(&[check, "script"])
            .run()
            .expect(0);
    }
}
