//! Where and when we are: this boot, this PID namespace, this user.

use super::proc;
use std::fs;
use std::io;

/// A PID means something only within these two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// Inode of /proc/self/ns/pid. Containers of one host share the boot id, not this.
    pub pid_namespace: u64,
}

impl Place {
    pub fn here() -> io::Result<Place> {
        let unreadable = |error: io::Error| {
            let message = format!("/proc cannot be read ({error}): pidctl needs it mounted");
            io::Error::new(error.kind(), message)
        };
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(unreadable)?;
        // In another namespace's /proc every number is another process's, and ours may have none.
        let own = match fs::read_link("/proc/self") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            result => result.map_err(unreadable)?,
        };
        if own.as_os_str() != std::process::id().to_string().as_str() {
            return Err(io::Error::other(
                "/proc is that of another PID namespace: pidctl needs its own one's mounted \
                 (unshare --mount-proc)",
            ));
        }
        let pid_namespace =
            fs::metadata("/proc/self/ns/pid").map(|m| std::os::unix::fs::MetadataExt::ino(&m))?;
        Ok(Place {
            boot_id: boot_id.trim().to_string(),
            pid_namespace,
        })
    }
}

/// Effective user of this process.
pub fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Clock ticks a second, the unit of a start time.
pub fn ticks_per_second() -> u64 {
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as u64 } else { 100 }
}

pub fn page_size() -> u64 {
    // SAFETY: as above.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if size > 0 { size as u64 } else { 4096 }
}

/// Seconds since boot, suspended time included: the clock of start times.
pub fn uptime() -> f64 {
    match nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        Ok(time) => time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9,
        Err(_) => 0.0,
    }
}

/// The start time of a process that began now; who was there before has a smaller one.
pub fn ticks_now() -> u64 {
    (uptime() * ticks_per_second() as f64) as u64
}

/// Seconds that the process of that start time has lived.
pub fn age(start_time: u64) -> f64 {
    (uptime() - start_time as f64 / ticks_per_second() as f64).max(0.0)
}

/// The PIDs from our parent up to the top.
pub fn ancestors() -> Vec<i32> {
    let mut found = Vec::new();
    let mut pid = std::process::id() as i32;
    while let Ok(stat) = proc::stat(pid) {
        if stat.ppid <= 0 || found.contains(&stat.ppid) {
            break;
        }
        found.push(stat.ppid);
        pid = stat.ppid;
    }
    found
}

/// 128 random bits in hexadecimal.
pub fn random_token() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is ours, its length is passed, and the call writes no more than that.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != bytes.len() as isize {
        return Err(io::Error::last_os_error());
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
