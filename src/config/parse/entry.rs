//! What one entry of the table, `[[service]]` or `[defaults]`, says key by key.

use super::super::errors::quoted;
use super::super::{Command, StopScope, Takeover};
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

/// What an entry says, key by key; what it got wrong is left out and has been told.
#[derive(Default)]
pub struct Entry {
    pub name: Option<String>,
    pub port: Option<u16>,
    pub depends_on: Option<Vec<Spanned<String>>>,
    pub command: Option<Command>,
    pub description: Option<String>,
    pub cwd: Option<PathBuf>,
    pub env: Vec<(String, String)>,
    pub env_files: Option<Vec<PathBuf>>,
    pub user: Option<String>,
    pub prepare: Option<Command>,
    pub creates: Option<PathBuf>,
    pub daemonizes: Option<bool>,
    pub health: Option<Spanned<Form>>,
    pub ready_timeout: Option<Duration>,
    pub start_attempts: Option<u32>,
    pub stop: Stop,
    pub stop_scope: Option<StopScope>,
    pub process_names: Option<Vec<String>>,
    pub takeover: Option<Takeover>,
    pub log_max_size: Option<u64>,
    pub log_keep: Option<u32>,
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
}

impl Site<'_> {
    fn name(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        const EXPECTED: &str =
            "a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit";
        let text = self.text(value, EXPECTED)?;
        if !is_name(text) {
            let text = quoted(text);
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
                let path = quoted(name.get_ref());
                self.wrong(
                    name.span(),
                    format!("{path} is a path; expected the program's name alone"),
                );
            }
        }
        Some(names.into_iter().map(Spanned::into_inner).collect())
    }
}
