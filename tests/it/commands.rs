//! `adopt`, `run`, `drill`, `check`, `export`, `init`, `schema`, `completions`, `man`.

use nix::sys::signal::Signal;

use crate::support::{TestEnv, await_that, testee};

#[test]
fn adopt_takes_the_holder_of_the_port_as_the_service() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    let running = env.bystander(&["listen", &format!("port={port}")]);
    env.ok(&["adopt", "web"]);
    running.assert_alive();
    assert_eq!(env.pid_text(&id), running.pid());
    assert_eq!(env.ok(&["--json", "status"]).state(&id), "running");
    assert_eq!(env.ok(&["--json", "start"]).outcome(&id), "already_running");
    env.sh("rm -f pids/*.pid").run().expect(0);
    assert_eq!(env.ok(&["--json", "stop"]).outcome(&id), "stopped");
    running.assert_ended();
}

#[test]
fn adopt_takes_the_process_that_is_named() {
    let env = TestEnv::new();
    let fifo = format!("fifo={}", env.at("bystanders"));
    let ready = env.path("ready/own");
    let words = ["setsid", &format!("ready={}", ready.display()), &fifo];
    let program = testee().display().to_string();
    env.table(&[env
        .service("web")
        .exec(&[&[program.as_str()][..], &words].concat())]);
    let mut running = env.program(&testee()).args(&words).spawn();
    running.await_stdout("ready");
    let pid = running.process().pid.to_string();
    env.ok(&["adopt", "web", "--pid", &pid]);
    assert_eq!(env.pid_text("web"), pid);
    env.ok(&["stop"]);
    await_that("it lives", || running.has_ended());
}

#[test]
fn adopt_refuses_who_is_not_proven() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env.service("web").port(port).does("listen");
    let id = web.id();
    env.table(&[web]);
    env.run(&["adopt", "web"]).expect(1);
    let stranger = env.stranger(&["listen", &format!("port={port}")]);
    env.run(&["adopt", "web"]).expect(1);
    env.run(&["adopt", "web", "--pid", &stranger.pid()])
        .expect(1);
    for pid in ["1", &std::process::id().to_string(), "999999999"] {
        assert_ne!(env.run(&["adopt", "web", "--pid", pid]).code(), 0, "{pid}");
    }
    env.run(&["adopt", "web", "--pid", "0"]).expect(2);
    assert!(!env.has_pid_file(&id));
    stranger.assert_alive();
}

#[test]
fn run_shows_the_logs_and_stops_everything_at_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let env = TestEnv::new();
        env.table(&[
            env.service("one").words(&["say=hello", "child=setsid"]),
            env.service("two"),
        ]);
        env.ok(&["start", "two"]);
        let run = env.pidctl(&["run"]).spawn();
        run.await_stdout("hello");
        await_that("it is not running", || env.state("one") == "running");
        env.await_ready();
        run.signal(signal);
        let output = run.finish().expect(0);
        let line = output.stdout.lines().find(|line| line.contains("hello"));
        assert!(line.is_some_and(|line| line.contains("one")), "{output}");
        env.assert_nobody_left();
        assert!(!env.has_pid_file("one") && !env.has_pid_file("two"));
    }
}

#[test]
fn a_second_signal_to_run_kills_now() {
    let env = TestEnv::new();
    let web = env.service("web").does("catch=TERM");
    env.table(&[web.key("stop_timeout = '10m'")]);
    let run = env.pidctl(&["run"]).spawn();
    env.await_ready();
    await_that("it is not running", || env.state("web") == "running");
    run.signal(Signal::SIGINT);
    await_that("no signal came", || env.log("web").contains("got SIGTERM"));
    run.signal(Signal::SIGINT);
    run.finish();
    env.assert_nobody_left();
}

#[test]
fn run_ends_when_all_services_have_ended() {
    let env = TestEnv::new();
    let ends = |code: u32| format!("exit={code} exit-when={}", env.at("end"));
    env.table(&[
        env.service("one").does(&ends(0)),
        env.service("two").does(&ends(0)),
    ]);
    let run = env.pidctl(&["run"]).spawn();
    await_that("it is not running", || env.run(&["status"]).code() == 0);
    env.write("end", "");
    run.finish().expect(0);
    assert!(!env.has_pid_file("one") && !env.has_pid_file("two"));

    env.remove("end");
    env.table(&[
        env.service("one").does(&ends(0)),
        env.service("bad").does(&ends(4)),
    ]);
    let run = env.pidctl(&["run"]).spawn();
    await_that("it is not running", || env.run(&["status"]).code() == 0);
    env.write("end", "");
    run.finish().expect(1);
}

