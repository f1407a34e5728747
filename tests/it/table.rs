//! Mistakes in the table: one clear error, exit 2, nothing touched.

use crate::support::{TestEnv, chmod};

/// The text, the line that the error names, and words that it must hold.
type Mistake = (&'static str, Option<usize>, &'static [&'static str]);

const WEB: &str = "[[service]]\nname = \"web\"\ncommand = \"true\"\n";

const MISTAKES: &[Mistake] = &[
    ("x = = 1\n", Some(1), &[]),
    ("", None, &["service"]),
    ("pids_dir = 'pids'\n", None, &["service"]),
    ("[[service]]\nname = 'web'\n", Some(1), &["web", "command"]),
    ("[[service]]\ncommand = 'true'\n", Some(1), &["name"]),
    ("WEBcomand = 'x'\n", Some(4), &["web", "comand", "command"]),
    ("logdir = 'x'\nWEB", Some(1), &["logdir", "logs_dir"]),
    ("WEBport = '80'\n", Some(4), &["web", "port"]),
    ("WEBport = 0\n", Some(4), &["web", "port", "65535"]),
    ("WEBport = 65536\n", Some(4), &["web", "port", "65535"]),
    ("WEBport = -1\n", Some(4), &["web", "port"]),
    (
        "[[service]]\nname = 'web'\ncommand = ''\n",
        Some(3),
        &["web", "command"],
    ),
    (
        "[[service]]\nname = 'web'\ncommand = []\n",
        Some(3),
        &["web", "command"],
    ),
    (
        "[[service]]\nname = 'web'\ncommand = 7\n",
        Some(3),
        &["web", "command"],
    ),
    (
        "[[service]]\nname = ''\ncommand = 'true'\n",
        Some(2),
        &["name"],
    ),
    (
        "[[service]]\nname = '-web'\ncommand = 'true'\n",
        Some(2),
        &["-web"],
    ),
    (
        "[[service]]\nname = 'a/b'\ncommand = 'true'\n",
        Some(2),
        &["a/b"],
    ),
    (
        "[[service]]\nname = '../x'\ncommand = 'true'\n",
        Some(2),
        &["../x"],
    ),
    ("WEBWEB", None, &["web"]),
    (
        "WEBport = 8000\n[[service]]\nname = 'api'\nport = 8000\ncommand = 'true'\n",
        None,
        &["8000", "web", "api"],
    ),
    (
        "WEBstop_timeout = 'soon'\n",
        Some(4),
        &["web", "stop_timeout"],
    ),
    (
        "WEBstop_timeout = '-1s'\n",
        Some(4),
        &["web", "stop_timeout"],
    ),
    ("WEBstop_timeout = -1\n", Some(4), &["web", "stop_timeout"]),
    (
        "WEBready_timeout = '5 parsecs'\n",
        Some(4),
        &["web", "ready_timeout"],
    ),
    (
        "WEBlog_max_size = '10 apples'\n",
        Some(4),
        &["web", "log_max_size"],
    ),
    ("WEBlog_max_size = -5\n", Some(4), &["web", "log_max_size"]),
    (
        "WEBstop_signal = 'SIGFOO'\n",
        Some(4),
        &["web", "stop_signal", "SIGFOO"],
    ),
    ("WEBstop_signal = 0\n", Some(4), &["web", "stop_signal"]),
    ("WEBstop_signal = 99\n", Some(4), &["web", "stop_signal"]),
    (
        "WEBstop_schedule = 'TERM'\nstop_timeout = '1s'\n",
        None,
        &["web", "stop_schedule", "stop_timeout"],
    ),
    (
        "WEBstop_schedule = 'TERM/soon'\n",
        Some(4),
        &["web", "stop_schedule"],
    ),
    (
        "WEBstop_scope = 'tree'\n",
        Some(4),
        &["web", "stop_scope", "leader"],
    ),
    (
        "WEBtakeover = 'always'\n",
        Some(4),
        &["web", "takeover", "matching"],
    ),
    ("WEBhealth = 'ping'\n", Some(4), &["web", "health"]),
    (
        "WEBhealth = { htttp = '/x' }\n",
        Some(4),
        &["web", "health", "htttp"],
    ),
    ("WEBhealth = 'tcp'\n", Some(4), &["web", "health", "port"]),
    (
        "WEBstart_attempts = 0\n",
        Some(4),
        &["web", "start_attempts"],
    ),
    ("WEBdaemonizes = 'yes'\n", Some(4), &["web", "daemonizes"]),
    ("WEBenv = 'A=1'\n", Some(4), &["web", "env"]),
    ("WEBenv = { A = 1 }\n", Some(4), &["web", "env", "A"]),
    ("WEBcwd = ''\n", Some(4), &["web", "cwd"]),
    (
        "WEBdepends_on = ['dbx']\n[[service]]\nname = 'db'\ncommand = 'true'\n",
        Some(4),
        &["web", "dbx", "db"],
    ),
    ("WEBdepends_on = ['web']\n", Some(4), &["web"]),
    (
        "WEBdepends_on = ['a']\n[[service]]\nname = 'a'\ncommand = 'true'\ndepends_on = ['b']\n\
         [[service]]\nname = 'b'\ncommand = 'true'\ndepends_on = ['web']\n",
        None,
        &["web", "a", "b"],
    ),
    ("[defaults]\nport = 80\nWEB", Some(2), &["defaults", "port"]),
    (
        "[defaults]\ncommand = 'x'\nWEB",
        Some(2),
        &["defaults", "command"],
    ),
    (
        "[defaults]\nname = 'x'\nWEB",
        Some(2),
        &["defaults", "name"],
    ),
    (
        "[defaults]\nstop_timeot = '1s'\nWEB",
        Some(2),
        &["defaults", "stop_timeot", "stop_timeout"],
    ),
    (
        "[defaults]\nstop_timeout = 'x'\nWEB",
        Some(2),
        &["defaults", "stop_timeout"],
    ),
    ("[service]\nname = 'web'\n", None, &["service"]),
];

#[test]
fn every_mistake_names_its_line_and_what_is_wrong() {
    let env = TestEnv::new();
    for (text, line, words) in MISTAKES {
        let text = text.replace("WEB", WEB);
        env.write("services.toml", &text);
        let output = env.run(&["status"]);
        let context = format!("---\n{text}---\n{output}");
        assert_eq!(output.code(), 2, "{context}");
        let begins = match line {
            Some(line) => format!("services.toml:{line}: "),
            None => "services.toml:".into(),
        };
        assert!(output.stderr.starts_with(&begins), "{begins}: {context}");
        for word in *words {
            assert!(output.stderr.contains(word), "{word}: {context}");
        }
    }
}

#[test]
fn every_command_refuses_a_broken_table_and_touches_nothing() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.up();
    let leader = env.pid("web");
    let good = env.read("services.toml");
    env.write("services.toml", format!("{good}\nno_such_key = 1\n"));
    for command in [
        "start", "stop", "restart", "status", "check", "logs", "run", "drill", "free",
    ] {
        let output = env.run(&[command]).expect(2);
        assert!(output.stderr.starts_with("services.toml:"), "{output}");
    }
    env.run(&["adopt", "web"]).expect(2);
    env.run(&["export", "systemd"]).expect(2);
    assert!(leader.is_alive());
    assert!(env.has_pid_file("web"));
}

#[test]
fn a_table_that_cannot_be_read_is_exit_2() {
    let env = TestEnv::new();
    env.run(&["status"]).expect(2);
    env.run(&["-c", "nowhere.toml", "status"])
        .expect(2)
        .expect_said("nowhere.toml");
    env.write("services.toml", b"[[service]]\nname = \"\xff\"\n");
    let output = env.run(&["status"]).expect(2);
    assert!(output.stderr.starts_with("services.toml:"), "{output}");
    env.remove("services.toml");
    std::fs::create_dir(env.path("services.toml")).unwrap();
    env.run(&["status"]).expect(2);
}

#[test]
fn the_error_begins_with_the_path_as_it_was_given() {
    let env = TestEnv::new();
    env.write("conf/my.toml", "nonsense = 1\n");
    let output = env.run(&["-c", "conf/../conf/my.toml", "status"]).expect(2);
    assert!(
        output.stderr.starts_with("conf/../conf/my.toml:1: "),
        "{output}"
    );
}

#[test]
fn it_is_found_in_the_nearest_parent_and_through_the_environment() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    env.write("deep/er/file", "");
    let status = env
        .pidctl(&["--json", "status"])
        .cwd(env.path("deep/er"))
        .run();
    assert_eq!(status.expect(3).ids(), ["web"]);
    env.write(
        "other/services.toml",
        "[[service]]\nname = 'two'\ncommand = 'true'\n",
    );
    chmod(&env.path("other/services.toml"), 0o644);
    let call = |args: &[&str]| {
        env.pidctl(args)
            .env("PIDCTL_CONFIG", env.at("other/services.toml"))
    };
    assert_eq!(call(&["--json", "status"]).run().expect(3).ids(), ["two"]);
    let args = ["status", "--json", "--config", "services.toml"];
    assert_eq!(call(&args).run().expect(3).ids(), ["web"]);
}

