//! Which systemd units run this table as pidctl would? One per service, and a target over them.

mod start;
mod stop;

use super::{Caller, quote};
use crate::config::{Service, Table};
use anyhow::{Result, bail};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// For the user's own manager (`systemctl --user`), not the system's.
    pub user: bool,
    /// Of all unit names; see [`super::prefix`].
    pub prefix: String,
    pub caller: Caller,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub file_name: String,
    pub text: String,
}

/// All units of the table. An error names the service whose strings no unit file can hold.
pub fn units(table: &Table, options: &Options) -> Result<Vec<Unit>> {
    let prefix = super::sanitize(&options.prefix);
    let names: Vec<String> = table
        .services
        .iter()
        .map(|s| unit_name(&prefix, s))
        .collect();
    let mut units = Vec::with_capacity(names.len() + 1);
    for (service, name) in table.services.iter().zip(&names) {
        if name.len() > 255 {
            bail!("service `{}`: its unit's name is too long", service.id);
        }
        let text = service_unit(table, service, &names, &prefix, options)?;
        let file_name = name.clone();
        units.push(Unit { file_name, text });
    }
    units.push(target_unit(table, &names, &prefix, options));
    Ok(units)
}

fn unit_name(prefix: &str, service: &Service) -> String {
    format!("{prefix}-{}.service", service.id)
}

fn target_unit(table: &Table, names: &[String], prefix: &str, options: &Options) -> Unit {
    let (folder, systemctl, wanted_by) = if options.user {
        (
            "~/.config/systemd/user",
            "systemctl --user",
            "default.target",
        )
    } else {
        ("/etc/systemd/system", "systemctl", "multi-user.target")
    };
    let mut unit = Lines::default();
    unit.note(&format!("All services of {}", table.file.display()));
    unit.note(&format!(
        "Copy the units to {folder}, then: {systemctl} daemon-reload"
    ));
    unit.note(&format!("and: {systemctl} enable --now {prefix}.target"));
    unit.section("Unit");
    unit.set("Description", &format!("All services of {prefix}"));
    for name in names {
        unit.set("Wants", name);
    }
    unit.section("Install");
    unit.set("WantedBy", wanted_by);
    Unit {
        file_name: format!("{prefix}.target"),
        text: unit.0,
    }
}

fn service_unit(
    table: &Table,
    service: &Service,
    names: &[String],
    prefix: &str,
    options: &Options,
) -> Result<String> {
    super::ensure_representable(service)?;
    let mut unit = Lines::default();
    unit.note(&format!(
        "Service `{}` of {}",
        service.id,
        table.file.display()
    ));
    unit.section("Unit");
    let description = quote::one_line(&service.description);
    let description = if description.is_empty() {
        &service.id
    } else {
        &description
    };
    unit.set("Description", &quote::unquoted(description));
    unit.set("PartOf", &format!("{prefix}.target"));
    if service.port.is_some() && !options.user {
        unit.set("After", "network.target");
    }
    let dependencies = service.depends_on.iter();
    for name in dependencies.filter_map(|index| names.get(*index)) {
        unit.set("Requires", name);
        unit.set("After", name);
    }

    unit.section("Service");
    let kind = if service.daemonizes {
        "forking"
    } else {
        "exec"
    };
    unit.set("Type", kind);
    account(&mut unit, service, options);
    let cwd = super::text(service, "cwd", &normal(&service.cwd))?;
    unit.set("WorkingDirectory", &quote::folder(&cwd));
    let late = environment(&mut unit, service, options)?;
    start::start(&mut unit, service, options, &late)?;
    stop::stop(&mut unit, service);
    // As pidctl starts it: with the default dispositions.
    unit.set("IgnoreSIGPIPE", "no");
    unit.set("Restart", "on-failure");
    unit.set("RestartSec", "1s");
    unit.note("The output goes to the journal: journalctl -u this unit");
    unit.set("SyslogIdentifier", &service.id);
    Ok(unit.0)
}

fn account(unit: &mut Lines, service: &Service, options: &Options) {
    match (&service.user, &options.caller.account) {
        (Some(user), _) if options.user => {
            let user = quote::one_line(user);
            unit.note(&format!(
                "user = {user:?} is left out: a user's manager runs all as that user"
            ));
        }
        (Some(user), _) => {
            unit.set("User", &quote::unquoted(user));
        }
        (None, account) if !options.user => {
            // root is spelled out too: without User= there is no HOME, USER, LOGNAME and SHELL.
            let account = account.as_deref().unwrap_or("root");
            unit.note("The table names no user: this is who exported it");
            unit.set("User", &quote::unquoted(account));
        }
        (None, _) => {}
    }
}

/// Writes the environment; returns the variables that only env(1) can set.
fn environment(
    unit: &mut Lines,
    service: &Service,
    options: &Options,
) -> Result<Vec<(String, String)>> {
    if let Some(path) = super::inherited_path(service, &options.caller) {
        unit.note("The PATH of the shell that exported this; a unit would not get it otherwise");
        unit.set("Environment", &quote::assignment("PATH", &path));
    }
    let mut late = super::own_variables(service);
    if service.env_files.is_empty() {
        late.retain(|(name, value)| {
            let plain = quote::is_plain_variable(name, value);
            if plain {
                unit.set("Environment", &quote::assignment(name, value));
            }
            !plain
        });
        return Ok(late);
    }
    unit.note("EnvironmentFile= overrides Environment=, so env(1) sets what must win over it");
    for file in &service.env_files {
        let file = super::text(service, "env_file", &normal(file))?;
        unit.set("EnvironmentFile", &quote::file_pattern(&file));
    }
    Ok(late)
}

/// A time span as systemd.time(7) reads it. Zero would mean "no limit" there.
fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    match (ms / 1000, ms % 1000) {
        (1_000_000_000.., _) => "infinity".to_owned(),
        (seconds, 0) if seconds > 0 => format!("{seconds}s"),
        _ => format!("{}ms", ms.max(1)),
    }
}

/// systemd refuses `..` in these paths. Where one is there, the kernel says what it means.
fn normal(path: &Path) -> PathBuf {
    if !path.components().any(|part| part == Component::ParentDir) {
        return path.to_owned();
    }
    path.canonicalize().unwrap_or_else(|_| {
        let mut lexical = PathBuf::new();
        for part in path.components() {
            if part == Component::ParentDir {
                lexical.pop();
            } else {
                lexical.push(part);
            }
        }
        lexical
    })
}

/// A unit file in the making.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n[{name}]\n"));
    }

    /// The value is already written as its key wants it.
    fn set(&mut self, key: &str, value: &str) {
        self.0.push_str(&format!("{key}={value}\n"));
    }

    fn note(&mut self, text: &str) {
        self.0.push_str(&format!("# {}\n", quote::one_line(text)));
    }
}

#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
