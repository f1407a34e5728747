//! The clock on the wall: localtime(3).

use std::fmt;
use std::mem::MaybeUninit;
use std::time::{SystemTime, UNIX_EPOCH};

/// Shown as `2026-11-20 03:00:12`, in the time zone of the caller.
pub struct LocalTime(libc::tm);

impl LocalTime {
    /// `None` for what no calendar has: before 1970, or a year that does not fit.
    pub fn of(time: SystemTime) -> Option<LocalTime> {
        let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let seconds = libc::time_t::try_from(seconds).ok()?;
        let mut tm = MaybeUninit::<libc::tm>::uninit();
        // SAFETY: both pointers are valid for the call, and nothing in this program changes the
        // environment (TZ) that it reads.
        let made = unsafe { libc::localtime_r(&seconds, tm.as_mut_ptr()) };
        if made.is_null() {
            return None;
        }
        // SAFETY: localtime_r has filled it in, as it returned it.
        Some(LocalTime(unsafe { tm.assume_init() }))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tm = &self.0;
        let year = i64::from(tm.tm_year) + 1900;
        write!(f, "{year:04}-{:02}-{:02} ", tm.tm_mon + 1, tm.tm_mday)?;
        write!(f, "{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn within_a_day_of_utc() {
        let shown = |seconds| LocalTime::of(UNIX_EPOCH + Duration::from_secs(seconds));
        let text = shown(1_000_000_000).unwrap().to_string();
        // 2001-09-09 01:46:40 UTC
        assert!(
            text.starts_with("2001-09-0") && text.ends_with(":40"),
            "{text}"
        );
        assert!(LocalTime::of(UNIX_EPOCH - Duration::from_secs(1)).is_none());
        assert!(shown(i64::MAX as u64).is_none());
    }
}