#[test]
fn drill_passes_who_ends_by_itself_in_time() {
    let env = TestEnv::new();
    let port = env.free_port();
    let web = env
        .service("web")
        .port(port)
        .does("listen exit-on=TERM code=3");
    let id = web.id();
    env.table(&[web]);
    let output = env.ok(&["--json", "drill"]);
    let web = output.service(&id);
    assert_eq!(web["outcome"], "pass");
    assert_eq!(web["killed"], false);
    assert_eq!(web["exit_status"], 3);
    assert_eq!(web["port_released"], true);
    assert!(web["elapsed_ms"].is_number());
    assert!(web.as_object().unwrap().contains_key("left_behind"));
    env.assert_nobody_left();
    assert!(!env.has_pid_file(&id));
}

#[test]
fn drill_fails_who_must_be_killed_or_leaves_somebody_behind() {
    let env = TestEnv::new();
    env.table(&[
        env.service("stubborn")
            .does("ignore=TERM")
            .key("stop_timeout = '300ms'"),
        env.service("careless")
            .does("child=setsid,ignore=TERM")
            .key("stop_timeout = '1s'"),
        env.service("meek"),
    ]);
    let output = env.run(&["--json", "drill"]).expect(1);
    assert_eq!(output.outcome("stubborn"), "fail");
    assert_eq!(output.service("stubborn")["killed"], true);
    assert_eq!(output.outcome("careless"), "fail");
    assert_eq!(output.outcome("meek"), "pass");
    env.assert_nobody_left();
}

#[test]
fn drill_refuses_a_running_service_and_repeats() {
    let env = TestEnv::new();
    let journal = format!("journal={}", env.at("journal"));
    env.table(&[env.service("web").does(&journal)]);
    env.ok(&["drill", "--repeat", "2"]);
    assert_eq!(env.read("journal").matches("start").count(), 2);
    env.up();
    let leader = env.pid("web");
    assert_ne!(env.run(&["drill"]).code(), 0);
    assert!(leader.is_alive());
}

#[test]
fn check_warns_and_starts_nothing() {
    let env = TestEnv::new();
    let port = env.free_port();
    let stranger = env.stranger(&["listen", &format!("port={port}")]);
    env.table(&[
        env.service("typo").exec(&["no-such-programme"]),
        env.service("folder").key("cwd = 'nowhere'"),
        env.service("file").key("env_file = 'nowhere.env'"),
        env.service("web").port(port),
    ]);
    let output = env.ok(&["check"]);
    for word in [
        "no-such-programme",
        "nowhere",
        "nowhere.env",
        &stranger.pid(),
    ] {
        assert!(output.said().contains(word), "{word}: {output}");
    }
    assert!(!env.exists("pids/web.pid"));
    assert!(
        env.members()
            .iter()
            .all(|one| one.process == stranger.process())
    );
}

#[test]
fn export_writes_units_that_systemd_accepts() {
    let env = TestEnv::new();
    let port = env.free_port();
    let keys = "env = { A = 'x y', B = '50%' }\nprepare = 'true'\nstop_timeout = '7s'";
    env.table_in(
        "shop/services.toml",
        "",
        &[
            env.service("db").exec(&["/bin/sleep", "600"]).key(keys),
            env.service("web")
                .port(port)
                .shell("exec sleep $PORT")
                .key("depends_on = ['db']"),
        ],
    );
    let printed = env
        .ok(&["-c", "shop/services.toml", "export", "systemd"])
        .stdout;
    assert!(printed.contains("[Service]"), "{printed}");
    let args = [
        "-c",
        "shop/services.toml",
        "export",
        "systemd",
        "--output",
        "units",
    ];
    env.ok(&args);
    let units: Vec<_> = std::fs::read_dir(env.path("units"))
        .unwrap()
        .flatten()
        .collect();
    assert_eq!(units.len(), 3, "two services and a target: {units:?}");
    let names: Vec<String> = units
        .iter()
        .map(|unit| unit.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        names.iter().all(|name| name.starts_with("shop")),
        "{names:?}"
    );
    assert!(env.members().is_empty());
    let analyze = std::path::Path::new("/usr/bin/systemd-analyze");
    if analyze.exists() {
        let paths: Vec<String> = units
            .iter()
            .map(|unit| unit.path().display().to_string())
            .collect();
        let mut call = env.program(analyze).arg("verify");
        for path in &paths {
            call = call.arg(path.as_str());
        }
        let output = call.run();
        assert_eq!(output.code(), 0, "{output}");
    }
}

#[test]
fn init_writes_a_table_that_passes_check_and_never_overwrites() {
    let env = TestEnv::new();
    env.ok(&["init"]);
    let text = env.read("services.toml");
    assert!(text.contains('#') && text.contains("[[service]]"));
    env.ok(&["check"]);
    assert_ne!(env.run(&["init"]).code(), 0);
    assert_eq!(env.read("services.toml"), text);
}

#[test]
fn schema_completions_and_man_go_to_standard_output_and_need_no_table() {
    let env = TestEnv::new();
    let schema = env.ok(&["schema"]).json();
    assert!(schema.to_string().contains("stop_schedule"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(env.ok(&["completions", shell]).stdout.contains("pidctl"));
    }
    env.run(&["completions", "tcsh-from-mars"]).expect(2);
    assert!(env.ok(&["man"]).stdout.contains(".TH"));
}
