//! Which processes hold these sockets? All of them: a socket can be inherited by, or handed to, any
//! process of any user.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::sys::fds::{LIST_BUFFER, names, open_proc, read_entries, sockets_of_process};
use crate::sys::proc::is_gone;

/// Below so many processes a second thread costs more than it saves.
const FEW_PROCESSES: usize = 128;
/// More threads than these mostly wait for each other's locks in the kernel.
const MAX_THREADS: usize = 4;

/// Who holds the sockets, as far as it can be seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Holders {
    /// (PID, inode), sorted: every process that holds a socket, whoever made it.
    pub found: Vec<(i32, u64)>,
    /// Processes whose descriptors may not be read: each may be a holder. Sorted.
    pub unreadable: Vec<i32>,
}

/// Who of `pids` holds any of `inodes`: the cheap question, where it is known whom to suspect.
/// There may be others.
pub fn holders_among(inodes: &HashSet<u64>, pids: &[i32]) -> io::Result<Holders> {
    let proc = open_proc()?;
    let mut holders = Holders::default();
    let mut buffer = vec![0; LIST_BUFFER];
    for &pid in pids {
        holders.look(&proc, pid, inodes, &mut buffer);
    }
    Ok(holders.sorted())
}

/// Who of all processes holds any of `inodes`. One walk over /proc, and always to its end: a socket
/// can be inherited by, or handed to, any process of any user.
pub fn holders(inodes: &HashSet<u64>) -> io::Result<Holders> {
    if inodes.is_empty() {
        return Ok(Holders::default());
    }
    let walk = Walk {
        proc: open_proc()?,
        turn: Mutex::new(()),
        inodes,
    };
    let first = walk
        .next_pids(&mut vec![0; LIST_BUFFER])?
        .unwrap_or_default();
    let helpers = if first.len() < FEW_PROCESSES {
        0
    } else {
        thread::available_parallelism().map_or(0, |cpus| cpus.get().min(MAX_THREADS) - 1)
    };
    thread::scope(|scope| {
        // Where no thread can be had (EAGAIN), those that run do it all.
        let threads: Vec<_> = (0..helpers)
            .map_while(|_| {
                let help = || walk.look_on(Vec::new());
                thread::Builder::new().spawn_scoped(scope, help).ok()
            })
            .collect();
        let mut holders = walk.look_on(first)?;
        for thread in threads {
            let ended = thread.join();
            let theirs =
                ended.map_err(|_| io::Error::other("a thread's walk over /proc failed"))??;
            holders.found.extend(theirs.found);
            holders.unreadable.extend(theirs.unreadable);
        }
        Ok(holders.sorted())
    })
}

impl Holders {
    fn look(&mut self, proc: &OwnedFd, pid: i32, inodes: &HashSet<u64>, buffer: &mut [u8]) {
        let found = &mut self.found;
        let looked = sockets_of_process(proc, pid, buffer, |inode| {
            if inodes.contains(&inode) {
                found.push((pid, inode));
            }
        });
        if looked.is_err_and(|error| !is_gone(&error)) {
            self.unreadable.push(pid);
        }
    }

    fn sorted(mut self) -> Holders {
        self.found.sort_unstable();
        self.found.dedup();
        self.unreadable.sort_unstable();
        self
    }
}

/// One walk over /proc by several threads, each of which takes the next PIDs when it has none left:
/// while one lists, the others look.
struct Walk<'a> {
    proc: OwnedFd,
    /// Who holds it may read on in the list of `proc`.
    turn: Mutex<()>,
    inodes: &'a HashSet<u64>,
}

impl Walk<'_> {
    /// None at the end of the list.
    fn next_pids(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<i32>>> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = read_entries(&self.proc, buffer)?;
        drop(turn);
        let pids = names(entries).filter_map(|name| name.to_str().ok()?.parse().ok());
        Ok((!entries.is_empty()).then(|| pids.collect()))
    }

    fn look_on(&self, mut pids: Vec<i32>) -> io::Result<Holders> {
        let mut holders = Holders::default();
        let mut buffer = vec![0; LIST_BUFFER];
        loop {
            for pid in pids {
                holders.look(&self.proc, pid, self.inodes, &mut buffer);
            }
            match self.next_pids(&mut buffer)? {
                Some(next) => pids = next,
                None => return Ok(holders),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fds::socket_inodes;
    use crate::sys::listeners::{Protocol, listeners, tests::inode};
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};

    fn own_pid() -> i32 {
        std::process::id() as i32
    }

    /// A process that lives until its standard input is closed and has `socket` as standard error.
    fn heir(socket: &TcpListener) -> Child {
        Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(OwnedFd::from(socket.try_clone().unwrap()))
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_listener_and_everyone_who_inherited_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let inodes: HashSet<u64> = listeners(Protocol::Tcp, &address.port().into())
            .unwrap()
            .iter()
            .map(|listener| listener.inode)
            .collect();
        assert_eq!(inodes, [inode(&listener)].into());
        let mut child = heir(&listener);
        let pid = child.id() as i32;
        let n = inode(&listener);

        // A child that another test starts just now has it as well until its exec.
        let all = holders(&inodes).unwrap().found;
        assert!(all.contains(&(own_pid(), n)) && all.contains(&(pid, n)));
        let some = holders_among(&inodes, &[pid]).unwrap();
        assert_eq!((some.found, some.unreadable), (vec![(pid, n)], vec![]));
        assert!(socket_inodes(own_pid()).unwrap().contains(&inode(&client)));
        assert_eq!(socket_inodes(pid).unwrap(), [n]);

        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(is_gone(&socket_inodes(pid).unwrap_err()));
        let none = holders_among(&inodes, &[pid]).unwrap();
        assert_eq!(none, Holders::default());
    }

    #[test]
    fn what_may_not_be_read_is_told() {
        if !nix::unistd::geteuid().is_root() {
            return; // has no process of another user at hand
        }
        let mut child = heir(&TcpListener::bind("127.0.0.1:0").unwrap());
        let pid = child.id() as i32;
        let looked = thread::spawn(move || {
            // SAFETY: changes the ids, and so the capabilities, of this thread alone.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            (changed == 0).then(|| (socket_inodes(pid), holders_among(&[1].into(), &[pid])))
        });
        let looked = looked.join();
        drop(child.stdin.take());
        child.wait().unwrap();
        if let Some((inodes, holders)) = looked.unwrap() {
            assert_eq!(inodes.unwrap_err().raw_os_error(), Some(libc::EACCES));
            let holders = holders.unwrap();
            assert_eq!((holders.found, holders.unreadable), (vec![], vec![pid]));
        }
    }
}
