//! `export`: the table for another supervisor, printed or written; nothing else in the folder changes.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Output, TestEnv};

fn env_with_a_table() -> TestEnv {
    let env = TestEnv::new();
    env.table_in(
        "shop/services.toml",
        "",
        &[
            env.service("db").exec(&["/bin/sleep", "600"]),
            env.service("web")
                .exec(&["/bin/sleep", "600"])
                .key("depends_on = ['db']"),
        ],
    );
    env
}

#[track_caller]
fn export(env: &TestEnv, words: &[&str]) -> Output {
    let all = [&["-c", "shop/services.toml", "export"][..], words].concat();
    env.ok(&all)
}

#[test]
fn a_folder_is_made_and_what_to_do_next_is_told() {
    let env = env_with_a_table();
    let output = export(&env, &["systemd", "--output", "deep/er"]);
    assert_eq!(output.stdout, "");
    for file in ["shop-db.service", "shop-web.service", "shop.target"] {
        assert!(
            output.stderr.contains(&format!("written: deep/er/{file}")),
            "{output}"
        );
        assert!(env.exists(&format!("deep/er/{file}")));
    }
    for command in [
        "systemctl enable --now shop.target",
        "pidctl -c shop/services.toml stop",
    ] {
        let text = output.stderr.replace("daemon-reload && ", "");
        assert!(text.contains(command), "{command}: {output}");
    }
    assert_eq!(
        export(&env, &["systemd", "--output", "deep/er", "-q"]).said(),
        ""
    );
}

#[test]
fn a_second_export_takes_the_place_of_the_first_and_of_nothing_else() {
    let env = env_with_a_table();
    env.write("units/shop-db.service", "old");
    env.write("units/own.service", "mine");
    env.write("victim", "untouched");
    symlink(env.path("victim"), env.path("units/shop.target")).unwrap();
    export(&env, &["systemd", "--output", "units"]);
    assert!(env.read("units/shop-db.service").contains("[Service]"));
    assert!(env.read("units/shop.target").contains("[Install]"));
    assert_eq!(env.read("units/own.service"), "mine");
    assert_eq!(env.read("victim"), "untouched");
    let names = std::fs::read_dir(env.path("units")).unwrap().count();
    assert_eq!(names, 4, "nothing is left aside");
}

#[test]
fn what_another_export_is_writing_is_left_alone() {
    let env = env_with_a_table();
    env.write("units/.shop.target.new", "half");
    let other = export(&env, &["systemd", "--output", "units", "-q"]);
    assert_eq!(env.read("units/.shop.target.new"), "half", "{other}");
}

#[test]
fn a_user_s_units_are_for_the_user_s_own_systemd() {
    let env = env_with_a_table();
    let output = export(&env, &["systemd", "--user", "--output", "units"]);
    assert!(output.stderr.contains("systemctl --user"), "{output}");
    assert!(output.stderr.contains("enable-linger"), "{output}");
    assert!(env.read("units/shop.target").contains("default.target"));
    assert!(!env.read("units/shop-db.service").contains("User="));
}

#[test]
fn nomad_gets_a_job_in_json() {
    let env = env_with_a_table();
    for words in [&["nomad"][..], &["nomad", "--json"]] {
        let output = export(&env, words);
        assert_eq!(output.json()["Job"]["ID"], "shop");
        assert!(output.stderr.contains("raw_exec"), "{output}");
    }
    let output = export(&env, &["nomad", "--isolated", "--output", "jobs", "-q"]);
    assert_eq!(output.said(), "");
    assert!(env.read("jobs/shop.nomad.json").contains("\"exec\""));
}

#[test]
fn what_has_no_json_form_says_so() {
    let env = env_with_a_table();
    for words in [
        &["export", "systemd"][..],
        &["export", "nomad", "--output", "jobs"],
        &["init"],
        &["man"],
        &["completions", "bash"],
        &["logs"],
    ] {
        let all = [words, &["--json", "-c", "shop/services.toml"]].concat();
        let output = env.run(&all).expect(2);
        assert_eq!(output.stdout, "", "{output}");
        assert!(output.stderr.contains("--json"), "{output}");
    }
    assert!(!env.exists("jobs"));
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    let env = env_with_a_table();
    env.write("file", "");
    for folder in ["file", "file/units", "/proc/units"] {
        let words = [
            "-c",
            "shop/services.toml",
            "export",
            "systemd",
            "--output",
            folder,
        ];
        env.run(&words).expect(1).expect_said(folder);
    }
    let full = Path::new("/dev/full");
    for words in [
        &["export", "systemd"][..],
        &["export", "nomad"],
        &["schema"],
        &["man"],
    ] {
        let all = [&["-c", "shop/services.toml"], words].concat();
        let full = std::fs::File::create(full).expect("/dev/full");
        env.pidctl(&all).stdout(full).run().expect(1);
    }
}
