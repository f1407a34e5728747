//! The ground of a sweep: three services of different natures, a canary, and what must hold after
//! whatever was done to pidctl.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Bystander, Output, Process, TestEnv, eventually};
use crate::tracer::{Blow, trace};

/// The command that is swept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Swept {
    Start,
    Stop,
    Restart,
    /// Of a port that a process without a service holds.
    Free,
}

impl Swept {
    pub fn word(self) -> &'static str {
        match self {
            Swept::Start => "start",
            Swept::Stop => "stop",
            Swept::Restart => "restart",
            Swept::Free => "free",
        }
    }
}

pub struct Ground {
    pub env: TestEnv,
    canary: Bystander,
    port: String,
    holder: RefCell<Option<Bystander>>,
}

impl Ground {
    /// One service with a child tree that ignores the stop signal, one with `prepare`, one that
    /// daemonizes itself.
    pub fn new() -> Ground {
        let env = TestEnv::new();
        let only = |name: &str| format!("only={}", env.at(&format!("only.{name}")));
        let tree = env
            .service("tree")
            .does(&format!(
                "{} child=ignore=TERM,tree=1x2 child=setsid,double-fork",
                only("tree")
            ))
            .key("stop_timeout = \"150ms\"");
        let prepared = env
            .service("prepared")
            .does(&only("prepared"))
            .key("prepare = \"sleep 0.02 & true; sleep 0.01\"");
        let daemon = env
            .service("daemon")
            .does(&format!("{} daemonize", only("daemon")))
            .key("daemonizes = true");
        env.table(&[tree, prepared, daemon]);
        let canary = env.bystander(&["catch=TERM"]);
        Ground {
            port: env.free_port().to_string(),
            holder: RefCell::default(),
            env,
            canary,
        }
    }

    pub fn words(&self, swept: Swept) -> Vec<&str> {
        match swept {
            Swept::Free => vec!["--json", "free", &self.port],
            _ => vec!["--json", swept.word()],
        }
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pidctl"));
        command
            .args(words)
            .current_dir(self.env.dir())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PIDCTL_TEST", self.env.dir())
            .process_group(0);
        command
    }

    /// What the swept command finds: nothing to run yet, or everything running.
    pub fn set(&self, swept: Swept) {
        match swept {
            Swept::Start => {}
            Swept::Stop | Swept::Restart => drop(self.start("before")),
            Swept::Free => {
                let port = format!("port={}", self.port);
                let holder = self.env.bystander(&["listen", &port]);
                self.holder.replace(Some(holder));
            }
        }
    }

    fn start(&self, when: &str) -> Output {
        let output = self.env.run(&["start"]);
        assert_eq!(output.code(), 0, "{when}: {output}");
        output
    }

    fn stop(&self, when: &str) {
        let output = self.env.run(&["stop"]);
        assert_eq!(output.code(), 0, "{when}: {output}");
        let left: Vec<String> = self.services().iter().map(describe).collect();
        assert!(left.is_empty(), "{when}: left behind: {left:?}");
    }

    /// Every process that pidctl has started here, whatever it is by now: the mark in the environment,
    /// or the FIFO. pidctl's own forks at their gate, which end by themselves, are awaited.
    pub fn services(&self) -> Vec<Process> {
        let pidctl = std::fs::canonicalize(env!("CARGO_BIN_EXE_pidctl")).expect("the binary");
        let mut found = Vec::new();
        eventually(Duration::from_secs(10), || {
            found = self.env.survivors();
            match found
                .iter()
                .find(|one| exe(one).as_deref() == Some(&*pidctl))
            {
                None => Ok(()),
                Some(one) => Err(format!("a fork of pidctl lives on: {}", describe(one))),
            }
        });
        found
    }

    /// Who runs, and is no part of a service that `status` shows as alive.
    fn untracked(&self) -> Vec<String> {
        let before: BTreeSet<i32> = self.services().iter().map(|one| one.pid).collect();
        let status = self.env.run(&["--json", "status"]);
        let shown: Vec<String> = ["tree", "prepared", "daemon"]
            .into_iter()
            .filter(|id| !["stopped", "stale"].contains(&status.state(id).as_str()))
            .map(str::to_owned)
            .collect();
        self.services()
            .into_iter()
            .filter(|process| before.contains(&process.pid))
            .filter(|process| {
                let service = service_of(process);
                service.is_none_or(|service| !shown.contains(&service))
            })
            // One without memory is past its exit, and shows neither words nor environment.
            .filter(|process| process.is_alive() && !process.file("cmdline").is_empty())
            .map(|process| format!("{} while {}", describe(&process), status.stdout))
            .collect()
    }

