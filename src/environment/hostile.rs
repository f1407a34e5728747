//! The words of a command, against the shell that would read them.

use super::simple_command::words;
use crate::hostile::{assert_linear, cases, fragment, hostile, in_time};
use crate::sys::shell;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::process::Command;

const PIECES: &[&str] = &[
    "a", " ", "\t", "'", "\"", "\\", "\n", "$", "{", "}", "PORT", "=", ">", "<", "&", "2", "|",
    ";", "(", ")", "#", "`", "*", "~", "exec", "é", "\0", "!",
];
/// Nothing that the shell would run, write, or look for in a folder.
const HARMLESS: &[&str] = &[
    "a",
    "bc",
    " ",
    "  ",
    "\t",
    "'",
    "\"",
    "\\",
    "\\\n",
    "\\\\",
    "\n",
    "${PORT}",
    "$PORT ",
    "=",
    "|",
    ";",
    "&",
    "(",
    ")",
    "#",
    "-",
    "é",
    "'x y'",
    "\"x $PORT\"",
    "2",
    "!",
    "]",
    "%",
    ",",
];

fn read(text: &str) -> Option<Vec<String>> {
    words(text, |name| (name == "PORT").then(|| "8000".to_owned()))
}

/// What a shell reads as the arguments of its own printf.
fn read_by_shell(text: &str) -> Option<Vec<String>> {
    let output = Command::new("/bin/sh")
        .args(["-c", text])
        .env_clear()
        .envs([("PATH", "/nowhere"), ("PORT", "8000")])
        .current_dir("/proc/self/fdinfo")
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).ok()?;
    let words = printed.strip_suffix('\0')?;
    (output.status.success() && output.stderr.is_empty())
        .then(|| words.split('\0').map(str::to_owned).collect())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_command_is_words_or_compound(
        bytes in hostile(PIECES, vec!["A=1 exec a 'b c' \"${PORT}\" >x 2>&1".to_owned()]),
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let words = in_time(|| read(&text));
        prop_assert!(words.is_none_or(|words| !words.is_empty()));
    }

    #[test]
    fn quoted_words_come_back_as_they_were(all in vec(any::<String>(), 1..6)) {
        let quoted: Vec<_> = all.iter().map(|word| shell::word(word)).collect();
        let mut read = read(&format!("x {}", quoted.join(" "))).unwrap();
        prop_assert_eq!(read.split_off(1), all);
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn a_shell_reads_the_same_words(pieces in vec(select(HARMLESS), 0..12)) {
        let text = format!("printf '%s\\0' x{}", pieces.concat());
        if let Some(words) = read(&text) {
            prop_assert_eq!(read_by_shell(&text), Some(words[2..].to_vec()));
        }
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn time_grows_with_the_length_alone(fragment in fragment(PIECES)) {
        assert_linear(&fragment, |bytes| drop(read(&String::from_utf8_lossy(bytes))));
    }
}
