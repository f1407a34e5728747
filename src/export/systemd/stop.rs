//! How does a unit stop: the signal, the wait, SIGKILL, and a schedule of several signals?

use super::{Lines, span};
use crate::config::{Service, StopScope};
use crate::export::quote;
use crate::sys::signal::Signal;
use std::time::Duration;

/// A stop schedule: `$0` is the scope, the arguments are pairs of a signal's number and a wait in
/// tenths of a second. SIGKILL ends it. Without a unified cgroup it finds nobody and leaves the
/// stop to KillSignal=.
const STOP: &str = "PATH=$PATH:/usr/bin:/bin; \
     procs=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cgroup.procs; \
     [ -r \"$procs\" ] || exit 0; \
     meant() { [ \"$1\" != $$ ] && { [ \"$0\" = family ] || [ \"$1\" = \"$MAINPID\" ]; }; }; \
     signal() { while read -r p; do if meant \"$p\"; then kill -\"$1\" \"$p\"; fi; done <\"$procs\"; }; \
     alive() { while read -r p; do if meant \"$p\"; then return 0; fi; done <\"$procs\"; return 1; }; \
     while [ $# -gt 0 ]; do signal \"$1\"; n=$2; shift 2; \
     while [ \"$n\" -gt 0 ]; do alive || exit 0; sleep 0.1; n=$((n - 1)); done; done; \
     while read -r p; do if [ \"$p\" != $$ ]; then kill -9 \"$p\"; fi; done <\"$procs\"; exit 0";

pub fn stop(unit: &mut Lines, service: &Service) {
    let steps = &service.schedule.steps;
    let total: Duration = steps
        .iter()
        .fold(Duration::ZERO, |sum, (_, wait)| sum.saturating_add(*wait));
    let (mode, scope) = match service.stop_scope {
        StopScope::Family => ("control-group", "family"),
        StopScope::Leader => ("mixed", "leader"),
    };
    unit.set("KillMode", mode);
    unit.set("SendSIGKILL", "yes");
    let first = steps.first().map_or(Signal::KILL, |(signal, _)| *signal);
    unit.set("KillSignal", &signal_name(first));
    if first != Signal::KILL {
        // Ended by its own stop signal, or reporting that as a shell does, it has not failed.
        unit.set("SuccessExitStatus", &(128 + first.number()).to_string());
        if first.number() < 32 {
            unit.set("SuccessExitStatus", &signal_name(first));
        }
    }
    if steps.len() < 2 {
        unit.set("TimeoutStopSec", &span(total));
        return;
    }
    let spelled: Vec<String> = steps
        .iter()
        .map(|(signal, wait)| format!("{} {}", signal_name(*signal), span(*wait)))
        .collect();
    unit.note(&format!(
        "Stop schedule: {}, then SIGKILL. systemd knows one signal and one wait, so ExecStop= runs",
        spelled.join(", ")
    ));
    unit.note("the steps (needs cgroup v2); KillSignal= is for a start that failed");
    let mut words = ["/bin/sh", "-c", STOP, scope].map(String::from).to_vec();
    for (signal, wait) in steps {
        words.push(signal.number().to_string());
        // A shell's numbers end at some point, which would end the wait at once.
        words.push(
            wait.as_millis()
                .div_ceil(100)
                .min(10_000_000_000)
                .to_string(),
        );
    }
    unit.set("ExecStop", &quote::exec_line(&words));
    // Slack for the script itself: it must not be cut short before its last step.
    unit.set(
        "TimeoutStopSec",
        &span(total.saturating_add(Duration::from_secs(5))),
    );
}

/// The real-time signals by number: systemd and the C library may count them differently.
fn signal_name(signal: Signal) -> String {
    if signal.number() < 32 {
        signal.to_string()
    } else {
        signal.number().to_string()
    }
}
