//! The job's shape is that of Nomad's JSON job specification; its command lines are run as the
//! raw_exec driver would run them.

use super::*;
use crate::config::{Command, HttpCheck};
use crate::export::{quote, sample};
use std::path::PathBuf;
use std::process;

fn job_of(services: Vec<Service>) -> (Value, String) {
    let made = job(&sample::table(services), &sample::nomad()).expect("job");
    (made.job["Job"].clone(), made.warnings.join("\n"))
}

fn main_of(service: Service) -> (Value, String) {
    let (job, warnings) = job_of(vec![service]);
    let tasks = job["TaskGroups"][0]["Tasks"]
        .as_array()
        .expect("tasks")
        .clone();
    (tasks.last().expect("task").clone(), warnings)
}

/// What the task prints, NUL-terminated words, when it is run with its environment alone.
fn run(task: &Value) -> Vec<String> {
    let config = &task["Config"];
    let mut command = process::Command::new(config["command"].as_str().expect("command"));
    for arg in config["args"].as_array().expect("args") {
        let arg = arg.as_str().expect("string");
        command.arg(arg.replace("$${", "${").replace("%%{", "%{"));
    }
    command.env_clear();
    for (name, value) in task["Env"].as_object().expect("env") {
        let value = value.as_str().expect("string");
        assert!(!value.contains("${"), "Nomad would replace it: {value}");
        command.env(name, value);
    }
    let output = command.output().expect("run");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_terminator('\0').map(String::from).collect()
}

#[test]
fn a_service_is_a_group_with_its_task_port_and_check() {
    let mut api = sample::service("api", Some(8000));
    api.user = Some("www-data".into());
    let (job, _) = job_of(vec![api]);
    assert_eq!(
        (&job["ID"], &job["Type"]),
        (&json!("shop"), &json!("service"))
    );
    let group = &job["TaskGroups"][0];
    assert_eq!(
        (&group["Name"], &group["Count"]),
        (&json!("api_8000"), &json!(1))
    );
    assert_eq!(
        group["Networks"][0]["ReservedPorts"],
        json!([{"Label": "main", "Value": 8000}])
    );
    assert_eq!(group["RestartPolicy"]["Attempts"], 3);
    assert_eq!(
        group["Services"],
        json!([{
            "Name": "shop-api-8000",
            "Provider": "nomad",
            "PortLabel": "main",
            "Address": "127.0.0.1",
            "Checks": [{
                "Name": "tcp",
                "Type": "tcp",
                "Interval": 30_000_000_000_u64,
                "Timeout": 2_000_000_000_u64,
            }],
        }])
    );
    let task = &group["Tasks"][0];
    assert_eq!(task["Driver"], "raw_exec");
    assert_eq!(task["User"], "www-data");
    assert_eq!(task["KillSignal"], "SIGTERM");
    assert_eq!(task["KillTimeout"], 10_000_000_000_u64);
    assert_eq!(
        task["LogConfig"],
        json!({"MaxFiles": 4, "MaxFileSizeMB": 10})
    );
    assert_eq!(
        task["Env"],
        json!({"PATH": "/usr/bin:/bin", "PORT": "8000", "PIDCTL_SERVICE": "api_8000"})
    );
    assert_eq!(
        task["Config"],
        json!({
            "command": "/bin/sh",
            "args": ["-c", IN_FOLDER, "/", "/bin/sh", "-c", "exec sleep 1000"],
        })
    );
}

#[test]
fn every_argument_and_variable_reaches_the_program() {
    let mut service = sample::service("x", None);
    let mut words = vec!["printf".to_owned(), "%s\\0".to_owned()];
    words.extend(quote::tests::NASTY.iter().map(|word| word.to_string()));
    words.push("%{ if x }${a:-b}".to_owned());
    service.command = Command::Exec(words.clone());
    assert_eq!(run(&main_of(service.clone()).0), words[2..]);
    for value in &words {
        service.env = vec![("X".into(), value.clone())];
        service.command = Command::Shell("printf '%s\\0' \"${X:-}\" \"$PWD\"".into());
        service.cwd = PathBuf::from("/usr");
        assert_eq!(run(&main_of(service.clone()).0), [value, "/usr"]);
    }
}

