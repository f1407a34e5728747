//! clone(2) and execve(2) for services. A child waits at a gate until its PID file and record are on
//! disk; end-of-file at the gate means that pidctl died, and the child ends without exec. So nothing
//! ever runs that nobody knows of.
//!
//! The child shares pidctl's memory until it execs (CLONE_VM), on a stack of its own, so a start costs
//! the same whatever pidctl's size; unlike vfork(2) nobody waits for it. What is shared demands that
//! the child neither allocates nor touches errno: it makes raw system calls on memory that is kept for
//! it until all of its batch have gone.

use super::proc::{self, Identity};
use super::startup::Inherited;
use super::users::Account;
use std::ffi::{CStr, CString, OsStr, OsString, c_int, c_void};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use syscalls::{Errno, Sysno, syscall};

/// A command, made ready in the parent.
#[derive(Debug)]
pub struct Prepared {
    program: CString,
    argv: Vec<CString>,
    /// Of this command alone, and shared by many.
    env: (Vec<CString>, Vec<&'static CStr>),
    cwd: CString,
    account: Option<Account>,
    /// SIGKILL when pidctl dies: for helpers (prepare, health), never for a service.
    dies_with_us: bool,
}

fn c_string(text: &OsStr, what: &str) -> io::Result<CString> {
    let nul = |_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{what} holds a NUL byte"),
        )
    };
    CString::new(text.as_bytes()).map_err(nul)
}

