//! `pidctl status`: what is there. Changes nothing and needs no write access.

use super::Session;
use crate::act::context::Act;
use crate::act::port;
use crate::act::ready;
use crate::act::start;
use crate::config::{Health, Service};
use crate::exit_code::{ExitCode, StatusCode};
use crate::family::holders;
use crate::observe::{self, Found, Observation, Scene};
use crate::reactor;
use crate::report::status::{self, HealthWord, Row, State};
use crate::report::{self, Style, json, watch};
use crate::selection;
use crate::state::folder::Folder;
use crate::state::record::{Instance, Phase};
use crate::sys::boot;
use crate::sys::listeners::{PortSet, Protocol};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::Stat;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

pub struct Request {
    pub words: Vec<String>,
    /// Redraw; the interval where one is given.
    pub watch: Option<Option<Duration>>,
}

/// What is looked at, again and again: a word that was known once keeps its row.
struct Chosen {
    indices: Vec<usize>,
    /// Ids without an entry that were named; `None`: those that have a record at each look.
    gone: Option<Vec<String>>,
}

pub fn run(session: &Session, request: &Request) -> anyhow::Result<ExitCode> {
    let table = session.table()?;
    let act = session.act(&table, false, false)?;
    let (indices, gone) = match selection::select(&table, &request.words, &[]) {
        Ok(known) => known,
        Err(_) => super::select(&table, act.folder.as_deref(), &request.words)?,
    };
    let chosen = Chosen {
        indices,
        gone: (!request.words.is_empty()).then_some(gone),
    };
    let style = session.style;
    let shared = act.clone();
    match request.watch {
        None => Ok(super::block_on(&act, 1, async move {
            let rows = look(&shared, &chosen).await;
            show(&style, &rows);
            fold(&rows)
        })),
        Some(interval) => {
            let interval = interval
                .unwrap_or_else(|| shortest_interval(&act))
                .max(Duration::from_millis(100));
            Ok(super::block_on(
                &act,
                1,
                redraw(shared, style, chosen, interval),
            ))
        }
    }
}

fn shortest_interval(act: &Act) -> Duration {
    let intervals = act
        .table
        .services
        .iter()
        .filter_map(|service| match &service.health {
            Health::Http(check) => Some(check.interval),
            Health::Command { interval, .. } => Some(*interval),
            Health::None | Health::Tcp => None,
        });
    intervals.min().unwrap_or(Duration::from_secs(2))
}

/// Until Ctrl-C, or until nobody reads any more: on a terminal the table is redrawn in place, elsewhere
/// one follows the other.
async fn redraw(act: Rc<Act>, style: Style, chosen: Chosen, interval: Duration) -> ExitCode {
    loop {
        let rows = look(&act, &chosen).await;
        if !style.terminal || style.json {
            show(&style, &rows);
        } else {
            report::print(&watch::frame(&status::table(&style, &rows)));
        }
        if report::reader_is_gone() {
            return ExitCode::Done;
        }
        reactor::sleep(interval).await;
    }
}

fn show(style: &Style, rows: &[Row]) {
    if style.json {
        json::print(&json::Services { services: rows });
    } else {
        report::print(&status::table(style, rows));
    }
}

/// One row for each selected service, and for the records of this table that have no entry in it.
async fn look(act: &Rc<Act>, chosen: &Chosen) -> Vec<Row> {
    // It may have been made since the last look.
    let made = Folder::open(&act.table.pids_dir);
    let folder = made.as_ref();
    let scene = Scene::new(&act.place, folder, &act.table);
    let gone = match &chosen.gone {
        Some(gone) => gone.clone(),
        None => super::gone(&act.table, &scene.ledger),
    };
    for warning in &scene.ledger.warnings {
        report::warn(warning);
    }
    let ids = chosen
        .indices
        .iter()
        .map(|&index| (act.table.services[index].id.clone(), Some(index)));
    let ids = ids.chain(gone.into_iter().map(|id| (id, None)));
    // Probes that take their time are waited for side by side; a thousand services need none.
    let pending: Vec<Pending> = ids
        .map(|(id, index)| {
            let service = index.map(|index| &act.table.services[index]);
            let seen = Seen::of(&scene, id, service);
            match seen.ask(act, index) {
                Some(asked) => Pending::Asked(Box::new(seen), index, asked),
                None => {
                    let asked = (!seen.family.is_empty() && service.is_some()).then_some(Ok(()));
                    Pending::Known(Box::new(seen.row(act, service, asked)))
                }
            }
        })
        .collect();
    let mut rows = Vec::with_capacity(pending.len());
    for pending in pending {
        rows.push(match pending {
            Pending::Known(row) => *row,
            Pending::Asked(seen, index, asked) => {
                let asked = asked.await;
                seen.row(
                    act,
                    index.map(|index| &act.table.services[index]),
                    Some(asked),
                )
            }
        });
    }
    name_foreign_holders(&mut rows);
    rows
}

