//! Which sockets does a process hold? Answered by the `socket:[N]` links of /proc/PID/fd, which
//! the kernel shows for one's own processes, or for all with CAP_SYS_PTRACE.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::proc::is_gone;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::geteuid;

/// Room for some 300 entries of /proc or of a folder `fd`.
pub(super) const LIST_BUFFER: usize = 8 << 10;

/// The inodes of all sockets that the process holds. Fails with EACCES or EPERM where it may not
/// be seen, with ENOENT or ESRCH where it is gone.
pub fn socket_inodes(pid: i32) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    let mut buffer = vec![0; LIST_BUFFER];
    sockets_of_process(&open_proc()?, pid, &mut buffer, |inode| inodes.push(inode))?;
    inodes.sort_unstable();
    inodes.dedup();
    Ok(inodes)
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

pub(super) fn open_proc() -> io::Result<OwnedFd> {
    Ok(open("/proc", FOLDER, Mode::empty())?)
}

/// Tells `each` the inode of every socket of the process. A thread that has left the process's
/// descriptor table for one of its own (unshare(2) with CLONE_FILES) is not looked at.
pub(super) fn sockets_of_process(
    proc: &OwnedFd,
    pid: i32,
    buffer: &mut [u8],
    mut each: impl FnMut(u64),
) -> io::Result<()> {
    match sockets_in(proc, &format!("{pid}/fd"), buffer, &mut each) {
        Ok(links) if links > 0 => return Ok(()),
        Err(error) if !is_own_zombie(proc, pid) => return Err(error),
        _ => {}
    }
    // No descriptor at all: a kernel thread, a zombie, or a process that lives on in other threads
    // after its first has ended. The links of `task` are 2 and one for each thread.
    let task = format!("{pid}/task");
    if fstatat(proc, task.as_str(), AtFlags::empty())?.st_nlink <= 3 {
        return Ok(());
    }
    let threads = openat(proc, task.as_str(), FOLDER, Mode::empty())?;
    let mut list = vec![0; LIST_BUFFER];
    loop {
        let entries = read_entries(&threads, &mut list)?;
        if entries.is_empty() {
            return Ok(());
        }
        let others = names(entries)
            .filter_map(|name| name.to_str().ok())
            .filter(|tid| tid.parse() != Ok(pid));
        for tid in others {
            match sockets_in(&threads, &format!("{tid}/fd"), buffer, &mut each) {
                Ok(0) => {}
                Err(error) if is_gone(&error) => {}
                other => return other.map(drop),
            }
        }
    }
}

/// The kernel gives the `fd` of a zombie to root, so that its own user is refused: which would look
/// like a process that may not be seen.
fn is_own_zombie(proc: &OwnedFd, pid: i32) -> bool {
    let folder = fstatat(proc, pid.to_string().as_str(), AtFlags::empty());
    // Of others it stays unknown: to ask for each would double the price of a walk.
    if folder.is_ok_and(|folder| folder.st_uid == geteuid().as_raw()) {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let comm_end = stat.iter().rposition(|&b| b == b')').unwrap_or(stat.len());
        return matches!(stat.get(comm_end + 2), Some(b'Z' | b'X'));
    }
    false
}

/// Tells `each` the inode of every socket among the links of a folder `fd`. The number of links.
fn sockets_in(
    parent: &OwnedFd,
    path: &str,
    buffer: &mut [u8],
    each: &mut impl FnMut(u64),
) -> io::Result<usize> {
    let folder = openat(parent, path, FOLDER, Mode::empty())?;
    let mut links = 0;
    loop {
        let entries = read_entries(&folder, buffer)?;
        if entries.is_empty() {
            return Ok(links);
        }
        for name in names(entries) {
            // What was closed meanwhile is ENOENT.
            match socket_behind(&folder, name) {
                Ok(inode) => {
                    links += 1;
                    inode.into_iter().for_each(&mut *each);
                }
                Err(error) if is_gone(&error) => {}
                // The link of a process that has just ended is EACCES too.
                Err(error) => {
                    openat(parent, path, FOLDER, Mode::empty())?;
                    return Err(error);
                }
            }
        }
    }
}

