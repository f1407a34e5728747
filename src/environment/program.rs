//! The program of a command: the file that its first word becomes when it is exec'd, and for an
//! interpreter the script. Is that what a process runs?

use super::Variables;
use super::simple_command;
use crate::config::Command;
use crate::sys::proc;
use crate::sys::spawn;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The environment, cwd and search path a command runs with.
pub struct Surroundings<'a> {
    pub variables: &'a Variables,
    pub cwd: &'a Path,
}

impl Surroundings<'_> {
    /// The service's own PATH; that of execvp(3) where it has none.
    pub fn search_path(&self) -> OsString {
        self.variables
            .get("PATH")
            .map_or_else(|| "/usr/local/bin:/usr/bin:/bin".into(), OsString::from)
    }
}

/// What a command runs, as far as can be known without running it.
#[derive(Clone, Debug)]
pub struct Program {
    /// Where the first word was found.
    pub found: PathBuf,
    /// Device and inode of what is exec'd in the end: the interpreter of a script.
    pub file: (u64, u64),
    /// The interpreter is a shell: what it execs in its turn (pyenv's shims do) cannot be known.
    shell_script: bool,
    /// The words of the command, as the process shows them: interpreter and script in front.
    argv: Vec<OsString>,
    words: Vec<OsString>,
}

/// The first word of a command, if it names a file to look for.
pub fn words(command: &Command, surroundings: &Surroundings<'_>) -> Option<Vec<OsString>> {
    match command {
        Command::Exec(words) => Some(words.iter().map(OsString::from).collect()),
        Command::Shell(text) => {
            let expand = |name: &str| {
                Some(
                    surroundings
                        .variables
                        .get(name)?
                        .to_string_lossy()
                        .into_owned(),
                )
            };
            let words = simple_command::words(text, expand)?;
            (!simple_command::is_builtin(&words[0]))
                .then(|| words.into_iter().map(OsString::from).collect())
        }
    }
}

impl Program {
    /// `None`: the command is compound, or its first word cannot be found.
    pub fn of(command: &Command, surroundings: &Surroundings<'_>) -> Option<Program> {
        let words = words(command, surroundings)?;
        let found = spawn::resolve(&words[0], &surroundings.search_path(), surroundings.cwd)?;
        let mut argv = vec![found.clone().into_os_string()];
        argv.extend(words.iter().skip(1).cloned());
        let mut file = found.clone();
        let mut shell_script = false;
        // `#!` lines may lead to another script; the kernel follows so many.
        for _ in 0..4 {
            let Some(line) = interpreter(&file, surroundings) else {
                break;
            };
            file = PathBuf::from(&line[0]);
            shell_script = is_shell(&file);
            argv.splice(0..0, line);
        }
        let metadata = fs::metadata(&file).ok()?;
        Some(Program {
            found,
            file: (metadata.dev(), metadata.ino()),
            shell_script,
            argv,
            words,
        })
    }

    /// Its process may turn into any other program.
    pub fn is_shell_script(&self) -> bool {
        self.shell_script
    }

    /// Does the process run this program? An interpreter or launcher must also run the same script or
    /// module in the same folder. An error: its /proc entries cannot be read.
    pub fn is_run_by(&self, pid: i32, cwd: &Path) -> std::io::Result<bool> {
        let argv = proc::cmdline(pid)?;
        let same_cwd =
            || -> std::io::Result<bool> { Ok(proc::cwd(pid)? == fs::canonicalize(cwd)?) };
        if proc::exe_file(pid)? == self.file {
            let path = proc::exe(pid)?;
            if !is_interpreter(&path) && !is_interpreter(&self.found) {
                return Ok(true);
            }
            let theirs = script(&argv);
            return Ok(theirs.is_some()
                && same_script(&theirs, &script(&self.argv), cwd)
                && same_cwd()?);
        }
        // A shim: a shell script that execs the real one of the same name with the same arguments.
        if self.shell_script {
            let named = |word: &OsString| {
                Path::new(word).file_name() == Path::new(&self.words[0]).file_name()
            };
            let at = argv.iter().take(2).position(named);
            return Ok(at.is_some_and(|at| argv[at + 1..] == self.words[1..]) && same_cwd()?);
        }
        Ok(false)
    }

    /// Is the process's command line the table's?
    pub fn has_command_line(&self, argv: &[OsString]) -> bool {
        argv == self.argv
            || argv == self.words
            || (self.shell_script && argv.len() >= self.words.len() && {
                let tail = &argv[argv.len() - self.words.len() + 1..];
                tail == &self.words[1..]
            })
            || (argv.len() == self.words.len() && argv.get(1..) == self.words.get(1..))
    }
}

/// The words that a `#!` line puts in front; `env` is looked through.
fn interpreter(file: &Path, surroundings: &Surroundings<'_>) -> Option<Vec<OsString>> {
    let opened = fs::File::open(file).ok()?;
    if !opened.metadata().ok()?.is_file() {
        return None;
    }
    let mut line = Vec::new();
    std::io::BufReader::new(opened.take(512))
        .read_until(b'\n', &mut line)
        .ok()?;
    let line = line.strip_prefix(b"#!")?.trim_ascii();
    let split = line
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(line.len());
    let (first, argument) = (
        OsStr::from_bytes(&line[..split]),
        line[split..].trim_ascii(),
    );
    if first.is_empty() {
        return None;
    }
    if Path::new(first).file_name() == Some(OsStr::new("env")) {
        let mut words = argument
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty() && *word != b"-S");
        let found = spawn::resolve(
            OsStr::from_bytes(words.next()?),
            &surroundings.search_path(),
            surroundings.cwd,
        )?;
        return Some(
            [found.into_os_string()]
                .into_iter()
                .chain(words.map(|word| OsString::from_vec(word.to_vec())))
                .collect(),
        );
    }
    let mut words = vec![surroundings.cwd.join(first).into_os_string()];
    if !argument.is_empty() {
        words.push(OsString::from_vec(argument.to_vec()));
    }
    Some(words)
}

