//! Whatever stands in the PID folder: `status` and `stop` come to an end, say so in JSON, and nobody else is
//! signalled, also where a PID file and the records name them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::fs;

use crate::bytes::{Accident, accidents, after, cases};
use crate::support::{Process, TestEnv, await_that};

/// Two that run, of which one has left the table, and one of which there is only a PID file.
fn env_of_three() -> TestEnv {
    let env = TestEnv::new();
    env.table(&[env.service("web"), env.service("gone")]);
    env.up();
    env.table(&[env.service("web"), env.service("other")]);
    env
}

fn start_time(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit(')').next().expect("fields");
    fields
        .split_whitespace()
        .nth(19)
        .expect("a time")
        .to_owned()
}

/// The text with another number in place of these.
fn renumbered(text: &str, number: &str, which: &[Index]) -> String {
    let mut text = text.to_owned();
    for index in which {
        let is_start = |at: &usize| {
            let bytes = text.as_bytes();
            // A number of JSON, not a digit of an identifier.
            bytes[*at].is_ascii_digit()
                && at
                    .checked_sub(1)
                    .is_some_and(|at| b":,[".contains(&bytes[at]))
        };
        let starts: Vec<usize> = (0..text.len()).filter(is_start).collect();
        let Some(&start) = starts.get(index.index(starts.len().max(1))) else {
            continue;
        };
        let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
        text.replace_range(start..start + length, number);
    }
    text
}

fn speaks_well(env: &TestEnv, words: &[&str]) -> i32 {
    let output = env.run(words);
    let code = output.code();
    assert!([0, 1, 3, 4, 150].contains(&code), "{output}");
    assert!(!output.said().contains("panicked"), "{output}");
    output.json();
    code
}

fn end_all(env: &TestEnv) {
    env.survivors().iter().for_each(Process::kill);
    await_that("somebody lives", || env.survivors().is_empty());
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn nobody_else_is_signalled_whatever_the_files_say(
        numbers in vec(any::<Index>(), 0..12),
        of_records in prop_oneof![Just(Vec::<Accident>::new()), accidents()],
        of_web in prop_oneof![Just(Vec::<Accident>::new()), accidents()],
        of_other in prop_oneof![vec(any::<u8>(), 0..9), "[ 0-9\n-]{0,9}".prop_map(String::into_bytes)],
        canary_in in any::<[bool; 2]>(),
    ) {
        let env = env_of_three();
        let canary = env.stranger(&[]);
        let pid = canary.pid();
        let records = env.read("pids/.pidctl.records");
        // It would be the recorded one, whose start time tells it from others.
        prop_assume!(!records.contains(&start_time(&pid)));
        let records = renumbered(&records, &pid, &numbers);
        env.write("pids/.pidctl.records", after(&of_records, records.as_bytes()));
        let web = if canary_in[0] { pid.clone() } else { env.pid_text("web") };
        env.write("pids/web.pid", after(&of_web, web.as_bytes()));
        env.write("pids/other.pid", if canary_in[1] { pid.into_bytes() } else { of_other });

        speaks_well(&env, &["--json", "status"]);
        speaks_well(&env, &["--json", "stop"]);
        speaks_well(&env, &["--json", "stop", "--force"]);
        speaks_well(&env, &["--json", "status"]);
        canary.assert_alive();
        prop_assert_ne!(canary.process().state(), Some('T'));
        end_all(&env);
    }
}
