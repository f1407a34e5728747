//! Whatever is in the folder of the PID files is read without panic and in time, and what was written is
//! read back as it was.

use super::folder::Folder;
use super::ledger::Ledger;
use super::pidfile::{self, PidFile};
use super::record::{Claim, Entry, Instance, Log, Phase, recorded};
use crate::config::Schedule;
use crate::hostile::{assert_linear, cases, fragment, hostile, in_time};
use crate::sys::signal::Signal;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\n",
    "null",
    "true",
    "1e308",
    "1e999",
    "-1",
    "0",
    "\"id\":\"web\"",
    "\"table\":\"/t\"",
    "\"instance\":",
    "\"starter\":",
    "\"leader\":",
    "\"pid\":",
    "\"start_time\":7",
    "\"boot_id\":\"b\"",
    "\"pid_namespace\":4026531836",
    "\"members\":[[",
    "\"log\":",
    "\"\\ud800\"",
    "\"stop_schedule\":[[15,18446744073709551615]]",
];

fn claim() -> impl Strategy<Value = Claim> {
    (any::<i32>(), any::<u64>(), any::<String>(), any::<u64>()).prop_map(
        |(pid, start_time, boot_id, pid_namespace)| Claim {
            pid,
            start_time,
            boot_id,
            pid_namespace,
        },
    )
}

fn path() -> impl Strategy<Value = PathBuf> {
    any::<String>().prop_map(PathBuf::from)
}

fn log() -> impl Strategy<Value = Log> {
    let lock = option::of(any::<u64>());
    (path(), any::<[u64; 3]>(), lock).prop_map(|(path, [device, inode, begin], lock)| Log {
        path,
        device,
        inode,
        begin,
        lock,
    })
}

fn instance() -> impl Strategy<Value = Instance> {
    let phase = prop_oneof![
        Just(Phase::Preparing),
        Just(Phase::Starting),
        Just(Phase::Ready)
    ];
    let executable = option::of((path(), any::<u64>(), any::<u64>(), any::<i64>()));
    let pairs = || vec((any::<i32>(), any::<u64>()), 0..4);
    (
        (claim(), log(), phase, any::<[u64; 3]>(), any::<[bool; 3]>()),
        (
            option::of(any::<i32>()),
            option::of(any::<u16>()),
            any::<u32>(),
        ),
        any::<String>(),
        (pairs(), pairs(), executable),
    )
        .prop_map(
            |(
                (
                    leader,
                    log,
                    phase,
                    [since, digest, ready_timeout_ms],
                    [followed, frozen, leader_only],
                ),
                (session, port, uid),
                token,
                (members, stop_schedule, executable),
            )| Instance {
                leader,
                since,
                token,
                phase,
                followed,
                session,
                members,
                frozen,
                log,
                port,
                uid,
                stop_schedule,
                stop_leader_only: leader_only,
                ready_timeout_ms,
                digest,
                executable,
            },
        )
}

fn entry() -> impl Strategy<Value = Entry> {
    let claims = (
        option::of(claim()),
        option::of(claim()),
        option::of(claim()),
    );
    let failure = option::of(any::<String>());
    (
        "[^/]{3,12}",
        path(),
        option::of(instance()),
        claims,
        failure,
    )
        .prop_map(
            |(id, table, instance, (starter, stopper, restarter), failure)| Entry {
                id,
                table,
                instance: instance.map(Rc::new),
                starter,
                stopper,
                restarter,
                failure,
            },
        )
}

fn ledger() -> impl Strategy<Value = Ledger> {
    vec(entry(), 0..5).prop_map(|entries| Ledger {
        entries: entries
            .into_iter()
            .map(|entry| (entry.id.clone(), entry))
            .collect(),
        warnings: Vec::new(),
    })
}

