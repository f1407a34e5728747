//! How does Nomad know that a service is healthy?

use super::nanoseconds;
use crate::config::{DEFAULT_HEALTH_INTERVAL, DEFAULT_HEALTH_TIMEOUT, Health, HttpCheck, Service};
use serde_json::{Value, json};
use std::time::Duration;

/// The service as Nomad registers it, with its check.
pub fn registered(service: &Service, job: &str, told: &mut dyn FnMut(&str)) -> Value {
    let check = match &service.health {
        Health::None => None,
        Health::Tcp => Some((
            json!({"Name": "tcp", "Type": "tcp"}),
            DEFAULT_HEALTH_TIMEOUT,
            DEFAULT_HEALTH_INTERVAL,
        )),
        Health::Http(check) if Some(check.port) == service.port => {
            told("Nomad counts only 2xx as healthy, not 3xx");
            let form = json!({"Name": "http", "Type": "http", "Path": check.path, "Method": "GET"});
            Some((form, check.timeout, check.interval))
        }
        Health::Http(_) => {
            told("health is not checked: it asks another port than the service's own");
            None
        }
        Health::Command { .. } => {
            told("health is not checked: Nomad's own checks are tcp and http, not commands");
            None
        }
    };
    let checks: Vec<Value> = check
        .into_iter()
        .map(|(mut form, timeout, interval)| {
            let shortest = Duration::from_secs(1);
            if timeout < shortest || interval < shortest {
                told("Nomad's checks have a time-out and an interval of at least 1 s");
            }
            form["Timeout"] = json!(nanoseconds(timeout.max(shortest)));
            form["Interval"] = json!(nanoseconds(interval.max(shortest)));
            form
        })
        .collect();
    let address = match &service.health {
        Health::Http(HttpCheck { host, .. }) if host != "localhost" => {
            host.trim_matches(['[', ']'])
        }
        _ => "127.0.0.1",
    };
    json!({
        "Name": service_name(job, &service.id),
        "Provider": "nomad",
        "PortLabel": "main",
        // Checks go to the service's address: to loopback, as pidctl's do.
        "Address": address,
        "Checks": checks,
    })
}

/// A name of RFC 1123: lower case, digits and dashes, below 64 characters.
fn service_name(job: &str, id: &str) -> String {
    let name = format!("{job}-{id}").to_ascii_lowercase();
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let name = name.get(..name.len().min(63)).unwrap_or(&name);
    name.trim_matches('-').to_owned()
}
