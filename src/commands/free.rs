//! `pidctl free`: end whoever listens on ports, with a table or without.

use super::Session;
use crate::act::context::Act;
use crate::act::free;
use crate::act::freed::{FreeOutcome, Freed, Story};
use crate::act::holder::{Fate, Wish};
use crate::config::Table;
use crate::exit_code::ExitCode;
use crate::observe::{self, Scene};
use crate::report::forecast::Forecast;
use crate::report::live::Display;
use crate::report::{self, Style, freed, json};
use crate::sys::listeners::Protocol;
use serde::Serialize;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

pub struct Request {
    /// Each with its end; none means every port of the table.
    pub ports: Vec<(u16, u16)>,
    pub force: bool,
    pub timeout: Option<Duration>,
    pub names: Vec<String>,
    pub tcp: bool,
    pub udp: bool,
    pub managed: bool,
    pub dry_run: bool,
}

/// `8080`, or `8000-8100`.
pub fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let port = |word: &str| match word.parse() {
        Ok(port @ 1..) if word.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        // `-5` and `80-` have an empty word, which would say nothing.
        _ => Err(format!(
            "\"{text}\" is no port from 1 to 65535 and no range of them"
        )),
    };
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (port(from)?, port(to)?),
        None => (port(text)?, port(text)?),
    };
    if from > to {
        return Err(format!("the range ends before it begins; try {to}-{from}"));
    }
    Ok((from, to))
}

pub fn run(session: &Session, request: &Request) -> anyhow::Result<ExitCode> {
    let table = table(session, request)?;
    let wish = wish(&table, request);
    let act = session.act(&table, false, false)?;
    act.make_no_event_log();
    let style = session.style;
    if wish.ports.ranges().is_empty() {
        report::warn("no service of the table has a port");
    }
    if request.dry_run {
        let story = free::foresee(&act, &wish)?;
        return Ok(show(&act, &style, &wish, &story, true));
    }
    act.patience.set(1);
    let shared = act.clone();
    let display = Display::start(&act, &style);
    Ok(super::block_on(&act, 2, async move {
        let story = free::free(&shared, &wish).await;
        display.clear();
        match story {
            Ok(story) => show(&shared, &style, &wish, &story, false),
            Err(error) => {
                report::warn(&format!("{error:#}"));
                ExitCode::Failed
            }
        }
    }))
}

/// The table where one is found. Its mistakes count: a service of it must not be taken for a stranger.
fn table(session: &Session, request: &Request) -> anyhow::Result<Rc<Table>> {
    match session.table_path() {
        Ok(path) => Ok(session.load(&path)?),
        Err(_) if !request.ports.is_empty() => Ok(Rc::new(Table::none())),
        Err(missing) => Err(missing.into()),
    }
}

fn wish(table: &Table, request: &Request) -> Wish {
    let given = request.ports.iter().map(|&(from, to)| from..=to);
    let all = table.services.iter().filter_map(|service| service.port);
    Wish {
        ports: match request.ports.is_empty() {
            true => all.collect(),
            false => given.collect(),
        },
        protocols: match (request.tcp, request.udp) {
            (false, true) => vec![Protocol::Udp],
            (true, true) => vec![Protocol::Tcp, Protocol::Udp],
            (_, false) => vec![Protocol::Tcp],
        },
        names: request.names.clone(),
        managed: request.managed,
        force: request.force,
        timeout: request.timeout,
    }
}

#[derive(Serialize)]
struct Ports {
    ports: Vec<Freed>,
}

fn show(act: &Act, style: &Style, wish: &Wish, story: &Story, dry_run: bool) -> ExitCode {
    let ports = free::results(wish, story);
    let code = fold(&ports);
    if style.json {
        json::print(&Ports { ports });
        return code;
    }
    for &protocol in &wish.protocols {
        let ports: Vec<&Freed> = ports
            .iter()
            .filter(|one| one.protocol == protocol)
            .collect();
        // Of a long range, the ports that nobody holds would bury the rest.
        let is_run = |one: &&Freed, next: &&Freed| {
            let free = FreeOutcome::AlreadyFree;
            (one.outcome, next.outcome) == (free, free) && next.port - one.port == 1
        };
        for run in ports.chunk_by(is_run) {
            if let [first, _, .., last] = run {
                freed::free_range(style, first.port..=last.port, protocol);
                continue;
            }
            for port in run {
                let held = story.now().ports.get(&(port.port, protocol));
                freed::port(style, port, held.filter(|held| held.is_unseen()), dry_run);
                if dry_run && !style.quiet {
                    foretell(act, wish, story, (port.port, protocol));
                }
            }
        }
    }
    code
}

/// Every process that would be ended, and how it will take that.
fn foretell(act: &Act, wish: &Wish, story: &Story, port: (u16, Protocol)) {
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let doomed = story.before.holders_of(port).filter(|holder| {
        let identity = holder.stat.identity();
        story.endings.contains_key(&identity)
    });
    let mut seen = HashSet::new();
    for holder in doomed {
        let schedule = free::schedule_of(act, wish, holder);
        let mut family = Vec::new();
        if let Fate::Stop(id) = &holder.fate {
            let service = act.table.services.iter().find(|service| service.id == *id);
            family = scene.observe(id, service).found.family();
        }
        family.extend(observe::by_ancestry(holder.stat.identity()));
        for stat in family.iter().filter(|stat| seen.insert(stat.pid)) {
            let forecast = Forecast {
                schedule: &schedule,
                deadline: None,
            };
            report::say(&forecast.process(stat));
        }
    }
}

fn fold(ports: &[Freed]) -> ExitCode {
    let is_well =
        |freed: &Freed| matches!(freed.outcome, FreeOutcome::Freed | FreeOutcome::AlreadyFree);
    if ports.iter().all(is_well) {
        ExitCode::Done
    } else {
        ExitCode::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::parse_ports;

    #[test]
    fn a_port_or_a_range() {
        assert_eq!(parse_ports("8080"), Ok((8080, 8080)));
        assert_eq!(parse_ports("1-65535"), Ok((1, 65535)));
        for text in [
            "",
            "0",
            "65536",
            "-1",
            "+80",
            "80-",
            "-80",
            "90-80",
            "0-80",
            "80-90-100",
            "http",
            "80,81",
            " 80",
        ] {
            assert!(parse_ports(text).is_err(), "{text:?}");
        }
    }
}
