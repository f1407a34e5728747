//! What a service runs in: its environment, its folder, its user, and what is prepared for it.

use crate::support::{NOBODY, TestEnv, chmod, is_root};

/// What the service was given, entry by entry.
fn given(env: &TestEnv) -> Vec<String> {
    let text = env.read("given.environ");
    text.split('\0').map(str::to_owned).collect()
}

#[track_caller]
fn has(env: &TestEnv, entry: &str) {
    let given = given(env);
    assert!(
        given.iter().any(|one| one == entry),
        "no {entry} in {given:?}"
    );
}

fn dump(env: &TestEnv) -> String {
    format!("dump={}", env.at("given"))
}

#[test]
fn env_outweighs_env_file_outweighs_the_caller() {
    let env = TestEnv::new();
    env.write(
        "one.env",
        "# a comment\nB=file\nC=file\nexport D=\"two words\"\nE='x y'\n\nG=one\n",
    );
    env.write("two.env", "G=two\n");
    let keys = "env_file = ['one.env', 'two.env']\nenv = { C = 'table', F = '' }";
    env.table(&[env.service("web").does(&dump(&env)).key(keys)]);
    let call = env
        .pidctl(&["start"])
        .env("A", "caller")
        .env("B", "caller")
        .env("C", "caller");
    call.run().expect(0);
    env.await_ready();
    for entry in [
        "A=caller",
        "B=file",
        "C=table",
        "D=two words",
        "E=x y",
        "F=",
        "G=two",
    ] {
        has(&env, entry);
    }
}

#[test]
fn a_service_knows_its_port_and_its_id() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does(&format!("listen {}", dump(&env)));
    let id = web.id();
    env.table(&[web]);
    env.pidctl(&["start"]).env("PORT", "1").run().expect(0);
    env.await_ready();
    has(&env, &format!("PORT={port}"));
    has(&env, &format!("PIDCTL_SERVICE={id}"));
}

#[test]
fn a_string_is_run_by_the_shell_and_an_array_as_it_is() {
    let env = TestEnv::new();
    let testee = crate::support::testee();
    let testee = testee.display();
    env.table(&[
        env.service("shell")
            .shell(&format!("A=$((1+1)); exec {testee} say=$A-$PIDCTL_SERVICE")),
        env.service("array").words(&["say=$HOME `x` *"]),
    ]);
    env.ok(&["start"]);
    crate::support::await_that("no log", || {
        env.log("shell").contains("ready") && env.log("array").contains("ready")
    });
    assert!(env.log("shell").starts_with("2-shell\n"));
    assert!(env.log("array").starts_with("$HOME `x` *\n"));
}

#[test]
fn a_missing_env_file_or_folder_fails_its_service_alone() {
    let env = TestEnv::new();
    env.table(&[
        env.service("file").key("env_file = 'nowhere.env'"),
        env.service("folder").key("cwd = 'nowhere'"),
        env.service("good"),
    ]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome("file"), "failed");
    assert_eq!(output.outcome("folder"), "failed");
    assert!(
        output.service("file")["detail"]
            .to_string()
            .contains("nowhere.env")
    );
    assert_eq!(output.outcome("good"), "started");
}

#[test]
fn a_relative_command_is_found_from_its_own_folder() {
    let env = TestEnv::new();
    env.write("work/serve", "#!/bin/sh\nexec sleep 600\n");
    chmod(&env.path("work/serve"), 0o755);
    let keys = "cwd = 'work'";
    env.table(&[env.service("web").exec(&["./serve"]).key(keys)]);
    let call = env
        .pidctl(&["start", "-c", &env.at("services.toml")])
        .cwd("/");
    call.run().expect(0);
    assert_eq!(env.state("web"), "running");
}

#[test]
fn a_command_is_found_on_the_services_own_path() {
    let env = TestEnv::new();
    env.write("bin/my-server", "#!/bin/sh\nexec sleep 600\n");
    chmod(&env.path("bin/my-server"), 0o755);
    let key = format!("env = {{ PATH = '{}:/usr/bin:/bin' }}", env.at("bin"));
    env.table(&[env.service("web").exec(&["my-server"]).key(key)]);
    env.ok(&["start"]);
    assert!(env.pid("web").is_alive());
}

