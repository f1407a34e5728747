//! One entry of the table, `[[service]]` or `[defaults]`, and a service out of the two.

use super::super::{Command, Health, Service, StopScope, Takeover};
use super::health::Form;
use super::place::{Mistakes, Place, is_name};
use super::site::Site;
use super::stop::Stop;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What belongs to one service alone comes first: [defaults] may not have it.
pub const KEYS: [&str; 23] = [
    "name",
    "port",
    "command",
    "description",
    "cwd",
    "env",
    "env_file",
    "user",
    "depends_on",
    "prepare",
    "creates",
    "daemonizes",
    "health",
    "ready_timeout",
    "start_attempts",
    "stop_signal",
    "stop_timeout",
    "stop_schedule",
    "stop_scope",
    "process_names",
    "takeover",
    "log_max_size",
    "log_keep",
];
const OWN_KEYS: usize = 4;

/// An id names files (`<id>.log.1`, say), and a file's name has at most 255 bytes.
const LONGEST_ID: usize = 200;

const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_ATTEMPTS: u32 = 3;
const DEFAULT_LOG_MAX_SIZE: u64 = 10 << 20;
const DEFAULT_LOG_KEEP: u32 = 3;

/// What an entry says, key by key; what it got wrong is left out and has been told.
#[derive(Default)]
pub struct Entry {
    pub name: Option<String>,
    pub port: Option<u16>,
    pub depends_on: Option<Vec<Spanned<String>>>,
    command: Option<Command>,
    description: Option<String>,
    cwd: Option<PathBuf>,
    env: Vec<(String, String)>,
    env_files: Option<Vec<PathBuf>>,
    user: Option<String>,
    prepare: Option<Command>,
    creates: Option<PathBuf>,
    daemonizes: Option<bool>,
    health: Option<Spanned<Form>>,
    ready_timeout: Option<Duration>,
    start_attempts: Option<u32>,
    stop: Stop,
    stop_scope: Option<StopScope>,
    process_names: Option<Vec<String>>,
    takeover: Option<Takeover>,
    log_max_size: Option<u64>,
    log_keep: Option<u32>,
}

impl Entry {
    pub fn read(keys: &DeTable<'_>, place: &Place, root: &Path, mistakes: &mut Mistakes) -> Entry {
        let mut entry = Entry::default();
        let known = match place {
            Place::Defaults => KEYS.get(OWN_KEYS..).unwrap_or_default(),
            _ => &KEYS,
        };
        for (key, value) in keys {
            let mut site = Site {
                place,
                key: key.get_ref(),
                root,
                mistakes,
            };
            if known.contains(&site.key) {
                entry.read_key(&mut site, value, keys);
            } else if KEYS.contains(&site.key) {
                site.wrong(
                    key.span(),
                    "[defaults] may not have it; it belongs to one service",
                );
            } else if super::TABLE_KEYS.contains(&site.key) {
                site.wrong(
                    key.span(),
                    "unknown key here; expected at the top, above the first [ of the table",
                );
            } else {
                site.unknown_key(key.span(), known);
            }
        }
        entry
    }

    fn read_key(&mut self, site: &mut Site, value: &Spanned<DeValue<'_>>, keys: &DeTable<'_>) {
        match site.key {
            "name" => self.name = site.name(value),
            "port" => {
                self.port = site
                    .number(value, 1..=65535)
                    .and_then(|port| u16::try_from(port).ok());
            }
            "command" => self.command = site.command(value),
            "description" => self.description = site.line_of_text(value),
            "cwd" => self.cwd = site.path(value),
            "env" => self.env = site.env(value).unwrap_or_default(),
            "env_file" => self.env_files = site.path_or_paths(value),
            "user" => self.user = site.text(value, "the name of a user").map(str::to_owned),
            "depends_on" => self.depends_on = site.texts(value, "ids or names of services"),
            "prepare" => self.prepare = site.command(value),
            "creates" => self.creates = site.path(value),
            "daemonizes" => self.daemonizes = site.boolean(value),
            "health" => {
                let form = site.health(value);
                self.health = form.map(|form| Spanned::new(value.span(), form));
            }
            "ready_timeout" => self.ready_timeout = site.duration_above_zero(value),
            "start_attempts" => self.start_attempts = site.number(value, 1..=1000),
            "stop_signal" => self.stop.signal = site.signal(value),
            "stop_timeout" => self.stop.timeout = site.duration(value),
            "stop_schedule" => {
                site.refuse_both_forms(value, keys);
                self.stop.schedule = site.schedule(value);
            }
            "stop_scope" => {
                self.stop_scope = site.word(
                    value,
                    &[("family", StopScope::Family), ("leader", StopScope::Leader)],
                );
            }
            "process_names" => self.process_names = site.process_names(value),
            "takeover" => {
                self.takeover = site.word(
                    value,
                    &[
                        ("matching", Takeover::Matching),
                        ("any", Takeover::Any),
                        ("never", Takeover::Never),
                    ],
                );
            }
            "log_max_size" => self.log_max_size = site.size(value),
            "log_keep" => self.log_keep = site.number(value, 0..=1000),
            _ => {}
        }
    }

    pub fn id(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(match self.port {
            Some(port) => format!("{name}_{port}"),
            None => name.clone(),
        })
    }

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
        missing("command", super::site::EXPECTED_COMMAND);
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
        let Some(form) = self.health.as_ref().or(defaults.health.as_ref()) else {
            return Some(Form::default_for(self.port));
        };
        let health = form.get_ref().clone().on_port(self.port);
        // A port that is there but wrong has been told already.
        if health.is_none() && !keys.contains_key("port") {
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

impl Site<'_> {
    fn name(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        const EXPECTED: &str =
            "a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit";
        let text = self.text(value, EXPECTED)?;
        if !is_name(text) {
            let text = super::quoted(text);
            self.wrong(
                value.span(),
                format!("{text} is no name; expected {EXPECTED}"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn line_of_text(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = self.text(value, "a line of text")?;
        if text.contains(char::is_control) {
            self.wrong(
                value.span(),
                "holds a line break or another control character; expected one line of text",
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn process_names(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
        let names = self.texts(value, "names of programs")?;
        for name in &names {
            if name.get_ref().contains('/') {
                let path = super::quoted(name.get_ref());
                self.wrong(
                    name.span(),
                    format!("{path} is a path; expected the program's name alone"),
                );
            }
        }
        Some(names.into_iter().map(Spanned::into_inner).collect())
    }
}
