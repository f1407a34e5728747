//! What a testee is told to be: the words of its command line, parsed.
//!
//! A word is `name` or `name=value`. `child=a,b=c` describes a child by words of its own.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

/// What becomes of the three standard descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Descriptors {
    #[default]
    Keep,
    /// Replaced by /dev/null, as daemon(3) does.
    Null,
    Close,
}

#[derive(Clone, Debug, Default)]
pub struct Nature {
    /// As written: what `members` calls this process.
    pub words: Vec<String>,

    // Before it is ready, in this order.
    pub dump: Option<PathBuf>,
    pub home: Option<PathBuf>,
    pub fifo: Option<PathBuf>,
    pub service: Option<String>,
    pub port: Option<u16>,
    pub wipe_env: bool,
    /// Where it writes down when it starts, which signals it catches and that it exits by itself.
    pub journal: Option<PathBuf>,
    pub only: Option<PathBuf>,
    pub say: Vec<String>,
    pub complain: Vec<String>,
    pub log_bytes: usize,
    pub daemonize: bool,
    /// The parent of a daemon leaves before the daemon is ready.
    pub early: bool,
    pub double_fork: bool,
    pub setsid: bool,
    pub setpgid: bool,
    pub descriptors: Descriptors,
    pub ignore: Vec<Signal>,
    pub sigwait: Vec<Signal>,
    pub catch: Vec<Signal>,
    pub exit_on: Vec<Signal>,
    pub children: Vec<Nature>,
    pub zombies: u32,
    pub sockets: Vec<Socket>,
    pub reuseport: bool,
    pub listen_when: Option<PathBuf>,
    pub client: Option<u16>,
    pub depth: u32,
    pub width: u32,
    pub comm: Option<String>,
    pub title: Option<String>,
    pub ready: Option<PathBuf>,
    /// Descriptors on which the parent waits for a byte that says "ready".
    pub tell: Vec<i32>,

    // How it answers HTTP.
    pub failing_until: Option<PathBuf>,
    pub silent: bool,

    // After that.
    pub code: i32,
    pub exit: bool,
    pub exit_after: Option<Duration>,
    pub exit_when: Option<PathBuf>,
    pub die: Option<Signal>,
    pub stop: bool,
    pub leader_thread_exits: bool,
    pub daemonize_when: Option<PathBuf>,
    pub run: Option<String>,
    pub run_when: Option<PathBuf>,
    /// How often it forks a successor and exits, without being asked to.
    pub hop: u32,
    /// Each successor makes a session of its own.
    pub hop_session: bool,
    /// Each successor leaves one behind that stays.
    pub hop_leaves: bool,
    /// Successors come without a pause.
    pub rush: bool,
    /// What an `exit_on` signal does first.
    pub slow: Duration,
    pub linger: Option<PathBuf>,
    pub succeed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Socket {
    Tcp4,
    /// Every address, both families.
    TcpAny,
    /// The IPv6 loopback alone.
    Tcp6,
    Udp,
}

impl Nature {
    pub fn parse<I: IntoIterator<Item = String>>(words: I) -> Result<Nature, String> {
        let mut nature = Nature::default();
        for word in words {
            nature
                .apply(&word)
                .map_err(|why| format!("testee: word {word:?}: {why}"))?;
            nature.words.push(word);
        }
        Ok(nature)
    }

    fn apply(&mut self, word: &str) -> Result<(), String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let path = || Some(PathBuf::from(value));
        match name {
            "dump" => self.dump = path(),
            "home" => self.home = path(),
            "fifo" => self.fifo = path(),
            "service" => self.service = Some(value.into()),
            "port" => self.port = Some(number(value)?),
            "wipe-env" => self.wipe_env = true,
            "journal" => self.journal = path(),
            "only" => self.only = path(),
            "say" => self.say.push(value.into()),
            "complain" => self.complain.push(value.into()),
            "log-bytes" => self.log_bytes = number(value)?,
            "daemonize" => self.daemonize = true,
            "early" => self.early = true,
            "double-fork" => self.double_fork = true,
            "setsid" => self.setsid = true,
            "setpgid" => self.setpgid = true,
            "null-fds" => self.descriptors = Descriptors::Null,
            "close-fds" => self.descriptors = Descriptors::Close,
            "ignore" => self.ignore = signals(value)?,
            "sigwait" => self.sigwait = signals(value)?,
            "catch" => self.catch = signals(value)?,
            "exit-on" => self.exit_on = signals(value)?,
            "child" => self
                .children
                .push(Nature::parse(value.split(',').map(str::to_owned))?),
            "zombies" => self.zombies = number(value)?,
            "listen" => self.sockets.push(Socket::Tcp4),
            "listen-any" => self.sockets.push(Socket::TcpAny),
            "listen6" => self.sockets.push(Socket::Tcp6),
            "udp" => self.sockets.push(Socket::Udp),
            "reuseport" => self.reuseport = true,
            "listen-when" => self.listen_when = path(),
            "client" => self.client = Some(number(value)?),
            "tree" => {
                let (depth, width) = value.split_once('x').ok_or("expected DEPTHxWIDTH")?;
                (self.depth, self.width) = (number(depth)?, number(width)?);
            }
            "comm" => self.comm = Some(value.into()),
            "title" => self.title = Some(value.into()),
            "ready" => self.ready = path(),
            "tell" => self.tell.push(number(value)?),
            "failing-until" => self.failing_until = path(),
            "silent" => self.silent = true,
            "exit" => (self.exit, self.code) = (true, number(value)?),
            "code" => self.code = number(value)?,
            "exit-after" => self.exit_after = Some(Duration::from_millis(number(value)?)),
            "exit-when" => self.exit_when = path(),
            "die" => self.die = signals(value)?.first().copied(),
            "stop" => self.stop = true,
            "leader-thread-exits" => self.leader_thread_exits = true,
            "daemonize-when" => self.daemonize_when = path(),
            "run" => self.run = Some(value.into()),
            "run-when" => self.run_when = path(),
            "hop" => self.hop = number(value)?,
            "hop-session" => self.hop_session = true,
            "hop-leaves" => self.hop_leaves = true,
            "rush" => self.rush = true,
            "slow" => self.slow = Duration::from_millis(number(value)?),
            "linger" => self.linger = path(),
            "succeed" => self.succeed = number(value)?,
            _ => return Err("unknown".into()),
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "expected a number".into())
}

/// `TERM+INT`
fn signals(text: &str) -> Result<Vec<Signal>, String> {
    text.split('+')
        .map(|name| {
            format!("SIG{name}")
                .parse()
                .map_err(|_| format!("unknown signal {name}"))
        })
        .collect()
}
