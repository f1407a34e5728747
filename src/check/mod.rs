//! What of a table without mistakes will go wrong all the same, here and now: everything that a person
//! would rather be told before `start` than by it. Nothing is started, nothing is changed.

mod files;
mod port;
mod programs;
mod runner;
mod session;

use crate::act::context::Act;
use crate::config::{Service, Table};
use crate::environment::Environment;
use crate::logs::sanitize::sanitize;
use serde::Serialize;
use std::path::Path;
use std::rc::Rc;

/// One thing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its id; `None` where the whole table is meant.
    pub service: Option<String>,
    pub key: Option<&'static str>,
    /// Of the service.
    pub line: Option<usize>,
    pub message: String,
}

/// What has been found so far.
#[derive(Default)]
struct Findings(Vec<Warning>);

impl Findings {
    fn of(&mut self, service: &Service, key: &'static str, message: impl Into<String>) {
        self.0.push(Warning {
            service: Some(service.id.clone()),
            key: Some(key),
            line: Some(service.line),
            message: message.into(),
        });
    }

    fn of_all(&mut self, key: Option<&'static str>, message: impl Into<String>) {
        self.0.push(Warning {
            service: None,
            key,
            line: None,
            message: message.into(),
        });
    }
}

/// Everything there is to say: of the table as a whole first, then in the order of its lines. `act` is made
/// where a port is held and it is to be told by whom.
pub fn warnings(
    table: &Rc<Table>,
    act: impl FnOnce() -> anyhow::Result<Rc<Act>>,
) -> anyhow::Result<Vec<Warning>> {
    let mut findings = Findings::default();
    files::look_at_table(table, &mut findings);
    let mut environments = Vec::new();
    for service in &table.services {
        let (environment, troubles) = Environment::gather(service);
        for (key, trouble) in troubles {
            findings.of(
                service,
                key,
                format!("{trouble}; {}", advice(key, &trouble)),
            );
        }
        files::look_at_cwd(service, &environment, &mut findings);
        programs::look(service, &environment, &mut findings);
        environments.push(environment);
    }
    port::look(table, act, &environments, &mut findings)?;
    session::look(&mut findings);
    runner::look(table, &environments, &mut findings);
    findings.0.sort_by_key(|warning| warning.line);
    Ok(findings.0)
}

/// What to do where the environment cannot be had.
fn advice(key: &str, trouble: &str) -> &'static str {
    match key {
        "user" if trouble.contains("only root") => "run pidctl as root, or leave the key out",
        "user" => "correct the name, or add the user",
        _ if trouble.ends_with("no such file") => "make it, or correct the path",
        _ => "start would fail",
    }
}

impl Warning {
    /// As the table's mistakes are told: `services.toml:7: warning: service api_8000: cwd: …`.
    pub fn told(&self, given: &Path) -> String {
        let line = self
            .line
            .map_or_else(String::new, |line| format!("{line}:"));
        let service = self.service.as_ref();
        let service = service.map_or_else(String::new, |id| format!("service {id}: "));
        let key = self.key.map_or_else(String::new, |key| format!("{key}: "));
        let given = given.display();
        let message = sanitize(self.message.as_bytes());
        format!("{given}:{line} warning: {service}{key}{message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_says_where_and_what() {
        let mut warning = Warning {
            service: Some("api_8000".into()),
            key: Some("cwd"),
            line: Some(7),
            message: "no such folder".into(),
        };
        let given = Path::new("x/services.toml");
        assert_eq!(
            warning.told(given),
            "x/services.toml:7: warning: service api_8000: cwd: no such folder"
        );
        warning.message = "no such folder: a\n\u{1b}[31m".into();
        let told = warning.told(given);
        assert!(!told.contains(char::is_control), "{told:?}");
        warning.message = "no such folder".into();
        (warning.service, warning.line) = (None, None);
        assert_eq!(
            warning.told(given),
            "x/services.toml: warning: cwd: no such folder"
        );
    }
}
