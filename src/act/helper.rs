//! Commands that pidctl runs beside a service for its health checks: the service's own with its user,
//! environment and cwd, the look-up of a host with the caller's.
//! Ended as a family of their own at their time-out, when nobody waits for them any more, and when
//! pidctl dies.

use super::context::Act;
use super::health;
use super::hunt::{self, Hunt};
use super::last_words::LastWords;
use crate::config::{Command, Schedule, StopScope};
use crate::environment::{Environment, TOKEN, Variables};
use crate::family::trace::{self, Traces};
use crate::reactor::{self, Either};
use crate::sys::boot;
use crate::sys::proc::Identity;
use crate::sys::spawn::{self, ExecFailure, Gate, Prepared, Reports};
use crate::sys::wait::Exit;
use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The first word to a pidctl that shall look up the host in the second.
pub const RESOLVE: &str = "look up a host";

/// Addresses stay good for so long: a start that waits probes many times a second.
const FRESH: Duration = Duration::from_secs(2);

pub struct Helper {
    act: Rc<Act>,
    id: String,
    environment: Environment,
    /// The instance's, so that what a killed pidctl leaves is found by the next `stop`.
    token: String,
    /// Of the one host that the service's check asks, and since when.
    found: RefCell<Option<(Instant, Vec<IpAddr>)>>,
}

/// What pidctl runs for itself owes nothing to the service, whose user, cwd or variables may forbid it.
pub fn callers_environment() -> Environment {
    Environment {
        variables: Variables::inherited(),
        account: None,
        cwd: PathBuf::from("/"),
    }
}

/// Program file, argument list and environment of a command, ready to be forked.
pub fn prepare(
    command: &Command,
    environment: &Environment,
    token: OsString,
    dies_with_us: bool,
) -> io::Result<Prepared> {
    let (program, argv) = match command {
        Command::Shell(text) => (
            PathBuf::from("/bin/sh"),
            vec!["/bin/sh".into(), "-c".into(), OsString::from(text)],
        ),
        Command::Exec(words) => {
            let path = environment.surroundings().search_path();
            let found = spawn::resolve(words[0].as_ref(), &path, &environment.cwd);
            // Not there: execve says so.
            (
                found.unwrap_or_else(|| PathBuf::from(&words[0])),
                words.iter().map(OsString::from).collect(),
            )
        }
    };
    let mut variables = environment.variables.clone();
    variables.set(TOKEN, token);
    let (cwd, account) = (&environment.cwd, environment.account.clone());
    Prepared::new(
        &program,
        &argv,
        variables.block()?,
        cwd,
        account,
        dies_with_us,
    )
}

impl Helper {
    pub fn new(act: &Rc<Act>, id: &str, environment: Environment, token: &str) -> Helper {
        Helper {
            act: act.clone(),
            id: id.to_string(),
            environment,
            token: token.to_string(),
            found: RefCell::default(),
        }
    }

    /// Runs a health command: exit 0 in time is healthy.
    pub async fn check(&self, command: &Command, timeout: Duration) -> Result<(), String> {
        let failed = |error: io::Error| format!("the health command cannot be run: {error}");
        let ran = self.run(command, &self.environment, timeout).await;
        let (exit, line) = ran.map_err(failed)?;
        let what = match exit {
            Some(Exit::Code(0)) => return Ok(()),
            Some(exit) => format!("ended with {exit}"),
            None => format!("did not end in {}", health::seconds(timeout)),
        };
        let line = line.map_or(String::new(), |line| format!(": {line}"));
        Err(format!("the health command {what}{line}"))
    }

    /// The addresses of a host. The C library's resolver blocks for as long as its servers are silent,
    /// and with it would everybody else's story: so pidctl asks it in a process of its own.
    pub async fn resolve(&self, host: &str, timeout: Duration) -> Result<Vec<IpAddr>, String> {
        let fresh = |(since, _): &(Instant, _)| since.elapsed() < FRESH;
        let known = self.found.take().filter(fresh);
        let found = match known {
            Some(found) => found,
            None => (Instant::now(), self.look_up(host, timeout).await?),
        };
        Ok(self.found.borrow_mut().insert(found).1.clone())
    }

