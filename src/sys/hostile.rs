//! /proc shows what processes put there, and netlink is bytes: neither makes a parser panic or read one
//! process's lines as another's.

use super::cgroup::managed;
use super::fds;
use super::inet_diag::tests::{diag, message};
use super::inet_diag::{Part, parse_part};
use super::listeners::{PortSet, Protocol};
use super::proc::{self, Stat, Status};
use super::procnet::{self, Socket};
use super::shell;
use super::signal::Signal;
use crate::hostile::{assert_linear, cases, damaged, fragment, hostile, in_time};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ffi::{CStr, OsStr};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const STAT: &str = "42 (a) b) S 1 20 20 34817 20 4194304 100 0 0 0 1 2 0 0 20 0 3 0 98765 1000 250 18446744073709551615 1 1\n";
const STATUS: &str = "Name:\tx\nUmask:\t0022\nState:\tS (sleeping)\nUid:\t1000\t1001\t1002\t1003\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000180004a03\n";
const LOCKS: &str = "pos:\t0\nflags:\t02\nlock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:77 5785523412 5785523412\nlock:\t2: POSIX  ADVISORY  WRITE 12 fe:00:77 9 EOF\n";
const NET: &str = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0000000000000000 100 0 0 10 0";
const CGROUP: &str = "12:cpu,cpuacct:/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n3:name=systemd:/system.slice/a.service\n0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service (deleted)\n";
const PIECES: &[&str] = &[
    "42",
    " ",
    "(",
    ")",
    "S",
    "Z",
    "-1",
    "\n",
    "\t",
    ":",
    "lock:",
    "OFDLCK",
    "Uid:",
    "SigIgn:",
    "/",
    "0A",
    "é",
    "docker-",
    ".scope",
    ".service",
    "0::",
    "name=systemd:",
    "PIDCTL_TOKEN=",
    "\0",
    "socket:[",
    "]",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let valid = [
        STAT,
        STATUS,
        LOCKS,
        NET,
        CGROUP,
        "socket:[4242]",
        "A=1\0PIDCTL_TOKEN=x\0",
    ];
    hostile(PIECES, valid.map(str::to_owned).to_vec())
}

fn read_as_anything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = Stat::parse(bytes);
    let _ = Status::parse(&text);
    proc::parse_locks(&text);
    proc::parse_words(bytes);
    proc::environ_value(bytes, "PIDCTL_TOKEN");
    for line in text.lines() {
        let _ = procnet::parse_line(line);
    }
    fds::parse_link(bytes);
    managed(&text, CGROUP, "x");
    managed(CGROUP, &text, &text);
    fds::names(bytes).for_each(|name: &CStr| drop(name.to_owned()));
    let _ = parse(bytes);
}

