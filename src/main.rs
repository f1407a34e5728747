//! pidctl: starts and stops the services of one table with PID files; no daemon.
//!
//! The flow of every command: configuration, selection, observation, plan, act, report.

mod act;
mod check;
mod cli;
mod commands;
mod config;
mod environment;
mod events;
mod exit_code;
mod export;
mod family;
#[cfg(test)]
mod hostile;
mod logs;
mod observe;
mod plan;
mod reactor;
mod report;
mod selection;
mod state;
mod sys;

use clap::Parser;
use cli::{Cli, Command};
use commands::{Session, adopt, drill, free, restart, start, status, stop};
use exit_code::ExitCode;
use report::{Style, WhenColor};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn main() {
    let code = match run() {
        Ok(code) => code,
        Err(error) => {
            let code = commands::exit_code_of(&error);
            match error.downcast_ref::<config::TableErrors>() {
                // They begin with the file's path, as compilers' do.
                Some(mistakes) => report::tell(&mistakes.to_string()),
                None => report::warn(&format!("{error:#}")),
            }
            code
        }
    };
    match code {
        ExitCode::Done if report::output_is_lost() => ExitCode::Failed.exit(),
        code => code.exit(),
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let inherited = sys::startup::prepare()?;
    if let Some(code) = commands::completions::answer().or_else(commands::resolve::answer) {
        return Ok(code);
    }
    let (words, drop_in) = drop_in(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return Ok(if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Done
            });
        }
    };
    let global = &cli.global;
    let when = match global.color {
        cli::Color::Auto => WhenColor::Auto,
        cli::Color::Always => WhenColor::Always,
        cli::Color::Never => WhenColor::Never,
    };
    let session = Session {
        style: Style::new(global.json, global.quiet, global.verbose, when),
        inherited,
        flag: global.config.clone(),
        drop_in,
    };
    dispatch(&session, cli.command)
}

fn dispatch(session: &Session, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Start {
            services,
            start,
            common,
        } => start::run(session, &start_request(services.words(), start, &common)),
        Command::Stop {
            services,
            stop,
            common,
        } => stop::run(session, &stop_request(services.words(), stop, &common)),
        Command::Restart {
            services,
            start,
            stop,
            common,
        } => {
            let words = services.words();
            restart::run(
                session,
                &stop_request(words.clone(), stop, &common),
                &start_request(words, start, &common),
            )
        }
        Command::Status { services, watch } => status::run(
            session,
            &status::Request {
                words: services.words(),
                watch,
            },
        ),
        Command::Run {
            services,
            exit_on_failure,
        } => commands::run::run(session, &services.words(), exit_on_failure),
        Command::Drill {
            services,
            repeat,
            live,
            junit,
        } => drill::run(
            session,
            &drill::Request {
                words: services.words(),
                repeat,
                live,
                junit,
            },
        ),
        Command::Logs {
            services,
            follow,
            lines,
            events,
        } => commands::logs::run(
            session,
            &services.words(),
            &commands::logs::LogsOptions {
                follow,
                lines,
                events,
            },
        ),
        Command::Check => commands::check::run(session),
        Command::Export { to } => commands::export::run(session, &to),
        Command::Init { from } => commands::init::run(session, from.as_deref()),
        Command::Schema => commands::schema::run(),
        Command::Completions { shell } => commands::completions::run(session, shell),
        Command::Man { command } => commands::man::run(session, &command),
        Command::Free {
            ports,
            force,
            timeout,
            name: names,
            tcp,
            udp,
            managed,
            dry_run,
        } => free::run(
            session,
            &free::Request {
                ports,
                force,
                timeout,
                names,
                tcp,
                udp,
                managed,
                dry_run,
            },
        ),
        Command::Adopt { service, pid } => adopt::run(session, &service, pid),
    }
}

fn start_request(
    words: Vec<String>,
    options: cli::StartOptions,
    common: &cli::TakeoverOption,
) -> start::Request {
    start::Request {
        words,
        no_deps: options.no_deps,
        dry_run: common.dry_run,
        options: act::start::Options {
            no_wait: options.no_wait,
            takeover: common.takeover.map(Into::into),
            ready_timeout: options.ready_timeout,
        },
    }
}

fn stop_request(
    words: Vec<String>,
    options: cli::StopOptions,
    common: &cli::TakeoverOption,
) -> stop::Request {
    stop::Request {
        words,
        dry_run: common.dry_run,
        options: act::stop::Options {
            force: options.force,
            timeout: options.timeout,
            deadline: options.deadline,
            takeover: common.takeover.map(Into::into),
            ..Default::default()
        },
    }
}

/// The arguments, with the command put in where pidctl was called by a drop-in name, and the folder of
/// that name then.
pub fn drop_in(mut words: Vec<OsString>) -> (Vec<OsString>, Option<PathBuf>) {
    let Some(called) = words.first().map(PathBuf::from) else {
        return (words, None);
    };
    let name = called
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let command = if name.starts_with("start_all") {
        "start"
    } else if name.starts_with("stop_all") {
        "stop"
    } else {
        return (words, None);
    };
    words.insert(1, command.into());
    (words, Some(link_folder(&called)))
}

/// A bare name was found on PATH, by the shell; then the link is there.
fn link_folder(called: &Path) -> PathBuf {
    if called.components().count() > 1 {
        return commands::folder_of(called);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    sys::spawn::resolve(called.as_os_str(), &path, Path::new("."))
        .map_or_else(|| PathBuf::from("."), |found| commands::folder_of(&found))
}