    async fn look_up(&self, host: &str, timeout: Duration) -> Result<Vec<IpAddr>, String> {
        let ourselves = ["/proc/self/exe", RESOLVE, host].map(str::to_string);
        let command = Command::Exec(ourselves.to_vec());
        let failed = |error: io::Error| format!("{host} cannot be looked up: {error}");
        let ran = self.run(&command, &callers_environment(), timeout).await;
        match ran.map_err(failed)? {
            (Some(Exit::Code(0)), line) => {
                let line = line.unwrap_or_default();
                Ok(line.split(' ').flat_map(str::parse).collect())
            }
            (Some(_), Some(line)) => Err(format!("{host}: {line}")),
            (Some(exit), None) => Err(format!("{host}: the look-up ended with {exit}")),
            (None, _) => Err(format!(
                "{host} was not found in {}",
                health::seconds(timeout)
            )),
        }
    }

    /// How it ended, `None` where it did not in time, and the last line that it wrote.
    async fn run(
        &self,
        command: &Command,
        environment: &Environment,
        timeout: Duration,
    ) -> io::Result<(Option<Exit>, Option<String>)> {
        let mut running = self.start(command, environment)?;
        let exit = self.act.children.exited(running.leader.pid);
        let exit = reactor::race(exit, running.words.listen());
        let exit = match reactor::by(Instant::now() + timeout, exit).await {
            Some(Either::First(exit)) => Some(exit),
            Some(Either::Second(())) | None => None,
        };
        let failures = running.reports.read()?.unwrap_or_default();
        if let Some(ExecFailure { stage, error, .. }) = failures.into_iter().next() {
            let what = format!("it could not {}: {error}", stage.doing());
            return Err(io::Error::new(error.kind(), what));
        }
        Ok((exit, running.words.line()))
    }

    fn start(&self, command: &Command, environment: &Environment) -> io::Result<Running> {
        let helper = boot::random_token()?;
        let folder = self
            .act
            .folder
            .as_ref()
            .map_or_else(|_| PathBuf::new(), |folder| folder.path.clone());
        let instance = if self.token.is_empty() {
            helper.clone()
        } else {
            self.token.clone()
        };
        let token = trace::token_value(&instance, Some(&helper), &folder);
        let prepared = prepare(command, environment, token, true)?;
        let mut gate = Gate::new()?;
        let (words, output) = LastWords::new()?;
        let null = self.act.null.as_fd();
        let leader = gate.fork(prepared, null, output.as_fd(), &self.act.inherited)?;
        self.act.children.add(leader.pid);
        Ok(Running {
            act: self.act.clone(),
            id: self.id.clone(),
            leader,
            helper,
            words,
            reports: gate.open()?,
        })
    }
}

/// A helper at work. Dropped before its end, it is ended with all that it started.
struct Running {
    act: Rc<Act>,
    id: String,
    leader: Identity,
    helper: String,
    words: LastWords,
    /// Let go once it has gone through exec, it frees what the helper was made of.
    reports: Reports,
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.leader.pid;
        if self.act.children.exit_of(pid).is_some() {
            return self.act.children.forget(pid);
        }
        let mut hunt = Hunt {
            label: self.id.clone(),
            traces: Traces {
                known: vec![self.leader],
                since: self.leader.start_time,
                token: Some(self.helper.clone()),
                log: None,
                session: Some(pid),
            },
            first: Vec::new(),
            leader: Some(self.leader),
            schedule: Schedule { steps: Vec::new() },
            scope: StopScope::Family,
            kill_at: None,
            give_up_at: None,
            recorded: false,
            already_signalled: false,
            why: "its health check took too long",
        };
        let act = self.act.clone();
        act.unfinished.change(|count| *count += 1);
        reactor::spawn(async move {
            hunt::end(&act, &mut hunt).await;
            if act.children.exit_of(pid).is_some() {
                act.children.forget(pid);
            }
            act.unfinished.change(|count| *count -= 1);
        });
    }
}
