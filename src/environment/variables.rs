//! Environment variables of a service: its own over the caller's, which are kept once for all.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

/// Marks what an instance starts as its family: `<32 hex digits>:<folder of the PID files>`. The folder
/// tells another pidctl where the record is that the token belongs to.
pub const TOKEN: &str = "PIDCTL_TOKEN";
/// Variables that mean nothing to a service: another instance's, or the calling shell's.
const NOT_FOR_SERVICES: &[&str] = &[TOKEN, "PIDCTL_SERVICE", "_"];

/// The caller's, as execve(2) takes them. A thousand services share them.
static CALLER: LazyLock<Vec<(OsString, CString)>> = LazyLock::new(|| {
    std::env::vars_os()
        .filter(|(name, _)| !NOT_FOR_SERVICES.iter().any(|other| name == other))
        .filter_map(|(name, value)| {
            let entry = entry(&name, &value).ok()?;
            Some((name, entry))
        })
        .collect()
});

fn entry(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    let bytes = [name.as_bytes(), b"=", value.as_bytes()].concat();
    CString::new(bytes).map_err(|_| {
        let name = name.to_string_lossy();
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the environment variable {name} holds a NUL byte"),
        )
    })
}

#[derive(Clone, Debug)]
pub struct Variables {
    inherited: bool,
    own: Vec<(OsString, OsString)>,
}

impl Variables {
    /// The caller's, to begin with.
    pub fn inherited() -> Variables {
        Variables {
            inherited: true,
            own: Vec::new(),
        }
    }

    /// These and no others.
    #[cfg(test)]
    pub fn only(own: &[(&str, &str)]) -> Variables {
        let own = own
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Variables {
            inherited: false,
            own,
        }
    }

    /// Sets it, over whatever it was.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.own.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => self.own.push((name, value)),
        }
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        if let Some((_, value)) = self.own.iter().find(|(known, _)| known == name) {
            return Some(value);
        }
        let (_, entry) = CALLER
            .iter()
            .find(|(known, _)| self.inherited && known == name)?;
        Some(OsStr::from_bytes(&entry.as_bytes()[name.len() + 1..]))
    }

    /// As execve(2) takes them: those made for this command, and the shared ones.
    pub fn block(&self) -> io::Result<(Vec<CString>, Vec<&'static CStr>)> {
        let own = self
            .own
            .iter()
            .map(|(name, value)| entry(name, value))
            .collect::<io::Result<_>>()?;
        let is_own = |name: &OsString| self.own.iter().any(|(known, _)| known == name);
        let shared = CALLER
            .iter()
            .filter(|(name, _)| self.inherited && !is_own(name));
        Ok((own, shared.map(|(_, entry)| entry.as_c_str()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_s_own_come_over_the_caller_s() {
        let mut variables = Variables::inherited();
        variables.set("PATH", "/own");
        variables.set("PATH", "/later");
        assert_eq!(variables.get("PATH"), Some(OsStr::new("/later")));
        let (own, shared) = variables.block().unwrap();
        assert_eq!(own, [CString::new("PATH=/later").unwrap()]);
        assert!(
            !shared
                .iter()
                .any(|entry| entry.to_bytes().starts_with(b"PATH="))
        );
        assert_eq!(Variables::only(&[]).get("PATH"), None);
    }
}
