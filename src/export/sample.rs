//! Tables made by hand for the tests of the exports.

use super::{Caller, nomad, systemd};
use crate::config::{Command, Health, Schedule, Service, StopScope, Table, Takeover};
use crate::sys::signal::Signal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub fn service(name: &str, port: Option<u16>) -> Service {
    Service {
        id: port.map_or_else(|| name.to_owned(), |port| format!("{name}_{port}")),
        name: name.to_owned(),
        port,
        command: Command::Shell("exec sleep 1000".to_owned()),
        description: String::new(),
        cwd: PathBuf::from("/"),
        env: Vec::new(),
        env_files: Vec::new(),
        user: None,
        depends_on: Vec::new(),
        prepare: None,
        creates: None,
        daemonizes: false,
        health: if port.is_some() {
            Health::Tcp
        } else {
            Health::None
        },
        ready_timeout: Duration::from_secs(30),
        start_attempts: 3,
        schedule: Schedule {
            steps: vec![(Signal::TERM, Duration::from_secs(10))],
        },
        stop_scope: StopScope::Family,
        process_names: Vec::new(),
        takeover: Takeover::Matching,
        log_max_size: 10 << 20,
        log_keep: 3,
        line: 1,
    }
}

pub fn table(services: Vec<Service>) -> Table {
    let root = PathBuf::from("/srv/shop");
    Table {
        given: root.join("services.toml"),
        file: root.join("services.toml"),
        pids_dir: root.join("pids"),
        logs_dir: root.join("logs"),
        root,
        services,
    }
}

pub fn caller() -> Caller {
    Caller {
        path: Some("/usr/bin:/bin".to_owned()),
        account: None,
    }
}

pub fn systemd(user: bool) -> systemd::Options {
    systemd::Options {
        user,
        prefix: "shop".to_owned(),
        caller: caller(),
    }
}

pub fn nomad() -> nomad::Options {
    nomad::Options {
        prefix: "shop".to_owned(),
        isolated: false,
        caller: caller(),
    }
}

/// A folder of the test's own, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pidctl-export-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder for the test");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
