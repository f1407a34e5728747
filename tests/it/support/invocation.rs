//! One call of the real binary (or of a shell around it), under a hard time limit.

// What runs in the child before exec cannot be said otherwise.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, SigSet, Signal};
use serde_json::Value;

use super::{PATIENCE, Process, TestEnv, eventually, spawn};

/// After this a call is a hang.
const LIMIT: Duration = Duration::from_secs(60);

pub struct Invocation {
    command: Command,
    words: String,
}

impl Invocation {
    /// The environment is cleared but for what every user has, and the mark of the test.
    pub fn new(env: &TestEnv, program: &Path) -> Invocation {
        let mut command = Command::new(program);
        command
            .current_dir(env.dir())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", env.dir())
            .env("PIDCTL_TEST", env.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let prepare = || {
            // The runner of the tests may have been started with `&` or nohup.
            for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
                // SAFETY: no handler is installed, only SIG_DFL.
                unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
            }
            Ok(())
        };
        // SAFETY: signal(2) is async-signal-safe; nothing is allocated.
        unsafe { command.pre_exec(prepare) };
        Invocation {
            command,
            words: program.display().to_string(),
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Invocation {
        let arg = arg.into();
        self.words.push(' ');
        self.words.push_str(&arg.to_string_lossy());
        self.command.arg(arg);
        self
    }

    pub fn args(self, args: &[&str]) -> Invocation {
        args.iter().fold(self, |call, arg| call.arg(*arg))
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Invocation {
        self.command.env(name, value.into());
        self
    }

    pub fn cwd(mut self, folder: impl AsRef<Path>) -> Invocation {
        self.command.current_dir(folder);
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Invocation {
        self.command.stdin(stdin);
        self
    }

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Invocation {
        self.command.stdout(stdout);
        self
    }

    pub fn user(mut self, uid: u32, gid: u32) -> Invocation {
        self.command.uid(uid).gid(gid);
        self
    }

    /// A caller that ignores these signals and blocks those.
    pub fn signals(mut self, ignored: &'static [Signal], blocked: &'static [Signal]) -> Invocation {
        let prepare = move || {
            for signal in ignored {
                // SAFETY: no handler is installed, only SIG_IGN.
                unsafe { nix::sys::signal::signal(*signal, SigHandler::SigIgn) }?;
            }
            let set: SigSet = blocked.iter().copied().collect();
            set.thread_block()?;
            Ok(())
        };
        // SAFETY: signal(2) and sigprocmask(2) are async-signal-safe; nothing is allocated.
        unsafe { self.command.pre_exec(prepare) };
        self
    }

    pub fn limit_resource(
        mut self,
        resource: nix::sys::resource::Resource,
        value: u64,
    ) -> Invocation {
        let prepare = move || {
            nix::sys::resource::setrlimit(resource, value, value)?;
            Ok(())
        };
        // SAFETY: setrlimit(2) is a plain system call; nothing is allocated.
        unsafe { self.command.pre_exec(prepare) };
        self
    }

    pub fn spawn(mut self) -> Running {
        let since = Instant::now();
        let mut child =
            spawn(&mut self.command).unwrap_or_else(|error| panic!("{}: {error}", self.words));
        let stdout = Stream::of(child.stdout.take());
        let stderr = Stream::of(child.stderr.take());
        Running {
            child,
            stdout,
            stderr,
            since,
            words: self.words,
        }
    }

    pub fn run(self) -> Output {
        self.spawn().finish()
    }
}

/// What came out of a pipe until now.
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Stream {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = pipe.map(|mut pipe| {
            let bytes = Arc::clone(&bytes);
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut chunk) {
                    bytes.lock().unwrap().extend_from_slice(&chunk[..count]);
                }
            })
        });
        Stream { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// A call that is under way.
pub struct Running {
    child: Child,
    stdout: Stream,
    stderr: Stream,
    since: Instant,
    words: String,
}

impl Running {
    pub fn process(&self) -> Process {
        Process::of(self.child.id() as i32).expect("a child that nobody has waited for")
    }

    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal as i32);
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    pub fn await_stdout(&self, what: &str) {
        eventually(PATIENCE, || {
            let text = self.stdout();
            if text.contains(what) {
                Ok(())
            } else {
                Err(format!("{}: no {what:?} in {text:?}", self.words))
            }
        });
    }

    /// Its end, and the end of its output: a service that holds the caller's pipe is a hang too.
    pub fn finish(mut self) -> Output {
        let deadline = self.since + LIMIT;
        let status = self.until(deadline, "did not end", |this| {
            this.child.try_wait().expect("wait")
        });
        let elapsed = self.since.elapsed();
        let open = "ended, but somebody still holds its output";
        self.until(deadline.max(Instant::now() + PATIENCE), open, |this| {
            (this.stdout.has_ended() && this.stderr.has_ended()).then_some(())
        });
        Output {
            status,
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            elapsed,
            words: self.words.clone(),
        }
    }

    fn until<T>(
        &mut self,
        deadline: Instant,
        what: &str,
        mut look: impl FnMut(&mut Running) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if Instant::now() >= deadline {
                let (out, err) = (self.stdout.text(), self.stderr.text());
                panic!(
                    "{} {what} within {:?}\nstdout: {out}\nstderr: {err}",
                    self.words, LIMIT
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ours, and not waited for: the PID cannot be another's.
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[derive(Debug)]
pub struct Output {
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
    words: String,
}

impl Output {
    /// The exit status, or 128 and the number of the signal that ended it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Output {
        assert_eq!(self.code(), code, "exit status of {self}");
        self
    }

    /// The one document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not one JSON document ({error}): {self}"))
    }

    /// The entry of a service in the JSON document.
    #[track_caller]
    pub fn service(&self, id: &str) -> Value {
        entry(&self.json(), id).unwrap_or_else(|| panic!("no {id}: {self}"))
    }

    #[track_caller]
    pub fn outcome(&self, id: &str) -> String {
        let service = self.service(id);
        match service["outcome"].as_str() {
            Some(outcome) => outcome.to_owned(),
            None => panic!("{id} has no outcome: {self}"),
        }
    }

    #[track_caller]
    pub fn state(&self, id: &str) -> String {
        let service = self.service(id);
        match service["state"].as_str() {
            Some(state) => state.to_owned(),
            None => panic!("{id} has no state: {self}"),
        }
    }

    pub fn ids(&self) -> Vec<String> {
        let json = self.json();
        let services = json["services"].as_array().cloned().unwrap_or_default();
        services
            .iter()
            .filter_map(|service| Some(service["id"].as_str()?.to_owned()))
            .collect()
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    #[track_caller]
    pub fn expect_said(self, what: &str) -> Output {
        assert!(self.said().contains(what), "no {what:?} said by {self}");
        self
    }
}

pub fn entry(document: &Value, id: &str) -> Option<Value> {
    let services = document["services"].as_array()?;
    services.iter().find(|one| one["id"] == id).cloned()
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} -> {} after {:?}\nstdout: {}\nstderr: {}",
            self.words,
            self.code(),
            self.elapsed,
            self.stdout,
            self.stderr
        )
    }
}
