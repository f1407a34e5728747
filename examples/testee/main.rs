//! A service for the tests: one program that can be told to be every kind of process that is hard
//! to stop, to find or to recognise. It says that it is ready only when it is what it was told.

// Forking, signal handlers and overwriting one's own arguments cannot be had without it.
#![allow(unsafe_code)]
// Rust's own start-up changes SIGPIPE and the signal stack; what a service inherits is to be seen.
#![no_main]

mod life;
mod process;
mod words;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use life::Sockets;
use words::{Descriptors, Nature};

type Environment = Vec<(std::ffi::OsString, std::ffi::OsString)>;

// SAFETY: the C entry point; there is no other `main`.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: libc::c_int, _argv: *const *const libc::c_char) -> libc::c_int {
    let words = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned());
    let mut nature = match Nature::parse(words) {
        Ok(nature) => nature,
        Err(why) => {
            eprintln!("{why}");
            return 2;
        }
    };
    if let Some(prefix) = &nature.dump {
        process::dump(prefix).expect("dump");
    }
    let environment: Environment = std::env::vars_os().collect();
    inherit(&mut nature);
    let alive = open_alive(&nature);
    if nature.wipe_env {
        exec_again(nature);
    }
    for text in &nature.say {
        println!("{text}");
    }
    for text in &nature.complain {
        eprintln!("{text}");
    }
    write_bytes(nature.log_bytes);
    note(&nature, "start");
    let claim = nature.only.clone().map(|file| claim(&file));
    // Held as long as the family lives: it is the proof that there is no second one.
    std::mem::forget(claim);
    if nature.daemonize {
        daemonize(&mut nature);
    }
    become_it(nature, alive, environment)
}

/// What the words do not say, the environment does: the test that this is part of, and the port.
fn inherit(nature: &mut Nature) {
    let text = |name| std::env::var(name).ok();
    nature.home = nature
        .home
        .take()
        .or(text("PIDCTL_TEST").map(PathBuf::from));
    nature.service = nature.service.take().or(text("PIDCTL_SERVICE"));
    nature.port = nature
        .port
        .or(text("PORT").and_then(|port| port.parse().ok()));
    let home = nature.home.clone();
    nature.fifo = nature.fifo.take().or(home.map(|home| home.join("alive")));
}

/// The FIFO that the test reads: its end of file says that all who hold it are dead. It survives
/// fork and exec, a session of one's own, and a wiped environment.
fn open_alive(nature: &Nature) -> Option<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(nature.fifo.as_ref()?)
        .ok()?;
    // Not close-on-exec, and above the standard descriptors whatever was open.
    let fd = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(10)).expect("F_DUPFD");
    // SAFETY: the descriptor was made in the line above and has no other owner.
    Some(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
}

fn exec_again(mut nature: Nature) -> ! {
    let mut words = std::mem::take(&mut nature.words);
    words.retain(|word| word != "wipe-env" && !word.starts_with("dump="));
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push(format!("{name}={value}"));
        }
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    add("home", path(&nature.home));
    add("fifo", path(&nature.fifo));
    add("service", nature.service);
    add("port", nature.port.map(|port| port.to_string()));
    for fd in &nature.tell {
        add("tell", Some(fd.to_string()));
    }
    process::exec_without_environment(&words)
}

/// A line of the journal, if it keeps one.
fn note(nature: &Nature, what: &str) {
    if let Some(file) = &nature.journal {
        let service = nature.service.as_deref().unwrap_or("-");
        append(file, &format!("{service} {what}\n"));
    }
}

fn append(file: &Path, line: &str) {
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .unwrap_or_else(|error| panic!("testee: {}: {error}", file.display()));
    file.write_all(line.as_bytes()).expect("append");
}

