//! What `services.toml` means: validated, absolute, typed. Nothing here is parsed a second time later.

#[cfg(test)]
mod corpus;
pub mod env_file;
pub mod errors;
#[cfg(test)]
mod hostile;
pub mod locate;
pub mod parse;
pub mod schedule;
pub mod schema;
pub mod template;
mod trusted_file;
pub mod units;

use std::path::PathBuf;
use std::time::Duration;

pub use errors::{TableError, TableErrors};
pub use schedule::Schedule;

/// One table: the file and everything it says.
#[derive(Clone, Debug)]
pub struct Table {
    /// The path as the user gave it or as it was found; errors begin with it.
    pub given: PathBuf,
    /// The canonical path: which table a record was made from.
    pub file: PathBuf,
    /// The folder of the canonical path; relative paths in the table are relative to it.
    pub root: PathBuf,
    pub pids_dir: PathBuf,
    pub logs_dir: PathBuf,
    /// In the order of the file.
    pub services: Vec<Service>,
}

/// One `[[service]]` entry with the defaults filled in.
#[derive(Clone, Debug)]
pub struct Service {
    /// `<name>_<port>`, or `<name>`.
    pub id: String,
    pub name: String,
    pub port: Option<u16>,
    pub command: Command,
    pub description: String,
    /// Absolute.
    pub cwd: PathBuf,
    /// In the order of the table.
    pub env: Vec<(String, String)>,
    /// Absolute; later over earlier. Read at start, not here.
    pub env_files: Vec<PathBuf>,
    pub user: Option<String>,
    /// Indices into `Table::services`, each once.
    pub depends_on: Vec<usize>,
    pub prepare: Option<Command>,
    /// Absolute.
    pub creates: Option<PathBuf>,
    pub daemonizes: bool,
    pub health: Health,
    pub ready_timeout: Duration,
    /// At least 1.
    pub start_attempts: u32,
    pub schedule: Schedule,
    pub stop_scope: StopScope,
    pub process_names: Vec<String>,
    pub takeover: Takeover,
    /// Bytes.
    pub log_max_size: u64,
    pub log_keep: u32,
    /// The line of its `[[service]]`, from 1.
    pub line: usize,
}

/// How a command is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// By `/bin/sh -c`.
    Shell(String),
    /// As it is; never empty.
    Exec(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Alive is healthy.
    None,
    /// A process of the family listens on the service's port. Only where there is a port.
    Tcp,
    Http(HttpCheck),
    Command {
        command: Command,
        timeout: Duration,
        interval: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    pub host: String,
    pub port: u16,
    /// Begins with `/`; query included.
    pub path: String,
    pub timeout: Duration,
    pub interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopScope {
    Family,
    /// The stop signal goes to the leader alone, SIGKILL still to the whole family.
    Leader,
}

/// Who that pidctl did not start may be stopped on a service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    Matching,
    Any,
    Never,
}

pub const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
pub const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(30);

impl Table {
    /// No table at all, for `free`: no service, and no folder that anything could be in.
    pub fn none() -> Table {
        Table {
            given: PathBuf::new(),
            file: PathBuf::new(),
            root: PathBuf::new(),
            pids_dir: PathBuf::new(),
            logs_dir: PathBuf::new(),
            services: Vec::new(),
        }
    }

    pub fn is_there(&self) -> bool {
        !self.file.as_os_str().is_empty()
    }

    pub fn log_file(&self, id: &str) -> PathBuf {
        self.logs_dir.join(format!("{id}.log"))
    }

    pub fn events_file(&self) -> PathBuf {
        self.logs_dir.join("events.jsonl")
    }
}
