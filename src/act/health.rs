//! One probe for `start`'s wait, `status` and `status --watch`.

use super::helper::Helper;
use crate::config::{Health, HttpCheck};
use crate::family::holders;
use crate::reactor;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket,
};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// What a probe needs to know of the instance.
pub struct Patient<'a> {
    pub health: &'a Health,
    pub port: Option<u16>,
    /// The living family.
    pub family: &'a [i32],
    /// Runs what needs a process of its own.
    pub helper: &'a Helper,
}

/// `Ok`: healthy. `Err` says in a few words why not. Ends within the check's time-out.
pub async fn probe(patient: &Patient<'_>) -> Result<(), String> {
    match patient.health {
        Health::None => Ok(()),
        Health::Tcp => listens(patient),
        Health::Http(check) => {
            if patient.port == Some(check.port) && is_local(&check.host) {
                listens(patient)?;
                nobody_else_listens(patient)?;
            }
            match reactor::by(
                Instant::now() + check.timeout,
                Box::pin(get_any(check, patient.helper)),
            )
            .await
            {
                Some(result) => result,
                None => Err(format!(
                    "no answer from {} in {}",
                    url(check),
                    seconds(check.timeout)
                )),
            }
        }
        Health::Command {
            command, timeout, ..
        } => Box::pin(patient.helper.check(command, *timeout)).await,
    }
}

fn listens(patient: &Patient<'_>) -> Result<(), String> {
    let Some(port) = patient.port else {
        return Err("it has no port".to_string());
    };
    let failed = |error: io::Error| format!("port {port} cannot be looked at: {error}");
    let listeners = holders::listeners_on(port).map_err(failed)?;
    if listeners.is_empty() {
        return Err(format!("nobody listens on port {port} yet"));
    }
    match holders::among(&listeners, patient.family)
        .map_err(failed)?
        .is_empty()
    {
        false => Ok(()),
        // The sockets of another user's process cannot be read without CAP_SYS_PTRACE; then the
        // listener's uid decides.
        true if unreadable_but_theirs(&listeners, patient.family) => Ok(()),
        true => Err(format!("port {port} is held by another process")),
    }
}

/// An answer on the service's own port must be the family's, so each socket that could give it is.
fn nobody_else_listens(patient: &Patient<'_>) -> Result<(), String> {
    let Some(port) = patient.port else {
        return Ok(());
    };
    let listeners = holders::listeners_on(port).map_err(|error| format!("port {port}: {error}"))?;
    for listener in listeners
        .iter()
        .filter(|listener| listener.address.is_loopback() || listener.address.is_unspecified())
    {
        let one = std::slice::from_ref(listener);
        let theirs = holders::among(one, patient.family).is_ok_and(|pids| !pids.is_empty());
        if !theirs && !unreadable_but_theirs(one, patient.family) {
            return Err(format!("another process listens on port {port} as well"));
        }
    }
    Ok(())
}

fn unreadable_but_theirs(listeners: &[crate::sys::listeners::Listener], family: &[i32]) -> bool {
    family.iter().any(|&pid| {
        let denied = matches!(crate::sys::fds::socket_inodes(pid), Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
        denied && crate::sys::proc::uid(pid).is_ok_and(|uid| listeners.iter().any(|listener| listener.uid == uid))
    })
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

/// `0.5 s`.
pub fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn url(check: &HttpCheck) -> String {
    format!("http://{}:{}{}", check.host, check.port, check.path)
}

/// A name has to be looked up, `localhost` aside, which means both loopbacks: either may answer.
fn literal(check: &HttpCheck) -> Option<Vec<IpAddr>> {
    if check.host == "localhost" {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let address = check.host.trim_matches(['[', ']']).parse().ok()?;
    Some(vec![address])
}

async fn get_any(check: &HttpCheck, helper: &Helper) -> Result<(), String> {
    let addresses = match literal(check) {
        Some(addresses) => addresses,
        None => Box::pin(helper.resolve(&check.host, check.timeout)).await?,
    };
    let mut last = Err(format!("{} has no address", check.host));
    for address in addresses {
        last = get((address, check.port).into(), check).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn get(address: SocketAddr, check: &HttpCheck) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", url(check));
    let status = request(address, check).await.map_err(failed)?;
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("{} answers {status}", url(check))),
        None => Err(format!("{} does not speak HTTP", url(check))),
    }
}

/// The status code of one GET; `None` where the answer is no HTTP.
async fn request(address: SocketAddr, check: &HttpCheck) -> io::Result<Option<u16>> {
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    let connected = match address {
        SocketAddr::V4(address) => connect(fd.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => connect(fd.as_raw_fd(), &SockaddrIn6::from(address)),
    };
    match connected {
        Ok(()) => {}
        Err(nix::errno::Errno::EINPROGRESS) => reactor::writable(&fd).await?,
        Err(errno) => return Err(errno.into()),
    }
    let mut stream = std::net::TcpStream::from(fd);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    let host = if check.host.contains(':') && !check.host.starts_with('[') {
        format!("[{}]", check.host)
    } else {
        check.host.clone()
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: pidctl\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        check.path, check.port
    );
    // Far smaller than a fresh socket's buffer, so it goes out at once.
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0u8; 512];
    while !answer.contains(&b'\n') && answer.len() < 4096 {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                reactor::readable(&stream).await?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(status_code(&answer))
}

fn status_code(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&b| b == b'\r' || b == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next()?.strip_prefix("HTTP/")?;
    words.next()?.parse().ok()
}

/// Probes again and again, at first in quick succession, until it is healthy. `last` is kept up to
/// date with why it is not.
pub async fn until_healthy(
    mut attempt: impl AsyncFnMut() -> Result<(), String>,
    last: &std::cell::RefCell<String>,
) {
    let mut pause = Duration::from_millis(2);
    loop {
        match attempt().await {
            Ok(()) => return,
            Err(why) => *last.borrow_mut() = why,
        }
        reactor::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::status_code;

    #[test]
    fn the_status_line() {
        assert_eq!(
            status_code(b"HTTP/1.1 204 No Content\r\nX: y\r\n"),
            Some(204)
        );
        assert_eq!(status_code(b"HTTP/1.0 503\r\n"), Some(503));
        for garbage in [
            &b""[..],
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1",
            b"HTTP/1.1 abc\r\n",
            b"\xff\xfe",
        ] {
            assert_eq!(status_code(garbage), None);
        }
    }
}
