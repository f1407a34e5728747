//! /proc/net/{tcp,tcp6,udp,udp6} of proc(5): the same listeners where netlink does not answer.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::listeners::{Listener, PortSet, Protocol};

/// The listeners on any of `ports`, in the kernel's order.
pub fn listeners(protocol: Protocol, ports: &PortSet) -> io::Result<Vec<Listener>> {
    let mut found = Vec::new();
    read_table(
        &format!("/proc/net/{protocol}"),
        protocol,
        ports,
        &mut found,
    )?;
    match read_table(
        &format!("/proc/net/{protocol}6"),
        protocol,
        ports,
        &mut found,
    ) {
        // A kernel without IPv6 has no such file and no such listener.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    Ok(found)
}

fn read_table(
    path: &str,
    protocol: Protocol,
    ports: &PortSet,
    found: &mut Vec<Listener>,
) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
    let table = BufReader::with_capacity(1 << 16, File::open(path).map_err(named)?);
    for line in table.lines().skip(1) {
        let line = line.map_err(named)?;
        // A line that cannot be read might be the one that was looked for: "free" would be a guess.
        let socket = parse_line(&line)
            .ok_or_else(|| named(io::Error::new(io::ErrorKind::InvalidData, "unknown format")))?;
        if socket.state == protocol.listening_state() && ports.contains(socket.port) {
            found.push(Listener {
                protocol,
                port: socket.port,
                address: socket.address,
                inode: socket.inode,
                uid: socket.uid,
            });
        }
    }
    Ok(())
}

#[derive(PartialEq, Debug)]
pub(super) struct Socket {
    pub address: IpAddr,
    pub port: u16,
    pub state: u8,
    pub uid: u32,
    pub inode: u64,
}

/// `sl: address:port remote:port state tx:rx tr:when retransmits uid timeout inode …`
pub(super) fn parse_line(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    Some(Socket {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        state: u8::from_str_radix(fields.nth(1)?, 16).ok()?,
        uid: fields.nth(3)?.parse().ok()?,
        inode: fields.nth(1)?.parse().ok()?,
    })
}

/// The bytes are in network order, but printed as one (IPv4) or four (IPv6) words of this machine.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| -> Option<[u8; 4]> {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_as_the_kernel_prints_them() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0000000000000000 100 0 0 10 0";
        assert_eq!(
            parse_line(tcp),
            Some(Socket {
                address: "127.0.0.1".parse().unwrap(),
                port: 8080,
                state: 10,
                uid: 1000,
                inode: 48213,
            })
        );
        let tcp6 = "12345: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0000000000000000 100 0 0 10 0";
        assert_eq!(
            parse_line(tcp6),
            Some(Socket {
                address: "2001:db8::1".parse().unwrap(),
                port: 443,
                state: 10,
                uid: 0,
                inode: 7,
            })
        );
        let udp = "  381: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 5501 2 0000000000000000 0";
        let socket = parse_line(udp).unwrap();
        assert_eq!((socket.port, socket.state, socket.inode), (68, 7, 5501));
        // The kernel's own sockets and TIME_WAIT have no inode.
        let kernel = "   1: 00000000:0801 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 100 0 0 10 0";
        assert_eq!(parse_line(kernel).map(|s| s.inode), Some(0));
    }

    #[test]
    fn garbage_is_none() {
        for line in [
            "",
            "0:",
            "0: 0100007F",
            "0: 0100007F:1F90 x 0A",
            "0: 0100007G:1F90 x 0A a b c 0 0 1",
            "0: 0100007:1F90 x 0A a b c 0 0 1",
            "0: 0100007F:11F90 x 0A a b c 0 0 1",
            "0: 0100007F:1F90 x 0A a b c 0 0 -1",
            "0: ééééé:1F90 x 0A a b c 0 0 1",
            "0: é100007:1F90 x 0A a b c 0 0 1",
        ] {
            assert_eq!(parse_line(line), None, "{line}");
        }
    }
}
