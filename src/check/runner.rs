//! Would a CI runner end the services together with the job that starts them? They have the caller's
//! environment, and runners know by it what a job has started.

use super::Findings;
use crate::config::Table;
use crate::environment::Environment;

pub fn look(table: &Table, environments: &[Environment], findings: &mut Findings) {
    for marker in MARKERS {
        let marked = |(_, environment): &(_, &Environment)| marker.marks(environment);
        let services = table.services.iter().zip(environments);
        let ids: Vec<&str> = services
            .filter(marked)
            .map(|(service, _)| &*service.id)
            .collect();
        if ids.is_empty() {
            continue;
        }
        let who = match ids.len() == table.services.len() {
            true => "every service".to_owned(),
            false => ids.join(", "),
        };
        findings.of_all(None, format!("{who}: {}", marker.message()));
    }
}

/// A variable by which a CI runner knows what its job has started.
struct Marker {
    name: &'static str,
    runner: &'static str,
    /// The variable to change, and to what, for a process that shall outlive the job.
    escape: (&'static str, &'static str),
}

const MARKERS: &[Marker] = &[
    Marker {
        name: "RUNNER_TRACKING_ID",
        runner: "the GitHub Actions runner",
        escape: ("RUNNER_TRACKING_ID", ""),
    },
    Marker {
        name: "JENKINS_NODE_COOKIE",
        runner: "Jenkins",
        escape: ("JENKINS_NODE_COOKIE", "dontKillMe"),
    },
    // A job without a pipeline has this one alone.
    Marker {
        name: "JENKINS_SERVER_COOKIE",
        runner: "Jenkins",
        escape: ("BUILD_ID", "dontKillMe"),
    },
];

impl Marker {
    fn marks(&self, environment: &Environment) -> bool {
        let value = |name: &str| environment.variables.get(name);
        let (variable, harmless) = self.escape;
        value(self.name).is_some_and(|value| !value.is_empty())
            && value(variable).is_none_or(|value| value != harmless)
            && (variable == self.name || value("JENKINS_NODE_COOKIE").is_none())
    }

    fn message(&self) -> String {
        let (Marker { name, runner, .. }, (variable, harmless)) = (self, self.escape);
        format!(
            "{runner} ends them when the job ends (${name} marks them); if they shall outlive it: \
             {variable}={harmless} pidctl start"
        )
    }
}
