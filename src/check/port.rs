//! Will each service get its port: does nobody else hold it, and may its user bind it?

use super::Findings;
use crate::act::context::Act;
use crate::act::port::{self, Judged};
use crate::config::{Service, Table};
use crate::environment::Environment;
use crate::family::holders::{self, Held};
use crate::family::instance;
use crate::observe::Scene;
use crate::sys::capability;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::proc::{self, Stat};
use std::path::Path;
use std::rc::Rc;

pub fn look(
    table: &Rc<Table>,
    act: impl FnOnce() -> anyhow::Result<Rc<Act>>,
    environments: &[Environment],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let services = || table.services.iter().zip(environments);
    let ports: PortSet = services().filter_map(|(service, _)| service.port).collect();
    let held = match holders::of(Protocol::Tcp, &ports) {
        Ok(held) => held,
        Err(error) => {
            findings.of_all(
                Some("port"),
                format!("who holds the ports cannot be seen: {error}"),
            );
            Default::default()
        }
    };
    // What pidctl knows of its instances is wanted only where somebody is there.
    let act = match held.is_empty() {
        true => None,
        false => Some(act()?),
    };
    let scene = act
        .as_ref()
        .map(|act| Scene::new(&act.place, act.folder.as_deref(), table));
    for (service, environment) in services() {
        let Some(port) = service.port else { continue };
        let trouble = match (held.get(&port), &act, &scene) {
            (Some(held), Some(act), Some(scene)) => foreign(act, scene, service, port, held),
            _ => forbidden(service, environment, port),
        };
        if let Some(trouble) = trouble {
            findings.of(service, "port", trouble);
        }
    }
    Ok(())
}

/// `None`: it is this service's own instance that holds the port.
fn foreign(
    act: &Act,
    scene: &Scene<'_>,
    service: &Service,
    port: u16,
    held: &Held,
) -> Option<String> {
    let family = scene.observe(&service.id, Some(service)).found.family();
    let folder = port::folder_path(act);
    let is_ours = |pid: i32| {
        let of_instance = |stat: Stat| {
            instance::of(&stat, &scene.ledger, folder, &act.place).is_ok_and(|owner| {
                owner.is_some_and(|owner| owner.id == service.id && owner.table == act.table.file)
            })
        };
        family.iter().any(|stat| stat.pid == pid) || proc::stat(pid).is_ok_and(of_instance)
    };
    let ours = match held.pids.is_empty() {
        false => held.pids.iter().all(|&pid| is_ours(pid)),
        // Another user's sockets cannot be told apart; their owner can.
        true => family.iter().any(|stat| {
            let uid = proc::uid(stat.pid).ok();
            held.hidden.iter().any(|listener| Some(listener.uid) == uid)
        }),
    };
    if ours {
        return None;
    }
    let said = match port::judge(act, service, port, service.takeover) {
        Ok(Judged::Free) => return None,
        Ok(Judged::Stoppable { named, .. }) => {
            format!("{port} is held by {named}, which start would stop first (takeover)")
        }
        Ok(Judged::Refused(why) | Judged::Unseen(why)) | Err(why) => why,
    };
    // The key has been said already.
    Some(
        said.strip_prefix("port ")
            .map_or(said.clone(), str::to_owned),
    )
}

/// A low port that the service's user has no right to.
fn forbidden(service: &Service, environment: &Environment, port: u16) -> Option<String> {
    let lowest = capability::first_free_port();
    if port >= lowest {
        return None;
    }
    let uid = environment.uid();
    let program = environment.program(service);
    let program = program.as_ref().map(|program| program.found.as_path());
    if capability::may_bind_low_ports(uid, program) {
        return None;
    }
    let user = crate::sys::users::name_of(uid);
    let program = program.unwrap_or(Path::new("PROGRAM")).display();
    Some(format!(
        "{port} is below {lowest}, which user {user} may not bind; take a higher one, or: setcap \
         cap_net_bind_service=+ep $(readlink -f {program}), or: sysctl net.ipv4.ip_unprivileged_port_start={port}"
    ))
}
