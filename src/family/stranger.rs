//! Processes that no record tells of: may one be taken for the service (a script's PID file, `adopt`),
//! or be stopped on its port (takeover)? Contract section 5.

use crate::config::{Command, Service, Takeover};
use crate::environment::{Environment, Program};
use crate::sys::boot::{self, Place};
use crate::sys::cgroup;
use crate::sys::manager::Manager;
use crate::sys::proc::{self, Stat};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::SystemTime;

/// A service as its strangers are measured against it.
pub struct Measure<'a> {
    service: &'a Service,
    environment: Environment,
    program: Option<Program>,
    place: &'a Place,
    ancestors: HashSet<i32>,
}

/// Three answers, like `Verdict`: a process that cannot be looked at is not another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Ours,
    NotOurs(String),
    CannotTell(String),
}

type Check = Result<(), Finding>;

fn not_ours(why: impl Into<String>) -> Check {
    Err(Finding::NotOurs(why.into()))
}

/// Unreadable is "cannot tell", gone is "not ours".
fn readable<T>(result: std::io::Result<T>) -> Result<T, Finding> {
    result.map_err(|error| {
        if proc::is_gone(&error) {
            Finding::NotOurs("it is gone".into())
        } else {
            Finding::CannotTell(format!("it may not be looked at ({error})"))
        }
    })
}

impl<'a> Measure<'a> {
    pub fn new(service: &'a Service, place: &'a Place) -> Result<Measure<'a>, String> {
        let environment = Environment::of(service)?;
        let program = environment.program(service);
        let ancestors = boot::ancestors()
            .into_iter()
            .chain([std::process::id() as i32])
            .collect();
        Ok(Measure {
            service,
            environment,
            program,
            place,
            ancestors,
        })
    }

    /// Is the process that a PID file without a record names the service? `written`: when that file
    /// was, `None` for `adopt`. `holds_port`: it or a descendant of it holds the service's port.
    pub fn is_service(
        &self,
        stat: &Stat,
        written: Option<SystemTime>,
        holds_port: impl FnOnce() -> std::io::Result<bool>,
    ) -> Finding {
        self.check_service(stat, written, holds_port)
            .err()
            .unwrap_or(Finding::Ours)
    }

    fn check_service(
        &self,
        stat: &Stat,
        written: Option<SystemTime>,
        holds_port: impl FnOnce() -> std::io::Result<bool>,
    ) -> Check {
        self.check_never(stat)?;
        self.check_user(stat)?;
        self.check_namespace(stat)?;
        if let Some(written) = written {
            let started =
                SystemTime::now() - std::time::Duration::from_secs_f64(boot::age(stat.start_time));
            // A tick of slack: start times are counted in ticks, file times are not.
            if started > written + std::time::Duration::from_millis(20) {
                return not_ours("it started after the PID file was written");
            }
        }
        if !self.has_name(stat.pid, stat)? && !self.runs_program(stat.pid)? {
            return not_ours(format!("it runs another program ({})", stat.comm));
        }
        match self.service.port {
            Some(port) => match readable(holds_port())? {
                true => Ok(()),
                false => not_ours(format!(
                    "neither it nor a child of it listens on port {port}"
                )),
            },
            None => match self.has_command_line(&readable(proc::cmdline(stat.pid))?) {
                true => Ok(()),
                false => not_ours("its command line is not the table's"),
            },
        }
    }

    /// May this holder of the service's port be stopped? `which`: the table's word or the option's.
    pub fn may_be_taken_over(&self, stat: &Stat, which: Takeover) -> Finding {
        self.check_takeover(stat, which)
            .err()
            .unwrap_or(Finding::Ours)
    }

    fn check_takeover(&self, stat: &Stat, which: Takeover) -> Check {
        self.check_never(stat)?;
        match which {
            Takeover::Never => return not_ours("takeover is \"never\""),
            Takeover::Any => return Ok(()),
            Takeover::Matching => {}
        }
        self.check_user(stat)?;
        self.check_namespace(stat)?;
        if stat.tty_nr != 0 {
            return not_ours("somebody runs it in a terminal");
        }
        if self.has_name(stat.pid, stat)? || self.runs_program(stat.pid)? {
            return Ok(());
        }
        not_ours(match &self.program {
            Some(program) => format!(
                "it is not this service's program ({})",
                program.found.display()
            ),
            None => {
                "the command has no single program to compare it with; name it in process_names"
                    .to_string()
            }
        })
    }

    /// Whom no option allows: an ancestor of pidctl, pidctl, init.
    fn check_never(&self, stat: &Stat) -> Check {
        if stat.pid <= 1 || stat.is_kernel_thread() {
            return not_ours("it is init or the kernel");
        }
        if self.ancestors.contains(&stat.pid) {
            return not_ours("pidctl itself was started from it");
        }
        Ok(())
    }

    fn check_user(&self, stat: &Stat) -> Check {
        let uid = readable(proc::uid(stat.pid))?;
        if uid != self.environment.uid() {
            return not_ours(format!(
                "it belongs to user {}",
                crate::sys::users::name_of(uid)
            ));
        }
        Ok(())
    }

    fn check_namespace(&self, stat: &Stat) -> Check {
        if readable(proc::namespace(stat.pid, "pid"))? != self.place.pid_namespace {
            return not_ours("it lives in another PID namespace (a container)");
        }
        Ok(())
    }

    /// `process_names` names it: by comm, by the base name of its executable or of argv[0].
    fn has_name(&self, pid: i32, stat: &Stat) -> Result<bool, Finding> {
        let names = &self.service.process_names;
        if names.is_empty() {
            return Ok(false);
        }
        let base = |path: &Path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        let exe = readable(proc::exe(pid))?;
        let exe = base(&exe).map(|name| name.trim_end_matches(" (deleted)").to_string());
        let argv0 = readable(proc::cmdline(pid))?
            .first()
            .and_then(|word| base(Path::new(word)));
        Ok(names.iter().any(|name| {
            *name == stat.comm || Some(name) == exe.as_ref() || Some(name) == argv0.as_ref()
        }))
    }

    fn runs_program(&self, pid: i32) -> Result<bool, Finding> {
        self.program.as_ref().map_or(Ok(false), |program| {
            readable(program.is_run_by(pid, &self.environment.cwd))
        })
    }

    fn has_command_line(&self, argv: &[OsString]) -> bool {
        if let Command::Shell(text) = &self.service.command
            && let [shell, option, code] = argv
            && shell.to_string_lossy().ends_with("sh")
            && option == "-c"
            && code == text.as_str()
        {
            return true;
        }
        self.program
            .as_ref()
            .is_some_and(|program| program.has_command_line(argv))
    }
}

/// Who else manages a holder, and what to do instead of killing it; `None`: nobody.
pub fn manager(stat: &Stat) -> Option<Manager> {
    let own = proc::cgroup(std::process::id() as i32).unwrap_or_default();
    let theirs = proc::cgroup(stat.pid).unwrap_or_default();
    cgroup::managed(&theirs, &own, &stat.comm)
}
