//! `check`: what will go wrong though the table is right, all at once, and nothing is touched.

use serde_json::Value;

use crate::support::{Output, TestEnv, chmod, is_root};

/// The warnings of a service, by key.
fn warned<'a>(document: &'a Value, service: &str, key: &str) -> Vec<&'a str> {
    let warnings = document["warnings"].as_array().expect("an array");
    warnings
        .iter()
        .filter(|one| one["service"] == service && one["key"] == key)
        .map(|one| one["message"].as_str().expect("a message"))
        .collect()
}

#[track_caller]
fn assert_warned(document: &Value, service: &str, key: &str, part: &str) {
    let messages = warned(document, service, key);
    let found = messages.iter().any(|message| message.contains(part));
    assert!(found, "no {part:?} of {service} {key} in {document:#}");
}

fn check(env: &TestEnv) -> Value {
    env.ok(&["--json", "check"]).json()
}

#[test]
fn every_warning_comes_at_once_with_its_line_and_says_what_to_do() {
    let env = TestEnv::new();
    env.write("broken.env", "A=1\nnonsense\n");
    env.write("plain", "no program");
    env.table(&[
        env.service("typo").exec(&["no-such-programme"]),
        env.service("plain").exec(&["./plain"]),
        env.service("folder").key("cwd = 'nowhere'"),
        env.service("file")
            .key("env_file = ['missing.env', 'broken.env']"),
        env.service("probe")
            .key("health = { command = 'no-such-probe x' }"),
        env.service("first").key("prepare = ['no-such-installer']"),
        env.service("who").key("user = 'no-such-user'"),
    ]);
    let output = env.ok(&["check"]);
    let text = env.read("services.toml");
    let lines: Vec<&str> = text.lines().collect();
    for (service, key, part) in [
        ("typo", "command", "no-such-programme; searched PATH="),
        ("plain", "command", "chmod +x"),
        ("folder", "cwd", "make it, or correct the path"),
        ("file", "env_file", "missing.env: no such file; make it"),
        ("file", "env_file", "broken.env:2: expected NAME=value"),
        ("probe", "health", "no-such-probe"),
        ("first", "prepare", "no-such-installer"),
        ("who", "user", "no-such-user does not exist; correct"),
    ] {
        let entry = lines
            .iter()
            .position(|line| *line == format!("name = \"{service}\""));
        let start = format!(
            "services.toml:{}: warning: service {service}: {key}: ",
            entry.expect("its entry")
        );
        let found = output
            .stderr
            .lines()
            .any(|line| line.starts_with(&start) && line.contains(part));
        assert!(found, "{start}…{part}: {output}");
    }
    assert!(
        output
            .stdout
            .starts_with("services.toml: 7 services, no mistake, ")
    );
    assert!(!env.exists("pids") && !env.exists("logs"));
    assert!(env.members().is_empty());
}

#[test]
fn the_json_has_errors_and_warnings_with_every_key() {
    let env = TestEnv::new();
    env.table(&[env.service("typo").exec(&["no-such-programme"])]);
    let document = check(&env);
    assert_eq!(document["errors"], serde_json::json!([]));
    for warning in document["warnings"].as_array().expect("an array") {
        for key in ["service", "key", "line", "message"] {
            assert!(warning.get(key).is_some(), "{key}: {warning}");
        }
    }
    assert_warned(&document, "typo", "command", "no-such-programme");

    env.write("services.toml", "[[service]]\nname = 'a'\nport = 0\n");
    let output = env.run(&["check", "--json"]).expect(2);
    let errors = output.json()["errors"]
        .as_array()
        .expect("an array")
        .clone();
    let lines: Vec<&Value> = errors.iter().map(|one| &one["line"]).collect();
    assert_eq!(lines, [1, 3], "{output}");
    assert!(output.stderr.starts_with("services.toml:1: "), "{output}");
    assert_eq!(output.json()["warnings"], serde_json::json!([]));
}

#[test]
fn what_prepare_has_yet_to_make_is_not_missed() {
    let env = TestEnv::new();
    env.table(&[env
        .service("web")
        .exec(&["made/program"])
        .key("prepare = 'mkdir made'\ncreates = 'made'")]);
    assert!(warned(&check(&env), "web", "command").is_empty());
    env.write("made/other", "");
    assert_warned(&check(&env), "web", "command", "made/program");
}

#[test]
fn the_path_that_counts_is_the_service_s_own() {
    let env = TestEnv::new();
    env.write("bin/tool", "#!/bin/sh\n");
    chmod(&env.path("bin/tool"), 0o755);
    env.write("path.env", format!("PATH={}\n", env.at("bin")));
    env.table(&[
        env.service("without").exec(&["tool"]),
        env.service("by_env")
            .exec(&["tool"])
            .key(format!("env = {{ PATH = '{}' }}", env.at("bin"))),
        env.service("by_file")
            .exec(&["tool"])
            .key("env_file = 'path.env'"),
    ]);
    let document = check(&env);
    assert_warned(&document, "without", "command", "tool");
    assert!(warned(&document, "by_env", "command").is_empty());
    assert!(warned(&document, "by_file", "command").is_empty());
}

