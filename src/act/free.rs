//! Freeing ports: whoever holds them is ended, and then it is looked whether anybody holds them still.

use super::context::Act;
use super::freed::{Ending, Freed, Story, was_killed};
use super::holder::{self, Fate, Holder, Survey, Wish};
use super::hunt::{self, Hunt};
use super::outcome::{StopOutcome, Stopped};
use super::stop::{self, Targets};
use crate::config::{Schedule, StopScope, Takeover};
use crate::events::EventKind;
use crate::family::reception::Reception;
use crate::family::trace::Traces;
use crate::observe;
use crate::reactor;
use crate::sys::boot;
use crate::sys::listeners::{self, PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{self, Identity, Stat};
use crate::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Who shared a service's socket shows after the service has ended, and so on.
const ROUNDS: usize = 3;
/// A supervisor starts its program again at once, or it does not notice at all.
const NOTICE: Duration = Duration::from_millis(200);
/// What it has started gets so long to take the port again.
const RETURN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The signals for those that are no service.
pub fn schedule(wish: &Wish) -> Schedule {
    match wish.force {
        true => Schedule { steps: Vec::new() },
        false => Schedule::simple(Signal::TERM, wish.timeout.unwrap_or(TIMEOUT)),
    }
}

fn stop_options(wish: &Wish) -> stop::Options {
    stop::Options {
        force: wish.force,
        timeout: wish.timeout,
        deadline: None,
        // Whoever else is on the port is our business here.
        takeover: Some(Takeover::Never),
        ..stop::Options::default()
    }
}

/// The schedule that a holder would be ended by.
pub fn schedule_of(act: &Act, wish: &Wish, holder: &Holder) -> Schedule {
    let Fate::Stop(id) = &holder.fate else {
        return schedule(wish);
    };
    let service = act.table.services.iter().find(|service| service.id == *id);
    let own = service.map_or_else(|| schedule(wish), |service| service.schedule.clone());
    match wish.timeout {
        _ if wish.force => schedule(wish),
        Some(timeout) => own.with_timeout(timeout),
        None => own,
    }
}

/// `--dry-run`: the same answers; nobody is touched.
pub fn foresee(act: &Act, wish: &Wish) -> anyhow::Result<Story> {
    let before = holder::survey(act, wish, &wish.ports)?;
    let doomed = before.holders.values().filter(|holder| is_doomed(holder));
    let endings = doomed.map(|holder| {
        let schedule = schedule_of(act, wish, holder);
        let killed = schedule.steps.first().is_none_or(|&(signal, _)| {
            Reception::of(holder.stat.pid, signal) == Reception::Ignores
        });
        let ending = Ending {
            killed,
            ..Ending::default()
        };
        (holder.stat.identity(), ending)
    });
    Ok(Story {
        endings: endings.collect(),
        before,
        later: Vec::new(),
    })
}

fn is_doomed(holder: &Holder) -> bool {
    matches!(holder.fate, Fate::End | Fate::Stop(_))
}

/// Every port that was asked for, in order.
pub fn results(wish: &Wish, story: &Story) -> Vec<Freed> {
    let ports = wish.ports.ranges().iter().flat_map(Clone::clone);
    ports
        .flat_map(|port| wish.protocols.iter().map(move |&protocol| (port, protocol)))
        .map(|(port, protocol)| story.of_port(port, protocol))
        .collect()
}

/// Frees the ports.
pub async fn free(act: &Rc<Act>, wish: &Wish) -> anyhow::Result<Story> {
    let began = boot::ticks_now();
    let mut story = Story {
        before: holder::survey(act, wish, &wish.ports)?,
        ..Story::default()
    };
    let ports: PortSet = story.before.ports.keys().map(|&(port, _)| port).collect();
    let parents = parents(&story.before);
    for _ in 0..ROUNDS {
        let tried = &story.endings;
        let doomed: Vec<Holder> = story
            .now()
            .holders
            .values()
            .filter(|holder| is_doomed(holder) && !tried.contains_key(&holder.stat.identity()))
            // Whoever came since we began is another's doing, which ending it would not end.
            .filter(|holder| story.later.is_empty() || holder.stat.start_time <= began)
            .cloned()
            .collect();
        if doomed.is_empty() {
            break;
        }
        let endings = end(act, wish, doomed).await;
        story.endings.extend(endings);
        story.later.push(holder::survey(act, wish, &ports)?);
    }
    let now = &story.now().ports;
    let freed = story
        .before
        .ports
        .keys()
        .filter(|key| !now.contains_key(*key));
    let freed: PortSet = freed.map(|&(port, _)| port).collect();
    if !story.endings.is_empty() && await_return(act, wish, &freed, parents).await {
        story.later.push(holder::survey(act, wish, &ports)?);
    }
    tell(act, &story);
    Ok(story)
}

/// Ends them all at once: services as `stop` does, others with what descends from them.
async fn end(act: &Rc<Act>, wish: &Wish, doomed: Vec<Holder>) -> BTreeMap<Identity, Ending> {
    let mut services: BTreeSet<&str> = BTreeSet::new();
    let mut others = Vec::new();
    for holder in &doomed {
        match &holder.fate {
            Fate::Stop(id) => {
                services.insert(id);
            }
            _ => others.push(holder.stat.clone()),
        }
    }
    let roots = holder::roots(&others);
    let mut hunts = BTreeMap::new();
    for root in roots.values() {
        hunts
            .entry(root.identity())
            .or_insert_with(|| reactor::spawn(hunt(act.clone(), wish.clone(), root.clone())));
    }
    let stopped = stop_services(act, wish, services).await;
    let mut caught = BTreeMap::new();
    for (root, task) in hunts {
        caught.insert(root, task.await);
    }
    let mut endings = BTreeMap::new();
    for holder in &doomed {
        let ending = match &holder.fate {
            Fate::Stop(id) => stopped
                .iter()
                .find(|stopped| stopped.id == *id)
                .map(of_service),
            _ => roots
                .get(&holder.stat.identity())
                .and_then(|root| caught.get(&root.identity()))
                .cloned(),
        };
        let mut ending = ending.unwrap_or_default();
        ending.killed = was_killed(holder, &ending.receipts);
        let lives = !matches!(proc::alive(holder.stat.identity()), Ok(None));
        if lives && ending.trouble.is_none() {
            ending.trouble = Some("it could not be ended".to_string());
        }
        endings.insert(holder.stat.identity(), ending);
    }
    endings
}

async fn stop_services(act: &Rc<Act>, wish: &Wish, ids: BTreeSet<&str>) -> Vec<Stopped> {
    let mut targets = Targets::default();
    for id in ids {
        let listed = act
            .table
            .services
            .iter()
            .position(|service| service.id == *id);
        match listed {
            Some(index) => targets.indices.push(index),
            None => targets.gone.push(id.to_string()),
        }
    }
    if targets.indices.is_empty() && targets.gone.is_empty() {
        return Vec::new();
    }
    stop::stop(act, &targets, &stop_options(wish), |_| {}).await
}

fn of_service(stopped: &Stopped) -> Ending {
    let failed = stopped.outcome == StopOutcome::Failed;
    Ending {
        killed: false,
        receipts: stopped.receipts.clone(),
        elapsed_ms: stopped.elapsed_ms,
        trouble: failed.then(|| stopped.detail.clone().unwrap_or_default()),
    }
}

async fn hunt(act: Rc<Act>, wish: Wish, root: Stat) -> Ending {
    let label = format!("PID {} ({})", root.pid, root.comm);
    let identity = root.identity();
    let mut hunt = Hunt {
        label,
        traces: Traces::of_processes(vec![identity]),
        first: observe::by_ancestry(identity),
        leader: None,
        schedule: schedule(&wish),
        scope: StopScope::Family,
        kill_at: None,
        give_up_at: None,
        recorded: false,
        already_signalled: false,
        why: "free",
    };
    let caught = hunt::end(&act, &mut hunt).await;
    Ending {
        killed: caught.killed,
        receipts: caught.receipts,
        elapsed_ms: caught.elapsed.as_millis() as u64,
        trouble: (!caught.survivors.is_empty()).then(|| {
            format!(
                "could not be ended, still there: {}",
                caught.survivors.join(", ")
            )
        }),
    }
}

/// Who may start a holder again: its parents, but those of pidctl's own, and their children by now.
fn parents(survey: &Survey) -> Vec<(Pidfd, Stat, HashSet<i32>)> {
    let own = boot::ancestors();
    let doomed = survey
        .holders
        .values()
        .filter(|holder| holder.fate == Fate::End);
    let mut seen = HashSet::new();
    doomed
        .flat_map(|holder| holder::ancestry(&holder.stat))
        .filter(|parent| !own.contains(&parent.pid) && seen.insert(parent.identity()))
        .filter_map(|parent| Pidfd::hold(parent.identity()).ok().flatten())
        .map(|(pidfd, parent)| {
            let children = proc::children(&parent).unwrap_or_default();
            (pidfd, parent, children.into_iter().collect())
        })
        .collect()
}

/// Waits for a supervisor to start again what was ended. True: somebody has taken a port. Ends when
/// nobody is left who would, or they have had their time.
async fn await_return(
    act: &Act,
    wish: &Wish,
    freed: &PortSet,
    mut parents: Vec<(Pidfd, Stat, HashSet<i32>)>,
) -> bool {
    let began = Instant::now();
    loop {
        let is_held = wish.protocols.iter().any(|&protocol| {
            listeners::listeners(protocol, freed).is_ok_and(|found| !found.is_empty())
        });
        parents.retain(|(pidfd, ..)| !pidfd.has_ended());
        if is_held || parents.is_empty() || act.interrupts() > 0 {
            return is_held;
        }
        let has_started = parents.iter().any(|(_, parent, before)| {
            let children = proc::children(parent).unwrap_or_default();
            let mut new = children.into_iter().filter(|pid| !before.contains(pid));
            new.any(|pid| proc::stat(pid).is_ok_and(|stat| stat.is_alive()))
        });
        let patience = if has_started { RETURN } else { NOTICE };
        if began.elapsed() >= patience {
            return false;
        }
        reactor::sleep(LOOK).await;
    }
}

/// An event for each port that was freed.
fn tell(act: &Rc<Act>, story: &Story) {
    for (&(port, protocol), held) in &story.before.ports {
        if story.now().ports.contains_key(&(port, protocol)) || story.endings.is_empty() {
            continue;
        }
        let service = act
            .table
            .services
            .iter()
            .find(|service| service.port == Some(port) && protocol == Protocol::Tcp);
        let none = format!("port {port}");
        let id = service.map_or(none.as_str(), |service| &service.id);
        let names: Vec<&str> = story
            .before
            .holders_of((port, protocol))
            .map(|holder| holder.named.as_str())
            .collect();
        act.event(
            EventKind::PortFreed,
            id,
            held.pids.first().copied(),
            format!("was held by {}", names.join(", ")),
            &[
                ("port", json!(port)),
                ("protocol", json!(protocol.to_string())),
            ],
        );
    }
}
