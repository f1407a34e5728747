//! Would systemd or logind end the services together with the unit or session that starts them? They
//! stay in the caller's control group, and these end by it.

use super::Findings;
use crate::sys::proc;
use nix::unistd::{User, geteuid};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

pub fn look(findings: &mut Findings) {
    let cgroup = proc::cgroup(std::process::id() as i32).unwrap_or_default();
    let user = User::from_uid(geteuid()).ok().flatten();
    let host = Host {
        root: PathBuf::from("/"),
        uid: geteuid().as_raw(),
        user: user.map_or_else(|| geteuid().to_string(), |user| user.name),
        home: std::env::var_os("HOME")
            .map(PathBuf::from)
            .unwrap_or_default(),
    };
    if let Some(message) = host.who_ends(&cgroup) {
        findings.of_all(None, message);
    }
}

/// What of this machine decides how long a control group's processes live.
struct Host {
    root: PathBuf,
    uid: u32,
    user: String,
    home: PathBuf,
}

impl Host {
    /// Of a /proc/PID/cgroup: what will end its processes, and what to do.
    fn who_ends(&self, cgroup: &str) -> Option<String> {
        let path = systemd_path(cgroup)?;
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let manager = parts.iter().any(|part| part.starts_with("user@"));
        let is_unit = |part: &&&str| part.ends_with(".service") || part.ends_with(".scope");
        let unit = parts.iter().rev().find(is_unit)?;
        let scope = if manager {
            "systemd-run --user --scope"
        } else {
            "systemd-run --scope"
        };
        if unit.ends_with(".service") && !unit.starts_with("user@") {
            let mode = self.kill_mode(unit, manager);
            return (!matches!(&*mode, "process" | "none")).then(|| {
                format!(
                    "pidctl runs in {unit}: when that unit ends, systemd ends every service started \
                     here (KillMode={mode}); if they shall outlive it: {scope} pidctl start, or run \
                     them as units (pidctl export systemd)"
                )
            });
        }
        if manager {
            let linger = self.root.join("var/lib/systemd/linger").join(&self.user);
            return (!linger.exists()).then(|| {
                "when you have logged out everywhere, systemd ends every service started here; if \
                 they shall stay: loginctl enable-linger"
                    .to_owned()
            });
        }
        let ends = unit.starts_with("session-") && self.uid != 0 && self.logind_kills();
        ends.then(|| {
            format!(
                "pidctl runs in {unit}: when you log out, logind ends every service started here \
                 (KillUserProcesses=yes); if they shall stay: loginctl enable-linger, then \
                 systemd-run --user --scope pidctl start"
            )
        })
    }

    /// Of a unit's files: how much of its control group ends with it.
    fn kill_mode(&self, unit: &str, of_user: bool) -> String {
        let folders: Vec<PathBuf> = match of_user {
            true => {
                let run = format!("run/user/{}/systemd", self.uid);
                vec![
                    self.root.join("usr/lib/systemd/user"),
                    self.root.join("etc/systemd/user"),
                    self.root.join(&run).join("user"),
                    self.root.join(&run).join("transient"),
                    self.home.join(".config/systemd/user"),
                ]
            }
            false => [
                "usr/lib/systemd/system",
                "lib/systemd/system",
                "usr/local/lib/systemd/system",
                "run/systemd/transient",
                "run/systemd/system",
                "etc/systemd/system",
            ]
            .map(|folder| self.root.join(folder))
            .to_vec(),
        };
        let template = unit
            .split_once('@')
            .map(|(name, _)| format!("{name}@.service"));
        let names = template.iter().map(String::as_str).chain([unit]);
        let mut mode = "control-group".to_owned();
        // The file that holds first, then what is dropped in beside any.
        let of_folder = |folder: &PathBuf| {
            names
                .clone()
                .map(|name| folder.join(name))
                .collect::<Vec<_>>()
        };
        let files: Vec<PathBuf> = folders.iter().flat_map(of_folder).collect();
        let drop_ins = files.iter().flat_map(|file| drop_ins(&with_d(file)));
        for file in files.iter().cloned().chain(drop_ins) {
            mode = setting(&file, "KillMode").unwrap_or(mode);
        }
        mode
    }

