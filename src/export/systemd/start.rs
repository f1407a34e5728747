//! How does a unit start: prepare, the command, and the wait until the service is ready?

use super::{Lines, Options, span};
use crate::config::{Health, HttpCheck, Service};
use crate::export::{self, Caller, quote};
use anyhow::Result;
use std::path::Path;

/// Repeats a probe until it succeeds. `$0` is the limit in seconds, the arguments are the probe.
/// The main process is looked at because systemd would let this wait run on after its death.
const WAIT: &str = "PATH=$PATH:/usr/bin:/bin; end=$(($(date +%s) + $0)); \
     until \"$@\"; do \
     [ \"$(date +%s)\" -lt \"$end\" ] || exit 1; \
     [ -z \"$MAINPID\" ] || kill -0 \"$MAINPID\" || exit 1; \
     sleep 0.2; done";

pub fn start(
    unit: &mut Lines,
    service: &Service,
    options: &Options,
    late: &[(String, String)],
) -> Result<()> {
    let with_late = |words: Vec<String>| match late {
        [] => words,
        _ => export::behind_env(late, words),
    };
    if let Some(prepare) = &service.prepare {
        // It may take its time: ready_timeout does not count it. WAIT has a limit of its own.
        unit.set("TimeoutStartSec", "infinity");
        let words = export::prepare_words(service, with_late(export::words(prepare)))?;
        exec(unit, "ExecStartPre", service, options, words);
    } else {
        unit.set("TimeoutStartSec", &span(service.ready_timeout));
    }
    let command = with_late(export::words(&service.command));
    exec(unit, "ExecStart", service, options, command);

    let probe = match &service.health {
        Health::None => None,
        Health::Tcp => service.port.map(export::listening),
        Health::Http(check) => http_probe(unit, check, &options.caller),
        Health::Command {
            command, timeout, ..
        } => {
            let limit = format!("{}", timeout.as_secs_f64());
            let mut words = vec!["timeout".to_owned(), limit];
            words.extend(with_late(export::words(command)));
            Some(words)
        }
    };
    if let Some(probe) = probe {
        unit.note("Started means ready: units ordered After= this one wait for it");
        let limit = service
            .ready_timeout
            .as_millis()
            .div_ceil(1000)
            .clamp(1, 1_000_000_000);
        let mut words = ["/bin/sh", "-c", WAIT].map(String::from).to_vec();
        words.push(limit.to_string());
        words.extend(probe);
        unit.set("ExecStartPost", &quote::exec_line(&words));
    }
    Ok(())
}

/// One Exec line. systemd wants the program's absolute path, so its name is looked for now.
fn exec(unit: &mut Lines, key: &str, service: &Service, options: &Options, words: Vec<String>) {
    let own = service.env.iter().find(|(name, _)| name == "PATH");
    let path = own.map(|(_, path)| path).or(options.caller.path.as_ref());
    let path = path.map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
    let word = words.first().map_or("", String::as_str);
    let found = export::find_program(word, path, &service.cwd);
    let found = found.and_then(|file| file.to_str().map(String::from));
    let argv = match found {
        Some(program) => {
            let plain = quote::is_plain_program(&program);
            let mut argv = vec![program];
            argv.extend(words.into_iter().skip(1));
            if !plain {
                argv.splice(0..0, export::through_shell());
            }
            argv
        }
        None => {
            let word = quote::one_line(word);
            unit.note(&format!(
                "{word:?} was not found at export: env(1) looks for it at start"
            ));
            export::behind_env(&[], words)
        }
    };
    unit.set(key, &quote::exec_line(&argv));
}

fn http_probe(unit: &mut Lines, check: &HttpCheck, caller: &Caller) -> Option<Vec<String>> {
    let path = format!("{}:/usr/bin:/bin", caller.path.as_deref().unwrap_or(""));
    let curl = export::find_program("curl", &path, Path::new("/"));
    let Some(curl) = curl.and_then(|file| file.to_str().map(String::from)) else {
        if matches!(
            check.host.as_str(),
            "localhost" | "127.0.0.1" | "::1" | "[::1]"
        ) {
            unit.note(
                "No curl at export: listening counts as ready, the HTTP answer is not asked for",
            );
            return Some(export::listening(check.port));
        }
        unit.note("No curl at export: nobody waits until the service is ready");
        return None;
    };
    let host = if check.host.contains(':') && !check.host.starts_with('[') {
        format!("[{}]", check.host)
    } else {
        check.host.clone()
    };
    let url = format!("http://{host}:{}{}", check.port, check.path);
    let limit = check.timeout.as_secs_f64().to_string();
    let words = [
        &curl,
        "-gfs",
        "-o",
        "/dev/null",
        "--noproxy",
        "*",
        "--max-time",
        &limit,
        &url,
    ];
    Some(words.map(String::from).to_vec())
}
