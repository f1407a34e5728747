//! The contract, tested on real processes with the real binary. One file per subcommand or
//! guarantee; one test says one thing.

mod support;

mod adopt;
mod bad_state;
mod check;
mod clean_child;
mod commands;
mod completions;
mod daemonize;
mod dependencies;
mod documents;
mod drill;
mod environment;
mod export;
mod family;
mod free;
mod free_answers;
mod full_disk;
mod health;
mod identity;
mod init;
mod interrupts;
mod logs;
mod man;
mod one_instance;
mod receipts;
mod restart;
mod run;
mod shared_folder;
mod start;
mod status;
mod stop;
mod table;
mod takeover;
mod testee;
mod trust;
