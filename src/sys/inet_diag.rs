//! sock_diag(7) messages for internet sockets: the request with its filter, by which the kernel
//! passes over thousands of other sockets, and the answer's parts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::listeners::{Listener, PortSet, Protocol};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_GE: u8 = 2;
const INET_DIAG_BC_S_LE: u8 = 3;

/// The kernel walks the filter once per socket: past so many ranges a plain dump is cheaper.
const MAX_FILTER_RANGES: usize = 32;
const HEADER: usize = 16;

/// `struct nlmsghdr`, `struct inet_diag_req_v2`, and the filter as an attribute.
pub(super) fn request(protocol: Protocol, family: i32, ports: &PortSet, sequence: u32) -> Vec<u8> {
    let single = match ports.ranges() {
        [range] if range.start() == range.end() => Some(*range.start()),
        _ => None,
    };
    let filter = match single {
        // 0 in the request means any port.
        Some(1..) => Vec::new(),
        _ => port_filter(ports),
    };
    let ip_protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let mut bytes = Vec::with_capacity(HEADER + 60 + filter.len());
    bytes.extend([0; 4]); // the length, known at the end
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // our port: the kernel knows it
    bytes.extend([family as u8, ip_protocol as u8, 0, 0]);
    bytes.extend((1u32 << protocol.listening_state()).to_ne_bytes());
    // struct inet_diag_sockid: a source port, and the rest is any. The kernel compares a single
    // port faster than it runs a filter.
    bytes.extend(single.unwrap_or(0).to_be_bytes());
    bytes.extend([0; 46]);
    if !filter.is_empty() {
        bytes.extend((4 + filter.len() as u16).to_ne_bytes());
        bytes.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        bytes.extend(filter);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// The ports as a program of `struct inet_diag_bc_op`: code, bytes to go on by where it holds,
/// bytes to go on by where not; a port to compare with stands in the next op's second jump. It
/// accepts at its end and rejects 4 bytes beyond. Empty: no filter.
///
/// For each range: `S_GE start` else to the next range, `S_LE end` else to the next range, then
/// a jump to the end, without which the last one does.
fn port_filter(ports: &PortSet) -> Vec<u8> {
    let exact = ports.ranges();
    let hull;
    let ranges = match exact {
        [all] if *all == (0..=u16::MAX) => return Vec::new(),
        [first, .., last] if exact.len() > MAX_FILTER_RANGES => {
            // The rest is sorted out by the reader.
            hull = [*first.start()..=*last.end()];
            &hull
        }
        few => few,
    };
    fn op(program: &mut Vec<u8>, code: u8, yes: u8, no: u16) {
        program.extend([code, yes]);
        program.extend(no.to_ne_bytes());
    }
    let mut program = Vec::with_capacity(ranges.len() * 20);
    for (index, range) in ranges.iter().enumerate() {
        let following = ranges.len() - index - 1;
        op(&mut program, INET_DIAG_BC_S_GE, 8, 20);
        op(&mut program, 0, 0, *range.start());
        op(&mut program, INET_DIAG_BC_S_LE, 8, 12);
        op(&mut program, 0, 0, *range.end());
        if following > 0 {
            // At most MAX_FILTER_RANGES * 20 bytes.
            op(&mut program, INET_DIAG_BC_JMP, 4, (following * 20) as u16);
        }
    }
    program
}

#[derive(PartialEq, Debug)]
pub(super) enum Part {
    More { interrupted: bool },
    Last { interrupted: bool },
}

pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "sock_diag: malformed message")
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> io::Result<[u8; N]> {
    bytes
        .get(offset..offset + N)
        .and_then(|field| field.try_into().ok())
        .ok_or_else(malformed)
}

/// One datagram: netlink messages one after the other.
pub(super) fn parse_part(
    mut rest: &[u8],
    sequence: u32,
    protocol: Protocol,
    ports: &PortSet,
    found: &mut Vec<Listener>,
) -> io::Result<Part> {
    let mut interrupted = false;
    while !rest.is_empty() {
        let length = u32::from_ne_bytes(field(rest, 0)?) as usize;
        let kind = u16::from_ne_bytes(field(rest, 4)?);
        let flags = u16::from_ne_bytes(field(rest, 6)?);
        let payload = rest.get(HEADER..length).ok_or_else(malformed)?;
        // What is left of a dump that was given up has another number.
        if u32::from_ne_bytes(field(rest, 8)?) == sequence {
            interrupted |= i32::from(flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    // Both begin with a negated errno; a dump that fails half-way ends in DONE.
                    return match i32::from_ne_bytes(field(payload, 0)?) {
                        0 => Ok(Part::Last { interrupted }),
                        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    };
                }
                libc::NLMSG_NOOP => {}
                _ if kind == SOCK_DIAG_BY_FAMILY => {
                    found.extend(parse_socket(payload, protocol, ports)?);
                }
                _ => return Err(malformed()),
            }
        }
        // Messages begin at multiples of 4; the padding of the last may be missing.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Part::More { interrupted })
}

/// `struct inet_diag_msg`; None where the filter let through what was not asked for.
fn parse_socket(bytes: &[u8], protocol: Protocol, ports: &PortSet) -> io::Result<Option<Listener>> {
    let [family, state] = field(bytes, 0)?;
    let port = u16::from_be_bytes(field(bytes, 4)?);
    let address: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(field::<4>(bytes, 8)?).into(),
        libc::AF_INET6 => Ipv6Addr::from(field::<16>(bytes, 8)?).into(),
        _ => return Err(malformed()),
    };
    let uid = u32::from_ne_bytes(field(bytes, 64)?);
    let inode = u32::from_ne_bytes(field(bytes, 68)?).into();
    let asked_for = state == protocol.listening_state() && ports.contains(port);
    Ok(asked_for.then_some(Listener {
        protocol,
        port,
        address,
        inode,
        uid,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend((HEADER as u32 + payload.len() as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    pub fn diag(family: i32, state: u8, port: u16, uid: u32, inode: u32) -> Vec<u8> {
        let mut bytes = vec![family as u8, state, 0, 0];
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend([127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0; 40]);
        bytes.extend(uid.to_ne_bytes());
        bytes.extend(inode.to_ne_bytes());
        bytes
    }

    fn parse(bytes: &[u8], found: &mut Vec<Listener>) -> io::Result<Part> {
        let ports = [80..=89].into_iter().collect();
        parse_part(bytes, 7, Protocol::Tcp, &ports, found)
    }

    /// What the kernel would do with the filter for a socket on that port, checked as strictly.
    fn accepts(program: &[u8], port: u16) -> bool {
        let mut at = 0;
        while at < program.len() {
            let [code, yes] = field(program, at).unwrap();
            let no = u16::from_ne_bytes(field(program, at + 2).unwrap());
            let holds = match code {
                INET_DIAG_BC_JMP => false,
                _ => {
                    let limit = u16::from_ne_bytes(field(program, at + 6).unwrap());
                    match code {
                        INET_DIAG_BC_S_GE => port >= limit,
                        INET_DIAG_BC_S_LE => port <= limit,
                        other => panic!("op {other} at {at}"),
                    }
                }
            };
            at += if holds {
                usize::from(yes)
            } else {
                usize::from(no)
            };
        }
        assert!(at == program.len() || at == program.len() + 4);
        at == program.len()
    }

    #[test]
    fn the_filter_accepts_the_ports_and_no_others() {
        for ranges in [
            vec![80..=80],
            vec![80..=80, 443..=443],
            vec![1..=1, 8000..=8100, 65535..=65535],
            (0..32).map(|n| n * 100..=n * 100 + 9).collect(),
        ] {
            let ports: PortSet = ranges.into_iter().collect();
            let program = port_filter(&ports);
            let edges = ports.ranges().iter().flat_map(|range| {
                let (start, end) = (*range.start(), *range.end());
                [start, end, start.saturating_sub(1), end.saturating_add(1)]
            });
            for port in edges.chain([0, 9000, u16::MAX]) {
                assert_eq!(accepts(&program, port), ports.contains(port), "{port}");
            }
        }
        assert!(port_filter(&PortSet::all()).is_empty());
        let many: PortSet = (0..40).map(|n| 1000 + n * 2).collect();
        let hull = port_filter(&many);
        assert!(accepts(&hull, 1000) && accepts(&hull, 1078));
        assert!(!accepts(&hull, 999) && !accepts(&hull, 1079));
    }

    #[test]
    fn a_dump_in_two_parts() {
        let mut found = Vec::new();
        let mut first = message(
            SOCK_DIAG_BY_FAMILY,
            2,
            7,
            &diag(libc::AF_INET, 10, 80, 1000, 55),
        );
        // An attribute of odd length follows the socket; the next message is aligned.
        first[..4].copy_from_slice(&(HEADER as u32 + 72 + 5).to_ne_bytes());
        first.extend([5, 0, 1, 0, 9, 0, 0, 0]);
        // Not asked for: a client, another port, another dump.
        first.extend(message(
            SOCK_DIAG_BY_FAMILY,
            2,
            7,
            &diag(libc::AF_INET, 1, 80, 0, 1),
        ));
        first.extend(message(
            SOCK_DIAG_BY_FAMILY,
            2,
            7,
            &diag(libc::AF_INET, 10, 99, 0, 2),
        ));
        first.extend(message(
            SOCK_DIAG_BY_FAMILY,
            2,
            6,
            &diag(libc::AF_INET, 10, 80, 0, 3),
        ));
        assert_eq!(
            parse(&first, &mut found).unwrap(),
            Part::More { interrupted: false }
        );
        let mut last = message(
            SOCK_DIAG_BY_FAMILY,
            2,
            7,
            &diag(libc::AF_INET6, 10, 81, 0, 0),
        );
        last.extend(message(libc::NLMSG_DONE as u16, 2, 7, &[0; 4]));
        assert_eq!(
            parse(&last, &mut found).unwrap(),
            Part::Last { interrupted: false }
        );
        let listener = |port, address: &str, inode, uid| Listener {
            protocol: Protocol::Tcp,
            port,
            address: address.parse().unwrap(),
            inode,
            uid,
        };
        assert_eq!(
            found,
            [
                listener(80, "127.0.0.1", 55, 1000),
                listener(81, "7f00:1::1", 0, 0)
            ]
        );
    }

    #[test]
    fn refusals_and_interruptions() {
        let mut found = Vec::new();
        for kind in [libc::NLMSG_ERROR, libc::NLMSG_DONE] {
            let refusal = message(kind as u16, 0, 7, &(-libc::ENOENT).to_ne_bytes());
            let error = parse(&refusal, &mut found).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
        let interrupted = message(libc::NLMSG_DONE as u16, 0x10, 7, &[0; 4]);
        assert_eq!(
            parse(&interrupted, &mut found).unwrap(),
            Part::Last { interrupted: true }
        );
    }

    #[test]
    fn no_truncated_message_panics_or_is_believed() {
        let mut whole = message(
            SOCK_DIAG_BY_FAMILY,
            2,
            7,
            &diag(libc::AF_INET, 10, 80, 0, 1),
        );
        let socket = whole.len();
        whole.extend(message(libc::NLMSG_DONE as u16, 2, 7, &[0; 4]));
        for length in 1..whole.len() {
            if length != socket {
                assert!(
                    parse(&whole[..length], &mut Vec::new()).is_err(),
                    "{length}"
                );
            }
        }
        for length in [0u32, 1, 15, 17, u32::MAX] {
            let mut lying = whole.clone();
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(parse(&lying, &mut Vec::new()).is_err(), "{length}");
        }
        assert!(parse(&message(99, 0, 7, &[]), &mut Vec::new()).is_err());
    }
}
