//! Which Nomad job runs this table as pidctl would, and what can Nomad not do? The job is in the
//! JSON form of the HTTP API (`nomad job run -json`): durations in nanoseconds, one task group per
//! service.

mod check;

use super::{Caller, quote};
use crate::config::{Health, Service, StopScope, Table};
use crate::sys::signal::Signal;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Options {
    /// The job's name; see [`super::prefix`].
    pub prefix: String,
    /// The `exec` driver (chroot, namespaces) instead of `raw_exec`.
    pub isolated: bool,
    pub caller: Caller,
}

#[derive(Clone, Debug)]
pub struct Job {
    /// `{"Job": {…}}`.
    pub job: Value,
    /// What the job does otherwise than pidctl would, one line each.
    pub warnings: Vec<String>,
}

/// Changes to the service's folder, waits until each port (in hexadecimal) before `--` is listened on, and runs
/// what follows. Free of braces, which Nomad would read.
const PREPARE: &str = "cd \"$0\" || exit 1; \
     while [ \"$1\" != -- ]; do \
     until grep -qs \":$1 [0-9A-F]*:0000 0A\" /proc/net/tcp /proc/net/tcp6; do sleep 1; done; \
     shift; done; shift; [ $# = 0 ] || exec \"$@\"";

const IN_FOLDER: &str = "cd \"$0\" && exec \"$@\"";

/// The job, and the warnings beside it. An error names the service whose strings no task can hold.
pub fn job(table: &Table, options: &Options) -> Result<Job> {
    let name = super::sanitize(&options.prefix);
    let mut warnings = general_warnings(table, options);
    let mut groups = Vec::with_capacity(table.services.len());
    // What is said of several services is said once.
    let mut told_of: Vec<(String, Vec<&str>)> = Vec::new();
    for service in &table.services {
        let mut told = |text: &str| match told_of.iter_mut().find(|(said, _)| said == text) {
            Some((_, ids)) => ids.push(&service.id),
            None => told_of.push((text.to_owned(), vec![&service.id])),
        };
        groups.push(group(table, service, &name, options, &mut told)?);
    }
    let told = told_of.iter();
    warnings.extend(told.map(|(text, ids)| format!("{}: {text}", ids.join(", "))));
    let job = json!({"Job": {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Datacenters": ["*"],
        "Constraints": [
            {"LTarget": "${attr.kernel.name}", "RTarget": "linux", "Operand": "="}
        ],
        "TaskGroups": groups,
    }});
    Ok(Job { job, warnings })
}

fn general_warnings(table: &Table, options: &Options) -> Vec<String> {
    let driver = if options.isolated {
        "the exec driver sees a copy of /bin, /etc, /lib, /sbin and /usr alone: the table's folders \
         must be mounted into it"
    } else {
        "the raw_exec driver is off by default: the Nomad client has to enable it"
    };
    let mut all = vec![
        driver.to_owned(),
        "tasks have Nomad's default limits (100 MHz, 300 MB): raise Resources where that is too little".to_owned(),
        "Nomad restarts a service that ends, even with exit 0; takeover and process_names mean nothing to it".to_owned(),
        "the output goes to Nomad's own logs (nomad alloc logs)".to_owned(),
    ];
    let family = |s: &Service| s.stop_scope == StopScope::Family;
    if table.services.iter().any(family) {
        all.push(
            "the stop signal goes to each task's main process alone, SIGKILL to all of it"
                .to_owned(),
        );
    }
    if table.services.len() > 1 {
        all.push("Nomad may place the services on different machines: add a constraint for the one that has the table's folders".to_owned());
        all.push("Nomad stops all services at once, not dependents first".to_owned());
    }
    all
}

fn group(
    table: &Table,
    service: &Service,
    job: &str,
    options: &Options,
    told: &mut dyn FnMut(&str),
) -> Result<Value> {
    super::ensure_representable(service)?;
    let mut tasks: Vec<Value> = prepare_task(table, service, options, told)?
        .into_iter()
        .collect();
    tasks.push(main_task(service, options, told)?);
    let mut group = json!({
        "Name": service.id,
        "Count": 1,
        "RestartPolicy": {
            "Attempts": service.start_attempts,
            // Nomad refuses more attempts than an interval has room for.
            "Interval": nanoseconds(Duration::from_secs(u64::from(service.start_attempts).max(150) * 2)),
            "Delay": nanoseconds(Duration::from_secs(1)),
            "Mode": "delay",
        },
        // Nomad refuses a group whose logs do not fit on its disk.
        "EphemeralDisk": {"SizeMB": disk_megabytes(service)},
        "Tasks": tasks,
    });
    if !service.description.is_empty() {
        group["Meta"] = json!({"description": quote::one_line(&service.description)});
    }
    if let Some(port) = service.port {
        group["Networks"] =
            json!([{"Mode": "host", "ReservedPorts": [{"Label": "main", "Value": port}]}]);
        group["Services"] = json!([check::registered(service, job, told)]);
    } else if service.health != Health::None {
        told("health is not checked: Nomad checks only services that have a port");
    }
    Ok(group)
}

