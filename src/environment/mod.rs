//! What a service's processes get: variables, user, folder, program. The same for its command,
//! `prepare` and health checks.

#[cfg(test)]
mod hostile;
mod program;
mod simple_command;
mod variables;

pub use program::{Program, Surroundings};
pub use variables::{TOKEN, Variables};

use crate::config::{Command, Service, Table, env_file};
use crate::sys::boot;
use crate::sys::spawn;
use crate::sys::users::{self, Account};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Environment {
    pub variables: Variables,
    /// `None`: it runs as the caller.
    pub account: Option<Account>,
    pub cwd: PathBuf,
}

impl Environment {
    /// The caller's variables, over them those of the user it runs as, of `env_file`, of `env`, and
    /// pidctl's own. The error names what is missing.
    pub fn of(service: &Service) -> Result<Environment, String> {
        let (environment, troubles) = Environment::gather(service);
        match troubles.into_iter().next() {
            None => Ok(environment),
            Some((_, why)) => Err(why),
        }
    }

    /// What can be had of it, and each trouble with the key that it comes from.
    pub fn gather(service: &Service) -> (Environment, Vec<(&'static str, String)>) {
        let mut troubles = Vec::new();
        let mut variables = Variables::inherited();
        let account = match service.user.as_deref().map(account_of).transpose() {
            Ok(account) => account,
            Err(why) => {
                troubles.push(("user", why));
                None
            }
        };
        if let Some(account) = &account {
            variables.set("HOME", account.home.as_os_str());
            variables.set("USER", &account.name);
            variables.set("LOGNAME", &account.name);
            variables.set("SHELL", account.shell.as_os_str());
        }
        for file in &service.env_files {
            match env_file::load(file) {
                Ok(pairs) => pairs
                    .into_iter()
                    .for_each(|(name, value)| variables.set(name, value)),
                Err(error) => troubles.push(("env_file", error.to_string().trim_end().to_string())),
            }
        }
        service
            .env
            .iter()
            .for_each(|(name, value)| variables.set(name, value));
        if let Some(port) = service.port {
            variables.set("PORT", port.to_string());
        }
        variables.set("PIDCTL_SERVICE", &service.id);
        let environment = Environment {
            variables,
            account,
            cwd: service.cwd.clone(),
        };
        (environment, troubles)
    }

    pub fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            variables: &self.variables,
            cwd: &self.cwd,
        }
    }

    /// The user whose processes these are.
    pub fn uid(&self) -> u32 {
        self.account
            .as_ref()
            .map_or_else(boot::euid, |account| account.uid)
    }

    pub fn program(&self, service: &Service) -> Option<Program> {
        Program::of(&service.command, &self.surroundings())
    }

    /// The file that the command's first word names, if it names one to look for.
    pub fn found(&self, service: &Service) -> Option<PathBuf> {
        let surroundings = self.surroundings();
        let words = program::words(&service.command, &surroundings)?;
        spawn::resolve(&words[0], &surroundings.search_path(), &self.cwd)
    }

    /// Fails, telling the PATH that was searched, where the command names a file that is not there.
    pub fn ensure_command_is_found(&self, service: &Service) -> Result<(), String> {
        if !self.cwd.is_dir() {
            return Err(format!("its cwd {} is no folder", self.cwd.display()));
        }
        self.find(&service.command)
            .map_err(|why| format!("command {why}"))
    }

    /// Is the file there that the first word of the command names? What cannot be known without
    /// running it passes.
    pub fn find(&self, command: &Command) -> Result<(), String> {
        let surroundings = self.surroundings();
        let Some(words) = program::words(command, &surroundings) else {
            return Ok(());
        };
        let path = surroundings.search_path();
        if spawn::resolve(&words[0], &path, &self.cwd).is_some() {
            return Ok(());
        }
        let word = words[0].to_string_lossy();
        Err(if word.contains('/') {
            let there = self.cwd.join(&words[0]).canonicalize();
            match there.as_ref().ok().filter(|there| there.is_file()) {
                Some(there) => format!("not executable: {word} (chmod +x {})", there.display()),
                None => format!(
                    "not found: {word} (no executable file there; cwd is {})",
                    self.cwd.display()
                ),
            }
        } else {
            format!(
                "not found: {word}; searched PATH={}",
                path.to_string_lossy()
            )
        })
    }
}

fn account_of(user: &str) -> Result<Account, String> {
    let account = users::account(user)
        .map_err(|error| format!("user {user} cannot be looked up: {error}"))?
        .ok_or_else(|| format!("user {user} does not exist"))?;
    if boot::euid() != 0 && account.uid != boot::euid() {
        return Err(format!(
            "user = \"{user}\": only root may run a service as another user"
        ));
    }
    Ok(account)
}

/// Changes when the part of the table's entry changes that a running instance was started from.
pub fn digest(table: &Table, service: &Service) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{:?}", service.command).hash(&mut hasher);
    (
        &service.port,
        &service.cwd,
        &service.env,
        &service.env_files,
        &service.user,
        service.daemonizes,
    )
        .hash(&mut hasher);
    table.file.hash(&mut hasher);
    hasher.finish()
}