#[test]
fn what_is_not_executable_fails_with_a_reason() {
    let env = TestEnv::new();
    env.write("serve", "#!/bin/sh\n");
    chmod(&env.path("serve"), 0o644);
    env.table(&[env.service("web").exec(&["./serve"])]);
    let output = env.run(&["--json", "start"]).expect(1);
    assert_eq!(output.outcome("web"), "failed");
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_missing_interpreter_is_told() {
    let env = TestEnv::new();
    env.write("serve", "#!/no/such/interpreter\n");
    chmod(&env.path("serve"), 0o755);
    env.table(&[env.service("web").exec(&["./serve"])]);
    let output = env.run(&["--json", "start"]).expect(1);
    let detail = output.service("web")["detail"].to_string();
    assert!(detail.contains("interpreter"), "{output}");
    assert!(!env.has_pid_file("web"));
}

#[test]
fn prepare_runs_to_its_end_before_the_command_and_into_the_log() {
    let env = TestEnv::new();
    let key = "prepare = 'echo preparing $PIDCTL_SERVICE; sleep 0.3; echo prepared >> order'";
    let web = env
        .service("web")
        .shell("cat order; exec sleep 600")
        .key(key);
    env.table(&[web.key("creates = 'order'\nready_timeout = '250ms'")]);
    env.ok(&["start"]);
    crate::support::await_that("no log", || env.log("web").contains("prepared"));
    assert_eq!(env.log("web"), "preparing web\nprepared\n");
    env.ok(&["restart"]);
    crate::support::await_that("no log", || env.log("web").matches("prepared").count() == 2);
    assert_eq!(
        env.log("web").matches("preparing").count(),
        1,
        "`creates` exists"
    );
}

#[test]
fn a_prepare_that_fails_fails_the_service() {
    let env = TestEnv::new();
    let key = "prepare = 'echo no network; exit 9'\nstart_attempts = 1";
    env.table(&[env.service("web").key(key)]);
    let output = env.run(&["start"]).expect(1);
    assert!(output.said().contains("no network"), "{output}");
    assert!(output.said().contains('9'), "its exit status: {output}");
    assert!(env.members().is_empty());
    assert!(!env.has_pid_file("web"));
}

#[test]
fn a_prepare_may_make_the_command() {
    let env = TestEnv::new();
    let key = "prepare = \"printf '#!/bin/sh\\\\nexec sleep 600\\\\n' > made; chmod +x made\"";
    env.table(&[env.service("web").exec(&["./made"]).key(key)]);
    env.ok(&["start"]);
    assert!(env.pid("web").is_alive());
}

#[test]
fn what_prepare_leaves_running_is_of_the_service() {
    let env = TestEnv::new();
    let testee = crate::support::testee();
    let prepare = format!("{} setsid & sleep 0.1", testee.display());
    env.table(&[env.service("web").key(format!("prepare = {prepare:?}"))]);
    env.run(&["start"]);
    assert!(!env.read("members").is_empty(), "prepare did not run");
    env.ok(&["stop"]);
    env.assert_nobody_left();
}

#[test]
fn a_service_runs_as_its_user_with_that_users_environment() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    let program = env.path("program");
    crate::support::copy_program(&crate::support::testee(), &program);
    let given = env.at("ready/given");
    let words = [&env.at("program"), &format!("dump={given}"), "child=setsid"];
    let web = env.service("web").exec(&words).key("user = 'nobody'");
    env.table(&[web.key("prepare = 'id -u'")]);
    env.ok(&["start"]);
    crate::support::await_that("no log", || env.log("web").contains("ready"));
    assert!(env.log("web").starts_with(&format!("{NOBODY}\n")));
    let status = env.read("ready/given.status");
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap();
    assert!(uids.split_whitespace().all(|uid| uid == "65534"), "{uids}");
    let environ = env.read("ready/given.environ");
    for entry in ["USER=nobody", "LOGNAME=nobody", "HOME=", "SHELL="] {
        assert!(
            environ.split('\0').any(|one| one.starts_with(entry)),
            "{entry}: {environ}"
        );
    }
    assert!(!environ.contains(&format!("HOME={}", env.dir().display())));
    assert_eq!(env.state("web"), "running");
    assert_eq!(env.ok(&["--json", "stop"]).outcome("web"), "stopped");
    env.assert_nobody_left();
}

#[test]
fn only_root_may_name_another_user() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    env.table(&[env.service("web").key("user = 'root'")]);
    env.write("mine/file", "");
    std::os::unix::fs::chown(env.path("mine"), Some(NOBODY), Some(NOBODY)).unwrap();
    env.table_in(
        "mine/services.toml",
        "",
        &[env
            .service("web")
            .exec(&["/bin/sleep", "600"])
            .key("user = 'root'")],
    );
    let output = env
        .as_nobody(&["-c", &env.at("mine/services.toml"), "start"])
        .run();
    assert!([1, 2].contains(&output.code()), "{output}");
    assert!(!env.exists("mine/pids/web.pid"));
}

#[test]
fn an_ordinary_user_starts_and_stops_its_own_services() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    let env = TestEnv::new();
    crate::support::copy_program(&crate::support::testee(), &env.path("program"));
    env.write("mine/file", "");
    std::os::unix::fs::chown(env.path("mine"), Some(NOBODY), Some(NOBODY)).unwrap();
    let children = [
        "child=setsid,ignore=TERM",
        "child=double-fork,setsid,wipe-env",
        "child=double-fork,null-fds",
    ];
    let program = env.at("program");
    let words = [&[program.as_str()][..], &children].concat();
    let web = env
        .service("web")
        .exec(&words)
        .key("stop_timeout = '500ms'");
    env.table_in("mine/services.toml", "", &[web]);
    let table = env.at("mine/services.toml");
    let call = |args: &[&str]| env.as_nobody(&[&["-c", &table], args].concat()).run();
    call(&["start"]).expect(0);
    crate::support::await_that("no log", || env.read("mine/logs/web.log").contains("ready"));
    call(&["status"]).expect(0);
    assert_eq!(call(&["--json", "stop"]).expect(0).outcome("web"), "killed");
    env.assert_nobody_left();
}
