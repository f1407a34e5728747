//! Are the folders and files there that the table names, and does nobody else decide what is in them?

use super::Findings;
use crate::config::{Service, Table};
use crate::environment::Environment;
use crate::state::folder::{Folder, Refused};
use crate::sys::files;
use crate::sys::users::Account;
use nix::unistd::{AccessFlags, access};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub fn look_at_table(table: &Table, findings: &mut Findings) {
    if let Ok(metadata) = table.file.metadata()
        && metadata.mode() & 0o002 != 0
    {
        let message = format!(
            "anybody may write it (mode {:04o}), and so decide what you run; chmod o-w {}",
            metadata.mode() & 0o7777,
            table.given.display()
        );
        findings.of_all(None, message);
    }
    let pids = match Folder::open(&table.pids_dir) {
        Ok(_) => unwritable(&table.pids_dir),
        Err(Refused::Missing) => cannot_be_made(&table.pids_dir),
        Err(refused) => Some(format!(
            "start and stop will fail: {}",
            refused.about(&table.pids_dir)
        )),
    };
    let logs = match files::open_folder(&table.logs_dir) {
        Ok((_, stat)) => files::untrusted(stat.st_uid, stat.st_mode)
            .map(|why| {
                let path = table.logs_dir.display();
                let consequence = match nix::unistd::geteuid().is_root() {
                    true => "as root, start will refuse it",
                    false => "others can change what is logged there",
                };
                format!("{path}: {why}; {consequence} ({})", why.remedy(&path))
            })
            .or_else(|| unwritable(&table.logs_dir)),
        Err(_) if table.logs_dir.symlink_metadata().is_err() => cannot_be_made(&table.logs_dir),
        Err(error) => Some(format!(
            "{}: cannot be opened: {error}",
            table.logs_dir.display()
        )),
    };
    for (key, trouble) in [("pids_dir", pids), ("logs_dir", logs)] {
        if let Some(trouble) = trouble {
            findings.of_all(Some(key), trouble);
        }
    }
}

fn unwritable(folder: &Path) -> Option<String> {
    let error = access(folder, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    let path = folder.display();
    Some(format!(
        "{path}: you cannot write there: {}; run pidctl as its owner",
        error.desc()
    ))
}

/// A folder that `start` would have to make, and cannot.
fn cannot_be_made(folder: &Path) -> Option<String> {
    let mut above = folder.ancestors().skip(1);
    let above = above.find(|above| above.symlink_metadata().is_ok())?;
    let why = match above.is_dir() {
        true => access(above, AccessFlags::W_OK | AccessFlags::X_OK)
            .err()?
            .desc(),
        false => "it is no folder",
    };
    let (path, above) = (folder.display(), above.display());
    Some(format!(
        "{path} is missing and cannot be made in {above}: {why}; make it, or correct the path"
    ))
}

pub fn look_at_cwd(service: &Service, environment: &Environment, findings: &mut Findings) {
    let cwd = &service.cwd;
    let path = cwd.display();
    let trouble = match cwd.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(format!(
            "no such folder: {path}; make it, or correct the path"
        )),
        Err(error) => Some(format!(
            "{path}: {error}; correct the path or its permissions"
        )),
        Ok(metadata) if !metadata.is_dir() => {
            Some(format!("{path} is no folder; correct the path"))
        }
        Ok(_) => match &environment.account {
            Some(account) if account.uid != nix::unistd::geteuid().as_raw() => {
                closed_to(account, cwd)
            }
            _ => access(cwd, AccessFlags::X_OK).err().map(|error| {
                format!(
                    "you may not enter {path}: {}; chmod it, or run pidctl as its owner",
                    error.desc()
                )
            }),
        },
    };
    if let Some(trouble) = trouble {
        findings.of(service, "cwd", trouble);
    }
}

/// The first folder on the way that this user may not enter, as far as owner and mode tell.
fn closed_to(account: &Account, cwd: &Path) -> Option<String> {
    let real = cwd.canonicalize().ok()?;
    let mut way: Vec<&Path> = real.ancestors().collect();
    way.reverse();
    let closed = |folder: &&Path| {
        folder
            .metadata()
            .is_ok_and(|metadata| !may_enter(account, &metadata))
    };
    let folder = way.into_iter().find(closed)?;
    Some(format!(
        "user {} may not enter {}; chmod o+x it, or put the service elsewhere",
        account.name,
        folder.display()
    ))
}

fn may_enter(account: &Account, folder: &Metadata) -> bool {
    let bit = if account.uid == 0 {
        return true;
    } else if folder.uid() == account.uid {
        0o100
    } else if folder.gid() == account.gid || account.groups.contains(&folder.gid()) {
        0o010
    } else {
        0o001
    };
    folder.mode() & bit != 0
}
