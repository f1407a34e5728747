//! From the text of a table to its services, or to every mistake in it at once.

mod entry;
mod graph;
mod health;
mod place;
mod service;
mod site;
mod stop;

use super::Table;
use super::errors::{TableErrors, quoted};
use entry::Entry;
pub use entry::KEYS;
use graph::Node;
pub use place::is_name;
use place::{Mistakes, Place};
use site::{Site, found};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const TABLE_KEYS: [&str; 4] = ["pids_dir", "logs_dir", "defaults", "service"];
const NO_SERVICE: &str = "no service at all; expected at least one [[service]]";

/// `given` is how errors name the file; `canonical` is where it is, and its folder the table's root.
pub fn parse(text: &str, given: &Path, canonical: &Path) -> Result<Table, TableErrors> {
    let root = canonical.parent().unwrap_or(Path::new("/"));
    let mut table = Table {
        given: given.to_owned(),
        file: canonical.to_owned(),
        root: root.to_owned(),
        pids_dir: root.join("pids"),
        logs_dir: root.join("logs"),
        services: Vec::new(),
    };
    let mut mistakes = Mistakes::of(text);
    let (document, syntax) = DeTable::parse_recoverable(text);
    let document = document.get_ref();
    if syntax.is_empty() {
        read_document(document, &mut table, &mut mistakes);
    }
    for error in syntax {
        let at = error.span().unwrap_or_default();
        let place = place_of(document, at.start);
        // A line may be as long as the table: looked at for each of millions, it would take hours.
        let key = (!mistakes.are_many()).then(|| key_before(text, at.start));
        let key = key.flatten().unwrap_or_default();
        let message = syntax_message(text, at.clone(), error.message());
        let message = format!("{place}{key}{message}");
        mistakes.add(at, message);
    }
    let errors = mistakes.in_order();
    if errors.is_empty() {
        return Ok(table);
    }
    let given = given.to_owned();
    Err(TableErrors { given, errors })
}

/// Fills in the table; it means something only if there were no mistakes.
fn read_document(document: &DeTable<'_>, table: &mut Table, mistakes: &mut Mistakes) {
    let root = table.root.clone();
    let mut defaults = Entry::default();
    let mut service_misspelt = false;
    for (key, value) in document {
        let mut site = Site {
            place: &Place::Top,
            key: key.get_ref(),
            root: &root,
            mistakes,
        };
        match (site.key, value.get_ref()) {
            ("pids_dir", _) => table.pids_dir = site.path(value).unwrap_or_default(),
            ("logs_dir", _) => table.logs_dir = site.path(value).unwrap_or_default(),
            ("defaults", DeValue::Table(keys)) => {
                defaults = Entry::read(keys, &Place::Defaults, &root, mistakes);
            }
            ("defaults", _) => site.wrong_type(value, "a table, [defaults]"),
            ("service", DeValue::Array(_)) => {}
            ("service", _) => site.wrong_type(value, "an array of tables, [[service]]"),
            (unknown, _) if KEYS.contains(&unknown) => {
                let message = "unknown key here; expected in a [[service]] or in [defaults]";
                site.wrong(key.span(), message);
            }
            _ => {
                let nearest = site.unknown_key(key.span(), &TABLE_KEYS);
                service_misspelt |= nearest == "service";
            }
        }
    }
    let entries = match document.get("service").map(Spanned::get_ref) {
        Some(DeValue::Array(entries)) if !entries.is_empty() => entries,
        // What is wrong instead has been told.
        Some(other) if !other.is_array() => return,
        None if service_misspelt => return,
        _ => return mistakes.add_whole(NO_SERVICE),
    };
    let mut nodes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let place = Place::of(index, entry);
        let DeValue::Table(keys) = entry.get_ref() else {
            let found = found(entry.get_ref());
            mistakes.add(
                entry.span(),
                format!("{place}expected a table, found {found}"),
            );
            continue;
        };
        let own = Entry::read(keys, &place, &root, mistakes);
        nodes.push(Node::of(keys, place.clone(), &own, &defaults));
        let service = own.finish(&defaults, entry, &place, &root, mistakes);
        table.services.extend(service);
    }
    graph::check_names(&nodes, mistakes);
    let depends_on = graph::resolve(&nodes, mistakes);
    for (service, depends_on) in table.services.iter_mut().zip(depends_on) {
        service.depends_on = depends_on;
    }
}

/// In which entry an offset is, as far as a document with syntax errors tells.
fn place_of(document: &DeTable<'_>, offset: usize) -> Place {
    let entry = || {
        let entries = document.get("service")?.get_ref().as_array()?;
        let index = entries.partition_point(|entry| entry.span().start <= offset);
        let index = index.checked_sub(1)?;
        Some(Place::of(index, entries.get(index)?))
    };
    entry().unwrap_or(Place::Top)
}

/// The key whose value the offset is in, as far as its line tells.
fn key_before(text: &str, offset: usize) -> Option<String> {
    let line = text.get(..offset)?.rsplit('\n').next()?;
    let (key, _) = line.split_once('=')?;
    let key = Some(key.trim()).filter(|key| is_name(key))?;
    Some(format!("{key}: "))
}

fn syntax_message(text: &str, at: Range<usize>, message: &str) -> String {
    let found = text
        .get(at)
        .map(str::trim)
        .filter(|found| !found.is_empty());
    let found = found.map(|found| format!(", found {}", quoted(found)));
    let message = message.replace('\n', " ");
    message + &found.unwrap_or_default()
}

#[cfg(test)]
mod tests;
