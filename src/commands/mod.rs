//! One file per subcommand: it tells that command's story and nothing else.

pub mod adopt;
pub mod check;
pub mod completions;
pub mod drill;
pub mod export;
pub mod free;
pub mod init;
pub mod logs;
pub mod man;
pub mod resolve;
pub mod restart;
pub mod run;
pub mod schema;
pub mod start;
pub mod status;
pub mod stop;

use crate::act::context::Act;
use crate::config::{Table, TableErrors, locate};
use crate::exit_code::ExitCode;
use crate::reactor;
use crate::report::{self, Style};
use crate::selection::{self, Unknown};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::sys::shell;
use crate::sys::startup::Inherited;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What every command begins with.
pub struct Session {
    pub style: Style,
    pub inherited: Inherited,
    /// `--config`.
    pub flag: Option<PathBuf>,
    /// The folder of the link that pidctl was called by, for the drop-in names.
    pub drop_in: Option<PathBuf>,
}

impl Session {
    pub fn table_path(&self) -> Result<PathBuf, TableErrors> {
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        locate::locate(
            self.flag.as_deref(),
            self.drop_in.as_deref(),
            std::env::var_os("PIDCTL_CONFIG"),
            &cwd,
        )
    }

    pub fn table(&self) -> Result<Rc<Table>, TableErrors> {
        self.load(&self.table_path()?)
    }

    /// The table at this path, which `table_path` gave.
    pub fn load(&self, path: &Path) -> Result<Rc<Table>, TableErrors> {
        let mut table = locate::load(path);
        if let Err(mistakes) = &mut table
            && self.flag.is_none()
            && std::env::var_os("PIDCTL_CONFIG").is_some_and(|named| named == path)
        {
            // A variable that was exported long ago is not on the command line to be seen.
            for mistake in mistakes.errors.iter_mut().filter(|one| one.line.is_none()) {
                mistake.message += " (the table that $PIDCTL_CONFIG names)";
            }
        }
        table.map(Rc::new)
    }

    /// For commands that have no JSON form. `instead`: what there is, where there is something.
    pub fn refuse_json(&self, instead: &str) -> Result<(), Usage> {
        match self.style.json {
            false => Ok(()),
            true => Err(Usage(format!("--json: not for this command ({instead})"))),
        }
    }

    /// `pidctl`, with the option by which it was told the table: for commands that people paste.
    pub fn own_words(&self) -> String {
        self.flag.as_ref().map_or_else(
            || "pidctl".to_owned(),
            |path| format!("pidctl -c {}", shell::word(&path.to_string_lossy())),
        )
    }

    /// For commands that start or stop: `make_folder` where something will be recorded.
    pub fn act(
        &self,
        table: &Rc<Table>,
        make_folder: bool,
        hangup: bool,
    ) -> anyhow::Result<Rc<Act>> {
        Act::new(table.clone(), self.inherited, make_folder, hangup).context("cannot begin")
    }
}

/// Ids that have a record made from this very table but no entry in it any more.
fn gone(table: &Table, ledger: &Ledger) -> Vec<String> {
    let known: std::collections::HashSet<&str> = table
        .services
        .iter()
        .map(|service| service.id.as_str())
        .collect();
    ledger
        .entries
        .values()
        .filter(|entry| {
            entry.table == table.file
                && entry.instance.is_some()
                && !known.contains(entry.id.as_str())
        })
        .map(|entry| entry.id.clone())
        .collect()
}

/// The services that the words mean, and the ids without an entry that they mean.
pub fn select(
    table: &Table,
    folder: Result<&Folder, &Refused>,
    words: &[String],
) -> Result<(Vec<usize>, Vec<String>), Unknown> {
    let gone = match folder.map(Ledger::read) {
        Ok(Ok(ledger)) => gone(table, &ledger),
        Ok(Err(why)) => {
            report::warn(&format!("services without an entry cannot be known: {why}"));
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    selection::select(table, words, &gone)
}

/// Runs the work of a command to its end. `leave_after`: so many interrupts end pidctl at once.
pub fn block_on(act: &Rc<Act>, leave_after: u32, work: impl Future<Output = ExitCode>) -> ExitCode {
    let shared = act.clone();
    reactor::block_on(async move {
        let code = shared.unless_interrupted(leave_after, work).await;
        if code.is_some() {
            // Helpers that nobody waits for any more are ended before we go.
            let _ = shared
                .unless_interrupted(
                    leave_after,
                    shared.unfinished.until(|count| (*count == 0).then_some(())),
                )
                .await;
        }
        shared.flush_events();
        code.unwrap_or(ExitCode::Interrupted(
            shared.interrupts.see(|seen| seen.exit_code()),
        ))
    })
}

/// An error of the table or of the command line: exit 2; anything else: 1.
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    if error.is::<TableErrors>() || error.is::<Unknown>() || error.is::<Usage>() {
        ExitCode::Usage
    } else {
        ExitCode::Failed
    }
}

/// A mistake of the command line that clap cannot see.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The folder that holds a path; `.` where it names none.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}
