//! How would another supervisor run this table? What the formats share: names, argument vectors,
//! the environment, and how "ready" is asked for without pidctl.

pub mod nomad;
pub mod quote;
#[cfg(test)]
mod sample;
pub mod systemd;
#[cfg(test)]
mod unit_reader;

use crate::config::{Command, Service, Table};
use anyhow::{Result, bail};
use nix::unistd::{AccessFlags, User, access, geteuid};
use std::path::{Path, PathBuf};

/// What a service would have inherited from whoever starts it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Their PATH: services are given it unless they set their own.
    pub path: Option<String>,
    /// Their name, unless they are root: a service without `user` must not become root's by being
    /// exported.
    pub account: Option<String>,
}

impl Caller {
    pub fn current() -> Caller {
        let uid = geteuid();
        let user = || User::from_uid(uid).ok().flatten();
        Caller {
            path: std::env::var("PATH").ok(),
            account: if uid.is_root() {
                None
            } else {
                Some(user().map_or_else(|| uid.to_string(), |user| user.name))
            },
        }
    }
}

/// The prefix of all exported names: the name of the table's folder, in the characters that unit
/// names and job names have in common.
pub fn prefix(table: &Table) -> String {
    let name = table.root.file_name().unwrap_or_default();
    sanitize(&name.to_string_lossy())
}

fn sanitize(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = name.replace(|c| !allowed(c), "-");
    // A leading dot hides a file from systemd, a leading dash looks like an option.
    let name = name.trim_matches(['-', '.']);
    match name.get(..name.len().min(100)) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "services".to_owned(),
    }
}

/// The argument vector of a command.
fn words(command: &Command) -> Vec<String> {
    match command {
        Command::Shell(line) => ["/bin/sh", "-c", line].map(String::from).to_vec(),
        Command::Exec(words) => words.clone(),
    }
}

/// `prepare`, skipped where `creates` exists.
fn prepare_words(service: &Service, command: Vec<String>) -> Result<Vec<String>> {
    let Some(creates) = &service.creates else {
        return Ok(command);
    };
    let skip = ["/bin/sh", "-c", "test -e \"$0\" || exec \"$@\""];
    let mut all = skip.map(String::from).to_vec();
    all.push(text(service, "creates", creates)?);
    all.extend(command);
    Ok(all)
}

/// What outranks `env_file`: the service's `env` and what pidctl gives it, each name once.
fn own_variables(service: &Service) -> Vec<(String, String)> {
    let port = service.port.map(|port| ("PORT".into(), port.to_string()));
    let id = ("PIDCTL_SERVICE".into(), service.id.clone());
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in service.env.iter().cloned().chain(port).chain([id]) {
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    all
}

/// The caller's PATH, where the service does not set its own in `env`.
fn inherited_path(service: &Service, caller: &Caller) -> Option<String> {
    let own = service.env.iter().any(|(name, _)| name == "PATH");
    caller.path.clone().filter(|_| !own)
}

/// `argv` behind env(1), which sets `variables` last of all and looks for the program on PATH.
fn behind_env(variables: &[(String, String)], argv: Vec<String>) -> Vec<String> {
    let mut all = vec!["/usr/bin/env".to_owned(), "--".to_owned()];
    all.extend(variables.iter().map(|(n, v)| format!("{n}={v}")));
    if argv.first().is_some_and(|program| program.contains('=')) {
        // env(1) would take it for one more variable.
        all.extend(through_shell());
    }
    all.extend(argv);
    all
}

/// Runs the words after it, whatever characters the first of them has.
fn through_shell() -> [String; 3] {
    ["/bin/sh", "-c", "exec \"$0\" \"$@\""].map(String::from)
}

/// A command that succeeds while somebody listens on the TCP port. It needs nothing but grep, and
/// asks the kernel instead of opening a connection that the service would have to serve.
fn listening(port: u16) -> Vec<String> {
    let state = format!(":{port:04X} [0-9A-F]*:0000 0A");
    let tables = ["/proc/net/tcp".to_owned(), "/proc/net/tcp6".to_owned()];
    let mut all = vec!["grep".to_owned(), "-qs".to_owned(), state];
    all.extend(tables);
    all
}

/// The executable file that the first word of a command means, as execvp(3) would find it.
fn find_program(word: &str, path: &str, cwd: &Path) -> Option<PathBuf> {
    let candidates = if word.contains('/') {
        vec![cwd.join(word)]
    } else {
        // An empty entry of PATH is the working directory; joining does just that.
        let folders = path.split(':').map(|folder| cwd.join(folder).join(word));
        folders.collect()
    };
    let is_program = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    candidates.into_iter().find(is_program)
}

/// A path as text that fits on one line; the error names service and key.
fn text(service: &Service, key: &str, path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => bail!(
            "service `{}`: {key} = {path:?} holds a control character or is not UTF-8, which cannot be exported",
            service.id
        ),
    }
}

