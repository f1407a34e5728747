//! Which sockets listen on these ports? TCP sockets in LISTEN and UDP sockets that are bound and
//! unconnected, over IPv4 and IPv6, in the caller's network namespace. A client is never among them.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::sys::{netlink, procnet};

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The one state of tcp(7) that means "awaits peers": TCP_LISTEN; for UDP, which borrows the
    /// numbers, TCP_CLOSE is unconnected and TCP_ESTABLISHED a client.
    pub fn listening_state(self) -> u8 {
        match self {
            Protocol::Tcp => 10,
            Protocol::Udp => 7,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// One listening socket.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Listener {
    pub protocol: Protocol,
    pub port: u16,
    pub address: IpAddr,
    /// N of the `socket:[N]` links of its processes; 0 where no process can have one.
    pub inode: u64,
    /// Who made it; known even where its processes are hidden.
    pub uid: u32,
}

/// Ports as sorted ranges that neither overlap nor touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    #[cfg(test)]
    pub fn all() -> PortSet {
        PortSet(vec![0..=u16::MAX])
    }

    pub fn contains(&self, port: u16) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= port);
        self.0[..after]
            .last()
            .is_some_and(|range| range.contains(&port))
    }

    pub fn ranges(&self) -> &[RangeInclusive<u16>] {
        &self.0
    }
}

impl From<u16> for PortSet {
    fn from(port: u16) -> PortSet {
        PortSet(vec![port..=port])
    }
}

impl FromIterator<RangeInclusive<u16>> for PortSet {
    /// A range whose end is before its start is empty.
    fn from_iter<T: IntoIterator<Item = RangeInclusive<u16>>>(ranges: T) -> PortSet {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        PortSet(merged)
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<T: IntoIterator<Item = u16>>(ports: T) -> PortSet {
        ports.into_iter().map(|port| port..=port).collect()
    }
}

/// The listeners on any of `ports`, by port, address and inode.
pub fn listeners(protocol: Protocol, ports: &PortSet) -> io::Result<Vec<Listener>> {
    if ports.ranges().is_empty() {
        return Ok(Vec::new());
    }
    // sock_diag may be absent (a module), refused (seccomp, a sandbox) or not quite there (an
    // emulated kernel). Whatever its error, /proc/net tells the same at a higher price.
    let mut found = match netlink::listeners(protocol, ports) {
        Ok(found) => found,
        Err(_) => procnet::listeners(protocol, ports)?,
    };
    // The table may change between two parts of a dump, so that a socket is told twice.
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    pub fn inode(socket: impl AsFd) -> u64 {
        nix::sys::stat::fstat(socket).unwrap().st_ino
    }

    /// A socket of either kind, listening on the IPv6 loopback; none on a host without IPv6.
    fn bind_ipv6() -> Option<(TcpListener, UdpSocket)> {
        Some((
            TcpListener::bind("[::1]:0").ok()?,
            UdpSocket::bind("[::1]:0").ok()?,
        ))
    }

    /// Both ways to ask must tell the same. Sockets of others come and go between the two, and
    /// /proc/net may tell one twice when that happens while it is read, so they are asked again.
    fn ask(protocol: Protocol, ports: impl Into<PortSet>) -> Vec<Listener> {
        let ports = ports.into();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let shown = listeners(protocol, &ports).unwrap();
            let mut parsed = procnet::listeners(protocol, &ports).unwrap();
            parsed.sort_unstable();
            let dumped = netlink::listeners(protocol, &ports).map(|mut dumped| {
                dumped.sort_unstable();
                dumped
            });
            let agree = shown == parsed && dumped.as_ref().map_or(true, |dumped| *dumped == shown);
            if agree {
                return shown;
            }
            let all = (&shown, &parsed, &dumped);
            assert!(Instant::now() < deadline, "shown, parsed, dumped: {all:?}");
        }
    }