/// The inode, if the descriptor is a socket.
fn socket_behind(folder: &OwnedFd, name: &CStr) -> io::Result<Option<u64>> {
    // `socket:[18446744073709551615]` fits; what is longer is cut off and no socket.
    let mut target = [0u8; 32];
    // SAFETY: `name` ends in NUL, and the kernel writes at most `target.len()` bytes to `target`.
    let length = unsafe {
        libc::readlinkat(
            folder.as_raw_fd(),
            name.as_ptr(),
            target.as_mut_ptr().cast(),
            target.len(),
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    Ok(target.get(..length).and_then(parse_link))
}

pub(super) fn parse_link(target: &[u8]) -> Option<u64> {
    let inode = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(inode).ok()?.parse().ok()
}

/// getdents64(2): the next entries of an opened folder; none at its end. Not readdir(3), which
/// allocates for each folder: a walk opens thousands.
pub(super) fn read_entries<'b>(folder: &OwnedFd, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
        let length = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                folder.as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        match usize::try_from(length) {
            Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// The names in `struct linux_dirent64` records, but `.` and `..`.
pub(super) fn names(mut entries: &[u8]) -> impl Iterator<Item = &CStr> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        let length = entries.get(LENGTH..LENGTH + 2)?.try_into().ok()?;
        let (entry, rest) = entries.split_at_checked(u16::from_ne_bytes(length).into())?;
        entries = rest;
        CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()
    })
    .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::listeners::tests::inode;
    use nix::sys::wait::WaitPidFlag;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    #[test]
    fn a_process_with_more_descriptors_than_a_buffer_lists() {
        let sockets: Vec<TcpListener> = (0..400)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let found = socket_inodes(std::process::id() as i32).unwrap();
        assert!(sockets.iter().all(|socket| found.contains(&inode(socket))));
    }

    #[test]
    fn a_process_whose_first_thread_has_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.as_raw_fd();
        extern "C" fn stay(_: *mut libc::c_void) -> *mut libc::c_void {
            loop {
                // SAFETY: no arguments.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: the child makes a thread and system calls only; it touches no lock of ours.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: `stay` never returns and uses no argument; exit ends this thread alone, and
            // the process with it where there is no other.
            unsafe {
                let mut thread = 0;
                let null = std::ptr::null_mut();
                // What belongs to other tests may not live on here.
                (0..4096).filter(|&fd| fd != socket).for_each(|fd| {
                    libc::close(fd);
                });
                libc::pthread_create(&mut thread, std::ptr::null(), stay, null);
                libc::syscall(libc::SYS_exit, 0);
            }
        }
        assert!(pid > 0);
        // It is about to end its first thread: look until it has.
        let stat = format!("/proc/{pid}/stat");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") && Instant::now() < deadline
        {
            std::thread::yield_now();
        }
        let found = socket_inodes(pid);
        let child = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).unwrap();
        // Ended, but not yet reaped: a zombie of one thread holds nothing and hides nothing.
        let id = nix::sys::wait::Id::Pid(child);
        nix::sys::wait::waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let zombie = socket_inodes(pid);
        nix::sys::wait::waitpid(child, None).unwrap();
        assert_eq!(found.unwrap(), [inode(&listener)]);
        assert_eq!(zombie.unwrap(), Vec::<u64>::new());
    }

    #[test]
    fn only_sockets_are_sockets() {
        assert_eq!(parse_link(b"socket:[4242]"), Some(4242));
        assert_eq!(parse_link(b"socket:[18446744073709551615]"), Some(u64::MAX));
        for target in [
            &b"pipe:[4242]"[..],
            b"/tmp/socket:[1]",
            b"socket:[]",
            b"socket:[12",
            b"socket:[-1]",
            b"socket:[18446744073709551616]",
            b"",
        ] {
            assert_eq!(parse_link(target), None);
        }
    }

    #[test]
    fn truncated_entries_end_the_list() {
        let mut entry = vec![0; 16];
        entry.extend([24, 0, 4]);
        entry.extend(b"42\0\0\0");
        let listed = |bytes: &[u8]| names(bytes).map(CStr::to_owned).collect::<Vec<_>>();
        #[cfg(target_endian = "little")]
        assert_eq!(
            listed(&[&entry[..], &entry[..]].concat()),
            [c"42".to_owned(), c"42".to_owned()]
        );
        for length in 0..entry.len() {
            assert!(listed(&entry[..length]).is_empty(), "{length}");
        }
        assert!(listed(&[0; 64]).is_empty());
    }
}
