//! Whatever text is given as a table, an env file, a Procfile, a duration, a size or a schedule: it is
//! read or it is a mistake with its place, without panic and in time.

use super::env_file;
use super::errors::TableErrors;
use super::parse::{KEYS, is_name, parse};
use super::schedule::Schedule;
use super::template::from_procfile;
use super::units::{LONGEST, parse_duration, parse_size};
use super::{Command, Health, Table};
use crate::hostile::{assert_linear, cases, fragment, hostile, in_time};
use crate::sys::signal::Signal;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::path::Path;
use std::time::Duration;

const TABLE: &[&str] = &[
    "[[service]]\n",
    "[defaults]\n",
    "name = \"a\"\n",
    "name = \"b\"\n",
    "command = \"true\"\n",
    "port = 80\n",
    "depends_on = [\"a\", \"b\"]\n",
    "env = { A = \"b\" }\n",
    "health = { http = \"/\" }\n",
    "stop_schedule = \"INT/5/TERM/5\"\n",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    "\"",
    "'''",
    "\"\"\"",
    ".",
    "\\",
    "#",
    "\n",
    "x",
    "service",
    "\r",
    "-",
    "1e9",
    "0x_",
    "nan",
    "2026-11-20T",
    "\u{feff}",
    "\0",
    "a.",
];
const ENV: &[&str] = &[
    "A", "=", "\"", "'", "\\", "\n", "\r\n", " ", "#", "export ", "$", "é", "\0", "b c", "\u{feff}",
];
const PROCFILE: &[&str] = &[
    "web", ":", " ", "\n", "release", "$PORT", "${", "#", "\r", "'", "\"", "\\", "\0", "é",
    "\u{feff}",
];
const UNITS: &[&str] = &[
    "0",
    "1",
    "9",
    "99999999999999999999",
    ".",
    "d",
    "h",
    "m",
    "s",
    "ms",
    "-",
    "+",
    " ",
    "/",
    "KILL",
    "TERM",
    "INT",
    "SIG",
    "RTMIN",
    "RTMAX",
    "MiB",
    "k",
    "forever",
    "e",
    "٣",
    "é",
];

fn good_tables() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/good");
    let tables = std::fs::read_dir(folder).unwrap();
    tables
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

fn text(pieces: &'static [&'static str], valid: Vec<String>) -> impl Strategy<Value = String> {
    hostile(pieces, valid).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn table(text: &str) -> Result<Table, TableErrors> {
    parse(
        text,
        Path::new("services.toml"),
        Path::new("/folder/services.toml"),
    )
}

/// All that may be left out.
fn keys() -> Vec<&'static str> {
    let is_left_out = |key: &&str| !["name", "command"].contains(key);
    KEYS.into_iter().filter(is_left_out).collect()
}

/// Any text as a TOML string.
fn toml(text: &str) -> String {
    let escaped = text.chars().map(|c| format!("\\U{:08X}", u32::from(c)));
    format!("\"{}\"", escaped.collect::<String>())
}

