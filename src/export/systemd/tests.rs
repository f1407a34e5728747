//! The units are read back by an independent reader, and given to systemd's own verifier.

use super::*;
use crate::config::{Command, Health, HttpCheck, StopScope};
use crate::export::sample::{self, Folder};
use crate::export::unit_reader::{settings, values};
use std::process;

pub fn one(service: Service) -> String {
    let table = sample::table(vec![service]);
    let units = units(&table, &sample::systemd(false)).expect("units");
    units[0].text.clone()
}

#[test]
fn the_program_is_named_by_its_absolute_path() {
    let start = |words: &[&str], cwd: &str| {
        let mut service = sample::service("x", None);
        service.cwd = cwd.into();
        service.command = Command::Exec(words.iter().map(|w| w.to_string()).collect());
        values(&one(service), "ExecStart")[0].clone()
    };
    assert_eq!(start(&["env", "A"], "/"), "/usr/bin/env A");
    assert_eq!(start(&["bin/sh"], "/"), "/bin/sh");
    assert_eq!(start(&["./sh"], "/bin"), "/bin/./sh");
    assert_eq!(start(&["-gone", "A"], "/"), "/usr/bin/env -- -gone A");
    assert_eq!(start(&["venv/x"], "/srv"), "/usr/bin/env -- venv/x");
    assert_eq!(
        start(&["a=b"], "/"),
        "/usr/bin/env -- /bin/sh -c \"exec \\\"$$0\\\" \\\"$$@\\\"\" a=b"
    );
}

#[test]
fn stop_settings() {
    let keys = |steps: &[(&str, u64)], scope| {
        let mut service = sample::service("x", None);
        service.stop_scope = scope;
        service.schedule.steps = steps
            .iter()
            .map(|(name, ms)| (name.parse().expect("signal"), Duration::from_millis(*ms)))
            .collect();
        let unit = one(service);
        [
            "KillSignal",
            "TimeoutStopSec",
            "KillMode",
            "SuccessExitStatus",
        ]
        .map(|key| values(&unit, key).concat())
    };
    let family = StopScope::Family;
    assert_eq!(
        keys(&[("TERM", 10_000)], family),
        ["SIGTERM", "10s", "control-group", "143SIGTERM"]
    );
    assert_eq!(
        keys(&[("INT", 1500)], StopScope::Leader),
        ["SIGINT", "1500ms", "mixed", "130SIGINT"]
    );
    // A SIGKILL that systemd did not send is a failure, an out-of-memory kill say.
    assert_eq!(keys(&[], family), ["SIGKILL", "1ms", "control-group", ""]);
    assert_eq!(keys(&[("TERM", 0)], family)[..2], ["SIGTERM", "1ms"]);
    assert_eq!(
        keys(&[("40", 1000)], family),
        ["40", "1s", "control-group", "168"]
    );
    assert_eq!(
        keys(&[("INT", 20_000), ("QUIT", 5000)], family)[..2],
        ["SIGINT", "30s"]
    );
}

#[test]
fn dependencies_and_the_target() {
    let mut api = sample::service("api", Some(8000));
    api.depends_on = vec![1, 7];
    let table = sample::table(vec![api, sample::service("db", Some(5432))]);
    let units = units(&table, &sample::systemd(false)).expect("units");
    let names: Vec<&str> = units.iter().map(|unit| unit.file_name.as_str()).collect();
    assert_eq!(
        names,
        [
            "shop-api_8000.service",
            "shop-db_5432.service",
            "shop.target"
        ]
    );
    assert_eq!(values(&units[0].text, "Requires"), ["shop-db_5432.service"]);
    assert_eq!(
        values(&units[0].text, "After"),
        ["network.target", "shop-db_5432.service"]
    );
    assert_eq!(values(&units[0].text, "PartOf"), ["shop.target"]);
    assert_eq!(values(&units[2].text, "Wants"), names[..2]);
    assert_eq!(values(&units[2].text, "WantedBy"), ["multi-user.target"]);
}

#[test]
fn a_users_manager_runs_nobody_elses_services() {
    let mut service = sample::service("x", None);
    let user = |service: &Service, options: &Options| {
        let table = sample::table(vec![service.clone()]);
        let units = units(&table, options).expect("units");
        (
            values(&units[0].text, "User"),
            values(&units[1].text, "WantedBy"),
        )
    };
    let mut system = sample::systemd(false);
    let mut own = sample::systemd(true);
    system.caller.account = Some("alice".into());
    own.caller.account = Some("alice".into());
    assert_eq!(
        user(&service, &system).0,
        ["alice"],
        "never root by accident"
    );
    assert_eq!(
        user(&service, &own),
        (vec![], vec!["default.target".to_owned()])
    );
    service.user = Some("www-data".into());
    assert_eq!(user(&service, &system).0, ["www-data"]);
    assert_eq!(user(&service, &own).0, [""; 0]);
}

