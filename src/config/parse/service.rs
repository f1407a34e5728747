//! A service out of its entry, [defaults], and what pidctl assumes.

use super::super::{Health, Service, StopScope, Takeover};
use super::entry::Entry;
use super::health::Form;
use super::place::{Mistakes, Place};
use super::site::EXPECTED_COMMAND;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// An id names files (`<id>.log.1`, say), and a file's name has at most 255 bytes.
const LONGEST_ID: usize = 200;

const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_ATTEMPTS: u32 = 3;
const DEFAULT_LOG_MAX_SIZE: u64 = 10 << 20;
const DEFAULT_LOG_KEEP: u32 = 3;

impl Entry {
    /// The service, but for what it depends on; `None` only after a mistake has been told.
    pub fn finish(
        self,
        defaults: &Entry,
        written: &Spanned<DeValue<'_>>,
        place: &Place,
        root: &Path,
        mistakes: &mut Mistakes,
    ) -> Option<Service> {
        let keys = written.get_ref().as_table()?;
        let line = mistakes.line(written.span().start);
        let mut missing = |key, expected: &str| {
            if !keys.contains_key(key) {
                mistakes.add(
                    written.span(),
                    format!("{place}{key}: missing; expected {expected}"),
                );
            }
        };
        missing("name", "a name such as \"api\"");
        missing("command", EXPECTED_COMMAND);
        let health = self.health_on_port(defaults, keys, place, mistakes);
        let prepare = self.prepare.clone().or_else(|| defaults.prepare.clone());
        if prepare.is_none()
            && !keys.contains_key("prepare")
            && let Some(creates) = keys.get("creates")
        {
            let message =
                format!("{place}creates: nothing is to be prepared; expected prepare beside it");
            mistakes.add(creates.span(), message);
        }
        let id = self.id()?;
        if id.len() > LONGEST_ID {
            let at = keys.get("name")?.span();
            let message =
                format!("{place}name: too long; expected an id of at most {LONGEST_ID} bytes");
            mistakes.add(at, message);
        }
        Some(Service {
            id,
            name: self.name?,
            port: self.port,
            command: self.command?,
            description: self.description.unwrap_or_default(),
            cwd: self
                .cwd
                .or_else(|| defaults.cwd.clone())
                .unwrap_or_else(|| root.to_owned()),
            env: merged(&defaults.env, self.env),
            env_files: self
                .env_files
                .or_else(|| defaults.env_files.clone())
                .unwrap_or_default(),
            user: self.user.or_else(|| defaults.user.clone()),
            depends_on: Vec::new(),
            prepare,
            creates: self.creates.or_else(|| defaults.creates.clone()),
            daemonizes: self.daemonizes.or(defaults.daemonizes).unwrap_or(false),
            health: health?,
            ready_timeout: self
                .ready_timeout
                .or(defaults.ready_timeout)
                .unwrap_or(DEFAULT_READY_TIMEOUT),
            start_attempts: self
                .start_attempts
                .or(defaults.start_attempts)
                .unwrap_or(DEFAULT_START_ATTEMPTS),
            schedule: self.stop.over(&defaults.stop),
            stop_scope: self
                .stop_scope
                .or(defaults.stop_scope)
                .unwrap_or(StopScope::Family),
            process_names: self
                .process_names
                .or_else(|| defaults.process_names.clone())
                .unwrap_or_default(),
            takeover: self
                .takeover
                .or(defaults.takeover)
                .unwrap_or(Takeover::Matching),
            log_max_size: self
                .log_max_size
                .or(defaults.log_max_size)
                .unwrap_or(DEFAULT_LOG_MAX_SIZE),
            log_keep: self
                .log_keep
                .or(defaults.log_keep)
                .unwrap_or(DEFAULT_LOG_KEEP),
            line,
        })
    }

    fn health_on_port(
        &self,
        defaults: &Entry,
        keys: &DeTable<'_>,
        place: &Place,
        mistakes: &mut Mistakes,
    ) -> Option<Health> {
        // What is there but wrong has been told already.
        let own_is_wrong = self.health.is_none() && keys.contains_key("health");
        let port_is_wrong = self.port.is_none() && keys.contains_key("port");
        if own_is_wrong || port_is_wrong {
            return None;
        }
        let Some(form) = self.health.as_ref().or(defaults.health.as_ref()) else {
            return Some(Form::default_for(self.port));
        };
        let health = form.get_ref().clone().on_port(self.port);
        if health.is_none() {
            let message = format!(
                "{place}health: needs a port, and this service has none; expected a port, health = \"none\", a command, or a whole URL"
            );
            mistakes.add(form.span(), message);
        }
        health
    }
}

/// The variables of [defaults] that the service does not set itself, then its own.
fn merged(defaults: &[(String, String)], own: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut env: Vec<_> = defaults
        .iter()
        .filter(|(name, _)| !own.iter().any(|(other, _)| other == name))
        .cloned()
        .collect();
    env.extend(own);
    env
}
