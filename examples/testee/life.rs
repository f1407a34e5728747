//! How a testee lives once it is ready: it serves, answers signals, and dies as it was told.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt,
    socket, sockopt,
};

use crate::note;
use crate::process::{fork, leave, take_caught};
use crate::words::{Nature, Socket};

/// How often a file that is waited for is looked for.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
pub struct Sockets {
    listeners: Vec<TcpListener>,
    /// Held, not read.
    bound: Vec<UdpSocket>,
    /// Clients' ends, and connections that get no answer.
    streams: Vec<TcpStream>,
}

impl Sockets {
    pub fn open(&mut self, nature: &Nature) {
        for kind in &nature.sockets {
            let port = nature.port.expect("testee: no port to listen on");
            let fd = open_socket(*kind, port, nature.reuseport)
                .unwrap_or_else(|error| fail(&format!("port {port}: {error}")));
            match kind {
                Socket::Udp => self.bound.push(fd.into()),
                _ => {
                    let listener = TcpListener::from(fd);
                    listener.set_nonblocking(true).expect("O_NONBLOCK");
                    self.listeners.push(listener);
                }
            }
        }
    }

    pub fn connect(&mut self, port: u16) {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => self.streams.push(stream),
            Err(error) => fail(&format!("connect to port {port}: {error}")),
        }
    }

    fn serve(&mut self, nature: &Nature) {
        for listener in &self.listeners {
            while let Ok((mut stream, _)) = listener.accept() {
                if nature.silent {
                    self.streams.push(stream);
                } else {
                    // What a client makes of the answer is the client's business.
                    let _ = answer(&mut stream, nature);
                }
            }
        }
    }
}

/// As a server does when it cannot bind: a word on standard error, and status 1.
fn fail(why: &str) -> ! {
    eprintln!("testee: {why}");
    std::process::exit(1);
}

fn open_socket(kind: Socket, port: u16, reuseport: bool) -> nix::Result<OwnedFd> {
    let address: SocketAddr = match kind {
        Socket::Tcp4 | Socket::Udp => ([127, 0, 0, 1], port).into(),
        Socket::TcpAny => (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
        Socket::Tcp6 => (std::net::Ipv6Addr::LOCALHOST, port).into(),
    };
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let type_ = if kind == Socket::Udp {
        SockType::Datagram
    } else {
        SockType::Stream
    };
    let fd = socket(family, type_, SockFlag::SOCK_CLOEXEC, None)?;
    if kind != Socket::Udp {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if reuseport {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &(kind == Socket::Tcp6))?;
    }
    match address {
        SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?,
    }
    if kind != Socket::Udp {
        listen(&fd, Backlog::new(64)?)?;
    }
    Ok(fd)
}

fn answer(stream: &mut TcpStream, nature: &Nature) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = Vec::new();
    let mut part = [0; 2048];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&part[..count]),
        }
    }
    let path = String::from_utf8_lossy(&request)
        .split(' ')
        .nth(1)
        .unwrap_or("")
        .to_owned();
    let failing = nature
        .failing_until
        .as_ref()
        .is_some_and(|file| !file.exists());
    let status = match path.as_str() {
        _ if failing => "500 Internal Server Error",
        "/missing" => "404 Not Found",
        "/moved" => "302 Found\r\nLocation: /elsewhere",
        _ => "200 OK",
    };
    let body = format!("{}\n", std::process::id());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Never returns; the process ends by itself once nobody holds the reading end of `alive`
/// (the test is over, or was killed).
pub fn live(
    mut nature: Nature,
    mut sockets: Sockets,
    alive: Option<fs::File>,
    environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
) -> ! {
    let since = Instant::now();
    let mut leave_at: Option<Instant> = nature.exit_after.map(|after| since + after);
    let mut lingering = false;
    let waited: SigSet = nature.sigwait.iter().copied().collect();
    let signals = SignalFd::with_flags(&waited, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .expect("signalfd");
    if nature.stop {
        raise(Signal::SIGSTOP).expect("raise");
    }
    loop {
        for signal in take_caught() {
            println!("got {signal}");
            note(&nature, &format!("got {signal}"));
            if nature.exit_on.contains(&signal) {
                if nature.succeed > 0 {
                    succeed(&mut nature.succeed);
                } else if nature.linger.is_some() {
                    lingering = true;
                } else {
                    leave_at = leave_at.or(Some(Instant::now() + nature.slow));
                }
            }
        }
        if let Ok(Some(info)) = signals.read_signal() {
            println!("got signal {}", info.ssi_signo);
            leave(0);
        }
        if nature.hop > 0 {
            succeed(&mut nature.hop);
            if nature.hop_leaves && fork().is_none() {
                nature.hop = 0;
            }
            if nature.hop_session {
                nix::unistd::setsid().expect("setsid");
            }
        }
        if take(&mut nature.listen_when, Path::exists) {
            sockets.open(&nature);
        }
        if take(&mut nature.daemonize_when, Path::exists) {
            if fork().is_some() {
                leave(0);
            }
            nix::unistd::setsid().expect("setsid");
        }
        if take(&mut nature.run_when, |file| fs::remove_file(file).is_ok()) {
            run(nature.run.as_deref().unwrap_or("true"), &environment);
        }
        let told = |file: &Option<_>| file.as_deref().is_some_and(Path::exists);
        if leave_at.is_some_and(|at| at <= Instant::now())
            || told(&nature.exit_when)
            || (lingering && told(&nature.linger))
        {
            note(&nature, "exit");
            leave(nature.code);
        }
        sockets.serve(&nature);

        let looking = nature.listen_when.is_some()
            || nature.daemonize_when.is_some()
            || nature.run_when.is_some()
            || nature.exit_when.is_some()
            || lingering;
        let wait = if nature.hop > 0 && nature.rush {
            Some(Duration::ZERO)
        } else if nature.hop > 0 {
            Some(Duration::from_millis(1))
        } else if looking {
            Some(LOOK)
        } else {
            leave_at.map(|at| at.saturating_duration_since(Instant::now()))
        };
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let readers = watched.len();
        watched.extend(
            alive
                .iter()
                .map(|file| PollFd::new(file.as_fd(), PollFlags::empty())),
        );
        for listener in &sockets.listeners {
            watched.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        let mut during = SigSet::empty();
        during.extend(&waited);
        match nix::poll::ppoll(&mut watched, wait.map(Into::into), Some(during)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("testee: ppoll: {error}"),
        }
        if alive.is_some() && watched[readers].any() == Some(true) {
            leave(99);
        }
    }
}

/// Forks one that goes on as this process did, one generation fewer to come; this one exits.
fn succeed(generations: &mut u32) {
    *generations -= 1;
    if fork().is_some() {
        leave(0);
    }
}

/// Whether the file is there; asked for no more once it was.
fn take(file: &mut Option<std::path::PathBuf>, is_there: fn(&Path) -> bool) -> bool {
    let there = file.as_deref().is_some_and(is_there);
    if there {
        *file = None;
    }
    there
}

/// Its output is the testee's own; the testee waits for it, as a program that restarts itself does.
fn run(command: &str, environment: &[(std::ffi::OsString, std::ffi::OsString)]) {
    let status = Command::new("/bin/sh")
        .args(["-c", command])
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .status();
    println!("ran: {status:?}");
}
