//! May a process listen on a low port? What capabilities(7) says of CAP_NET_BIND_SERVICE across exec.

use crate::sys::boot;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const NET_BIND_SERVICE: u64 = 1 << 10;
const SETUID: u32 = 0o4000;

/// From this port on everybody may listen.
pub fn first_free_port() -> u16 {
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(1024)
}

/// May `program`, where it is known, listen on low ports when pidctl runs it as `uid`?
pub fn may_bind_low_ports(uid: u32, program: Option<&Path>) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let has = |set: &str| mask(&status, set) & NET_BIND_SERVICE != 0;
    let bounded = has("CapBnd");
    match uid {
        // What root executes has all that the bounding set allows.
        0 => bounded,
        _ if uid == boot::euid() && has("CapAmb") => true,
        _ => bounded && program.is_some_and(has_its_own),
    }
}

/// A set of /proc/PID/status.
fn mask(status: &str, set: &str) -> u64 {
    let mut lines = status.lines();
    let hex = lines.find_map(|line| line.strip_prefix(set)?.strip_prefix(':'));
    hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// The file gives the right itself: by capabilities of its own, or as root's.
fn has_its_own(program: &Path) -> bool {
    let is_roots = |metadata: fs::Metadata| metadata.uid() == 0 && metadata.mode() & SETUID != 0;
    fs::metadata(program).is_ok_and(is_roots) || has_file_capabilities(program)
}

fn has_file_capabilities(program: &Path) -> bool {
    let Ok(path) = CString::new(program.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"security.capability".as_ptr();
    // SAFETY: both strings end in NUL; with a length of 0 nothing is written, only the size is told.
    unsafe { libc::getxattr(path.as_ptr(), name, std::ptr::null_mut(), 0) > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_the_status_file() {
        let status = "CapInh:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\tx\n";
        assert_eq!(mask(status, "CapBnd"), 0xa804_25fb);
        assert_eq!(mask(status, "CapInh"), 0);
        assert_eq!(mask(status, "CapAmb"), 0);
        assert_eq!(mask("", "CapBnd"), 0);
    }

    #[test]
    fn a_plain_program_gives_no_right() {
        assert!(!has_its_own(Path::new("/bin/cat")));
        assert!(!has_its_own(Path::new("/nowhere")));
        assert!(!may_bind_low_ports(65_534, None));
    }
}