/// Strings that no environment and no argument vector can hold.
fn ensure_representable(service: &Service) -> Result<()> {
    for (name, value) in &service.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            bail!(
                "service `{}`: env: {name:?} cannot be a variable",
                service.id
            );
        }
    }
    if service
        .user
        .iter()
        .any(|user| user.contains(char::is_control))
    {
        bail!("service `{}`: user holds a control character", service.id);
    }
    let mut commands = vec![("command", &service.command)];
    commands.extend(service.prepare.iter().map(|command| ("prepare", command)));
    if let crate::config::Health::Command { command, .. } = &service.health {
        commands.push(("health", command));
    }
    for (key, command) in commands {
        let words = words(command);
        if words.is_empty() || words.iter().any(|word| word.contains('\0')) {
            bail!(
                "service `{}`: {key} is empty or holds a NUL character",
                service.id
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folder_name_becomes_a_prefix() {
        for (name, expected) in [
            ("/srv/shop", "shop"),
            ("/srv/my shop@home", "my-shop-home"),
            ("/srv/.hidden", "hidden"),
            ("/srv/größe", "gr--e"),
            ("/srv/--", "services"),
            ("/", "services"),
        ] {
            let mut table = sample::table(Vec::new());
            table.root = PathBuf::from(name);
            assert_eq!(prefix(&table), expected, "{name}");
        }
        assert_eq!(sanitize(&"x".repeat(300)).len(), 100);
    }

    #[test]
    fn pidctls_own_variables_come_last_and_once() {
        let mut service = sample::service("api", Some(8000));
        service.env = [("PORT", "1"), ("A", "2"), ("A", "3")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .to_vec();
        let names: Vec<String> = own_variables(&service)
            .into_iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(names, ["A=3", "PORT=8000", "PIDCTL_SERVICE=api_8000"]);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_names_the_service() {
        let wrong: [fn(&mut Service); 6] = [
            |s| s.command = Command::Exec(vec!["a\0b".into()]),
            |s| s.prepare = Some(Command::Shell("\0".into())),
            |s| s.env.push(("A=B".into(), String::new())),
            |s| s.env.push(("A".into(), "\0".into())),
            |s| s.cwd = "/a\nUser=root".into(),
            |s| s.user = Some("x\nType=oneshot".into()),
        ];
        for (index, spoil) in wrong.iter().enumerate() {
            let mut service = sample::service("api", None);
            spoil(&mut service);
            let table = sample::table(vec![service]);
            let systemd =
                systemd::units(&table, &sample::systemd(false)).map_err(|e| format!("{e:#}"));
            let nomad = nomad::job(&table, &sample::nomad()).map_err(|e| format!("{e:#}"));
            assert!(systemd.is_err_and(|e| e.contains("`api`")), "{index}");
            assert!(nomad.is_err_and(|e| e.contains("`api`")), "{index}");
        }
    }

    #[test]
    fn a_program_is_found_as_exec_would_find_it() {
        let root = Path::new("/");
        assert_eq!(
            find_program("sh", "/nowhere:/bin", root),
            Some("/bin/sh".into())
        );
        assert_eq!(find_program("bin/sh", "", root), Some("/bin/sh".into()));
        assert_eq!(
            find_program("sh", "", Path::new("/bin")),
            Some("/bin/sh".into())
        );
        assert_eq!(find_program("sh", "bin", root), Some("/bin/sh".into()));
        for missing in ["", "passwd", "../etc/passwd", "bin"] {
            assert_eq!(find_program(missing, "/etc:/", root), None, "{missing}");
        }
    }
}