    #[test]
    fn port_sets_merge_and_contain() {
        let backwards = 8;
        let set: PortSet = [80..=80, 8000..=8100, 81..=90, 8050..=8200, 9..=backwards]
            .into_iter()
            .collect();
        assert_eq!(set.ranges(), [80..=90, 8000..=8200]);
        for port in [80, 85, 90, 8000, 8200] {
            assert!(set.contains(port), "{port}");
        }
        for port in [0, 8, 9, 79, 91, 7999, 8201, 65535] {
            assert!(!set.contains(port), "{port}");
        }
        assert!(PortSet::all().contains(0) && PortSet::all().contains(65535));
        let none: PortSet = std::iter::empty::<u16>().collect();
        assert!(!none.contains(1));
        assert_eq!(listeners(Protocol::Tcp, &none).unwrap(), []);
        let end: PortSet = [65535, 65534, 65535].into_iter().collect();
        assert_eq!(end.ranges(), [65534..=65535]);
    }

    #[test]
    fn a_tcp_listener_and_not_its_client() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let found = ask(Protocol::Tcp, address.port());
        assert_eq!(
            found,
            [Listener {
                protocol: Protocol::Tcp,
                port: address.port(),
                address: address.ip(),
                inode: inode(&listener),
                uid: nix::unistd::geteuid().as_raw(),
            }]
        );
        assert_eq!(ask(Protocol::Tcp, client.local_addr().unwrap().port()), []);
        drop(listener);
        // A child that another test starts just now has it until its exec.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !listeners(Protocol::Tcp, &address.port().into())
            .unwrap()
            .is_empty()
        {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        drop((client, accepted));
    }

    #[test]
    fn a_udp_socket_until_it_is_connected() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = client.local_addr().unwrap().port();
        assert_eq!(ask(Protocol::Udp, port)[0].inode, inode(&client));
        client.connect(server.local_addr().unwrap()).unwrap();
        assert_eq!(ask(Protocol::Udp, port), []);
        let found = ask(Protocol::Udp, server.local_addr().unwrap().port());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].inode, inode(&server));
        assert_eq!(found[0].protocol, Protocol::Udp);
    }

    #[test]
    fn ipv6_where_there_is_any() {
        let Some((tcp, udp)) = bind_ipv6() else {
            return;
        };
        let address = tcp.local_addr().unwrap();
        let found = ask(Protocol::Tcp, address.port());
        assert_eq!(
            (found[0].address, found[0].inode),
            (address.ip(), inode(&tcp))
        );
        let address = udp.local_addr().unwrap();
        let found = ask(Protocol::Udp, address.port());
        assert_eq!(
            (found[0].address, found[0].inode),
            (address.ip(), inode(&udp))
        );
    }

    #[test]
    fn two_sockets_share_a_port_by_reuseport() {
        use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, listen, setsockopt};
        let bind = |port: u16| {
            let (family, kind) = (AddressFamily::Inet, SockType::Stream);
            let socket =
                nix::sys::socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
            setsockopt(&socket, nix::sys::socket::sockopt::ReusePort, &true).unwrap();
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as u16,
                sin_port: port.to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be(),
                },
                sin_zero: [0; 8],
            };
            let length = size_of_val(&address) as u32;
            // SAFETY: `address` is of that family and length.
            let bound =
                unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
            assert_eq!(bound, 0);
            listen(&socket, Backlog::new(1).unwrap()).unwrap();
            TcpListener::from(socket)
        };
        let first = bind(0);
        let port = first.local_addr().unwrap().port();
        let second = bind(port);
        let found: Vec<u64> = ask(Protocol::Tcp, port).iter().map(|l| l.inode).collect();
        let mut expected = [inode(&first), inode(&second)];
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn few_ports_many_ports_and_all() {
        let sockets: Vec<TcpListener> = (0..40)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port();
        // Fewer, exactly as many, and more than fit the kernel's filter.
        for count in [2, 3, 31, 32, 33, 40] {
            let chosen: PortSet = sockets[..count].iter().map(port).collect();
            let mut found = ask(Protocol::Tcp, chosen);
            // Another test may listen on the same number of another address.
            found.retain(|listener| listener.address == Ipv4Addr::LOCALHOST);
            assert_eq!(found.len(), count);
            for socket in &sockets[..count] {
                assert!(found.iter().any(|l| l.inode == inode(socket)));
            }
        }
        let all = listeners(Protocol::Tcp, &PortSet::all()).unwrap();
        assert!(
            sockets
                .iter()
                .all(|s| all.iter().any(|l| l.inode == inode(s)))
        );
    }
}
