//! fork(2) and execve(2) for services. A child waits at a gate until its PID file and record are on
//! disk; end-of-file at the gate means that pidctl died, and the child ends without exec. So nothing
//! ever runs that nobody knows of.
//!
//! Why not `Command`: it waits for every exec in turn, and its fork copies nothing that we could
//! hold at a gate.

use super::proc::{self, Identity};
use super::startup::Inherited;
use super::users::Account;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A command, made ready in the parent: between fork and exec nothing may be allocated.
#[derive(Debug)]
pub struct Prepared {
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
    cwd: CString,
    account: Option<Account>,
    /// SIGKILL when pidctl dies: for helpers (prepare, health), never for a service.
    dies_with_us: bool,
}

fn c_string(text: &OsStr, what: &str) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what} holds a NUL byte"),
        )
    })
}

impl Prepared {
    pub fn new(
        program: &Path,
        argv: &[OsString],
        env: &[(OsString, OsString)],
        cwd: &Path,
        account: Option<Account>,
        dies_with_us: bool,
    ) -> io::Result<Prepared> {
        let envp = env.iter().map(|(name, value)| {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            c_string(&entry, "an environment variable")
        });
        Ok(Prepared {
            program: c_string(program.as_os_str(), "the program's path")?,
            argv: argv
                .iter()
                .map(|word| c_string(word, "the command"))
                .collect::<io::Result<_>>()?,
            envp: envp.collect::<io::Result<_>>()?,
            cwd: c_string(cwd.as_os_str(), "cwd")?,
            account,
            dies_with_us,
        })
    }
}

/// The gate of one batch: every child of it waits until `open` and then execs, or ends.
#[derive(Debug)]
pub struct Gate {
    wait: OwnedFd,
    go: OwnedFd,
    report: OwnedFd,
    /// Kept until `open`, so that reading reports before that cannot see an end.
    reporter: OwnedFd,
    children: usize,
}

/// What a child could not do, by its number in the batch.
#[derive(Debug)]
pub struct ExecFailure {
    pub child: usize,
    pub error: io::Error,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Session,
    User,
    Cwd,
    Descriptors,
    Exec,
}

impl Stage {
    const ALL: [Stage; 5] = [
        Stage::Session,
        Stage::User,
        Stage::Cwd,
        Stage::Descriptors,
        Stage::Exec,
    ];