/// At most one family may hold the lock; a second writes down that it was there.
fn claim(file: &Path) -> fs::File {
    let mut lock = file.as_os_str().to_owned();
    lock.push(".lock");
    let held = fs::File::create(lock).expect("lock file");
    // SAFETY: flock(2) on a descriptor that is open.
    let alone = unsafe { libc::flock(held.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    let what = if alone { "instance" } else { "violation" };
    append(file, &format!("{what} {}\n", std::process::id()));
    held
}

fn write_bytes(count: usize) {
    let line = [&[b'x'; 79][..], b"\n"].concat();
    let mut out = std::io::stdout().lock();
    let mut left = count;
    while left > 0 {
        let now = left.min(line.len());
        out.write_all(&line[line.len() - now..]).expect("log");
        left -= now;
    }
    out.flush().expect("log");
}

/// The parent exits 0 when the daemon is ready (or at once); only the daemon returns.
fn daemonize(nature: &mut Nature) {
    let (read, write) = process::ready_pipe();
    if process::fork().is_some() {
        process::end_pipe(write, false);
        let ready = nature.early || process::await_ready(&read);
        process::leave(if ready { 0 } else { 1 });
    }
    nature.setsid = true;
    nature.tell.push(write);
}

/// Becomes what the words say, says that it is ready, and lives.
fn become_it(mut nature: Nature, alive: Option<fs::File>, environment: Environment) -> ! {
    process::reset_signals();
    if nature.double_fork && process::fork().is_some() {
        process::leave(0);
    }
    if nature.setsid {
        nix::unistd::setsid().expect("setsid");
    }
    if nature.setpgid {
        let own = nix::unistd::Pid::from_raw(0);
        nix::unistd::setpgid(own, own).expect("setpgid");
    }
    if nature.descriptors == Descriptors::Null {
        process::treat_descriptors(Descriptors::Null);
    }
    process::install_signals(&nature);
    if let Some(home) = &nature.home {
        let service = nature.service.as_deref().unwrap_or("-");
        let words = nature
            .words
            .iter()
            .map(|word| word.replace(char::is_whitespace, "_"));
        append(
            &home.join("members"),
            &format!(
                "{} {service} {}\n",
                std::process::id(),
                words.collect::<Vec<_>>().join(" ")
            ),
        );
    }
    for child in std::mem::take(&mut nature.children) {
        bear(child, &nature, &alive, &environment);
    }
    for _ in 0..nature.zombies {
        if process::fork().is_none() {
            process::leave(0);
        }
    }
    let mut sockets = Sockets::default();
    if nature.listen_when.is_none() {
        sockets.open(&nature);
    }
    if let Some(port) = nature.client {
        sockets.connect(port);
    }
    let mut depth = nature.depth;
    while depth > 0 {
        depth -= 1;
        if !grow(&mut nature, depth) {
            break;
        }
    }
    if let Some(name) = &nature.comm {
        process::set_comm(name);
    }
    if let Some(title) = &nature.title {
        process::set_title(title);
    }
    if nature.descriptors == Descriptors::Close {
        process::treat_descriptors(Descriptors::Close);
    }
    say_ready(&mut nature);
    if let Some(signal) = nature.die {
        nix::sys::signal::raise(signal).expect("raise");
    }
    if nature.exit && nature.exit_after.is_none() && nature.exit_when.is_none() {
        process::leave(nature.code);
    }
    if nature.leader_thread_exits {
        std::thread::spawn(move || life::live(nature, sockets, alive, environment));
        process::end_this_thread();
    }
    life::live(nature, sockets, alive, environment)
}

/// Forks a child that is what its own words say, and waits until it is.
fn bear(mut child: Nature, parent: &Nature, alive: &Option<fs::File>, environment: &Environment) {
    let (read, write) = process::ready_pipe();
    if let Some(pid) = process::fork() {
        process::end_pipe(write, false);
        let exits = child.double_fork;
        assert!(
            process::await_ready(&read),
            "testee: a child did not become ready"
        );
        if exits {
            process::reap(pid);
        }
        return;
    }
    child.home = parent.home.clone();
    child.fifo = parent.fifo.clone();
    child.service = parent.service.clone();
    child.port = child.port.or(parent.port);
    child.tell.push(write);
    if child.wipe_env {
        exec_again(child);
    }
    let alive = alive.as_ref().map(|file| file.try_clone().expect("dup"));
    become_it(child, alive, environment.clone())
}

/// Forks the children of one level of the tree; a child goes on to the next level, the parent not.
/// They hold the sockets of the root, as the workers of a server do.
fn grow(nature: &mut Nature, depth: u32) -> bool {
    for _ in 0..nature.width {
        let (read, write) = process::ready_pipe();
        if process::fork().is_some() {
            process::end_pipe(write, false);
            assert!(
                process::await_ready(&read),
                "testee: a tree did not become ready"
            );
            continue;
        }
        nature.ready = None;
        nature.tell = vec![write];
        nature.exit = false;
        if let Some(home) = &nature.home {
            let service = nature.service.as_deref().unwrap_or("-");
            let line = format!("{} {service} tree{depth}\n", std::process::id());
            append(&home.join("members"), &line);
        }
        return true;
    }
    false
}

fn say_ready(nature: &mut Nature) {
    let line = format!("ready {}\n", std::process::id());
    if nature.descriptors != Descriptors::Close {
        // Output may be a pipe that nobody reads any more.
        let _ = std::io::stdout().write_all(line.as_bytes());
        let _ = std::io::stdout().flush();
    }
    if let Some(file) = &nature.ready {
        // Aside and renamed, so that who sees the file can read it.
        let mut aside = file.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        fs::write(&aside, &line).expect("ready file");
        fs::rename(&aside, file).expect("ready file");
    }
    for fd in nature.tell.drain(..) {
        process::end_pipe(fd, true);
    }
}