impl Prepared {
    pub fn new(
        program: &Path,
        argv: &[OsString],
        env: (Vec<CString>, Vec<&'static CStr>),
        cwd: &Path,
        account: Option<Account>,
        dies_with_us: bool,
    ) -> io::Result<Prepared> {
        let argv = argv.iter().map(|word| c_string(word, "the command"));
        Ok(Prepared {
            program: c_string(program.as_os_str(), "the program's path")?,
            argv: argv.collect::<io::Result<_>>()?,
            env,
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
    #[allow(clippy::vec_box)] // each stays where its process finds it
    children: Vec<Box<Child>>,
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
    /// pidctl could not let it through.
    Gate,
}

impl Stage {
    const ALL: [Stage; 6] = [
        Stage::Session,
        Stage::User,
        Stage::Cwd,
        Stage::Descriptors,
        Stage::Exec,
        Stage::Gate,
    ];

    pub fn doing(self) -> &'static str {
        match self {
            Stage::Session => "make its session",
            Stage::User => "become its user",
            Stage::Cwd => "change to its cwd",
            Stage::Descriptors => "set up its descriptors",
            Stage::Exec => "execute its command",
            Stage::Gate => "be let through to its command",
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
            children: Vec::new(),
        })
    }

    /// How many children wait; the number that the next one will have.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Makes a child that makes its session and then waits at the gate. Its start time is read while
    /// it waits, so what is returned identifies it.
    pub fn fork(
        &mut self,
        prepared: Prepared,
        stdin: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
        inherited: &Inherited,
    ) -> io::Result<Identity> {
        let mut child = Box::new(Child::new(prepared));
        child.number = self.children.len() as u32;
        child.stdin = stdin.as_raw_fd();
        child.output = output.as_raw_fd();
        child.gate = self.wait.as_raw_fd();
        child.go = self.go.as_raw_fd();
        child.report = self.reporter.as_raw_fd();
        child.nofile = inherited.nofile;
        let top = child.stack.as_mut_ptr_range().end;
        // The stack grows down from an address that the ABI wants aligned to 16.
        let top = top.map_addr(|address| address & !15);
        let argument: *mut Child = &mut *child;
        // SAFETY: `enter` runs on the child's own stack and reads only `*child`, which `self` keeps until
        // the batch has gone; see the head of this file for why sharing the rest is sound.
        let pid = unsafe {
            libc::clone(
                enter,
                top.cast(),
                libc::CLONE_VM | libc::SIGCHLD,
                argument.cast(),
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        self.children.push(child);
        // It is our child and waits at the gate: its number cannot be another's.
        let stat = proc::stat(pid).inspect_err(|_| self.turn_away(pid))?;
        Ok(stat.identity())
    }

    /// Ends a child that must not go on: its PID file cannot be written, say. It is reaped with the rest.
    pub fn turn_away(&self, pid: i32) {
        // SAFETY: our own child, not reaped yet, so the number is its.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }

    /// Lets every child of the batch go on to exec.
    pub fn open(mut self) -> io::Result<Reports> {
        let bytes = vec![b'!'; self.children.len()];
        let report = std::fs::File::from(self.report.try_clone()?);
        let mut go = std::fs::File::from(self.go.try_clone()?);
        nix::fcntl::fcntl(
            &report,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        // They run in this memory, so from here on `reports` keeps it, whatever fails.
        let reports = Reports {
            report,
            buffer: Vec::new(),
            children: std::mem::take(&mut self.children),
        };
        drop(self);
        go.write_all(&bytes)?;
        Ok(reports)
    }
}

impl Drop for Gate {
    /// Children that were never let through end at end-of-file. They run in our memory until then.
    fn drop(&mut self) {
        if !self.children.is_empty() {
            std::mem::forget(std::mem::take(&mut self.children));
        }
    }
}

/// The children's reports of a batch.
#[derive(Debug)]
pub struct Reports {
    report: std::fs::File,
    buffer: Vec<u8>,
    #[allow(clippy::vec_box)] // each stays where its process finds it
    children: Vec<Box<Child>>,
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
        // A child's descriptors are closed after it has left our memory: nobody uses it any more.
        self.children.clear();
        let word = |chunk: &[u8], at: usize| {
            u32::from_le_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]])
        };
        let failure = |chunk: &[u8]| ExecFailure {
            child: word(chunk, 0) as usize,
            stage: Stage::ALL
                .get(word(chunk, 4) as usize)
                .copied()
                .unwrap_or(Stage::Exec),
            error: io::Error::from_raw_os_error(word(chunk, 8) as i32),
        };
        Ok(Some(
            self.buffer.chunks_exact(REPORT).map(failure).collect(),
        ))
    }
}

impl Drop for Reports {
    /// Given up before the end: the children may still be in our memory.
    fn drop(&mut self) {
        if !matches!(self.read(), Ok(Some(_))) {
            std::mem::forget(std::mem::take(&mut self.children));
        }
    }
}

/// Enough for `Child::run` in a debug build several times over; no handler of ours ever runs on it.
const STACK: usize = if cfg!(debug_assertions) {
    16 << 10
} else {
    4 << 10
};

/// Everything a child needs, laid out before it is made. Its pointers lead into itself and into what
/// lives as long as the program.
#[derive(Debug)]
struct Child {
    #[allow(dead_code)] // owns what the pointers lead to
    prepared: Prepared,
    program: *const libc::c_char,
    cwd: *const libc::c_char,
    argv: Vec<*const libc::c_char>,
    /// A script without `#!` is run by /bin/sh, as execvp(3) does.
    script_argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    groups: Vec<libc::gid_t>,
    ids: Option<(libc::uid_t, libc::gid_t)>,
    dies_with_us: bool,
    number: u32,
    stdin: c_int,
    output: c_int,
    gate: c_int,
    go: c_int,
    report: c_int,
    nofile: Option<(libc::rlim_t, libc::rlim_t)>,
    parent: i32,
    stack: Box<[u8]>,
}

impl Child {
    fn new(prepared: Prepared) -> Child {
        let end = [ptr::null()];
        let argv = prepared.argv.iter().map(|word| word.as_ptr());
        let script = [c"/bin/sh".as_ptr(), prepared.program.as_ptr()];
        let own = prepared.env.0.iter().map(|entry| entry.as_ptr());
        let shared = prepared.env.1.iter().map(|entry| entry.as_ptr());
        let account = prepared.account.as_ref();
        Child {
            program: prepared.program.as_ptr(),
            cwd: prepared.cwd.as_ptr(),
            argv: argv.clone().chain(end).collect(),
            script_argv: script.into_iter().chain(argv.skip(1)).chain(end).collect(),
            envp: own.chain(shared).chain(end).collect(),
            groups: account
                .map(|account| account.groups.clone())
                .unwrap_or_default(),
            ids: account.map(|account| (account.uid, account.gid)),
            dies_with_us: prepared.dies_with_us,
            number: 0,
            stdin: -1,
            output: -1,
            gate: -1,
            go: -1,
            report: -1,
            nofile: None,
            parent: std::process::id() as i32,
            stack: uninitialized_stack(),
            prepared,
        }
    }

    /// Runs in the child, in the parent's memory: raw system calls only, nothing allocated, no errno.
    ///
    /// # Safety
    /// On a stack of its own, with `self` kept until the child has gone.
    unsafe fn run(&self) -> Errno {
        // SAFETY: every pointer passed leads into `self` or to this frame, with the sizes that the system
        // calls demand.
        unsafe {
            // Our copy of the write end would keep the gate from ever reading end-of-file.
            let _ = syscall!(Sysno::close, self.go);
            if let Err(errno) = syscall!(Sysno::setsid) {
                return self.fail(Stage::Session, errno);
            }
            let mut byte = 0u8;
            loop {
                match syscall!(Sysno::read, self.gate, &raw mut byte, 1) {
                    Ok(1) => break,
                    Err(Errno::EINTR) => {}
                    // What never ran has not succeeded.
                    _ => return Errno::EPIPE,
                }
            }
            if self.dies_with_us && !self.tie_to_parent() {
                return Errno::new(0);
            }
            if let Some((soft, hard)) = self.nofile {
                let limit = [soft, hard];
                let none = ptr::null::<u8>();
                let _ = syscall!(
                    Sysno::prlimit64,
                    0,
                    libc::RLIMIT_NOFILE,
                    limit.as_ptr(),
                    none
                );
            }
            // All else is at its default since `startup`; these two pidctl itself ignores. A zeroed
            // sigaction is the default; the kernel's structure is smaller than this on every machine.
            let default = [0u64; 8];
            for signal in [libc::SIGPIPE, libc::SIGHUP] {
                let _ = syscall!(
                    Sysno::rt_sigaction,
                    signal,
                    default.as_ptr(),
                    ptr::null::<u8>(),
                    8
                );
            }
            for (from, to) in [(self.stdin, 0), (self.output, 1), (self.output, 2)] {
                if let Err(errno) = syscall!(Sysno::dup3, from, to, 0) {
                    return self.fail(Stage::Descriptors, errno);
                }
            }
            if let Some((uid, gid)) = self.ids {
                let changed = syscall!(Sysno::setgroups, self.groups.len(), self.groups.as_ptr())
                    .and_then(|_| syscall!(Sysno::setresgid, gid, gid, gid))
                    .and_then(|_| syscall!(Sysno::setresuid, uid, uid, uid));
                if let Err(errno) = changed {
                    return self.fail(Stage::User, errno);
                }
                // Cleared by the change of user.
                if self.dies_with_us && !self.tie_to_parent() {
                    return Errno::new(0);
                }
            }
            if let Err(errno) = syscall!(Sysno::chdir, self.cwd) {
                return self.fail(Stage::Cwd, errno);
            }
            let nothing = 0u64;
            let null = ptr::null::<u8>();
            let _ = syscall!(
                Sysno::rt_sigprocmask,
                libc::SIG_SETMASK,
                &raw const nothing,
                null,
                8
            );
            let envp = self.envp.as_ptr();
            let mut result = syscall!(Sysno::execve, self.program, self.argv.as_ptr(), envp);
            if result == Err(Errno::ENOEXEC) {
                result = syscall!(
                    Sysno::execve,
                    c"/bin/sh".as_ptr(),
                    self.script_argv.as_ptr(),
                    envp
                );
            }
            self.fail(Stage::Exec, result.err().unwrap_or(Errno::EINVAL))
        }
    }

    /// SIGKILL at the parent's death; false where it has died already.
    unsafe fn tie_to_parent(&self) -> bool {
        // SAFETY: integers only.
        unsafe {
            let _ = syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            syscall!(Sysno::getppid) == Ok(self.parent as usize)
        }
    }

    unsafe fn fail(&self, stage: Stage, errno: Errno) -> Errno {
        let mut message = [0u8; REPORT];
        let words = [self.number, stage as u32, errno.into_raw() as u32];
        for (place, word) in message.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        // SAFETY: writes this frame's buffer to an open pipe.
        let _ = unsafe { syscall!(Sysno::write, self.report, message.as_ptr(), REPORT) };
        errno
    }
}

/// Untouched pages cost nothing, so it is not filled.
fn uninitialized_stack() -> Box<[u8]> {
    vec![0; STACK].into_boxed_slice()
}

/// The child's first and last function. Ends as a shell would: 127 not found, 126 not executable.
extern "C" fn enter(argument: *mut c_void) -> c_int {
    // SAFETY: `Gate::fork` passes a pointer to a `Child` that outlives the child.
    let errno = unsafe {
        let child = &*argument.cast::<Child>();
        child.run()
    };
    let status = match errno.into_raw() {
        0 => 0,
        libc::ENOENT => 127,
        _ => 126,
    };
    loop {
        // SAFETY: ends this process without running anything of the parent's.
        let _ = unsafe { syscall!(Sysno::exit_group, status) };
    }
}

/// The file that execvp(3) would run for `word`: as it is where it has a slash (relative to `cwd`),
/// else the first executable of that name on `path`.
pub fn resolve(word: &OsStr, path: &OsStr, cwd: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |candidate: &Path| {
        std::fs::metadata(candidate)
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
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
