//! Users and groups by name and number.

use nix::unistd::{Uid, User};
use std::ffi::CString;
use std::io;
use std::path::PathBuf;

/// Everything a service needs to run as somebody.
#[derive(Clone, Debug)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, the primary one among them.
    pub groups: Vec<u32>,
    pub home: PathBuf,
    pub shell: PathBuf,
}

/// `None`: no such user. A number is taken as a user id that has an entry.
pub fn account(name: &str) -> io::Result<Option<Account>> {
    let mut user = User::from_name(name)?;
    if user.is_none()
        && let Ok(uid) = name.parse()
    {
        user = User::from_uid(Uid::from_raw(uid))?;
    }
    let Some(user) = user else { return Ok(None) };
    let c_name = CString::new(user.name.clone()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let groups = nix::unistd::getgrouplist(&c_name, user.gid)?;
    Ok(Some(Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.iter().map(|gid| gid.as_raw()).collect(),
        home: user.dir,
        shell: user.shell,
    }))
}

/// The user's name, or the number where it has none.
pub fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}