fn base_name(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    // `python3.11`, `node20`, `ruby3.2` are python, node, ruby.
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
        .trim_end_matches('-')
        .to_string()
}

fn is_shell(path: &Path) -> bool {
    [
        "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "busybox", "fish",
    ]
    .contains(&base_name(path).as_str())
}

/// Programs of which two copies are different services: what they run decides.
fn is_interpreter(path: &Path) -> bool {
    const NAMES: &[&str] = &[
        "python",
        "pypy",
        "node",
        "nodejs",
        "deno",
        "bun",
        "ruby",
        "perl",
        "php",
        "lua",
        "luajit",
        "java",
        "tclsh",
        "Rscript",
        "R",
        "guile",
        "racket",
        "beam.smp",
        "erl",
        "elixir",
        "mono",
        "dotnet",
        "npm",
        "npx",
        "pnpm",
        "yarn",
        "uv",
        "uvx",
        "poetry",
        "pipenv",
        "pipx",
        "bundle",
        "rake",
        "cargo",
        "go",
        "make",
        "env",
        "nohup",
        "setsid",
        "nice",
        "time",
        "timeout",
        "stdbuf",
        "sudo",
        "su",
        "tini",
        "dumb-init",
        "socat",
        "nc",
        "ncat",
    ];
    is_shell(path) || NAMES.contains(&base_name(path).as_str())
}

/// What an interpreter runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Script {
    File(OsString),
    /// A module, code on the command line, or a launcher's whole line.
    Words(Vec<OsString>),
}

/// The script or module in an interpreter's command line. Options are skipped; those that take a
/// value of their own are known for the interpreters at hand.
fn script(argv: &[OsString]) -> Option<Script> {
    const TAKES_THE_REST: &[&str] = &["-m", "-c", "-e", "-p", "-r", "-jar", "--eval", "--print"];
    const TAKES_A_VALUE: &[&str] = &[
        "-W",
        "-X",
        "-cp",
        "-classpath",
        "--require",
        "--import",
        "--loader",
        "-I",
        "-C",
        "-f",
        "-d",
    ];
    let launcher = !matches!(
        base_name(Path::new(argv.first()?)).as_str(),
        "python"
            | "pypy"
            | "node"
            | "nodejs"
            | "ruby"
            | "perl"
            | "php"
            | "java"
            | "lua"
            | "sh"
            | "bash"
            | "dash"
            | "zsh"
            | "ksh"
            | "ash"
            | "deno"
            | "bun"
    );
    if launcher {
        return Some(Script::Words(argv[1..].to_vec()));
    }
    let mut rest = argv[1..].iter();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy();
        if TAKES_THE_REST.contains(&text.as_ref()) {
            return Some(Script::Words(vec![word.clone(), rest.next()?.clone()]));
        }
        if TAKES_A_VALUE.contains(&text.as_ref()) {
            rest.next();
        } else if !text.starts_with('-') {
            return Some(Script::File(word.clone()));
        }
    }
    None
}

fn same_script(theirs: &Option<Script>, ours: &Option<Script>, cwd: &Path) -> bool {
    match (theirs, ours) {
        (Some(Script::File(theirs)), Some(Script::File(ours))) => {
            let file = |path: &OsStr| {
                fs::metadata(cwd.join(path))
                    .map(|m| (m.dev(), m.ino()))
                    .ok()
            };
            theirs == ours || (file(theirs).is_some() && file(theirs) == file(ours))
        }
        (theirs, ours) => theirs == ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_script_of_an_interpreter() {
        let file = |name: &str| Some(Script::File(name.into()));
        let rest = |words: &[&str]| Some(Script::Words(argv(words)));
        assert_eq!(
            script(&argv(&[
                "/usr/bin/python3.11",
                "-u",
                "-W",
                "ignore",
                "app.py",
                "x"
            ])),
            file("app.py")
        );
        assert_eq!(
            script(&argv(&["python3", "-m", "http.server", "80"])),
            rest(&["-m", "http.server"])
        );
        assert_eq!(
            script(&argv(&["java", "-Xmx1g", "-jar", "a.jar"])),
            rest(&["-jar", "a.jar"])
        );
        assert_eq!(script(&argv(&["npm", "run", "dev"])), rest(&["run", "dev"]));
        assert_eq!(script(&argv(&["python3"])), None);
    }

    #[test]
    fn a_script_leads_to_its_interpreter() {
        let folder = std::env::temp_dir().join(format!("pidctl-program-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("serve");
        fs::write(&path, "#!/usr/bin/env -S sh -e\nexit 0\n").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let variables = Variables::only(&[("PATH", "/usr/bin:/bin")]);
        let surroundings = Surroundings {
            variables: &variables,
            cwd: &folder,
        };
        let program =
            Program::of(&Command::Shell("exec ./serve now".into()), &surroundings).unwrap();
        let sh = fs::metadata("/bin/sh").unwrap();
        assert_eq!(program.file, (sh.dev(), sh.ino()));
        assert!(program.shell_script);
        assert!(Program::of(&Command::Shell("a | b".into()), &surroundings).is_none());
        fs::remove_dir_all(&folder).unwrap();
    }
}