/// Each is one line that is in the text, and harmless on a terminal.
fn are_told_well(errors: &TableErrors, text: &str) {
    let lines = text.matches('\n').count() + 1;
    assert!(!errors.errors.is_empty());
    for error in &errors.errors {
        assert!(
            error.line.is_none_or(|line| (1..=lines).contains(&line)),
            "{error:?}"
        );
        assert!(!error.message.contains(char::is_control), "{error:?}");
    }
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn a_table_is_read_or_has_mistakes(text in text(TABLE, good_tables())) {
        match in_time(|| table(&text)) {
            Ok(table) => for service in &table.services {
                prop_assert!(is_name(&service.name) && is_name(&service.id));
                prop_assert!(service.depends_on.iter().all(|&index| index < table.services.len()));
                prop_assert!(service.start_attempts > 0 && service.schedule.total() <= LONGEST);
                prop_assert!(service.cwd.is_absolute());
            },
            Err(errors) => are_told_well(&errors, &text),
        }
    }

    /// Every key with any text as its value.
    #[test]
    fn any_text_is_a_value_or_a_mistake(
        key in select(keys()),
        within in select(&["", "http", "command"]),
        value in prop_oneof![
            any::<String>(),
            "(http://)?[\\[\\]:/?#@.%a-z0-9é]{0,20}",
            text(UNITS, owned(&["1m30s", "INT/20s/QUIT/5s", "http://[::1]:80/x"])),
        ],
    ) {
        let quoted = toml(&value);
        let quoted = match within {
            "" => quoted,
            within => format!("{{ {within} = {quoted} }}"),
        };
        let text = format!("[[service]]\nname = \"a\"\ncommand = \"true\"\n{key} = {quoted}\n");
        match in_time(|| table(&text)) {
            Ok(table) => if let Health::Http(check) = &table.services[0].health {
                // What would go into the request.
                prop_assert!(check.port > 0 && check.path.starts_with('/'));
                prop_assert!((check.host.clone() + &check.path).bytes().all(|b| b.is_ascii_graphic()));
            },
            Err(errors) => are_told_well(&errors, &text),
        }
    }

    #[test]
    fn an_env_file_is_read_or_has_one_mistake(text in text(ENV, owned(&["A=b\nexport B='c\nd' # e\nC=\"\\n\\\"\"\n"]))) {
        match in_time(|| env_file::parse(&text)) {
            Ok(variables) => for (name, value) in variables {
                prop_assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
            },
            Err(error) => are_told_well(&TableErrors::from_one(Path::new(".env"), error), &text),
        }
    }

    #[test]
    fn a_variable_in_quotes_comes_back_as_it_was(
        variables in vec(("[A-Za-z_][A-Za-z0-9_.-]{0,9}", "([a\"'\\\\$`# =\n\té]|[^\0\r]){0,9}", any::<bool>()), 0..5),
        comment in "( *# [^\0\r\n]*)?",
    ) {
        let lines = variables.iter().map(|(name, value, single)| {
            if *single && !value.contains('\'') {
                return format!("{name}='{value}'{comment}\n");
            }
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            format!("export {name}=\"{value}\"{comment}\n")
        });
        let text: String = lines.collect();
        let read = env_file::parse(&text);
        let expected = variables.into_iter().map(|(name, value, _)| (name, value)).collect();
        prop_assert_eq!(read, Ok(expected), "{}", text);
    }

    #[test]
    fn a_procfile_becomes_a_table_or_has_mistakes(
        text in text(PROCFILE, owned(&["web: a $PORT 'b' \"c\"\nworker: d\\e\nrelease: f\n"])),
        dotenv: bool,
    ) {
        let made = in_time(|| from_procfile(&text, Path::new("Pröc\nfile"), dotenv));
        match made {
            Ok(made) => {
                let read = table(&made);
                prop_assert!(read.is_ok(), "{}\n{}", read.unwrap_err(), made);
            }
            Err(errors) => are_told_well(&errors, &text),
        }
    }

    #[test]
    fn a_command_of_a_procfile_comes_back_as_it_was(command in "([a\"'\\\\$:# \té]|[^\0\r\n]){1,12}") {
        prop_assume!(!command.trim().is_empty());
        let made = from_procfile(&format!("p:{command}\n"), Path::new("Procfile"), false).unwrap();
        let read = table(&made).unwrap();
        prop_assert_eq!(&read.services[0].command, &Command::Shell(command.trim().to_owned()));
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn durations_sizes_and_schedules_are_read_or_refused(
        text in text(UNITS, owned(&["1d2h3m4.5s6ms", "10MiB", "INT/20s/-3/5/KILL/5"])),
    ) {
        let (duration, size, schedule) =
            in_time(|| (parse_duration(&text), parse_size(&text), text.parse::<Schedule>()));
        for told in [duration.as_ref().err(), size.as_ref().err(), schedule.as_ref().err()].into_iter().flatten() {
            prop_assert!(!told.contains(char::is_control) && told.len() < 500, "{}", told);
        }
        prop_assert!(duration.is_ok_and(|duration| duration <= LONGEST) || parse_duration(&text).is_err());
        if let Ok(schedule) = schedule {
            prop_assert!(schedule.total() <= LONGEST);
            prop_assert!(schedule.steps.iter().all(|(signal, _)| *signal != Signal::KILL));
        }
    }

    #[test]
    fn a_duration_is_read_as_it_is_written(milliseconds in 0..=31_536_000_000u64) {
        let (seconds, ms) = (milliseconds / 1000, milliseconds % 1000);
        let (minutes, hours, days) = (seconds / 60 % 60, seconds / 3600 % 24, seconds / 86_400);
        let expected = Ok(Duration::from_millis(milliseconds));
        for text in [
            format!("{days}d{hours}h{minutes}m{}s{ms}ms", seconds % 60),
            format!("{milliseconds}ms"),
            format!("{seconds}.{ms:03}"),
            format!("{}s", Duration::from_millis(milliseconds).as_secs_f64()),
        ] {
            prop_assert_eq!(parse_duration(&text), expected.clone(), "{}", text);
        }
    }

    #[test]
    fn a_size_is_read_as_it_is_written(bytes: u64) {
        prop_assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
        prop_assert_eq!(parse_size(&format!("{}MiB", bytes >> 20)), Ok(bytes >> 20 << 20));
    }

    #[test]
    fn a_schedule_is_read_as_it_is_written(
        steps in vec((1..=64i32, 0..=1_000_000_000u64), 1..6),
        kill: bool,
    ) {
        let steps: Vec<_> = steps
            .into_iter()
            .filter_map(|(number, ms)| {
                let signal = Signal::from_number(number).filter(|signal| *signal != Signal::KILL)?;
                Some((signal, Duration::from_millis(ms)))
            })
            .collect();
        prop_assume!(!steps.is_empty());
        let words = steps.iter().map(|(signal, wait)| format!("{signal}/{}ms", wait.as_millis()));
        let text = words.collect::<Vec<_>>().join("/") + if kill { "/KILL/5" } else { "" };
        prop_assert_eq!(text.parse(), Ok(Schedule { steps }));
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn time_grows_with_the_length_alone(
        of_table in fragment(TABLE),
        of_env in fragment(ENV),
        of_procfile in fragment(PROCFILE),
        of_units in fragment(UNITS),
    ) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_linear(&of_table, |bytes| drop(table(&text(bytes))));
        assert_linear(&of_env, |bytes| drop(env_file::parse(&text(bytes))));
        assert_linear(&of_procfile, |bytes| drop(from_procfile(&text(bytes), Path::new("P"), true)));
        assert_linear(&of_units, |bytes| {
            let text = text(bytes);
            drop((parse_duration(&text), parse_size(&text), text.parse::<Schedule>()));
        });
    }
}

#[test]
fn thousands_of_mistakes_take_no_minutes() {
    for fragment in [
        "\r",
        "[[service]]\n=\n",
        "a = b = ",
        "\\ ",
        "[[service]]\nname = \"a\"\ndepends_on = [\"a\"]\n",
        "[[service]]\ndepends_on = [\"a\"]\n",
    ] {
        assert_linear(fragment.as_bytes(), |bytes| {
            let errors = table(&String::from_utf8_lossy(bytes)).unwrap_err();
            are_told_well(&errors, &String::from_utf8_lossy(bytes));
        });
    }
}
