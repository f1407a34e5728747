//! The command line, as clap reads it. Nothing below `commands/` knows these types.

use crate::config::Takeover;
use crate::config::units::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, also when nothing had to be done
  1    something failed
  2    usage or table error
  130  interrupted by SIGINT; 143 by SIGTERM
  status: 0 all running, 1 some stale or orphaned, 3 some stopped, 4 some unknown,
  150 some unhealthy, starting or stopping; where several hold 4, then 1, 3, 150";

/// Starts and stops the services of one table, services.toml, with PID files. No daemon.
#[derive(Parser, Debug)]
#[command(name = "pidctl", version, after_help = EXIT_CODES, max_term_width = 100, infer_long_args = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Args, Debug, Clone)]
pub struct Global {
    /// The table [default: $PIDCTL_CONFIG, else services.toml here or in the nearest parent folder]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// One JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print failures only; of status, what is not running
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print every process and signal
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to colour the output
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Color,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeoverWord {
    /// A stray copy of the service: same user, program, script and folder
    Matching,
    /// Whoever holds the port, within the limits that always hold
    Any,
    Never,
}

impl From<TakeoverWord> for Takeover {
    fn from(word: TakeoverWord) -> Takeover {
        match word {
            TakeoverWord::Matching => Takeover::Matching,
            TakeoverWord::Any => Takeover::Any,
            TakeoverWord::Never => Takeover::Never,
        }
    }
}

/// Ids or names; none means all.
#[derive(Args, Debug, Clone, Default)]
pub struct Services {
    /// Id or name of a service (a name means every service of that name); none means all
    #[arg(value_name = "SERVICE", add = clap_complete::ArgValueCompleter::new(crate::commands::completions::service_ids))]
    services: Vec<String>,
    /// The same as SERVICE
    #[arg(short, long = "service", value_name = "SERVICE", add = clap_complete::ArgValueCompleter::new(crate::commands::completions::service_ids))]
    service: Vec<String>,
}

impl Services {
    pub fn words(&self) -> Vec<String> {
        self.services.iter().chain(&self.service).cloned().collect()
    }
}

#[derive(Args, Debug, Clone, Default)]
pub struct StartOptions {
    /// Leave out what they depend on
    #[arg(long)]
    pub no_deps: bool,
    /// Return once the commands run
    #[arg(long)]
    pub no_wait: bool,
    /// How long each attempt may take to become ready
    #[arg(long, value_name = "D", value_parser = parse_duration, allow_negative_numbers = true)]
    pub ready_timeout: Option<Duration>,
}

#[derive(Args, Debug, Clone, Default)]
pub struct StopOptions {
    /// SIGKILL at once
    #[arg(short, long)]
    pub force: bool,
    /// Wait so long before SIGKILL, whatever the table says (0: SIGKILL at once)
    #[arg(short, long, value_name = "D", value_parser = parse_duration, allow_negative_numbers = true)]
    pub timeout: Option<Duration>,
    /// End the whole command within D, SIGKILL included
    #[arg(long, value_name = "D", value_parser = parse_duration, allow_negative_numbers = true)]
    pub deadline: Option<Duration>,
}

#[derive(Args, Debug, Clone, Default)]
pub struct TakeoverOption {
    /// Who else may be stopped on a service's port [default: the table's]
    #[arg(long, value_name = "WHICH")]
    pub takeover: Option<TakeoverWord>,
    /// Print what would be done, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Bring services up, with what they depend on, and wait until they are ready
    Start {
        #[command(flatten)]
        services: Services,
        #[command(flatten)]
        start: StartOptions,
        #[command(flatten)]
        common: TakeoverOption,
    },
    /// Stop services with all their processes, and prove that nobody is left
    Stop {
        #[command(flatten)]
        services: Services,
        #[command(flatten)]
        stop: StopOptions,
        #[command(flatten)]
        common: TakeoverOption,
    },
    /// Stop, then start
    Restart {
        #[command(flatten)]
        services: Services,
        #[command(flatten)]
        start: StartOptions,
        #[command(flatten)]
        stop: StopOptions,
        #[command(flatten)]
        common: TakeoverOption,
    },
    /// Show state, PID, uptime, memory, port and health
    Status {
        #[command(flatten)]
        services: Services,
        /// Redraw every D [default: the shortest health interval]
        #[arg(long, value_name = "D", value_parser = parse_duration, num_args = 0..=1, require_equals = true)]
        watch: Option<Option<Duration>>,
    },
    /// Run services in the foreground with their logs; Ctrl-C stops them
    Run {
        #[command(flatten)]
        services: Services,
        /// The first service that fails stops the rest
        #[arg(long)]
        exit_on_failure: bool,
    },
    /// Rehearse the shutdown: start, stop, and report how each service ended
    Drill {
        #[command(flatten)]
        services: Services,
        /// So many times
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
        repeat: u32,
        /// Drill the running instances, and start them again
        #[arg(long)]
        live: bool,
        /// Also write a JUnit report
        #[arg(long, value_name = "FILE")]
        junit: Option<PathBuf>,
    },
    /// Show the last lines of the logs, or follow them
    Logs {
        #[command(flatten)]
        services: Services,
        /// Go on as lines come, through rotation and restart
        #[arg(short, long)]
        follow: bool,
        /// How many lines of each service
        #[arg(short = 'n', long, value_name = "LINES", default_value_t = crate::commands::logs::DEFAULT_LINES, allow_negative_numbers = true)]
        lines: usize,
        /// The event log instead: who was started, signalled, killed
        #[arg(long)]
        events: bool,
    },
    /// Free ports: stop whoever listens on them; needs no table
    Free {
        /// A port, or a range FROM-TO; none means every port of the table
        #[arg(value_name = "PORT|FROM-TO", value_parser = crate::commands::free::parse_ports, allow_negative_numbers = true)]
        ports: Vec<(u16, u16)>,
        /// SIGKILL at once
        #[arg(short, long)]
        force: bool,
        /// Wait so long before SIGKILL [default: 10s, for a service its own]
        #[arg(short, long, value_name = "D", value_parser = parse_duration, allow_negative_numbers = true)]
        timeout: Option<Duration>,
        /// Only holders of this name (comm, or base name of the program)
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// TCP (the default)
        #[arg(long)]
        tcp: bool,
        /// UDP
        #[arg(long)]
        udp: bool,
        /// Also holders that systemd or a container runtime manages
        #[arg(long)]
        managed: bool,
        /// Print who holds the ports, and touch nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a process that runs already as the service
    Adopt {
        #[arg(value_name = "SERVICE", add = clap_complete::ArgValueCompleter::new(crate::commands::completions::service_ids))]
        service: String,
        /// The process [default: the holder of the service's port]
        #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(2..))]
        pid: Option<i32>,
    },
    /// Check the table: its errors, and warnings about what it names
    Check,
    /// Write the services as units or a job of another supervisor
    Export {
        #[command(subcommand)]
        to: ExportTo,
    },
    /// Write a commented services.toml
    Init {
        /// Make it from a Procfile
        #[arg(long, value_name = "PROCFILE")]
        from: Option<PathBuf>,
    },
    /// Print the JSON Schema of services.toml
    Schema,
    /// Print the completion script of a shell: source <(pidctl completions bash)
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of a command where one is named: pidctl man start | man -l -
    Man {
        #[arg(value_name = "COMMAND", add = clap_complete::ArgValueCompleter::new(crate::commands::completions::commands))]
        command: Vec<String>,
    },
}

#[derive(Subcommand, Debug)]
pub enum ExportTo {
    /// systemd units and a target over them
    Systemd {
        /// Write the files there instead of standard output
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// For a user's own systemd
        #[arg(long)]
        user: bool,
    },
    /// A Nomad job (JSON)
    Nomad {
        /// Write the file there instead of standard output
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// The isolating `exec` driver instead of `raw_exec`
        #[arg(long)]
        isolated: bool,
    },
}