#[test]
fn a_missing_table_that_the_environment_names_is_told_with_the_variable() {
    let env = TestEnv::new();
    let call = |args: &[&str]| env.pidctl(args).env("PIDCTL_CONFIG", "nowhere.toml").run();
    for args in [&["status"][..], &["free", "1"]] {
        let output = call(args).expect(2).expect_said("$PIDCTL_CONFIG");
        assert!(output.stderr.starts_with("nowhere.toml: "), "{output}");
    }
    let output = call(&["-c", "nowhere.toml", "status"]).expect(2);
    assert!(!output.said().contains("PIDCTL_CONFIG"), "{output}");
    env.write("nowhere.toml", format!("{WEB}nonsense = 1\n"));
    let output = call(&["status"]).expect(2);
    assert!(!output.said().contains("PIDCTL_CONFIG"), "{output}");
}

#[test]
fn relative_paths_are_relative_to_the_folder_of_the_table() {
    let env = TestEnv::new();
    let dump = format!("dump={}", env.at("given"));
    let web = env.service("web").does(&dump).key("cwd = 'work'");
    env.table_in(
        "app/services.toml",
        "pids_dir = 'run'\nlogs_dir = '../log'",
        &[web],
    );
    env.write("app/work/file", "");
    env.ok(&["-c", "app/services.toml", "start"]);
    env.await_ready();
    assert!(env.exists("app/run/web.pid"));
    assert!(env.exists("log/web.log"));
    assert_eq!(env.read("given.cwd"), env.at("app/work"));
}

