use super::*;
use crate::config::{Command, Health, HttpCheck, Service, StopScope, Takeover};
use crate::sys::signal::Signal;
use std::path::PathBuf;
use std::time::Duration;

fn table(text: &str) -> Table {
    let file = Path::new("/folder/services.toml");
    parse(text, Path::new("services.toml"), file).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes(text: &str) -> String {
    let file = Path::new("/folder/services.toml");
    let errors = parse(text, Path::new("x/services.toml"), file).unwrap_err();
    errors.to_string()
}

/// One service with these lines after its name and command.
fn service(lines: &str) -> Service {
    let text = format!("[[service]]\nname = \"a\"\ncommand = \"true\"\n{lines}\n");
    table(&text).services.remove(0)
}

fn steps(service: &Service) -> Vec<(Signal, u64)> {
    let steps = service.schedule.steps.iter();
    steps
        .map(|(signal, wait)| (*signal, wait.as_secs()))
        .collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let table = table("[[service]]\nname = \"a\"\ncommand = \"true\"\n");
    assert_eq!(table.root, PathBuf::from("/folder"));
    assert_eq!(table.pids_dir, PathBuf::from("/folder/pids"));
    assert_eq!(table.logs_dir, PathBuf::from("/folder/logs"));
    let service = &table.services[0];
    assert_eq!((service.id.as_str(), service.name.as_str()), ("a", "a"));
    assert_eq!(service.command, Command::Shell("true".into()));
    assert_eq!(service.cwd, PathBuf::from("/folder"));
    assert_eq!(service.health, Health::None);
    assert_eq!(service.ready_timeout, Duration::from_secs(30));
    assert_eq!(service.start_attempts, 3);
    assert_eq!(steps(service), [(Signal::TERM, 10)]);
    assert_eq!(service.stop_scope, StopScope::Family);
    assert_eq!(service.takeover, Takeover::Matching);
    assert_eq!((service.log_max_size, service.log_keep), (10 << 20, 3));
    assert!(!service.daemonizes && service.description.is_empty());
    assert!(service.env.is_empty() && service.env_files.is_empty());
    assert_eq!((&service.user, &service.prepare), (&None, &None));
    assert_eq!((&service.port, service.line), (&None, 1));
}

#[test]
fn paths_are_relative_to_the_folder_of_the_table() {
    let table = table(
        "pids_dir = \"./state/pids\"\nlogs_dir = \"/var/log/x\"\n\n[[service]]\nname = \"a\"\n\
         command = [\"./run\", \"\"]\ncwd = \".\"\nenv_file = [\".env\", \"/etc/env\"]\n\
         prepare = \"make\"\ncreates = \"../made\"\n",
    );
    assert_eq!(table.pids_dir.as_os_str(), "/folder/state/pids");
    assert_eq!(table.logs_dir.as_os_str(), "/var/log/x");
    let service = &table.services[0];
    assert_eq!(service.line, 4);
    assert_eq!(service.cwd.as_os_str(), "/folder");
    assert_eq!(
        service.env_files,
        [PathBuf::from("/folder/.env"), PathBuf::from("/etc/env")]
    );
    assert_eq!(service.creates, Some(PathBuf::from("/folder/../made")));
    assert_eq!(service.prepare, Some(Command::Shell("make".into())));
    let words = vec!["./run".to_owned(), String::new()];
    assert_eq!(service.command, Command::Exec(words));
}

#[test]
fn an_entry_goes_before_the_defaults() {
    let table = table(
        r#"
        [defaults]
        env = { Z = "z", A = "a" }
        env_file = "d"
        stop_schedule = "INT/1/QUIT/2"
        depends_on = ["c"]
        health = "none"
        log_keep = 9
        takeover = "any"

        [[service]]
        name = "a"
        port = 80
        command = "true"
        env = { M = "m", A = "other" }
        env_file = []
        stop_timeout = 7
        log_keep = 1
        health = "tcp"
        takeover = "never"

        [[service]]
        name = "b"
        port = 81
        command = "true"

        [[service]]
        name = "c"
        command = "true"
        depends_on = []
        stop_signal = "HUP"
        "#,
    );
    let [a, b, c] = &table.services[..] else {
        panic!("{table:?}");
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(a.env, [pair("Z", "z"), pair("M", "m"), pair("A", "other")]);
    assert_eq!(b.env, [pair("Z", "z"), pair("A", "a")]);
    assert!(a.env_files.is_empty());
    assert_eq!(b.env_files, [PathBuf::from("/folder/d")]);
    assert_eq!(steps(a), [(Signal::TERM, 7)]);
    assert_eq!(steps(b).len(), 2);
    assert_eq!(steps(c), [(Signal::HUP, 10)]);
    assert_eq!((a.log_keep, b.log_keep), (1, 9));
    assert_eq!((&a.health, &b.health), (&Health::Tcp, &Health::None));
    assert_eq!((a.takeover, b.takeover), (Takeover::Never, Takeover::Any));
    let depends_on = [&a.depends_on[..], &b.depends_on, &c.depends_on];
    assert_eq!(depends_on, [&[2][..], &[2], &[]]);
}

#[test]
fn a_name_means_all_services_of_that_name() {
    let entry = |name, port, more| {
        format!("[[service]]\nname = \"{name}\"\nport = {port}\ncommand = \"true\"\n{more}\n")
    };
    let table = table(
        &[
            entry(
                "web",
                1,
                "depends_on = [\"db_4\", \"api\", \"api_2\", \"db\"]",
            ),
            entry("api", 2, ""),
            entry("api", 3, ""),
            entry("db", 4, ""),
        ]
        .concat(),
    );
    assert_eq!(table.services[0].id, "web_1");
    assert_eq!(table.services[0].depends_on, [3, 1, 2]);
}

#[test]
fn health_in_every_form() {
    let with_port = |health: &str| service(&format!("port = 80\nhealth = {health}")).health;
    assert_eq!(service("port = 80").health, Health::Tcp);
    assert_eq!(with_port("\"none\""), Health::None);
    let check = |host: &str, port, path: &str, timeout, interval| {
        Health::Http(HttpCheck {
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            timeout: Duration::from_millis(timeout),
            interval: Duration::from_secs(interval),
        })
    };
    let own = "127.0.0.1";
    assert_eq!(with_port("\"http\""), check(own, 80, "/", 2000, 30));
    assert_eq!(
        with_port("{ http = \"/x?y\", timeout = \"500ms\", interval = 5 }"),
        check(own, 80, "/x?y", 500, 5)
    );
    assert_eq!(
        service("health.http = \"http://localhost:8080\"").health,
        check("localhost", 8080, "/", 2000, 30)
    );
    assert_eq!(
        service("health = { command = [\"pg_isready\"], timeout = 9 }").health,
        Health::Command {
            command: Command::Exec(vec!["pg_isready".into()]),
            timeout: Duration::from_secs(9),
            interval: Duration::from_secs(30),
        }
    );
}

#[test]
fn stopping_in_every_form() {
    assert_eq!(steps(&service("stop_signal = 2")), [(Signal::INT, 10)]);
    assert_eq!(
        steps(&service("stop_signal = \"hup\"\nstop_timeout = \"1m\"")),
        [(Signal::HUP, 60)]
    );
    assert_eq!(steps(&service("stop_signal = \"KILL\"")), []);
    assert_eq!(steps(&service("stop_timeout = 0")), []);
    assert_eq!(
        steps(&service("stop_schedule = \"INT/20s/TERM/5\"")),
        [(Signal::INT, 20), (Signal::TERM, 5)]
    );
    assert_eq!(
        service("stop_scope = \"leader\"").stop_scope,
        StopScope::Leader
    );
}

#[test]
fn every_line_begins_with_the_path_as_given() {
    let text = "[[service]]\nname = \"a\"\nx = 1\ny = 2\n";
    let told = mistakes(text);
    assert_eq!(told.lines().count(), 3);
    for (line, number) in told.lines().zip([1, 3, 4]) {
        let start = format!("x/services.toml:{number}: service a: ");
        assert!(line.starts_with(&start), "{line}");
    }
}

#[test]
fn long_chains_and_large_cycles_need_no_recursion() {
    const COUNT: usize = 5000;
    let chain = |last: &str| -> String {
        let entry = |index| {
            let next = if index + 1 < COUNT {
                format!("\"s{}\"", index + 1)
            } else {
                last.to_owned()
            };
            format!("[[service]]\nname = \"s{index}\"\ncommand = \"true\"\ndepends_on = [{next}]\n")
        };
        (0..COUNT).map(entry).collect()
    };
    assert_eq!(table(&chain("")).services.len(), COUNT);
    let told = mistakes(&chain("\"s0\""));
    assert!(told.contains("s4999 -> s0; "), "one cycle with its end");
    assert_eq!(told.lines().count(), 1);
}

#[test]
fn many_mistakes_are_all_told() {
    const COUNT: usize = 2000;
    let entry = |index| {
        format!(
            "[[service]]\nname = \"s{index}\"\ncommand = \"true\"\ndepends_on = [\"t{index}\"]\n"
        )
    };
    let text: String = (0..COUNT).map(entry).collect();
    assert_eq!(mistakes(&text).lines().count(), COUNT);
}
