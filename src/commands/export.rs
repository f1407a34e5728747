//! `pidctl export`: the table as units or a job of another supervisor, printed or written into a folder.

use super::{Session, Usage};
use crate::cli::ExportTo;
use crate::exit_code::ExitCode;
use crate::export::{self, Caller, nomad, systemd};
use crate::report;
use crate::state::folder;
use crate::sys::files;
use crate::sys::shell;
use anyhow::Context;
use std::path::Path;

/// One file of an export.
struct Written {
    name: String,
    text: String,
}

pub fn run(session: &Session, to: &ExportTo) -> anyhow::Result<ExitCode> {
    match to {
        ExportTo::Systemd { output, user } => systemd(session, output.as_deref(), *user),
        ExportTo::Nomad { output, isolated } => nomad(session, output.as_deref(), *isolated),
    }
}

fn systemd(session: &Session, output: Option<&Path>, user: bool) -> anyhow::Result<ExitCode> {
    session.refuse_json("units are text")?;
    let table = session.table()?;
    let options = systemd::Options {
        user,
        prefix: export::prefix(&table),
        caller: Caller::current(),
    };
    let units = systemd::units(&table, &options)?;
    let files: Vec<Written> = units
        .into_iter()
        .map(|unit| Written {
            name: unit.file_name,
            text: unit.text,
        })
        .collect();
    let Some(folder) = output else {
        let documents: Vec<String> = files
            .iter()
            .map(|file| format!("# {}\n{}", file.name, file.text))
            .collect();
        report::document(&documents.join("\n"))?;
        return Ok(ExitCode::Done);
    };
    write(session, folder, &files)?;
    let (systemctl, home) = match user {
        true => ("systemctl --user", "~/.config/systemd/user"),
        false => ("systemctl", "/etc/systemd/system"),
    };
    let prefix = &options.prefix;
    let paths = format!("{}/{prefix}*", shell::word(&folder.to_string_lossy()));
    let mut next = vec![
        format!(
            "systemd-analyze{} verify {paths}",
            if user { " --user" } else { "" }
        ),
        format!(
            "{} stop    # or both would run the services",
            session.own_words()
        ),
        format!("mkdir -p {home} && cp {paths} {home}/"),
        format!("{systemctl} daemon-reload && {systemctl} enable --now {prefix}.target"),
    ];
    if folder
        .canonicalize()
        .is_ok_and(|folder| folder == Path::new(home))
    {
        next.remove(2);
    }
    if user {
        next.push("loginctl enable-linger    # or they end when you log out".to_owned());
    }
    say_next(session, &next);
    Ok(ExitCode::Done)
}

fn nomad(session: &Session, output: Option<&Path>, isolated: bool) -> anyhow::Result<ExitCode> {
    if session.style.json && output.is_some() {
        let why = "--json: not with --output; without it the job, which is JSON, is printed";
        return Err(Usage(why.to_owned()).into());
    }
    let table = session.table()?;
    let options = nomad::Options {
        prefix: export::prefix(&table),
        isolated,
        caller: Caller::current(),
    };
    let made = nomad::job(&table, &options)?;
    let text = format!("{:#}\n", made.job);
    if !session.style.quiet {
        for warning in &made.warnings {
            report::warn(&format!("warning: {warning}"));
        }
    }
    let Some(folder) = output else {
        report::document(&text)?;
        return Ok(ExitCode::Done);
    };
    let name = format!("{}.nomad.json", options.prefix);
    let path = folder.join(&name);
    let path = path.to_string_lossy();
    let path = shell::word(&path);
    write(session, folder, &[Written { name, text }])?;
    say_next(
        session,
        &[
            format!("nomad job validate -json {path}"),
            format!(
                "{} stop    # or both would run the services",
                session.own_words()
            ),
            format!("nomad job run -json {path}"),
        ],
    );
    Ok(ExitCode::Done)
}

/// Each file is replaced as a whole; what else is in the folder is left alone, and a link in a file's
/// place is replaced, not followed.
fn write(session: &Session, folder: &Path, files: &[Written]) -> anyhow::Result<()> {
    let shown = folder.display();
    folder::make_folder(folder).with_context(|| format!("{shown} cannot be made"))?;
    let (opened, _) =
        files::open_folder(folder).with_context(|| format!("{shown} cannot be opened"))?;
    for file in files {
        let path = folder.join(&file.name);
        // Another export may be writing the same.
        let aside = format!(".{}.{}.new", file.name, std::process::id());
        files::replace_by(&aside, &opened, &file.name, file.text.as_bytes(), 0o644)
            .map(drop)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        if !session.style.quiet {
            report::tell(&format!("written: {}", path.display()));
        }
    }
    Ok(())
}

fn say_next(session: &Session, commands: &[String]) {
    if session.style.quiet {
        return;
    }
    report::tell("next:");
    for command in commands {
        report::tell(&format!("  {command}"));
    }
}