#[test]
fn a_port_is_missed_only_where_somebody_else_holds_it() {
    let env = TestEnv::new();
    let (own, foreign) = (env.free_port(), env.free_port());
    let web = env.service("web").port(own).does("listen");
    let other = env.service("other").port(foreign).does("listen");
    let (web_id, other_id) = (web.id(), other.id());
    env.table(&[web]);
    env.up();
    let stranger = env.stranger(&["listen", &format!("port={foreign}")]);
    env.table(&[env.service("web").port(own).does("listen"), other]);
    let document = check(&env);
    assert!(
        warned(&document, &web_id, "port").is_empty(),
        "{document:#}"
    );
    assert_warned(&document, &other_id, "port", &stranger.pid());
    assert_warned(
        &document,
        &other_id,
        "port",
        &format!("pidctl free {foreign}"),
    );
    // Another table's instance is somebody else.
    let twin = env.service("twin").port(own).does("listen");
    let twin_id = twin.id();
    env.table_in("twin/services.toml", "", &[twin]);
    let output = env.ok(&["-c", "twin/services.toml", "--json", "check"]);
    assert_warned(&output.json(), &twin_id, "port", &web_id);
    stranger.assert_alive();
    env.ok(&["stop", &web_id]);
    env.assert_nobody_left();
}

#[test]
fn a_low_port_wants_a_right_that_the_service_s_user_has() {
    let lowest = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let lowest: u16 = lowest
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    if !is_root() || lowest < 2 {
        return;
    }
    let env = TestEnv::new();
    let low = env.service("low").port(1).exec(&["/bin/sleep", "9"]);
    env.table(&[low.key("user = 'nobody'")]);
    assert_warned(&check(&env), "low_1", "port", "ip_unprivileged_port_start");
    let low = env.service("low").port(1).exec(&["/bin/sleep", "9"]);
    env.table(&[low]);
    let output = env.as_nobody(&["--json", "check"]).run().expect(0);
    assert_warned(&output.json(), "low_1", "port", "setcap");
}

#[test]
fn a_cwd_that_the_service_s_user_may_not_enter_is_told() {
    if !is_root() {
        return;
    }
    let env = TestEnv::new();
    env.write("private/deep/file", "");
    chmod(&env.path("private"), 0o700);
    let web = env.service("web").exec(&["/bin/sleep", "9"]);
    env.table(&[web.key("cwd = 'private/deep'\nuser = 'nobody'")]);
    assert_warned(&check(&env), "web", "cwd", &env.at("private"));
    chmod(&env.path("private"), 0o711);
    assert!(warned(&check(&env), "web", "cwd").is_empty());
}

#[test]
fn folders_that_others_may_write_are_told() {
    let env = TestEnv::new();
    env.table(&[env.service("web")]);
    for folder in ["pids", "logs"] {
        std::fs::create_dir(env.path(folder)).unwrap();
        chmod(&env.path(folder), 0o777);
    }
    let output = env.ok(&["check"]);
    for key in ["pids_dir", "logs_dir"] {
        let start = format!("services.toml: warning: {key}: ");
        let found = |line: &str| line.starts_with(&start) && line.contains("chmod go-w");
        assert!(output.stderr.lines().any(found), "{key}: {output}");
        // Left as they are.
        assert_eq!(
            crate::support::mode(&env.path(key.trim_end_matches("_dir"))),
            0o777
        );
    }
}

#[test]
fn a_ci_runner_that_would_end_the_services_is_named_with_the_way_out() {
    let env = TestEnv::new();
    env.table(&[
        env.service("web"),
        env.service("free").key("env = { RUNNER_TRACKING_ID = '' }"),
    ]);
    let under = |name: &str, value: &str| -> Output {
        let call = env.pidctl(&["check"]).env("BUILD_ID", "7");
        call.env(name, value).run().expect(0)
    };
    let runner = under("RUNNER_TRACKING_ID", "github_1");
    assert!(
        runner
            .stderr
            .contains("warning: web: the GitHub Actions runner"),
        "{runner}"
    );
    assert!(
        runner.stderr.contains("RUNNER_TRACKING_ID= pidctl start"),
        "{runner}"
    );
    for (name, way) in [
        ("JENKINS_NODE_COOKIE", "JENKINS_NODE_COOKIE=dontKillMe"),
        ("JENKINS_SERVER_COOKIE", "BUILD_ID=dontKillMe"),
    ] {
        let jenkins = under(name, "0123");
        assert!(
            jenkins.stderr.contains("warning: every service: Jenkins"),
            "{jenkins}"
        );
        assert!(jenkins.stderr.contains(way), "{jenkins}");
    }
    for (name, harmless) in [
        ("RUNNER_TRACKING_ID", ""),
        ("JENKINS_NODE_COOKIE", "dontKillMe"),
    ] {
        let output = under(name, harmless);
        assert!(!output.stderr.contains("when the job ends"), "{output}");
    }
}

#[test]
fn quiet_says_mistakes_only() {
    let env = TestEnv::new();
    env.table(&[env.service("typo").exec(&["no-such-programme"])]);
    let output = env.ok(&["-q", "check"]);
    assert_eq!(output.said(), "");
    env.write("services.toml", "nonsense = 1\n");
    env.run(&["-q", "check"])
        .expect(2)
        .expect_said("services.toml:1: ");
}