fn parse(bytes: &[u8]) -> (std::io::Result<Part>, usize) {
    let mut found = Vec::new();
    let ports = [80..=89].into_iter().collect();
    let part = parse_part(bytes, 7, Protocol::Tcp, &ports, &mut found);
    (part, found.len())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn nothing_in_proc_makes_a_parser_panic(bytes in text()) {
        in_time(|| read_as_anything(&bytes));
    }

    /// The name is the process's own choice, and says nothing of its PID, parent or start time.
    #[test]
    fn no_comm_reads_as_other_fields(
        comm in hostile(&[")", "(", " ", "\n", ") R 1 1", "S"], vec!["x) S 1 1 1 0 0 0".to_owned()]),
        [pid, ppid, pgrp, session] in any::<[i32; 4]>(),
        start_time: u64,
        rss in any::<i64>(),
    ) {
        let line = [
            format!("{pid} (").as_bytes(),
            &comm,
            format!(") S {ppid} {pgrp} {session} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {start_time} 0 {rss} 0\n").as_bytes(),
        ]
        .concat();
        let stat = Stat::parse(&line).unwrap();
        prop_assert_eq!((stat.pid, stat.ppid, stat.pgrp, stat.session), (pid, ppid, pgrp, session));
        prop_assert_eq!((stat.state, stat.start_time, stat.rss), (b'S', start_time, rss.max(0) as u64));
        prop_assert_eq!(stat.comm, String::from_utf8_lossy(&comm));
    }

    #[test]
    fn words_come_back_as_they_were(words in vec(vec(1..=255u8, 0..9), 0..9)) {
        let block: Vec<u8> = words.iter().flat_map(|word| [word, &b"\0"[..]].concat()).collect();
        let read = proc::parse_words(&block);
        prop_assert!(read.iter().map(|word| word.as_bytes()).eq(words.iter().map(|word| &word[..])));
    }

    /// Only a whole variable of that name, and the first: as getenv(3) has it.
    #[test]
    fn a_variable_is_found_by_its_whole_name(
        before in vec("[A-Z=_]{0,4}", 0..4),
        name in "[A-Z]{1,3}",
        value in vec(1..=255u8, 0..9),
    ) {
        let without = before.join("\0").into_bytes();
        let mut block = without.clone();
        let first = before.iter().find_map(|entry| entry.strip_prefix(&name)?.strip_prefix('='));
        block.extend([b"\0", name.as_bytes(), b"=", &value, b"\0"].concat());
        let expected = first.map_or(&value[..], str::as_bytes);
        prop_assert_eq!(proc::environ_value(&block, &name), Some(expected));
        prop_assert_eq!(proc::environ_value(&without, &name), first.map(str::as_bytes));
    }

    #[test]
    fn a_line_of_proc_net_is_read_as_the_kernel_wrote_it(
        v4: u32, v6: [u32; 4], is_v6: bool, port: u16, state: u8, uid: u32, inode: u64,
    ) {
        let word = |word: u32| format!("{:08X}", u32::from_ne_bytes(word.to_be_bytes()));
        let (text, address): (String, IpAddr) = if is_v6 {
            let segments = v6.map(|word| [(word >> 16) as u16, word as u16]);
            let mut all = [0; 8];
            all.copy_from_slice(segments.as_flattened());
            (v6.map(word).concat(), Ipv6Addr::from(all).into())
        } else {
            (word(v4), Ipv4Addr::from_bits(v4).into())
        };
        let line = format!("  7: {text}:{port:04X} {text}:0000 {state:02X} 00000000:00000000 00:00000000 00000000 {uid:5}        0 {inode} 1 0000000000000000 100 0 0 10 0");
        let socket = Socket { address, port, state, uid, inode };
        prop_assert_eq!(procnet::parse_line(&line), Some(socket));
    }

    #[test]
    fn locks_are_found_among_any_others(
        ours in vec(any::<u64>(), 0..5),
        between in "(lock:\t[0-9]: (POSIX|FLOCK)  ADVISORY  WRITE 12 fe:00:77 9 9\n|pos:\t0\n)?",
    ) {
        let line = |offset: &u64| format!("lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:77 {offset} {offset}\n{between}");
        let text: String = ours.iter().map(line).collect();
        prop_assert_eq!(proc::parse_locks(&(between.clone() + &text)), ours);
    }

    /// No reply is believed that is not whole: what is told of sockets is told by whole messages.
    #[test]
    fn no_netlink_reply_makes_a_parser_panic_or_slow(
        sockets in vec((any::<u16>(), any::<u32>(), any::<u32>()), 0..6),
        cut: prop::sample::Index,
        any_bytes in vec(any::<u8>(), 0..200),
    ) {
        let messages = sockets.iter().map(|&(port, uid, inode)| {
            message(SOCK_DIAG_BY_FAMILY, 2, 7, &diag(libc::AF_INET, 10, port, uid, inode))
        });
        let whole: Vec<u8> = messages.flatten().collect();
        let asked = sockets.iter().filter(|(port, ..)| (80..=89).contains(port)).count();
        let (part, found) = parse(&whole);
        prop_assert_eq!((part.unwrap(), found), (Part::More { interrupted: false }, asked));
        let cut = cut.index(whole.len() + 1);
        let (part, _) = parse(&whole[..cut]);
        prop_assert_eq!(part.is_ok(), cut % 88 == 0);
        in_time(|| parse(&any_bytes)).1.checked_add(1).unwrap();
    }

    #[test]
    fn damaged_netlink_replies_are_refused_or_read_in_time(
        bytes in damaged([
            message(SOCK_DIAG_BY_FAMILY, 2, 7, &diag(libc::AF_INET, 10, 80, 0, 1)).repeat(300),
            message(libc::NLMSG_DONE as u16, 2, 7, &[0; 4]),
        ].concat()),
    ) {
        let (_, found) = in_time(|| parse(&bytes));
        prop_assert!(found <= bytes.len() / 88);
    }

    #[test]
    fn a_port_is_in_the_set_if_a_range_has_it(ranges in vec((any::<u16>(), any::<u16>()), 0..9), port: u16) {
        let ranges: Vec<_> = ranges.into_iter().map(|(start, end)| start..=end).collect();
        let set: PortSet = ranges.iter().cloned().collect();
        for port in ranges.iter().flat_map(|range| [*range.start(), *range.end()]).chain([port]) {
            prop_assert_eq!(set.contains(port), ranges.iter().any(|range| range.contains(&port)));
        }
    }

    #[test]
    fn a_signal_is_read_as_it_is_printed(number in 1..70i32) {
        if let Some(signal) = Signal::from_number(number) {
            prop_assert_eq!(signal.to_string().parse(), Ok(signal));
            prop_assert_eq!(number.to_string().parse(), Ok(signal));
        }
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn time_grows_with_the_length_alone(fragment in fragment(PIECES)) {
        assert_linear(&fragment, read_as_anything);
    }

    /// The shell itself is asked.
    #[test]
    fn a_quoted_word_is_one_word_to_a_shell(words in vec("[^\0]{0,12}", 1..6)) {
        let quoted: Vec<_> = words.iter().map(|word| shell::word(word)).collect();
        let script = format!("printf '%s\\0' {}", quoted.join(" "));
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let read = proc::parse_words(&output.stdout);
        prop_assert!(read.iter().map(|word| &**word).eq(words.iter().map(OsStr::new)), "{}", script);
    }
}
