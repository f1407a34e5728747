//! netlink(7) with NETLINK_SOCK_DIAG: one dump of listening sockets for each address family.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::sys::inet_diag::{Part, malformed, parse_part, request};
use crate::sys::listeners::{Listener, PortSet, Protocol};

/// A dump that changed under the kernel's hands is asked for again; so many in all.
const MAX_DUMPS: u32 = 8;
/// The kernel makes the parts of a dump no larger than this.
const RECEIVE_BUFFER: usize = 32 << 10;

/// The listeners on any of `ports`, in the kernel's order.
pub fn listeners(protocol: Protocol, ports: &PortSet) -> io::Result<Vec<Listener>> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    // A kernel answers at once; whatever merely looks like one may not keep us waiting.
    setsockopt(&netlink, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    let mut found = Vec::new();
    let mut sequence = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let before = found.len();
        let mut complete = false;
        while !complete {
            sequence += 1;
            if sequence > MAX_DUMPS {
                return Err(io::Error::other("sock_diag: the sockets change too fast"));
            }
            found.truncate(before);
            send_all(&netlink, &request(protocol, family, ports, sequence))?;
            complete = receive_dump(&netlink, sequence, protocol, ports, &mut found)?;
        }
    }
    Ok(found)
}

/// Becomes readable whenever a TCP socket of this network namespace is destroyed: a listener, say. What
/// it tells is not read, see `drain`.
pub fn closings() -> io::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )?;
    // SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY of linux/sock_diag.h, as bits.
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 1 << 0 | 1 << 2))?;
    Ok(netlink)
}

/// Takes what has come by now, so that it becomes readable only by what comes after.
pub fn drain(netlink: &OwnedFd) {
    // ENOBUFS: more came than it could hold; that is no end.
    while matches!(
        recv(netlink.as_raw_fd(), &mut [0; 64], MsgFlags::MSG_TRUNC),
        Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS)
    ) {}
}

fn send_all(netlink: &OwnedFd, request: &[u8]) -> io::Result<()> {
    loop {
        match send(netlink.as_raw_fd(), request, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            // Netlink takes a datagram whole or not at all.
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Whether the dump was consistent.
fn receive_dump(
    netlink: &OwnedFd,
    sequence: u32,
    protocol: Protocol,
    ports: &PortSet,
    found: &mut Vec<Listener>,
) -> io::Result<bool> {
    let mut buffer = vec![0; RECEIVE_BUFFER];
    let mut consistent = true;
    loop {
        // With MSG_TRUNC the length is the message's own, even where the buffer was too small.
        let length = match recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // None at all would be the end of a connection, which a netlink socket has not.
        let part = buffer
            .get(..length)
            .filter(|part| !part.is_empty())
            .ok_or_else(malformed)?;
        match parse_part(part, sequence, protocol, ports, found)? {
            Part::More { interrupted } => consistent &= !interrupted,
            Part::Last { interrupted } => return Ok(consistent && !interrupted),
        }
    }
}
