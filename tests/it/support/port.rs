//! Ports that nobody else has: neither another test of this run, nor one of another run at the
//! same time, nor a client that the kernel gives a port to.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Reserved as long as it lives. The port itself stays unbound.
pub struct Lease {
    pub port: u16,
    _claim: UnixListener,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Ports outside the range from which clients get theirs, beginning somewhere else in every run;
/// the claim is an abstract socket, which the kernel drops with its owner and which, like the
/// port, belongs to the network namespace.
pub fn lease() -> Lease {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first_of_clients: u32 = range
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(32768);
    let (low, high) = if first_of_clients > 12000 {
        (10000, first_of_clients)
    } else {
        (10000, 65535)
    };
    let offset = std::process::id().wrapping_mul(97);
    for _ in low..high {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = (low + offset.wrapping_add(step) % (high - low)) as u16;
        let Ok(name) = SocketAddr::from_abstract_name(format!("pidctl-test-port-{port}")) else {
            continue;
        };
        let Ok(claim) = UnixListener::bind_addr(&name) else {
            continue;
        };
        if is_free(port) {
            return Lease {
                port,
                _claim: claim,
            };
        }
    }
    panic!("no free port");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("0.0.0.0", port)).is_ok()
        && TcpListener::bind(("::", port)).is_ok()
        && UdpSocket::bind(("0.0.0.0", port)).is_ok()
}
