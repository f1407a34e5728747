//! `pidctl man`: the manual page of pidctl or of one command, made from the command line itself.

use super::{Session, Usage};
use crate::cli::Cli;
use crate::config::errors::{is_alike, nearest};
use crate::exit_code::ExitCode;
use crate::report;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use std::io;

pub fn run(session: &Session, words: &[String]) -> anyhow::Result<ExitCode> {
    session.refuse_json("it prints a manual page")?;
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    for word in words {
        let found = command.find_subcommand(word);
        command = found.ok_or_else(|| unknown(command, word))?;
    }
    report::document(&String::from_utf8_lossy(&page(command, words)?))?;
    Ok(ExitCode::Done)
}

fn unknown(command: &Command, word: &str) -> Usage {
    let name = command.get_bin_name().unwrap_or("pidctl");
    let known = command.get_subcommands().map(Command::get_name);
    Usage(match nearest(word, known) {
        Some(nearest) if is_alike(word, nearest) => {
            format!("{name} has no command {word:?}; did you mean {nearest:?}?")
        }
        Some(_) => format!("{name} has no command {word:?} (pidctl help lists them)"),
        None => format!("{name} has no commands, so no page of {word:?}"),
    })
}

fn page(command: &Command, words: &[String]) -> io::Result<Vec<u8>> {
    let name = command.get_display_name().unwrap_or("pidctl");
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        // An empty one would be left out, and the next taken for it.
        .date(" ")
        .source(concat!("pidctl ", env!("CARGO_PKG_VERSION")))
        .manual("pidctl");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let word = words.first().map_or("", String::as_str);
    let mut roff = Roff::default();
    section(&mut roff, "EXIT STATUS", exit_status(word));
    if word != "free" && !is_without_table(word) {
        section(&mut roff, "FILES", FILES);
    }
    section(&mut roff, "ENVIRONMENT", ENVIRONMENT);
    if word.is_empty() {
        section(&mut roff, "OTHER NAMES", OTHER_NAMES);
        section(&mut roff, "EXAMPLES", EXAMPLES);
    } else {
        roff.control("SH", ["SEE ALSO"]);
        roff.text([bold("pidctl"), roman("(1)")]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn is_without_table(word: &str) -> bool {
    matches!(word, "schema" | "completions" | "man" | "help")
}

type Terms = &'static [(&'static str, &'static str)];

fn section(roff: &mut Roff, heading: &str, terms: Terms) {
    roff.control("SH", [heading]);
    for (term, text) in terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*text)]);
    }
}

fn exit_status(word: &str) -> Terms {
    match word {
        "status" => &[
            ("0", "All are running."),
            ("1", "Some are stale or orphaned."),
            ("2", "The command line or the table is wrong."),
            ("3", "Some are stopped."),
            ("4", "Some are unknown."),
            ("150", "Some are unhealthy, starting or stopping."),
            ("", "Where several hold: 4, then 1, 3, 150."),
        ],
        "check" => &[
            ("0", "The table has no mistake; there may be warnings."),
            ("1", "Something could not be looked at."),
            ("2", "The table has mistakes, or the command line is wrong."),
        ],
        _ => &[
            ("0", "Done, also when nothing had to be done."),
            ("1", "Something failed; the others were done all the same."),
            (
                "2",
                "The command line or the table is wrong; nothing was touched.",
            ),
            ("130, 143", "Interrupted by SIGINT, by SIGTERM."),
        ],
    }
}

const FILES: Terms = &[
    (
        "services.toml",
        "The table: --config, else $PIDCTL_CONFIG, else here or in the nearest parent folder. \
         Relative paths in it are relative to its folder. pidctl init writes one, pidctl schema \
         describes it, pidctl check looks for mistakes.",
    ),
    (
        "pids/ID.pid",
        "The PID of the service's leader, and a newline. What else pidctl remembers is in files \
         of that folder that begin with a dot.",
    ),
    (
        "logs/ID.log",
        "The service's output and errors; rotated to .log.1, .log.2 and so on when it starts.",
    ),
    (
        "logs/events.jsonl",
        "Who was started, signalled, killed and why, one JSON object a line; pidctl logs --events \
         tells it in words.",
    ),
];

const ENVIRONMENT: Terms = &[
    ("PIDCTL_CONFIG", "The table, where --config does not say."),
    ("NO_COLOR", "Not empty: no colours, unless --color always."),
    (
        "PATH",
        "Services inherit it, with the rest of the environment; their commands are looked for on it.",
    ),
    (
        "PORT, PIDCTL_SERVICE",
        "Set for each service: its port, where it has one, and its id.",
    ),
];

const OTHER_NAMES: Terms = &[(
    "start_all*, stop_all*",
    "Called through a link or copy whose name begins so, pidctl is pidctl start or pidctl \
         stop, with the table beside that link.",
)];

const EXAMPLES: Terms = &[
    (
        "pidctl init",
        "Write a first table, with every key explained.",
    ),
    (
        "pidctl start",
        "Start all services, and wait until they are ready.",
    ),
    (
        "pidctl stop web_8000",
        "Stop one service, with all its processes.",
    ),
    ("pidctl status --watch", "Show what runs, again and again."),
    (
        "pidctl logs -f api worker",
        "Follow the logs of two services.",
    ),
];