    pub fn doing(self) -> &'static str {
        match self {
            Stage::Session => "make its session",
            Stage::User => "become its user",
            Stage::Cwd => "change to its cwd",
            Stage::Descriptors => "set up its descriptors",
            Stage::Exec => "execute its command",
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

impl Gate {
    pub fn new() -> io::Result<Gate> {
        let (wait, go) = pipe()?;
        let (report, reporter) = pipe()?;
        Ok(Gate {
            wait,
            go,
            report,
            reporter,
            children: 0,
        })
    }

    /// The number of the next child in this batch.
    pub fn next_child(&self) -> usize {
        self.children
    }

    /// Forks a child that makes its session and then waits at the gate. Its start time is read while
    /// it waits, so what is returned identifies it.
    pub fn fork(
        &mut self,
        prepared: &Prepared,
        stdin: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        inherited: &Inherited,
    ) -> io::Result<Identity> {
        let argv = pointers(&prepared.argv);
        let envp = pointers(&prepared.envp);
        // A script without `#!` is run by /bin/sh, as execvp(3) does.
        let mut script_argv = vec![c"/bin/sh".as_ptr(), prepared.program.as_ptr()];
        script_argv.extend(argv.iter().skip(1));
        let groups: Vec<libc::gid_t> = prepared
            .account
            .as_ref()
            .map(|a| a.groups.clone())
            .unwrap_or_default();
        let child = Child {
            number: self.children as u32,
            prepared,
            argv: &argv,
            script_argv: &script_argv,
            envp: &envp,
            groups: &groups,
            stdin: stdin.as_raw_fd(),
            output: output.as_raw_fd(),
            gate: self.wait.as_raw_fd(),
            go: self.go.as_raw_fd(),
            report: self.reporter.as_raw_fd(),
            nofile: inherited.nofile,
            parent: std::process::id() as i32,
        };
        // SAFETY: pidctl has one thread when it forks; the child calls only async-signal-safe
        // functions on memory prepared above, and ends in exec or _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child.run();
        }
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        self.children += 1;
        // It is our child and waits at the gate: its number cannot be another's.
        let stat = proc::stat(pid).inspect_err(|_| {
            // SAFETY: our own child, not reaped yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        })?;
        Ok(stat.identity())
    }

    /// Ends a child that must not go on: its PID file cannot be written, say. It is reaped with the rest.
    pub fn turn_away(&mut self, pid: i32) {
        // SAFETY: our own child, not reaped yet, so the number is its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    /// Lets every child of the batch go on to exec. What they could not do comes from the returned
    /// descriptor, which reads as end-of-file when all have gone through.
    pub fn open(self) -> io::Result<Reports> {
        let bytes = vec![b'!'; self.children];
        let mut go = std::fs::File::from(self.go);
        go.write_all(&bytes)?;
        let report = std::fs::File::from(self.report);
        nix::fcntl::fcntl(
            &report,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        Ok(Reports {
            report,
            buffer: Vec::new(),
        })
    }
}

/// The children's reports of a batch.
#[derive(Debug)]
pub struct Reports {
    report: std::fs::File,
    buffer: Vec<u8>,
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

/// Number, stage, errno: three little-endian u32.
const REPORT: usize = 12;

impl Reports {
    /// Reads what is there. `None`: more may come. At the end, when every child has gone through exec
    /// or ended, the failures.
    pub fn read(&mut self) -> io::Result<Option<Vec<ExecFailure>>> {
        let mut part = [0u8; 64 * REPORT];
        loop {
            match self.report.read(&mut part) {
                Ok(0) => break,
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let word = |chunk: &[u8], at: usize| {
            u32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]])
        };
        Ok(Some(
            self.buffer
                .chunks_exact(REPORT)
                .map(|chunk| ExecFailure {
                    child: word(chunk, 0) as usize,
                    stage: Stage::ALL
                        .get(word(chunk, 4) as usize)
                        .copied()
                        .unwrap_or(Stage::Exec),
                    error: io::Error::from_raw_os_error(word(chunk, 8) as i32),
                })
                .collect(),
        ))
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// Everything the child needs, laid out before the fork.
struct Child<'a> {
    number: u32,
    prepared: &'a Prepared,
    argv: &'a [*const libc::c_char],
    script_argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    groups: &'a [libc::gid_t],
    stdin: i32,
    output: i32,
    gate: i32,
    go: i32,
    report: i32,
    nofile: Option<(libc::rlim_t, libc::rlim_t)>,
    parent: i32,
}

impl Child<'_> {
    /// Runs in the child. Async-signal-safe calls only; never returns.
    fn run(&self) -> ! {
        // SAFETY: plain system calls on descriptors and on memory that the parent laid out before the
        // fork and that no other thread shares; failures end in _exit.
        unsafe {
            // Our copy of the write end would keep the gate from ever reading end-of-file.
            libc::close(self.go);
            if libc::setsid() < 0 {
                self.fail(Stage::Session);
            }
            let mut byte = 0u8;
            loop {
                match libc::read(self.gate, (&raw mut byte).cast(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => continue,
                    _ => libc::_exit(0),
                }
            }
            if self.prepared.dies_with_us {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != self.parent {
                    libc::_exit(0);
                }
            }
            if let Some((soft, hard)) = self.nofile {
                let limit = libc::rlimit {
                    rlim_cur: soft,
                    rlim_max: hard,
                };
                libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
            }
            // All else is at its default since `startup`; these two pidctl itself ignores.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            if libc::dup2(self.stdin, 0) < 0
                || libc::dup2(self.output, 1) < 0
                || libc::dup2(self.output, 2) < 0
            {
                self.fail(Stage::Descriptors);
            }
            if let Some(account) = &self.prepared.account {
                if libc::setgroups(self.groups.len(), self.groups.as_ptr()) < 0
                    || libc::setresgid(account.gid, account.gid, account.gid) < 0
                    || libc::setresuid(account.uid, account.uid, account.uid) < 0
                {
                    self.fail(Stage::User);
                }
                if self.prepared.dies_with_us {
                    // Cleared by the change of user.
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                }
            }
            if libc::chdir(self.prepared.cwd.as_ptr()) < 0 {
                self.fail(Stage::Cwd);
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::execve(
                self.prepared.program.as_ptr(),
                self.argv.as_ptr(),
                self.envp.as_ptr(),
            );
            if *libc::__errno_location() == libc::ENOEXEC {
                libc::execve(
                    self.script_argv[0],
                    self.script_argv.as_ptr(),
                    self.envp.as_ptr(),
                );
            }
            self.fail(Stage::Exec)
        }
    }

    /// Reports errno and ends as a shell would: 127 not found, 126 not executable.
    unsafe fn fail(&self, stage: Stage) -> ! {
        // SAFETY: a write of a stack buffer to an open pipe, then _exit.
        unsafe {
            let errno = *libc::__errno_location();
            let mut message = [0u8; REPORT];
            message[..4].copy_from_slice(&self.number.to_le_bytes());
            message[4..8].copy_from_slice(&(stage as u32).to_le_bytes());
            message[8..].copy_from_slice(&(errno as u32).to_le_bytes());
            libc::write(self.report, message.as_ptr().cast(), REPORT);
            libc::_exit(if errno == libc::ENOENT { 127 } else { 126 })
        }
    }
}

/// The file that execvp(3) would run for `word`: as it is where it has a slash (relative to `cwd`),
/// else the first executable of that name on `path`.
pub fn resolve(word: &OsStr, path: &OsStr, cwd: &Path) -> Option<PathBuf> {
    let executable = |candidate: &Path| {
        std::fs::metadata(candidate).is_ok_and(|m| {
            m.is_file() && std::os::unix::fs::PermissionsExt::mode(&m.permissions()) & 0o111 != 0
        })
    };
    if word.as_bytes().contains(&b'/') {
        let candidate = cwd.join(word);
        return executable(&candidate).then_some(candidate);
    }
    std::env::split_paths(path)
        // An empty entry means the working directory.
        .map(|folder| cwd.join(folder).join(word))
        .find(|candidate| executable(candidate))
}