#[test]
fn no_text_of_the_table_adds_a_setting() {
    let mut service = sample::service("x", None);
    service.description = "one\nType=oneshot\r[Install]\u{0}\\".into();
    service.command = Command::Exec(vec!["gone\nUser=root".into(), "a\nUser=root".into()]);
    service.env = vec![("A".into(), "\n[Install]\nAlias=x.service".into())];
    service.cwd = "/srv/50% off\\".into();
    service.env_files = vec!["/srv/*a?[b]\\c ".into()];
    let unit = one(service);
    let sections = settings(&unit).into_iter().map(|(section, _, _)| section);
    assert!(sections.clone().all(|s| s == "Unit" || s == "Service"));
    assert_eq!(values(&unit, "Type"), ["exec"]);
    assert_eq!(values(&unit, "User"), ["root"]);
    assert_eq!(values(&unit, "Description"), ["one Type=oneshot [Install]"]);
    assert_eq!(values(&unit, "WorkingDirectory"), ["/srv/50%% off\\/"]);
    assert_eq!(
        values(&unit, "EnvironmentFile"),
        ["/srv/\\*a\\?\\[b]\\\\c[ ]"]
    );
}

/// Everything at once, in a folder of a hard name.
fn nasty_table(dir: &Path) -> Table {
    let nasty = crate::export::quote::tests::NASTY;
    let mut first = sample::service("first", Some(8000));
    first.description = nasty.concat();
    first.cwd = dir.join("50% \\ \"off\" $x/../50% \\ \"off\" $x");
    first.command = Command::Exec(
        [&["printf"], nasty]
            .concat()
            .iter()
            .map(|w| w.to_string())
            .collect(),
    );
    first.env = nasty
        .iter()
        .enumerate()
        .map(|(i, v)| (format!("V{i}"), v.to_string()))
        .collect();
    first.env.push(("odd.name-1".into(), "x".into()));
    first.schedule.steps = ["INT", "QUIT", "40"]
        .map(|name| (name.parse().expect("signal"), Duration::from_millis(2500)))
        .to_vec();
    let mut second = sample::service("second", None);
    second.cwd = dir.to_owned();
    second.command =
        Command::Shell("trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done; %n ;\n".into());
    second.prepare = Some(Command::Exec(vec!["not-there-yet".into(), ";".into()]));
    second.creates = Some(dir.join("%h $x ;"));
    second.env_files = vec![dir.join("*.env")];
    second.user = Some("www-data".into());
    second.depends_on = vec![0];
    second.daemonizes = true;
    second.stop_scope = StopScope::Leader;
    second.health = Health::Command {
        command: Command::Shell("test \"$A\" != '%i'".into()),
        timeout: Duration::from_millis(1500),
        interval: Duration::from_secs(30),
    };
    let mut third = sample::service("third.x-y", Some(8001));
    third.depends_on = vec![0, 1];
    third.schedule.steps = Vec::new();
    third.ready_timeout = Duration::ZERO;
    third.health = Health::Http(HttpCheck {
        host: "localhost".into(),
        port: 8001,
        path: "/a?b=%20[c]&$d".into(),
        timeout: Duration::from_secs(2),
        interval: Duration::from_secs(30),
    });
    let mut table = sample::table(vec![first, second, third]);
    table.file = dir.join("services.toml");
    table
}

#[test]
fn systemd_itself_accepts_the_units() {
    let present = process::Command::new("systemd-analyze")
        .arg("--version")
        .output();
    if present.is_err() {
        println!("skipped: no systemd-analyze on this machine");
        return;
    }
    for user in [false, true] {
        let dir = Folder::new();
        std::fs::create_dir(dir.0.join("50% \\ \"off\" $x")).expect("folder");
        let table = nasty_table(&dir.0);
        let out = dir.0.join("units");
        std::fs::create_dir(&out).expect("folder");
        let mut files = Vec::new();
        for unit in units(&table, &sample::systemd(user)).expect("units") {
            let file = out.join(&unit.file_name);
            std::fs::write(&file, &unit.text).expect("write");
            files.push(file);
        }
        let mut verify = process::Command::new("systemd-analyze");
        verify.args(["verify", "--man=no"]).args(&files);
        if user {
            verify.arg("--user").env("XDG_RUNTIME_DIR", &dir.0);
        }
        let output = verify.output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("shop")).collect();
        assert!(
            output.status.success() && about_ours.is_empty(),
            "--user {user}: {said}"
        );
    }
}