fn main_task(service: &Service, options: &Options, told: &mut dyn FnMut(&str)) -> Result<Value> {
    if service.daemonizes {
        told("daemonizes: Nomad cannot follow it; let the command stay in the foreground");
    }
    if !service.env_files.is_empty() {
        told(
            "env_file is not exported: use a `template` block with env = true, or Nomad variables",
        );
    }
    let command = super::words(&service.command);
    let mut task = task(service, options, &service.id, &[IN_FOLDER], command)?;
    let steps = &service.schedule.steps;
    if steps.len() > 1 {
        told("the stop schedule is cut to its first signal and the sum of its waits, then SIGKILL");
    }
    let first = steps.first().map_or(Signal::KILL, |(signal, _)| *signal);
    let total = steps
        .iter()
        .fold(Duration::ZERO, |sum, (_, wait)| sum.saturating_add(*wait));
    if total > Duration::from_secs(30) {
        told("a Nomad client caps the stop time at 30 s unless its max_kill_timeout is raised");
    }
    task["KillSignal"] = json!(kill_signal(first, told));
    task["KillTimeout"] = json!(nanoseconds(total));
    task["LogConfig"] = json!({
        "MaxFiles": log_files(service),
        "MaxFileSizeMB": log_megabytes(service),
    });
    Ok(task)
}

/// What must have ended before the main task begins: the wait for dependencies, then `prepare`.
fn prepare_task(
    table: &Table,
    service: &Service,
    options: &Options,
    told: &mut dyn FnMut(&str),
) -> Result<Option<Value>> {
    let mut head = vec![PREPARE.to_owned()];
    for dependency in service
        .depends_on
        .iter()
        .filter_map(|index| table.services.get(*index))
    {
        match dependency.port {
            Some(port) => head.push(format!("{port:04X}")),
            None => told(&format!(
                "does not wait for `{}`, which has no port that could be waited for",
                dependency.id
            )),
        }
    }
    if head.len() == 1 && service.prepare.is_none() {
        return Ok(None);
    }
    let command = match &service.prepare {
        Some(prepare) => super::prepare_words(service, super::words(prepare))?,
        None => Vec::new(),
    };
    head.push("--".to_owned());
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let mut task = task(
        service,
        options,
        &format!("{}-prepare", service.id),
        &head,
        command,
    )?;
    task["Lifecycle"] = json!({"Hook": "prestart", "Sidecar": false});
    Ok(Some(task))
}

/// A task that runs `command` by way of a shell script: `script[0]` is its text, the service's
/// folder its `$0`, the rest of `script` goes before the command.
fn task(
    service: &Service,
    options: &Options,
    name: &str,
    script: &[&str],
    command: Vec<String>,
) -> Result<Value> {
    let mut env = Map::new();
    if let Some(path) = super::inherited_path(service, &options.caller) {
        env.insert("PATH".to_owned(), json!(path));
    }
    // Nomad replaces ${…} in Env, with no way to escape it; in Config there is one.
    let mut late = super::own_variables(service);
    late.retain(|(name, value)| {
        let plain = quote::is_plain_variable(name, value) && !value.contains("${");
        if plain {
            env.insert(name.clone(), json!(value));
        }
        !plain
    });
    let command = match late.as_slice() {
        [] => command,
        _ if command.is_empty() => command,
        late => super::behind_env(late, command),
    };
    let (text, head) = script.split_first().unwrap_or((&"", &[]));
    let mut args = vec!["-c".to_owned(), (*text).to_owned()];
    args.push(super::text(service, "cwd", &service.cwd)?);
    args.extend(head.iter().map(|word| (*word).to_owned()));
    args.extend(command);
    let args: Vec<String> = args.iter().map(|word| literal(word)).collect();
    let mut task = json!({
        "Name": name,
        "Driver": if options.isolated { "exec" } else { "raw_exec" },
        "Config": {"command": "/bin/sh", "args": args},
        "Env": env,
    });
    if let Some(user) = service.user.as_ref().or(options.caller.account.as_ref()) {
        task["User"] = json!(user);
    }
    Ok(task)
}

/// Nomad's signal table ends before the real-time signals and lacks these three.
fn kill_signal(signal: Signal, told: &mut dyn FnMut(&str)) -> String {
    let name = signal.to_string();
    if signal.number() < 32 && !matches!(name.as_str(), "SIGSTKFLT" | "SIGPWR" | "SIGVTALRM") {
        return name;
    }
    told(&format!("Nomad cannot send {name}: SIGTERM instead"));
    "SIGTERM".to_owned()
}

/// Nomad reads `${…}` and `%{…}` in Config as HCL2 templates; doubled, they stand for themselves.
fn literal(text: &str) -> String {
    text.replace("${", "$${").replace("%{", "%%{")
}

fn nanoseconds(duration: Duration) -> u64 {
    // Nomad's are signed.
    let most = i64::MAX as u64;
    u64::try_from(duration.as_nanos()).map_or(most, |ns| ns.min(most))
}

fn disk_megabytes(service: &Service) -> u64 {
    let logs = log_files(service).saturating_mul(log_megabytes(service));
    logs.saturating_add(300)
}

fn log_files(service: &Service) -> u64 {
    u64::from(service.log_keep) + 1
}

fn log_megabytes(service: &Service) -> u64 {
    service.log_max_size.div_ceil(1 << 20).max(1)
}

#[cfg(test)]
mod tests;
