//! What the services are to each other: ids and ports are unique, dependencies exist and end somewhere.

use super::super::errors::{nearest, quoted};
use super::entry::Entry;
use super::place::{Mistakes, Place};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;

/// One service as the others see it; a part that is wrong is `None` and has been told.
pub struct Node {
    place: Place,
    name: Option<String>,
    id: Option<String>,
    port: Option<u16>,
    name_at: Range<usize>,
    port_at: Range<usize>,
    depends_on: Vec<Spanned<String>>,
    /// The dependencies are those of [defaults]: its mistakes are told once, as its own.
    inherits: bool,
}

impl Node {
    pub fn of(keys: &DeTable<'_>, place: Place, own: &Entry, defaults: &Entry) -> Node {
        let at = |key| keys.get(key).map(Spanned::span).unwrap_or_default();
        let inherits = !keys.contains_key("depends_on");
        let written = if inherits { defaults } else { own };
        let port_is_wrong = own.port.is_none() && keys.contains_key("port");
        Node {
            place,
            name: own.name.clone(),
            id: own.id().filter(|_| !port_is_wrong),
            port: own.port,
            name_at: at("name"),
            port_at: at("port"),
            depends_on: written.depends_on.clone().unwrap_or_default(),
            inherits,
        }
    }
}

pub fn check_names(nodes: &[Node], mistakes: &mut Mistakes) {
    let mut ids: HashMap<&str, &Node> = HashMap::new();
    let mut ports: HashMap<u16, &Node> = HashMap::new();
    for node in nodes {
        let place = &node.place;
        if let Some(id) = &node.id
            && let Some(first) = ids.insert(id, node)
        {
            let line = mistakes.line(first.name_at.start);
            ids.insert(id, first);
            let message = format!(
                "{place}name: duplicate id {id}, first used at line {line}; expected each name and port once"
            );
            mistakes.add(node.name_at.clone(), message);
            continue;
        }
        if let Some(port) = node.port
            && let Some(first) = ports.insert(port, node)
        {
            let line = mistakes.line(first.port_at.start);
            let other = first.id.as_deref().unwrap_or("another service");
            let message = format!(
                "{place}port: {port} is also the port of {other} at line {line}; expected a port of its own"
            );
            ports.insert(port, first);
            mistakes.add(node.port_at.clone(), message);
        }
    }
}

/// For each service the services that it depends on, each once.
pub fn resolve(nodes: &[Node], mistakes: &mut Mistakes) -> Vec<Vec<usize>> {
    let mut known: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut ids = HashSet::new();
    for (index, node) in nodes.iter().enumerate() {
        let id = node.id.as_deref();
        let name = node.name.as_deref().filter(|name| id != Some(name));
        let is_right = id.is_some_and(|id| ids.insert(id));
        for word in id.into_iter().chain(name) {
            let found = known.entry(word).or_default();
            // A duplicate has been told; of thousands each would depend on each.
            if is_right || found.is_empty() {
                found.push(index);
            }
        }
    }
    let mut edges = Vec::with_capacity(nodes.len());
    // For each service, which service has last been found to depend on it.
    let mut taken_by = vec![usize::MAX; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let mut own = Vec::new();
        for dependency in &node.depends_on {
            let Some(found) = known.get(dependency.get_ref().as_str()) else {
                let place = if node.inherits {
                    &Place::Defaults
                } else {
                    &node.place
                };
                tell_unknown(place, dependency, nodes, mistakes);
                continue;
            };
            for &target in found {
                if let Some(taken) = taken_by.get_mut(target)
                    && *taken != index
                {
                    *taken = index;
                    own.push((target, dependency.span()));
                }
            }
        }
        edges.push(own);
    }
    tell_cycles(nodes, &edges, mistakes);
    edges
        .into_iter()
        .map(|own| own.into_iter().map(|(target, _)| target).collect())
        .collect()
}

fn tell_unknown(
    place: &Place,
    dependency: &Spanned<String>,
    nodes: &[Node],
    mistakes: &mut Mistakes,
) {
    let word = dependency.get_ref();
    // The nearest is sought among all: for each of thousands it would take minutes.
    let among = if mistakes.are_many() { &[] } else { nodes };
    let known = among
        .iter()
        .flat_map(|node| node.id.iter().chain(&node.name))
        .map(String::as_str);
    let nearest = nearest(word, known).map(|nearest| format!(", the nearest is {nearest}"));
    let message = format!(
        "{place}depends_on: unknown service {}; expected an id or a name of the table{}",
        quoted(word),
        nearest.unwrap_or_default()
    );
    mistakes.add(dependency.span(), message);
}

#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Not,
    Open,
    Done,
}

/// Depth first, without recursion: a chain may be as long as the table. Each service is named in one
/// cycle at most.
fn tell_cycles(nodes: &[Node], edges: &[Vec<(usize, Range<usize>)>], mistakes: &mut Mistakes) {
    let mut visits = vec![Visit::Not; nodes.len()];
    let mut told = vec![false; nodes.len()];
    for root in 0..nodes.len() {
        if visits[root] != Visit::Not {
            continue;
        }
        visits[root] = Visit::Open;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let Some((target, _)) = edges[*node].get(*next) else {
                visits[*node] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits[*target] {
                Visit::Not => {
                    visits[*target] = Visit::Open;
                    path.push((*target, 0));
                }
                Visit::Open if !told[*target] => {
                    let start = path.iter().position(|(node, _)| node == target);
                    let cycle = &path[start.unwrap_or_default()..];
                    if !cycle.iter().any(|(node, _)| told[*node]) {
                        cycle.iter().for_each(|(node, _)| told[*node] = true);
                        tell(nodes, edges, cycle, mistakes);
                    }
                }
                _ => {}
            }
        }
    }
}

/// `cycle` holds services and, for each, one past its edge to the next.
fn tell(
    nodes: &[Node],
    edges: &[Vec<(usize, Range<usize>)>],
    cycle: &[(usize, usize)],
    mistakes: &mut Mistakes,
) {
    let Some(&(first, past)) = cycle.first() else {
        return;
    };
    let around = cycle.iter().map(|(node, _)| *node).chain([first]);
    let names: Vec<&str> = around
        .map(|node| nodes[node].id.as_deref().unwrap_or("?"))
        .collect();
    let message = format!(
        "{}depends_on: dependency cycle {}; expected none",
        nodes[first].place,
        names.join(" -> ")
    );
    if let Some((_, at)) = past.checked_sub(1).and_then(|edge| edges[first].get(edge)) {
        mistakes.add(at.clone(), message);
    }
}