/// A row, or what it waits for.
enum Pending {
    Known(Box<Row>),
    Asked(Box<Seen>, Option<usize>, reactor::Task<Result<(), String>>),
}

/// What was observed of one id, and the family as ancestry shows it.
struct Seen {
    id: String,
    observation: Observation,
    family: Vec<Stat>,
}

impl Seen {
    fn of(scene: &Scene<'_>, id: String, service: Option<&Service>) -> Seen {
        let observation = scene.observe(&id, service);
        Seen {
            id,
            family: observation.found.family(),
            observation,
        }
    }

    /// Asks for its health; `None` where it need not be asked.
    fn ask(
        &self,
        act: &Rc<Act>,
        index: Option<usize>,
    ) -> Option<reactor::Task<Result<(), String>>> {
        let index = index.filter(|_| !self.family.is_empty())?;
        if act.table.services[index].health == Health::None {
            return None;
        }
        let pids: Vec<i32> = self.family.iter().map(|stat| stat.pid).collect();
        let token = self
            .observation
            .instance()
            .map(|instance| instance.token.clone())
            .unwrap_or_default();
        let act = act.clone();
        Some(reactor::spawn(async move {
            ready::is_healthy(&act, &act.table.services[index], &token, &pids).await
        }))
    }

    fn row(self, act: &Act, service: Option<&Service>, asked: Option<Result<(), String>>) -> Row {
        let instance = self.observation.instance();
        let (mut state, pid, detail) = self.state(service, instance, asked.as_ref());
        let mut details: Vec<String> = detail.into_iter().collect();
        if service.is_none() {
            details.insert(0, "not in the table".to_string());
        }
        if state == State::Running && self.observation.stopper_at_work {
            state = State::Stopping;
        }
        if self.family.iter().any(Stat::is_stopped) && state != State::Stopping {
            details.push("a process of it is stopped (SIGSTOP)".to_string());
        }
        let alive = pid.is_some() && !self.family.is_empty();
        let leader = self.family.iter().find(|stat| Some(stat.pid) == pid);
        let age = leader.map(|stat| boot::age(stat.start_time));
        Row {
            name: service.map_or_else(|| self.id.clone(), |service| service.name.clone()),
            port: service.map_or_else(
                || instance.and_then(|instance| instance.port),
                |service| service.port,
            ),
            state,
            pid,
            started_at: age.map(|age| {
                humantime::format_rfc3339_seconds(SystemTime::now() - Duration::from_secs_f64(age))
                    .to_string()
            }),
            uptime_s: age.map(|age| age as u64),
            processes: alive.then_some(self.family.len()),
            memory_bytes: alive
                .then(|| self.family.iter().map(|stat| stat.rss).sum::<u64>() * boot::page_size()),
            health: match (service.map(|service| &service.health), &asked) {
                (None | Some(Health::None), _) | (_, None) => HealthWord::None,
                (_, Some(Ok(()))) => HealthWord::Ok,
                (_, Some(Err(_))) => HealthWord::Failing,
            },
            changed: service
                .map_or_else(Vec::new, |service| start::changes(act, service, instance)),
            log: Some(act.table.log_file(&self.id).display().to_string()),
            detail: (!details.is_empty()).then(|| details.join("; ")),
            description: service.map_or_else(String::new, |service| service.description.clone()),
            id: self.id,
        }
    }