fn text(ledger: &Ledger) -> Vec<u8> {
    ledger.text().unwrap()
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_pid_file_names_one_pid_or_none(
        content in hostile(&["1", "0", "42", "-", "+", " ", "\n", "\0", "4194304", "٣"], vec!["4242\n".into()])
    ) {
        match in_time(|| pidfile::parse(&content)) {
            Ok(pid) => {
                prop_assert!(pid >= 2);
                let text = String::from_utf8(content.trim_ascii().to_vec()).unwrap();
                prop_assert_eq!(text.trim_start_matches('0'), pid.to_string());
            }
            Err(what) => {
                prop_assert!(!what.contains(char::is_control) && what.len() < 300, "{}", what);
            }
        }
    }

    #[test]
    fn a_pid_written_is_read_back(pid in 2..=i32::MAX) {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::open(path.path()).unwrap();
        pidfile::write(&folder, "web", pid).unwrap();
        let read = pidfile::read(&folder, "web");
        prop_assert!(matches!(read, PidFile::Pid { pid: read, .. } if read == pid), "{:?}", read);
        pidfile::remove(&folder, "web", &[pid - 1]).unwrap();
        prop_assert_ne!(pidfile::read(&folder, "web"), PidFile::Missing);
        pidfile::remove(&folder, "web", &[pid]).unwrap();
        prop_assert_eq!(pidfile::read(&folder, "web"), PidFile::Missing);
    }

    #[test]
    fn records_come_back_as_they_were_written(ledger in ledger()) {
        let path = tempfile::tempdir().unwrap();
        let open = || Folder::open(path.path()).unwrap();
        Ledger::change(&open(), |own| own.entries = ledger.entries.clone()).unwrap();
        let read = Ledger::read(&open()).unwrap();
        let mut told = ledger.entries;
        told.retain(|_, entry| !entry.is_empty());
        prop_assert_eq!(&read.entries, &told);
        prop_assert!(read.warnings.is_empty());
        // Unequal, and records that nobody has changed would be written again.
        prop_assert_eq!(Ledger::parse(&text(&read)).text().unwrap(), text(&read));
    }

    /// Each line is judged by itself: whatever stands between them, the others are read.
    #[test]
    fn a_damaged_line_harms_no_other_record(
        ledger in ledger(),
        garbage in hostile(PIECES, vec![String::from_utf8(text(&sample())).unwrap()]),
        before in any::<bool>(),
    ) {
        let own = |ledger: &Ledger| -> Vec<Entry> {
            let entries = ledger.entries.values();
            entries.filter(|entry| entry.id != "web").cloned().collect()
        };
        let parts = if before {
            [&garbage, &b"\n"[..], &text(&ledger)].concat()
        } else {
            [&text(&ledger), &garbage[..]].concat()
        };
        let read = in_time(|| Ledger::parse(&parts));
        for entry in own(&ledger) {
            prop_assert!(own(&read).contains(&entry), "{} is lost", entry.id);
        }
        for entry in read.entries.values().filter_map(|entry| entry.instance.as_ref()) {
            let schedule = entry.schedule();
            prop_assert!(schedule.steps.iter().all(|(signal, _)| *signal != Signal::KILL));
            // What waits for it adds it to the clock.
            let _ = std::time::Instant::now() + schedule.total();
        }
        // What was read can be written, and is the same then.
        prop_assert_eq!(Ledger::parse(&text(&read)).entries, read.entries);
    }

    #[test]
    fn a_schedule_is_recorded_as_it_is(steps in vec((1..=64i32, 0..=31_536_000_000u64), 0..5)) {
        let steps = steps.into_iter().filter_map(|(number, ms)| {
            let signal = Signal::from_number(number).filter(|signal| *signal != Signal::KILL)?;
            Some((signal, Duration::from_millis(ms)))
        });
        let schedule = Schedule { steps: steps.collect() };
        let mut instance = (*sample().entries["web"].instance.clone().unwrap()).clone();
        instance.stop_schedule = recorded(&schedule);
        prop_assert_eq!(instance.schedule(), schedule);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn time_grows_with_the_length_alone(fragment in fragment(PIECES)) {
        assert_linear(&fragment, |bytes| drop(Ledger::parse(bytes)));
        assert_linear(&fragment, |bytes| drop(pidfile::parse(bytes)));
    }
}

/// One record with everything in it that a record may have.
fn sample() -> Ledger {
    let claim = |pid| Claim {
        pid,
        start_time: 98765,
        boot_id: "d1b8a2b6-0f0c-4e5f-9d0e-6c4f2f5f7a10".into(),
        pid_namespace: 4026531836,
    };
    let instance = Instance {
        leader: claim(4242),
        since: 98765,
        token: "0123456789abcdef0123456789abcdef".into(),
        phase: Phase::Ready,
        followed: true,
        session: Some(4242),
        members: vec![(4243, 98766)],
        frozen: true,
        log: Log {
            path: "/srv/logs/web.log".into(),
            device: 2049,
            inode: 77,
            begin: 12,
            lock: Some(0x5049 << 48),
        },
        port: Some(8000),
        uid: 1000,
        stop_schedule: vec![(15, 10_000), (2, 5_000)],
        stop_leader_only: true,
        ready_timeout_ms: 30_000,
        digest: u64::MAX,
        executable: Some(("/usr/bin/web".into(), 2049, 78, -1)),
    };
    let mut entry = Entry::new("web", "/srv/services.toml".as_ref());
    entry.instance = Some(Rc::new(instance));
    entry.starter = Some(claim(1));
    entry.stopper = Some(claim(2));
    entry.restarter = Some(claim(3));
    entry.failure = Some("it \"failed\"\n".into());
    Ledger {
        entries: [("web".to_owned(), entry)].into(),
        warnings: Vec::new(),
    }
}
