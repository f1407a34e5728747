//! The parsers of what others can write, as the fuzzer feeds them: each by the modules it is in, since
//! pidctl is a program and no library. What must hold besides "no panic" is asserted here.
#![allow(dead_code, unused_imports)]

#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/environment/mod.rs"]
mod environment;
// Once more, for what only its siblings see.
#[path = "../../src/sys/inet_diag.rs"]
mod inet_diag;
#[path = "../../src/environment/simple_command.rs"]
mod simple_command;
#[path = "../../src/state/mod.rs"]
mod state;
#[path = "../../src/sys/mod.rs"]
#[allow(unsafe_code)]
mod sys;

use state::ledger::Ledger;
use std::path::Path;
use sys::listeners::Protocol;
use sys::proc::{self, Stat, Status};

pub fn pid_file(bytes: &[u8]) {
    if let Ok(pid) = state::pidfile::parse(bytes) {
        assert!(pid >= 2);
        assert_eq!(
            state::pidfile::parse(format!("{pid}\n").as_bytes()),
            Ok(pid)
        );
    }
}

/// What was read can be written, and is the same then.
pub fn records(bytes: &[u8]) {
    let read = Ledger::parse(bytes);
    for instance in read
        .entries
        .values()
        .filter_map(|entry| entry.instance.as_ref())
    {
        let _ = std::time::Instant::now() + instance.schedule().total();
    }
    let text = read.text().expect("text");
    let again = Ledger::parse(&text);
    assert_eq!(again.entries, read.entries);
    // Unequal, and records that nobody has changed would be written again.
    assert_eq!(again.text().expect("text"), text);
}

pub fn proc(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Status::parse(&text);
    let _ = proc::environ_value(bytes, environment::TOKEN);
    let _ = sys::cgroup::managed(&text, "0::/x.service\n", "x");
    let _ = sys::cgroup::managed(&text, &text, &text);
    let _ = Stat::parse(bytes);
    // As a name it changes nothing of what the kernel says.
    let tail = b") S 1 20 20 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 98765 1000 250 0\n";
    let stat = Stat::parse(&[b"42 (", bytes, tail].concat()).expect("a stat");
    assert_eq!((stat.pid, stat.ppid, stat.start_time), (42, 1, 98765));
}

pub fn netlink(bytes: &[u8]) {
    let mut found = Vec::new();
    let ports = [80..=89, 8000..=9000].into_iter().collect();
    let _ = inet_diag::parse_part(bytes, 7, Protocol::Tcp, &ports, &mut found);
    assert!(found.len() * 88 <= bytes.len());
    assert!(found.iter().all(|listener| ports.contains(listener.port)));
}

pub fn table(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new("/folder/services.toml");
    match config::parse::parse(text, file, file) {
        Ok(table) => {
            for service in &table.services {
                assert!(service.schedule.total() <= config::units::LONGEST);
                assert!(
                    service
                        .depends_on
                        .iter()
                        .all(|&index| index < table.services.len())
                );
            }
        }
        Err(errors) => assert!(
            !errors
                .to_string()
                .replace('\n', "")
                .contains(char::is_control)
        ),
    }
}

/// The first byte chooses what the rest is read as.
pub fn texts(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match kind % 4 {
        0 => drop(config::env_file::parse(&text)),
        1 => {
            if let Ok(made) = config::template::from_procfile(&text, Path::new("Procfile"), true) {
                let file = Path::new("/folder/services.toml");
                config::parse::parse(&made, file, file).expect("a table");
            }
        }
        2 => {
            let _ = config::units::parse_duration(&text);
            let _ = config::units::parse_size(&text);
            let _ = text.parse::<config::Schedule>();
        }
        _ => {
            let words = simple_command::words(&text, |name| Some(name.to_owned()));
            assert!(words.is_none_or(|words| !words.is_empty()));
        }
    }
}