    fn logind_kills(&self) -> bool {
        const KEY: &str = "KillUserProcesses";
        // Distributions differ; each writes its own default into the file, behind a #.
        const COMMENTED: &str = "#KillUserProcesses";
        let folders = ["usr/lib/systemd", "etc/systemd", "run/systemd"];
        let files = folders.map(|folder| self.root.join(folder).join("logind.conf"));
        let mut kills = files.iter().rev().find_map(|file| setting(file, COMMENTED));
        let drop_ins = files.iter().flat_map(|file| drop_ins(&with_d(file)));
        for file in files.iter().cloned().chain(drop_ins) {
            kills = setting(&file, KEY).or(kills);
        }
        kills.is_some_and(|value| matches!(&*value, "yes" | "true" | "on" | "1"))
    }
}

/// The path in systemd's hierarchy, of version 1 or 2.
fn systemd_path(cgroup: &str) -> Option<&str> {
    let named = |name: &str| {
        cgroup.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (hierarchy, path) = line.split_once(':')?;
            (hierarchy == name).then_some(path)
        })
    };
    named("name=systemd").or_else(|| named(""))
}

fn with_d(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".d");
    PathBuf::from(name)
}

fn drop_ins(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|file| file.extension() == Some(OsStr::new("conf")))
        .collect();
    files.sort();
    files
}

/// The last value of a key in a file as systemd writes them.
fn setting(file: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().rev();
    lines.find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        folder: tempfile::TempDir,
        host: Host,
    }

    impl Machine {
        fn new() -> Machine {
            let folder = tempfile::tempdir().unwrap();
            let host = Host {
                root: folder.path().to_owned(),
                uid: 1000,
                user: "alice".into(),
                home: folder.path().join("home/alice"),
            };
            Machine { folder, host }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn says(&self, path: &str) -> String {
            self.host
                .who_ends(&format!("0::{path}\n"))
                .unwrap_or_default()
        }
    }

    const SESSION: &str = "/user.slice/user-1000.slice/session-3.scope";
    const TERMINAL: &str =
        "/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope";

    #[test]
    fn a_unit_ends_what_it_started_unless_it_says_otherwise() {
        let machine = Machine::new();
        let said = machine.says("/system.slice/deploy.service");
        assert!(
            said.contains("deploy.service") && said.contains("KillMode=control-group"),
            "{said}"
        );
        machine.write(
            "usr/lib/systemd/system/cron.service",
            "[Service]\nKillMode=process\n",
        );
        assert_eq!(machine.says("/system.slice/cron.service"), "");
        machine.write(
            "etc/systemd/system/cron.service.d/own.conf",
            "[Service]\nKillMode = mixed\n",
        );
        assert!(
            machine
                .says("/system.slice/cron.service/sub")
                .contains("KillMode=mixed")
        );
        machine.write("lib/systemd/system/job@.service", "KillMode=none");
        assert_eq!(
            machine.says("/system.slice/system-job.slice/job@7.service"),
            ""
        );
        assert!(
            machine
                .says("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service")
                .contains("--user")
        );
    }

    #[test]
    fn a_session_ends_what_it_started_where_logind_is_told_so() {
        let machine = Machine::new();
        assert_eq!(machine.says(SESSION), "");
        machine.write(
            "etc/systemd/logind.conf",
            "[Login]\n#KillUserProcesses=yes\n",
        );
        assert!(machine.says(SESSION).contains("log out"));
        machine.write(
            "etc/systemd/logind.conf.d/a.conf",
            "[Login]\nKillUserProcesses=no\n",
        );
        assert_eq!(machine.says(SESSION), "");
        machine.write(
            "etc/systemd/logind.conf.d/b.conf",
            "[Login]\nKillUserProcesses=yes\n",
        );
        assert!(machine.says(SESSION).contains("session-3.scope"));
        let root = Host {
            uid: 0,
            ..machine.host
        };
        assert_eq!(
            root.who_ends(&format!("0::{SESSION}\n")),
            None,
            "root is left out by default"
        );
    }

    #[test]
    fn a_desktops_terminal_ends_with_the_last_login_unless_the_user_lingers() {
        let machine = Machine::new();
        assert!(machine.says(TERMINAL).contains("enable-linger"));
        machine.write("var/lib/systemd/linger/alice", "");
        assert_eq!(machine.says(TERMINAL), "");
    }

    #[test]
    fn containers_and_machines_without_systemd_end_nothing() {
        let machine = Machine::new();
        for path in [
            "/",
            "",
            "/init.scope",
            "/docker/0123",
            "/system.slice/docker-0123.scope",
        ] {
            assert_eq!(machine.says(path), "", "{path}");
        }
        assert_eq!(machine.host.who_ends("garbage"), None);
        let version_1 = "5:cpu:/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n";
        assert!(
            machine
                .host
                .who_ends(version_1)
                .is_some_and(|said| said.contains("b.service"))
        );
    }
}
