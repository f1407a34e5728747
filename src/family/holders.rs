//! Who holds a port: processes with a listening TCP socket, or a bound and unconnected UDP socket, on
//! it. A client is no holder; what cannot be seen is not nobody.

use crate::sys::holders;
use crate::sys::listeners::{self, Listener, PortSet, Protocol};
use std::collections::{HashMap, HashSet};
use std::io;

/// What is known of a port.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub listeners: Vec<Listener>,
    /// Every process that holds one of them.
    pub pids: Vec<i32>,
    /// Listeners whose processes cannot be seen, though some may be hidden from us: by uid.
    pub hidden: Vec<Listener>,
    /// Listeners that no process visible from here holds, and none is hidden: the kernel, another
    /// namespace, a lingering socket.
    pub nobody: Vec<Listener>,
}

impl Held {
    /// A holder of it is no process that we see.
    pub fn is_unseen(&self) -> bool {
        !self.hidden.is_empty() || !self.nobody.is_empty()
    }
}

/// For each port that is held, by whom. One walk at most, and none where `suspects` hold all there is;
/// then others who share their sockets are not shown.
pub fn of_suspects(
    protocol: Protocol,
    ports: &PortSet,
    suspects: impl FnOnce(&HashSet<u16>) -> Vec<i32>,
) -> io::Result<HashMap<u16, Held>> {
    let listeners = listeners::listeners(protocol, ports)?;
    if listeners.is_empty() {
        return Ok(HashMap::new());
    }
    let inodes: HashSet<u64> = listeners
        .iter()
        .map(|listener| listener.inode)
        .filter(|&inode| inode != 0)
        .collect();
    let held: HashSet<u16> = listeners.iter().map(|listener| listener.port).collect();
    let suspects = suspects(&held);
    if !suspects.is_empty() {
        let mut found = holders::holders_among(&inodes, &suspects)?;
        found.unreadable.clear();
        let known: HashSet<u64> = found.found.iter().map(|&(_, inode)| inode).collect();
        if listeners
            .iter()
            .all(|listener| known.contains(&listener.inode))
        {
            return Ok(attribute(listeners, found));
        }
    }
    let found = holders::holders(&inodes)?;
    let known: HashSet<u64> = found.found.iter().map(|&(_, inode)| inode).collect();
    let unattributed = |listener: &Listener| !known.contains(&listener.inode);
    // One that nobody was seen with may have been closed before we looked.
    let listeners = if listeners.iter().any(unattributed) {
        let still = listeners::listeners(protocol, ports)?;
        let is_there = |listener: &Listener| !unattributed(listener) || still.contains(listener);
        listeners.into_iter().filter(is_there).collect()
    } else {
        listeners
    };
    Ok(attribute(listeners, found))
}

pub fn of(protocol: Protocol, ports: &PortSet) -> io::Result<HashMap<u16, Held>> {
    of_suspects(protocol, ports, |_| Vec::new())
}

fn attribute(listeners: Vec<Listener>, found: holders::Holders) -> HashMap<u16, Held> {
    let mut by_inode: HashMap<u64, Vec<i32>> = HashMap::new();
    for &(pid, inode) in &found.found {
        by_inode.entry(inode).or_default().push(pid);
    }
    let mut held: HashMap<u16, Held> = HashMap::new();
    for listener in listeners {
        let entry = held.entry(listener.port).or_default();
        match by_inode.get(&listener.inode) {
            Some(pids) => entry.pids.extend(pids),
            None if listener.inode == 0 => entry.nobody.push(listener.clone()),
            None if found.unreadable.is_empty() && !processes_are_hidden() => {
                entry.nobody.push(listener.clone())
            }
            None => entry.hidden.push(listener.clone()),
        }
        entry.listeners.push(listener);
    }
    for entry in held.values_mut() {
        entry.pids.sort_unstable();
        entry.pids.dedup();
    }
    held
}

/// Is /proc mounted so that others' processes do not even show (hidepid=2)? Then PID 1 does not.
fn processes_are_hidden() -> bool {
    crate::sys::proc::stat(1).is_err()
}

/// Is anybody listening? No walk.
pub fn listeners_on(port: u16) -> io::Result<Vec<Listener>> {
    listeners::listeners(Protocol::Tcp, &PortSet::from(port))
}

/// Which of `pids` hold one of these sockets.
pub fn among(listeners: &[Listener], pids: &[i32]) -> io::Result<Vec<i32>> {
    let inodes: HashSet<u64> = listeners
        .iter()
        .map(|listener| listener.inode)
        .filter(|&inode| inode != 0)
        .collect();
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<i32> = holders::holders_among(&inodes, pids)?
        .found
        .into_iter()
        .map(|(pid, _)| pid)
        .collect();
    found.dedup();
    Ok(found)
}

/// Does one of `pids` listen on the port? What the health check `tcp` asks.
pub fn is_held_by(port: u16, pids: &[i32]) -> io::Result<bool> {
    Ok(!among(&listeners_on(port)?, pids)?.is_empty())
}