#[test]
fn defaults_hold_where_an_entry_is_silent() {
    let env = TestEnv::new();
    let words = "catch=TERM exit-on=INT+QUIT";
    let own = env.service("own").does(words).key("stop_signal = 'QUIT'");
    let head = "[defaults]\nstop_signal = 'INT'\n";
    env.table_in(
        "services.toml",
        head,
        &[own, env.service("plain").does(words)],
    );
    env.up();
    let output = env.ok(&["--json", "stop"]);
    assert_eq!(
        output.service("own")["signals"],
        serde_json::json!(["SIGQUIT"])
    );
    assert_eq!(
        output.service("plain")["signals"],
        serde_json::json!(["SIGINT"])
    );
}

#[test]
fn an_unknown_service_is_told_with_the_nearest_which_is_offered_only_where_it_may_be_meant() {
    let env = TestEnv::new();
    env.table(&[env.service("worker"), env.service("web")]);
    let meant = env.run(&["stop", "wrker"]).expect(2);
    assert!(meant.stderr.contains("did you mean \"worker\"?"), "{meant}");
    let other = env.run(&["stop", "quux"]).expect(2).expect_said("nearest");
    assert!(!other.stderr.contains("did you mean"), "{other}");
    let page = env.run(&["man", "quux"]).expect(2);
    assert!(!page.stderr.contains("did you mean"), "{page}");
}

#[test]
fn usage_errors_are_exit_2_and_help_and_version_0() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    for args in [
        &["no-such-command"][..],
        &[],
        &["start", "--no-such-option"],
        &["stop", "-t", "soon"],
        &["stop", "-t", "-5"],
        &["start", "--takeover", "perhaps"],
        &["free", "70000"],
        &["free", "zero"],
        &["free", "9000-8000"],
    ] {
        env.run(args).expect(2);
    }
    // A negative number is no option, and `-- -5` would be a service of that name.
    for args in [
        &["stop", "-t", "-5"][..],
        &["stop", "--deadline", "-5"],
        &["logs", "-n", "-5"],
        &["free", "-5"],
        &["drill", "--repeat", "-5"],
    ] {
        let output = env.run(args).expect(2).expect_said("'-5'");
        assert!(!output.stderr.contains("tip:"), "{output}");
    }
    assert!(env.ok(&["--help"]).stdout.contains("start"));
    assert!(
        env.ok(&["--version"])
            .stdout
            .contains(env!("CARGO_PKG_VERSION"))
    );
    env.ok(&["stop", "--help"]);
}