    fn state(
        &self,
        service: Option<&Service>,
        instance: Option<&Instance>,
        asked: Option<&Result<(), String>>,
    ) -> (State, Option<i32>, Option<String>) {
        let stopping = self.observation.stopper_at_work;
        match &self.observation.found {
            Found::Unknown(why) => (
                State::Unknown,
                instance.map(|instance| instance.leader.pid),
                Some(why.clone()),
            ),
            Found::Elsewhere(table) => (State::Stopped, None, Some(observe::elsewhere(table))),
            Found::Stale(why) => (State::Stale, None, Some(why.clone())),
            Found::Stopped if self.observation.starter_at_work => (
                State::Starting,
                None,
                Some("another command is about to start it".to_string()),
            ),
            Found::Stopped => (State::Stopped, None, None),
            Found::Running { leader, .. } => {
                let awaited = self.observation.starter_at_work;
                let (state, detail) = running_state(leader, instance, asked, awaited);
                (
                    if stopping { State::Stopping } else { state },
                    Some(leader.pid),
                    detail,
                )
            }
            Found::Orphaned(family) => {
                let leader =
                    observe::new_leader(family, instance.and_then(|instance| instance.port));
                let pid = leader.map(|leader| leader.pid);
                let followed =
                    service.is_some_and(observe::may_be_followed) && matches!(asked, Some(Ok(())));
                let names = family.iter().map(port::name).collect::<Vec<_>>().join(", ");
                match (stopping, followed) {
                    (true, _) => (State::Stopping, pid, None),
                    (false, true) => (
                        State::Running,
                        pid,
                        Some("its command went to the background".to_string()),
                    ),
                    (false, false) => (
                        State::Orphaned,
                        pid,
                        Some(format!("its leader is gone; left: {names}")),
                    ),
                }
            }
        }
    }
}

fn running_state(
    leader: &Stat,
    instance: Option<&Instance>,
    asked: Option<&Result<(), String>>,
    awaited: bool,
) -> (State, Option<String>) {
    let age = boot::age(leader.start_time);
    let ready_timeout = instance.map_or(0.0, |instance| instance.ready_timeout_ms as f64 / 1000.0);
    let young =
        instance.is_some_and(|instance| instance.phase != Phase::Ready) && age < ready_timeout;
    let preparing = instance.is_some_and(|instance| instance.phase == Phase::Preparing);
    match asked {
        _ if preparing => (
            State::Starting,
            Some("its prepare command runs".to_string()),
        ),
        Some(Err(why)) if young => (State::Starting, Some(why.clone())),
        Some(Err(why)) => (State::Unhealthy, Some(why.clone())),
        // Healthy, but not ready before it has lived for 200 ms, and the command that starts it says so.
        _ if young && (age < 0.2 || awaited) => (State::Starting, None),
        _ => (State::Running, None),
    }
}

/// A port of a service that is not up, held by somebody else: told. One walk for all of them, and none
/// where no such port is held.
fn name_foreign_holders(rows: &mut [Row]) {
    let down = |row: &Row| {
        matches!(
            row.state,
            State::Stopped | State::Stale | State::Unhealthy | State::Starting
        )
    };
    let ports: PortSet = rows
        .iter()
        .filter(|row| down(row))
        .filter_map(|row| row.port)
        .collect();
    let Ok(held) = holders::of(Protocol::Tcp, &ports) else {
        return;
    };
    for row in rows.iter_mut().filter(|row| down(row)) {
        let Some((port, held)) = row.port.and_then(|port| Some((port, held.get(&port)?))) else {
            continue;
        };
        let own: Vec<i32> = row
            .pid
            .into_iter()
            .flat_map(|pid| Pidfd::open(pid).ok().flatten())
            .flat_map(|(_, stat)| observe::by_ancestry(stat.identity()))
            .map(|stat| stat.pid)
            .collect();
        let names: Vec<String> = held
            .pids
            .iter()
            .filter(|pid| !own.contains(pid))
            .filter_map(|&pid| crate::sys::proc::stat(pid).ok())
            .map(|stat| port::name(&stat))
            .collect();
        let told = match (names.is_empty(), held.pids.is_empty()) {
            (false, _) => format!("port {port} is held by {}", names.join(", ")),
            (true, true) => port::unseen(port, held),
            (true, false) => continue,
        };
        row.detail = Some(
            row.detail
                .take()
                .map_or(told.clone(), |detail| format!("{detail}; {told}")),
        );
    }
}

/// LSB's codes: the graver where several hold.
fn fold(rows: &[Row]) -> ExitCode {
    let has = |states: &[State]| rows.iter().any(|row| states.contains(&row.state));
    ExitCode::Status(if has(&[State::Unknown]) {
        StatusCode::Unknown
    } else if has(&[State::Stale, State::Orphaned]) {
        StatusCode::StaleOrOrphaned
    } else if has(&[State::Stopped]) {
        StatusCode::Stopped
    } else if has(&[State::Unhealthy, State::Starting, State::Stopping]) {
        StatusCode::NotQuite
    } else {
        StatusCode::AllRunning
    })
}
