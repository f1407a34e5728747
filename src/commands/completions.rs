//! `pidctl completions`: the script that a shell sources, and the answers to what that script asks while
//! the user types. The answers come from the table at hand; they are silent where there is none.

use super::Session;
use crate::cli::Cli;
use crate::config::{Table, locate};
use crate::exit_code::ExitCode;
use crate::logs::sanitize::sanitize;
use crate::report;
use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::CompletionCandidate;
use clap_complete::env::Shells;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// By this variable the script asks; it holds the shell's name.
const ASKED: &str = "_PIDCTL_COMPLETE";

/// pidctl and the links that the documentation makes.
const NAMES: [&str; 3] = ["pidctl", "start_all_services.sh", "stop_all_services.sh"];

/// A zsh without its completion system would not know `compdef`.
const ZSH_PREPARES: &str =
    "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }\n";

/// Where the script is a file `_pidctl` of zsh's fpath, it is the function's body.
const ZSH_CALLS: &str = "[[ $funcstack[1] == _pidctl ]] && _clap_dynamic_completer_pidctl \"$@\"\n";

pub fn run(session: &Session, shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    session.refuse_json("it is a script for your shell")?;
    let name = shell.to_string();
    let shells = Shells::builtins();
    let adapter = shells.completer(&name);
    let adapter = adapter.with_context(|| format!("no completions for {name}"))?;
    let mut script = Vec::new();
    for bin in NAMES {
        adapter.write_registration(ASKED, "pidctl", bin, &own_path(), &mut script)?;
    }
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if name == "zsh" {
        // `#compdef` has to stay the first line.
        let first = script.find('\n').map_or(0, |end| end + 1);
        script.insert_str(first, ZSH_PREPARES);
        script.push_str(ZSH_CALLS);
    }
    report::document(&script)?;
    Ok(ExitCode::Done)
}

/// As the shell will find pidctl later, from wherever it is then.
fn own_path() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.unwrap_or_else(|| "pidctl".into());
    let path = match called.components().count() {
        0 | 1 => called,
        _ => std::path::absolute(&called).unwrap_or(called),
    };
    path.to_string_lossy().into_owned()
}

/// Answers the script, if it is the script that asks. Nothing is ever said on standard error: it would
/// end up in the middle of the line that is being typed.
pub fn answer() -> Option<ExitCode> {
    let shell = std::env::var_os(ASKED)?;
    let words = asked_words();
    let shells = Shells::builtins();
    let adapter = shells.completer(&shell.to_string_lossy());
    let (Some(adapter), false) = (adapter, words.is_empty()) else {
        return Some(ExitCode::Failed);
    };
    let mut command = Cli::command();
    command.build();
    if let (Some(name), Some(_)) = drop_in_command(&words)
        && let Some(same) = command.find_subcommand(&name)
    {
        command = same.clone();
    }
    if current(&words).is_empty() {
        command = hide_options(command);
    }
    let mut answer = Vec::new();
    let cwd = std::env::current_dir().ok();
    match adapter.write_complete(&mut command, words, cwd.as_deref(), &mut answer) {
        Ok(()) => report::print(&String::from_utf8_lossy(&answer)),
        Err(_) => return Some(ExitCode::Failed),
    }
    Some(ExitCode::Done)
}

/// The line so far: what stands behind `--`.
fn asked_words() -> Vec<OsString> {
    std::env::args_os()
        .skip_while(|word| word != "--")
        .skip(1)
        .collect()
}

/// The word at the cursor.
fn current(words: &[OsString]) -> &OsStr {
    let index = std::env::var("_CLAP_COMPLETE_INDEX");
    let index = index.ok().and_then(|index| index.parse().ok());
    let word = words.get(index.unwrap_or(words.len().saturating_sub(1)));
    word.map_or(OsStr::new(""), OsString::as_os_str)
}

/// Where nothing is typed yet, services and commands are what is wanted; options come after a dash, and
/// where there is nothing else.
fn hide_options(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.is_positional() {
            true => arg,
            false => arg.hide(true),
        })
        .mut_subcommands(hide_options)
}

/// The command and the folder of a drop-in name.
fn drop_in_command(words: &[OsString]) -> (Option<OsString>, Option<PathBuf>) {
    let words = words.iter().map(without_tilde).collect();
    let (words, folder) = crate::drop_in(words);
    (words.into_iter().nth(1), folder)
}

/// Bash hands over the words as they were typed.
fn without_tilde(word: &OsString) -> OsString {
    let home = std::env::var_os("HOME");
    match (word.to_str().and_then(|word| word.strip_prefix("~/")), home) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest).into_os_string(),
        _ => word.clone(),
    }
}

/// The ids of the services that begin with `current` and are not on the line yet.
pub fn service_ids(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = asked_words();
    let Some(table) = table(&words) else {
        return Vec::new();
    };
    let current = current.to_string_lossy();
    let is_new = |id: &str| {
        let given = words.iter().filter(|word| *word == id).count();
        given <= usize::from(current == id)
    };
    let services = table.services.iter();
    services
        .filter(|service| service.id.starts_with(&*current) && is_new(&service.id))
        .map(|service| {
            let help = sanitize(service.description.as_bytes());
            let help = (!help.is_empty()).then(|| help.into());
            CompletionCandidate::new(&service.id).help(help)
        })
        .collect()
}

/// The table that the finished line would work on.
fn table(words: &[OsString]) -> Option<Table> {
    let flag = config_option(words);
    let (_, folder) = drop_in_command(words);
    let env = std::env::var_os("PIDCTL_CONFIG");
    let cwd = std::env::current_dir().ok()?;
    let path = locate::locate(flag.as_deref(), folder.as_deref(), env, &cwd).ok()?;
    locate::load(&path).ok()
}

fn config_option(words: &[OsString]) -> Option<PathBuf> {
    let mut found = None;
    // Bash makes three words of `--config=FILE`.
    let mut words = words.iter().filter(|word| *word != "=");
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let value = match &*text {
            "-c" | "--config" => words.next().cloned(),
            _ => text.strip_prefix("--config=").map(OsString::from),
        };
        found = value.as_ref().map(without_tilde).or(found);
    }
    found.map(PathBuf::from)
}

/// The commands that begin with `current`.
pub fn commands(current: &OsStr) -> Vec<CompletionCandidate> {
    let command = Cli::command();
    let names = command.get_subcommands().map(Command::get_name);
    let current = current.to_string_lossy();
    names
        .filter(|name| name.starts_with(&*current))
        .map(CompletionCandidate::new)
        .collect()
}
