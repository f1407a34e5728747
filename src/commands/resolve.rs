//! Not for people: pidctl calls itself by a word that nobody types, to look up a host for a health check.

use crate::act::helper::RESOLVE;
use crate::exit_code::ExitCode;
use crate::report;
use std::net::ToSocketAddrs;

/// More are not asked; so many fit into the line that is read back.
const MOST: usize = 4;

/// One line: the addresses, or why there are none. `None` where pidctl was called for anything else.
pub fn answer() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let host = match words.next()? {
        word if word == RESOLVE => words.next()?.into_string().ok()?,
        _ => return None,
    };
    let (line, code) = match (host.as_str(), 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<String> = Vec::new();
            for address in found.map(|address| address.ip().to_string()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            addresses.truncate(MOST);
            (addresses.join(" "), ExitCode::Done)
        }
        Err(error) => (error.to_string(), ExitCode::Failed),
    };
    report::say(&line);
    Some(code)
}
