//! What `init` writes: a first table, or one made from a Procfile.

use super::errors::{TableError, TableErrors, quoted};
use super::parse::is_name;
use super::trusted_file;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

/// A table that passes `check` and starts as it stands, wherever there is a shell.
pub const INIT: &str = include_str!("template.toml");

/// The ports that foreman gives: the first process from here on, the next a hundred further.
const FIRST_PORT: usize = 5000;
const PORT_STEP: usize = 100;

struct Process<'a> {
    name: &'a str,
    command: &'a str,
}

/// Reads a Procfile and makes its table, as `from_procfile` does.
pub fn load_procfile(path: &Path, dotenv: bool) -> Result<String, TableErrors> {
    let text = trusted_file::read(path).map_err(|error| TableErrors::from_one(path, error))?;
    from_procfile(&text, path, dotenv)
}

/// The table of a Procfile. `given` is the Procfile's path, for errors; `dotenv` tells that a `.env`
/// stands beside it, which every runner of Procfiles reads.
pub fn from_procfile(text: &str, given: &Path, dotenv: bool) -> Result<String, TableErrors> {
    let processes = read_procfile(text).map_err(|errors| TableErrors {
        given: given.to_owned(),
        errors,
    })?;
    let mut table = format!(
        "# Made from {}; pidctl init writes a table that shows every key.\n",
        quoted(&given.to_string_lossy())
    );
    if dotenv {
        table.push_str("\n[defaults]\nenv_file = \".env\"\n");
    }
    let mut started = 0;
    for Process { name, command } in processes {
        table.push('\n');
        if name == "release" {
            let command = toml_string(command);
            let _ = writeln!(
                table,
                "# release: runs once before a deployment, so it is no service; it could be a service's\n# prepare = {command}"
            );
            continue;
        }
        // A port says that the service listens on it, which a worker does not.
        let port =
            (name == "web" || uses_port(command)).then_some(FIRST_PORT + started * PORT_STEP);
        started += 1;
        let _ = writeln!(table, "[[service]]\nname = {}", toml_string(name));
        if let Some(port) = port.filter(|port| *port <= 65_535) {
            let _ = writeln!(table, "port = {port}");
        }
        let _ = writeln!(table, "command = {}", toml_string(command));
    }
    Ok(table)
}

fn read_procfile(text: &str) -> Result<Vec<Process<'_>>, Vec<TableError>> {
    let mut processes = Vec::new();
    let mut errors = Vec::new();
    let mut lines_of: HashMap<&str, usize> = HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut wrong = |message| {
            errors.push(TableError {
                line: Some(line),
                message,
            });
        };
        let Some((name, command)) = content.split_once(':') else {
            wrong("expected `name: command`".to_owned());
            continue;
        };
        let (name, command) = (name.trim_end(), command.trim());
        if !is_name(name) || name.len() > 190 {
            wrong(format!(
                "{} is no name for a service; expected letters, digits, `.`, `_` and `-`, at most 190, a letter or digit first",
                quoted(name)
            ));
        } else if command.is_empty() || command.contains('\0') {
            wrong(format!("{name}: expected a command after the colon"));
        } else if let Some(first) = lines_of.insert(name, line) {
            wrong(format!(
                "{name}: already defined at line {first}; expected each name once"
            ));
        }
        processes.push(Process { name, command });
    }
    if errors.is_empty() && processes.iter().all(|process| process.name == "release") {
        errors.push(TableError {
            line: None,
            message: "no process to run; expected at least one `name: command`".to_owned(),
        });
    }
    if errors.is_empty() {
        Ok(processes)
    } else {
        Err(errors)
    }
}

/// Whether `$PORT` or `${PORT…}` is in it, and not merely `$PORTAL`.
fn uses_port(command: &str) -> bool {
    command.split('$').skip(1).any(|after| {
        let name = after.strip_prefix('{').unwrap_or(after);
        name.strip_prefix("PORT")
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}

/// Literal where that spares escapes, else basic.
fn toml_string(text: &str) -> String {
    let plain = !text.contains('\'') && !text.contains(|c: char| c.is_control() && c != '\t');
    if plain && text.contains(['"', '\\']) {
        return format!("'{text}'");
    }
    let mut string = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => string.extend(['\\', c]),
            '\t' => string.push(c),
            _ if c.is_control() => {
                let _ = write!(string, "\\u{:04X}", u32::from(c));
            }
            _ => string.push(c),
        }
    }
    string.push('"');
    string
}