#[test]
fn prepare_runs_before_and_after_the_ports_of_dependencies() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let mut api = sample::service("api", None);
    api.depends_on = vec![1, 2];
    api.prepare = Some(Command::Shell("printf 'ran\\0'".into()));
    let (job, warnings) = job_of(vec![
        api.clone(),
        sample::service("db", Some(port)),
        sample::service("worker", None),
    ]);
    let task = &job["TaskGroups"][0]["Tasks"][0];
    assert_eq!(
        task["Lifecycle"],
        json!({"Hook": "prestart", "Sidecar": false})
    );
    assert_eq!(run(task), ["ran"]);
    assert!(
        warnings.contains("api: does not wait for `worker`"),
        "{warnings}"
    );

    api.prepare = None;
    let (job, _) = job_of(vec![api.clone(), sample::service("db", Some(port))]);
    assert!(run(&job["TaskGroups"][0]["Tasks"][0]).is_empty());
    api.depends_on = Vec::new();
    let (job, _) = job_of(vec![api]);
    assert_eq!(
        job["TaskGroups"][0]["Tasks"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn what_holds_for_several_services_is_told_once() {
    let mut services = ["a", "b"].map(|name| sample::service(name, None));
    for service in &mut services {
        service.daemonizes = true;
    }
    let (_, warnings) = job_of(services.to_vec());
    assert_eq!(warnings.matches("daemonizes").count(), 1, "{warnings}");
    assert!(warnings.contains("a, b: daemonizes"), "{warnings}");
}

#[test]
fn what_nomad_cannot_do_is_told() {
    let plain = main_of(sample::service("x", None)).1;
    let tells = |change: &dyn Fn(&mut Service), expected: &str| {
        let mut service = sample::service("x", Some(8000));
        change(&mut service);
        let warnings = main_of(service).1;
        assert!(
            !plain.contains(expected) && warnings.contains(expected),
            "{warnings}"
        );
    };
    let schedule = |steps: &[(&str, u64)]| {
        let steps = steps.iter();
        steps
            .map(|(name, s)| (name.parse().expect("signal"), Duration::from_secs(*s)))
            .collect::<Vec<_>>()
    };
    tells(
        &|s| s.schedule.steps = schedule(&[("INT", 1), ("QUIT", 1)]),
        "cut to its first signal",
    );
    tells(
        &|s| s.schedule.steps = schedule(&[("TERM", 31)]),
        "max_kill_timeout",
    );
    tells(
        &|s| s.schedule.steps = schedule(&[("40", 1)]),
        "SIGTERM instead",
    );
    tells(&|s| s.daemonizes = true, "daemonizes");
    tells(
        &|s| s.env_files = vec!["/.env".into()],
        "env_file is not exported",
    );
    let http = |port| HttpCheck {
        host: "localhost".into(),
        port,
        path: "/health".into(),
        timeout: Duration::from_millis(100),
        interval: Duration::from_secs(5),
    };
    tells(&|s| s.health = Health::Http(http(8000)), "only 2xx");
    tells(&|s| s.health = Health::Http(http(8000)), "at least 1 s");
    tells(&|s| s.health = Health::Http(http(8001)), "another port");
    tells(
        &|s| {
            s.health = Health::Command {
                command: Command::Shell("true".into()),
                timeout: Duration::from_secs(1),
                interval: Duration::from_secs(1),
            }
        },
        "not commands",
    );
}

#[test]
fn extreme_values_stay_within_nomads_limits() {
    let mut service = sample::service(&"x".repeat(90), Some(1));
    service.log_max_size = u64::MAX;
    service.log_keep = u32::MAX;
    service.start_attempts = u32::MAX;
    service.schedule.steps = vec![(Signal::TERM, Duration::MAX); 2];
    let (job, _) = job_of(vec![service.clone()]);
    let group = &job["TaskGroups"][0];
    assert_eq!(group["Tasks"][0]["KillTimeout"], i64::MAX);
    let name = group["Services"][0]["Name"].as_str().expect("name");
    assert!(name.len() < 64 && name.starts_with("shop-x"));
    service.schedule.steps = Vec::new();
    let (task, _) = main_of(service);
    assert_eq!(
        (&task["KillSignal"], &task["KillTimeout"]),
        (&json!("SIGKILL"), &json!(0))
    );
}

#[test]
fn the_isolated_driver_and_the_exporting_user() {
    let mut options = sample::nomad();
    options.isolated = true;
    options.caller.account = Some("alice".into());
    let table = sample::table(vec![sample::service("x", None)]);
    let made = job(&table, &options).expect("job");
    let task = &made.job["Job"]["TaskGroups"][0]["Tasks"][0];
    assert_eq!(
        (&task["Driver"], &task["User"]),
        (&json!("exec"), &json!("alice"))
    );
    assert!(made.warnings[0].contains("exec driver"));
}
