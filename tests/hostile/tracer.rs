//! A ptrace(2) tracer of pidctl alone: counts its system calls, and at one of them kills it or makes
//! the call fail. Children are not followed, so the services run as they always do.

// ptrace(2) cannot be had without it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Process, spawn};

/// What happens at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blow {
    /// SIGKILL before the kernel does anything of it.
    Kill,
    /// The first call of the sweep's own choosing fails; `lasting`: so do all later ones like it.
    Fail {
        lasting: bool,
    },
    /// Every call fails that `errno_of` has an errno for, from the first on.
    FailAll,
    None,
}

/// A system call that is about to be made.
pub struct Call {
    pub number: i64,
    pub args: [u64; 6],
    pid: i32,
}

impl Call {
    /// What an argument points to: the path of an openat(2), the bytes of a write(2).
    pub fn memory(&self, arg: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let memory = File::open(format!("/proc/{}/mem", self.pid));
        let read = memory.and_then(|memory| memory.read_at(&mut bytes, self.args[arg]));
        bytes.truncate(read.unwrap_or(0));
        bytes
    }

    /// The path that openat(2) is asked for.
    pub fn opens(&self) -> Option<String> {
        let bytes = (self.number == libc::SYS_openat).then(|| self.memory(1, 256))?;
        let path = bytes.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(path).into_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

#[derive(Debug)]
pub struct Traced {
    pub end: End,
    /// System calls begun.
    pub calls: usize,
    /// Number of the call that was hit, and the errno that it failed with.
    pub hit: Option<(i64, i32)>,
    /// It ran into the time limit and was ended.
    pub hung: bool,
}

const ENTRY: u8 = 1;
/// After this a call is a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs it; at system call number `at` (from 1) `blow` falls. `errno_of` says how a call fails, if it
/// is one that can.
pub fn trace(
    mut command: Command,
    output: &File,
    at: usize,
    blow: Blow,
    errno_of: &dyn Fn(&Call) -> Option<i32>,
) -> io::Result<Traced> {
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?);
    // SAFETY: one system call, nothing is allocated.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
    let child = spawn(&mut command)?;
    let pid = child.id() as i32;
    let process = Process::of(pid);
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let hung = watch.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        if hung && let Some(process) = process {
            process.kill();
        }
        hung
    });
    let mut traced = follow(pid, at, blow, errno_of);
    drop(done);
    traced.hung = watchdog.join().unwrap_or(false);
    Ok(traced)
}

fn follow(pid: i32, at: usize, blow: Blow, errno_of: &dyn Fn(&Call) -> Option<i32>) -> Traced {
    let mut calls = 0;
    let mut hit: Option<(i64, i32)> = None;
    let mut failing = None;
    let mut first = true;
    let end = loop {
        let mut status = 0;
        // SAFETY: waits for our own child; the status is ours.
        if unsafe { libc::waitpid(pid, &mut status, libc::__WALL) } < 0 {
            panic!("waitpid: {}", io::Error::last_os_error());
        }
        if libc::WIFEXITED(status) {
            break End::Code(libc::WEXITSTATUS(status));
        }
        if libc::WIFSIGNALED(status) {
            break End::Signal(libc::WTERMSIG(status));
        }
        let mut deliver = libc::WSTOPSIG(status);
        if first {
            first = false;
            deliver = 0;
            let options =
                libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC;
            // SAFETY: the child is stopped at its exec.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
        } else if status >> 16 == libc::PTRACE_EVENT_EXEC {
            deliver = 0;
        } else if deliver == (libc::SIGTRAP | 0x80) {
            deliver = 0;
            match call_of(pid) {
                Some((ENTRY, call)) => {
                    calls += 1;
                    let number = call.number;
                    let struck = (calls == at && blow != Blow::None) || blow == Blow::FailAll;
                    let again = hit.is_some_and(|(like, _)| like == number)
                        && blow == (Blow::Fail { lasting: true });
                    if struck && blow == Blow::Kill {
                        hit = Some((number, 0));
                        // SAFETY: our own child, stopped and not waited for.
                        unsafe { libc::kill(pid, libc::SIGKILL) };
                        continue;
                    }
                    if (struck || again)
                        && let Some(errno) = errno_of(&call)
                    {
                        hit = Some((number, errno));
                        skip_call(pid);
                        failing = Some(errno);
                    }
                }
                Some(_) => {
                    if let Some(errno) = failing.take() {
                        set_result(pid, -i64::from(errno));
                    }
                }
                None => {}
            }
        }
        // SAFETY: the child is stopped; a child that was killed meanwhile answers ESRCH.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, deliver) };
    };
    Traced {
        end,
        calls,
        hit,
        hung: false,
    }
}

/// Whether it is at the entry of a call, and of which.
fn call_of(pid: i32) -> Option<(u8, Call)> {
    // SAFETY: plain integers, for which zero is valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = std::mem::size_of_val(&info);
    // SAFETY: the kernel writes at most `size` bytes into `info`.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) };
    let (number, args) = match info.op {
        // SAFETY: at an entry the kernel has filled in that member of the union.
        ENTRY => unsafe { (info.u.entry.nr as i64, info.u.entry.args) },
        _ => (0, [0; 6]),
    };
    (got > 0).then_some((info.op, Call { number, args, pid }))
}

#[cfg(target_arch = "x86_64")]
fn poke(pid: i32, register: usize, value: i64) {
    // SAFETY: writes a register of the stopped child.
    unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid, register * 8, value) };
}

/// The kernel answers ENOSYS to call -1 and does nothing.
#[cfg(target_arch = "x86_64")]
fn skip_call(pid: i32) {
    poke(pid, libc::ORIG_RAX as usize, -1);
}

#[cfg(target_arch = "x86_64")]
fn set_result(pid: i32, value: i64) {
    poke(pid, libc::RAX as usize, value);
}

#[cfg(not(target_arch = "x86_64"))]
fn skip_call(_pid: i32) {}

#[cfg(not(target_arch = "x86_64"))]
fn set_result(_pid: i32, _value: i64) {}