#[cfg(test)]
mod tests {
    use super::super::parse::{KEYS, parse};
    use super::super::{Command, Table};
    use super::*;

    fn table(text: &str) -> Table {
        let path = Path::new("/folder/services.toml");
        parse(text, path, path).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
    }

    #[test]
    fn init_starts_as_it_stands() {
        let table = table(INIT);
        assert_eq!(table.services.len(), 1);
        assert!(table.services[0].port.is_none());
    }

    #[test]
    fn all_that_init_shows_is_right_and_it_shows_every_key() {
        let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
        let uncommented: Vec<&str> = INIT
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(shown) if is_key(shown) => shown,
                _ => line,
            })
            .collect();
        assert_eq!(table(&uncommented.join("\n")).services.len(), 3);
        for key in KEYS.iter().chain(&["pids_dir", "logs_dir"]) {
            let start = format!("{key} = ");
            let shown = uncommented.iter().any(|line| line.starts_with(&start));
            assert!(shown, "{key}");
        }
    }

    #[test]
    fn a_procfile_becomes_a_table() {
        let procfile = "\u{feff}# comment\r\nweb: bundle exec puma -C \"config/puma.rb\"\r\n\r\n\
             worker:   bundle exec sidekiq\nrelease: rake db:migrate\n\
             api: ./api --port ${PORT:-1} 'it''s' \"x\\y\"\nmail: echo $PORTAL\n";
        let text = from_procfile(procfile, Path::new("Procfile"), true).unwrap();
        let table = table(&text);
        let all: Vec<_> = table
            .services
            .iter()
            .map(|service| (service.id.as_str(), &service.command))
            .collect();
        let shell = |text: &str| Command::Shell(text.to_owned());
        assert_eq!(
            all,
            [
                ("web_5000", &shell("bundle exec puma -C \"config/puma.rb\"")),
                ("worker", &shell("bundle exec sidekiq")),
                (
                    "api_5200",
                    &shell("./api --port ${PORT:-1} 'it''s' \"x\\y\"")
                ),
                ("mail", &shell("echo $PORTAL")),
            ]
        );
        assert!(text.contains("# prepare = \"rake db:migrate\""), "{text}");
        assert!(text.contains("command = 'bundle exec puma"), "{text}");
        assert!(table.services[0].env_files[0].ends_with(".env"));
    }

    #[test]
    fn mistakes_in_a_procfile_have_their_line() {
        let procfile = "web: a\nno colon\n_x: b\nweb: c\nempty:\n";
        let errors = from_procfile(procfile, Path::new("Procfile"), false).unwrap_err();
        let told = errors.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert!(lines[0].starts_with("Procfile:2: expected"), "{told}");
        assert!(
            lines[1].starts_with("Procfile:3: \"_x\" is no name"),
            "{told}"
        );
        assert!(lines[2].starts_with("Procfile:4: web: already"), "{told}");
        assert!(lines[3].starts_with("Procfile:5: empty: "), "{told}");
        for nothing in ["", "# x\n", "release: x\n"] {
            let errors = from_procfile(nothing, Path::new("Procfile"), false).unwrap_err();
            assert!(errors.to_string().starts_with("Procfile: no process"));
        }
    }

    #[test]
    fn any_command_survives_the_quoting() {
        for command in ["a\u{7f}b\u{1}", "'\"\\", "a\tb", "grün \\d", "x'y"] {
            let procfile = format!("p: {command}");
            let text = from_procfile(&procfile, Path::new("P"), false).unwrap();
            let expected = Command::Shell(command.to_owned());
            assert_eq!(table(&text).services[0].command, expected, "{text}");
        }
    }
}
