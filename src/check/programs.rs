//! Are the programs there that a service's commands name, on its own PATH and in its own folder?

use super::Findings;
use crate::config::{Command, Health, Service};
use crate::environment::Environment;

pub fn look(service: &Service, environment: &Environment, findings: &mut Findings) {
    let mut commands: Vec<(&'static str, &Command)> = Vec::new();
    match &service.prepare {
        // What the others name may be what it has yet to make.
        Some(prepare) if is_due(service) => commands.push(("prepare", prepare)),
        prepare => {
            commands.extend(prepare.iter().map(|prepare| ("prepare", prepare)));
            commands.push(("command", &service.command));
            if let Health::Command { command, .. } = &service.health {
                commands.push(("health", command));
            }
        }
    }
    for (key, command) in commands {
        if let Err(why) = environment.find(command) {
            findings.of(service, key, format!("{why}; {}", advice(service, &why)));
        }
    }
}

fn is_due(service: &Service) -> bool {
    service.prepare.is_some() && service.creates.as_ref().is_none_or(|path| !path.exists())
}

fn advice(service: &Service, why: &str) -> &'static str {
    if why.starts_with("not executable") {
        "or run it by its interpreter"
    } else if service.env.iter().any(|(name, _)| name == "PATH") {
        "install it, or correct its name or the service's own PATH"
    } else {
        "install it, or correct its name (or give its path: cron's PATH is not yours)"
    }
}
