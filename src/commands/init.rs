//! `pidctl init`: a first table, where there is none yet.

use super::{Session, folder_of};
use crate::config::{locate, template};
use crate::exit_code::ExitCode;
use crate::report;
use anyhow::{Context, bail};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub fn run(session: &Session, procfile: Option<&Path>) -> anyhow::Result<ExitCode> {
    session.refuse_json("it writes a file of TOML")?;
    let default = || PathBuf::from(locate::TABLE_NAME);
    let path = session.flag.clone().unwrap_or_else(default);
    let text = match procfile {
        None => template::INIT.to_owned(),
        Some(procfile) => {
            let folder = folder_of(&path);
            let text = template::load_procfile(procfile, folder.join(".env").is_file())?;
            warn_of_another_folder(procfile, &folder);
            text
        }
    };
    write_new(&path, &text)?;
    if !session.style.quiet {
        say_what_is_next(session, &path, procfile);
    }
    Ok(ExitCode::Done)
}

/// Made by this very call, or not at all: O_EXCL takes no file and no link that is there already.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!("{shown} exists already; left as it is (pidctl check looks for mistakes in it)")
        }
        Err(error) => return Err(error).context(format!("{shown} cannot be made")),
    };
    if let Err(error) = file.write_all(text.as_bytes()) {
        // Half a table would be found by every later command.
        let _ = fs::remove_file(path);
        return Err(error).context(format!("{shown} cannot be written"));
    }
    Ok(())
}

/// What a Procfile runs, it runs in its own folder.
fn warn_of_another_folder(procfile: &Path, folder: &Path) {
    let here = |path: &Path| path.canonicalize().ok();
    if here(&folder_of(procfile)) != here(folder) {
        report::warn(&format!(
            "the commands of {} will run in the folder of the new table, {}, unless you add cwd",
            procfile.display(),
            here(folder).unwrap_or_else(|| folder.to_owned()).display()
        ));
    }
}

fn say_what_is_next(session: &Session, path: &Path, procfile: Option<&Path>) {
    let shown = path.display();
    match procfile {
        None => report::say(&format!(
            "{shown} written: one example service, and every key explained"
        )),
        Some(procfile) => report::say(&format!("{shown} written from {}", procfile.display())),
    }
    // Without -c the next command would find another table, or none.
    let pidctl = match (&session.flag, std::env::var_os("PIDCTL_CONFIG")) {
        (None, Some(_)) => format!("pidctl -c {}", locate::TABLE_NAME),
        _ => session.own_words(),
    };
    report::say(&format!(
        "next: look it over, then: {pidctl} check && {pidctl} start"
    ));
}