    /// What guarantee 3 promises, after whatever has happened: all is shown, `start` works at once as
    /// well as after `stop`, `stop` ends everything, and nobody else was touched.
    pub fn verify(&self, when: &str, start_first: bool) {
        let untracked = self.untracked();
        assert!(untracked.is_empty(), "{when}: untracked: {untracked:#?}");
        if !start_first {
            self.stop(&format!("{when}, then stop"));
        }
        let output = self.start(&format!("{when}, then start"));
        self.assert_up(&format!("{when}, then {output}"));
        if self.holder.borrow().is_some() {
            let output = self.env.run(&["free", &self.port]);
            assert_eq!(output.code(), 0, "{when}, then free: {output}");
            self.assert_freed(when);
            self.holder.replace(None);
        }
        self.stop(&format!("{when}, then start and stop"));
        self.assert_alone(when);
    }

    /// Each is shown as running and is the one instance.
    pub fn assert_up(&self, when: &str) {
        let status = self.env.run(&["--json", "status"]);
        for id in ["tree", "prepared", "daemon"] {
            assert_eq!(status.state(id), "running", "{when}: {id}: {status}");
        }
    }

    pub fn assert_freed(&self, when: &str) {
        if let Some(holder) = &*self.holder.borrow() {
            assert!(!holder.process().is_alive(), "{when}: the holder lives");
        }
    }

    /// Never two instances, and the canary lives.
    pub fn assert_alone(&self, when: &str) {
        for name in ["tree", "prepared", "daemon"] {
            let file = format!("only.{name}");
            if self.env.exists(&file) {
                let text = self.env.read(&file);
                assert!(!text.contains("violation"), "{when}: two of {name}: {text}");
                self.env.remove(&file);
            }
        }
        assert!(self.canary.process().is_alive(), "{when}: the canary died");
    }
}

fn exe(process: &Process) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{}/exe", process.pid)).ok()
}

fn service_of(process: &Process) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{}/environ", process.pid)).ok()?;
    let value = environ
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(b"PIDCTL_SERVICE="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

pub fn describe(process: &Process) -> String {
    let command = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    format!(
        "{} {:?} {:?} {command}",
        process.pid,
        process.state(),
        service_of(process)
    )
}

/// What the traced command printed.
pub fn capture(env: &TestEnv) -> File {
    let path = env.path("traced.out");
    File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .expect("a file")
}

pub fn said(env: &TestEnv) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(env.path("traced.out")) {
        let _ = file.read_to_string(&mut text);
    }
    text
}

/// A number from the environment.
pub fn number(variable: &str, otherwise: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => otherwise,
    }
}

/// How many points the short form takes.
const SHORT: usize = 4;

/// Strikes at every call in turn (`PIDCTL_EVERY=1`), else at a few. `strike` gives whether the
/// command came so far and whether it was hit; the result is how many were.
pub fn sweep(swept: Swept, strike: impl Fn(&Ground, usize) -> (bool, bool) + Sync) -> usize {
    let every = match number("PIDCTL_EVERY", 0) {
        0 => (calls_of(swept) / SHORT).max(1),
        every => every,
    };
    let first = number("PIDCTL_FROM", every);
    let (next, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..number("PIDCTL_THREADS", 1) {
            scope.spawn(|| {
                let ground = Ground::new();
                // The number of calls differs a little from run to run: the end is where several
                // runs in a row were not reached.
                let mut missed = 0;
                while missed < 3 {
                    let mut at = first + next.fetch_add(1, Ordering::Relaxed) * every;
                    let (reached, hit) = loop {
                        let (reached, hit) = strike(&ground, at);
                        let hits = hits.load(Ordering::Relaxed);
                        match (reached, hit) {
                            // A call that cannot be struck: of few points none may be lost to it.
                            (true, false) if every > 1 => at += 1,
                            // Where the calls were counted the walks were longer than they are now.
                            (false, _) if hits == 0 && at > 1 => at /= 2,
                            found => break found,
                        }
                    };
                    missed = if reached { 0 } else { missed + 1 };
                    let hits = hits.fetch_add(usize::from(hit), Ordering::Relaxed);
                    if hit && (hits + 1).is_multiple_of(100) {
                        println!("{}: {} points so far", swept.word(), hits + 1);
                    }
                }
            });
        }
    });
    let hits = hits.into_inner();
    assert!(hits > 0, "nothing was swept");
    hits
}

fn calls_of(swept: Swept) -> usize {
    let ground = Ground::new();
    ground.set(swept);
    let output = capture(&ground.env);
    let command = ground.command(&ground.words(swept));
    let traced = trace(command, &output, 0, Blow::None, &|_| None).expect("a traced pidctl");
    ground.verify("nothing was done to it", false);
    println!("{} makes {} calls", swept.word(), traced.calls);
    traced.calls
}
