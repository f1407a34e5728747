//! What pidctl keeps in `pids/`: PID files, and in dot files what it remembers besides.

pub mod folder;
#[cfg(test)]
mod hostile;
pub mod ledger;
pub mod pidfile;
pub mod record;
