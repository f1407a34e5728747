//! What a testee does to itself: forking, sessions, signals, descriptors, its name and its memory.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{ForkResult, Pid};

use crate::words::{Descriptors, Nature};

/// The signals caught and not yet acted on, one bit each.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

extern "C" fn note(signal: libc::c_int) {
    CAUGHT.fetch_or(1 << signal, Ordering::SeqCst);
}

/// The caught signals since the last call.
pub fn take_caught() -> Vec<Signal> {
    let bits = CAUGHT.swap(0, Ordering::SeqCst);
    Signal::iterator()
        .filter(|signal| bits & (1 << *signal as i32) != 0)
        .collect()
}

/// `None` in the child.
pub fn fork() -> Option<Pid> {
    // SAFETY: this program forks only while it has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() }.expect("fork") {
        ForkResult::Parent { child } => Some(child),
        ForkResult::Child => None,
    }
}

/// Leaves without running anything that belongs to the process it was forked from.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(code) }
}

/// A pipe whose write end survives exec: who is ready writes a byte to it.
pub fn ready_pipe() -> (OwnedFd, i32) {
    let (read, write) = nix::unistd::pipe().expect("pipe");
    nix::fcntl::fcntl(
        &read,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .expect("close-on-exec");
    (read, write.into_raw_fd())
}

/// Whether the byte came before the end of the file.
pub fn await_ready(read: &OwnedFd) -> bool {
    loop {
        match nix::unistd::read(read, &mut [0]) {
            Ok(count) => return count == 1,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("testee: readiness pipe: {error}"),
        }
    }
}

/// Writes the byte, if asked to, and closes.
pub fn end_pipe(write: i32, ready: bool) {
    // SAFETY: `write` is the write end of a readiness pipe, which nothing else in this process owns.
    let mut pipe = unsafe { fs::File::from_raw_fd(write) };
    if ready {
        // A parent that died meanwhile is no business of the child.
        let _ = pipe.write(b"+");
    }
}

pub fn reap(child: Pid) {
    // A child of nobody's interest; an error means it is gone already.
    let _ = nix::sys::wait::waitpid(child, None);
}

/// Default dispositions and an empty mask, whatever the parent had.
pub fn reset_signals() {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            set_disposition(signal, SigHandler::SigDfl);
        }
    }
    SigSet::empty().thread_set_mask().expect("signal mask");
    CAUGHT.store(0, Ordering::SeqCst);
}

/// Caught signals are blocked but in ppoll(2), so that none is lost between look and wait.
pub fn install_signals(nature: &Nature) {
    set_disposition(Signal::SIGPIPE, SigHandler::SigIgn);
    let mut blocked = SigSet::empty();
    for signal in &nature.ignore {
        set_disposition(*signal, SigHandler::SigIgn);
    }
    for signal in nature.catch.iter().chain(&nature.exit_on) {
        set_disposition(*signal, SigHandler::Handler(note));
        blocked.add(*signal);
    }
    for signal in &nature.sigwait {
        blocked.add(*signal);
    }
    blocked.thread_set_mask().expect("signal mask");
}

fn set_disposition(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the only handler is `note`, which does one atomic store.
    unsafe { nix::sys::signal::sigaction(signal, &action) }.expect("sigaction");
}

pub fn treat_descriptors(what: Descriptors) {
    for fd in 0..3 {
        match what {
            Descriptors::Keep => {}
            Descriptors::Null => {
                let null = fs::OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open("/dev/null")
                    .expect("/dev/null");
                let null = null.into_raw_fd();
                // SAFETY: standard descriptors are numbers here, nothing owns them; `null` is open.
                unsafe {
                    libc::dup2(null, fd);
                    libc::close(null);
                }
            }
            // SAFETY: nothing in this process owns a standard descriptor; output to it may fail.
            Descriptors::Close => unsafe {
                libc::close(fd);
            },
        }
    }
}

pub fn set_comm(name: &str) {
    let name = CString::new(name).expect("comm without NUL");
    nix::sys::prctl::set_name(&name).expect("PR_SET_NAME");
}

/// Overwrites the memory of the arguments and the environment, as redis and nginx do:
/// /proc/PID/cmdline shows the title, /proc/PID/environ nothing of what it was.
pub fn set_title(title: &str) {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
    let fields: Vec<&str> = stat[stat.rfind(')').expect("comm") + 2..]
        .split(' ')
        .collect();
    // Fields 48 to 51 of proc_pid_stat(5): arg_start, arg_end, env_start, env_end.
    let at = |field: usize| -> usize { fields[field - 3].parse().expect("an address") };
    for (start, end) in [(at(48), at(49)), (at(50), at(51))] {
        let text = title.bytes().chain(std::iter::repeat(0));
        for (address, byte) in (start..end).zip(text) {
            // SAFETY: the kernel says this is our argument and environment memory: writable, and
            // read by nothing here any more (what was needed of it has been copied).
            unsafe { (address as *mut u8).write_volatile(byte) };
        }
    }
}

/// Executes this program anew with these words and no environment.
pub fn exec_without_environment(words: &[String]) -> ! {
    let program = fs::read_link("/proc/self/exe").expect("/proc/self/exe");
    let error = std::process::Command::new(program)
        .args(words)
        .env_clear()
        .exec();
    panic!("testee: exec: {error}");
}

/// Ends the thread that the process began with, while others live on.
pub fn end_this_thread() -> ! {
    // SAFETY: exit(2), not exit_group: ends the calling thread alone, which holds nothing.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("exit(2) does not return");
}

/// What the process was given, before it has opened anything itself.
pub fn dump(prefix: &std::path::Path) -> io::Result<()> {
    let mut descriptors = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        if let Ok(target) = fs::read_link(entry.path()) {
            descriptors.push((entry.file_name(), target));
        }
    }
    // The folder that was being read is no gift.
    let own = format!("/proc/{}/fd", std::process::id());
    let mut lines: Vec<String> = descriptors
        .iter()
        .filter(|(_, target)| target.as_os_str() != own.as_str())
        .map(|(fd, target)| format!("{} {}\n", fd.to_string_lossy(), target.display()))
        .collect();
    lines.sort();
    let write = |what: &str, content: Vec<u8>| {
        let mut path = prefix.as_os_str().to_owned();
        path.push(what);
        fs::write(path, content)
    };
    write(".fds", lines.concat().into_bytes())?;
    for what in ["status", "environ", "limits", "cgroup", "cmdline"] {
        write(&format!(".{what}"), fs::read(format!("/proc/self/{what}"))?)?;
    }
    let cwd = std::env::current_dir()?;
    write(".cwd", cwd.into_os_string().into_encoded_bytes())
}
