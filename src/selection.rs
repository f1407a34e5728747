//! Ids and names to services, and the order that dependencies demand.

use crate::config::errors::{is_alike, nearest};
use crate::config::{Service, Table};
use std::collections::{BTreeSet, HashMap};

/// An id or name that the table does not know. A usage error.
#[derive(Debug)]
pub struct Unknown {
    pub word: String,
    pub nearest: Option<String>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no service \"{}\" in the table", self.word)?;
        match &self.nearest {
            Some(nearest) if is_alike(&self.word, nearest) => {
                write!(f, "; did you mean \"{nearest}\"?")
            }
            Some(nearest) => write!(
                f,
                "; the nearest is \"{nearest}\" (pidctl status lists all)"
            ),
            None => f.write_str(" (pidctl status lists them)"),
        }
    }
}

impl std::error::Error for Unknown {}

/// Indices of the services that the words mean, in the order of the table; no words mean all. `also`
/// are ids that are not in the table but known from records: they come back by name.
pub fn select(
    table: &Table,
    words: &[String],
    also: &[String],
) -> Result<(Vec<usize>, Vec<String>), Unknown> {
    if words.is_empty() {
        return Ok(((0..table.services.len()).collect(), also.to_vec()));
    }
    let mut by_word: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, service) in table.services.iter().enumerate() {
        by_word.entry(&service.id).or_default().push(index);
        if service.name != service.id {
            by_word.entry(&service.name).or_default().push(index);
        }
    }
    let mut chosen = BTreeSet::new();
    let mut gone = Vec::new();
    for word in words {
        match by_word.get(word.as_str()) {
            Some(indices) => chosen.extend(indices),
            None if gone.contains(word) => {}
            None if also.contains(word) => gone.push(word.clone()),
            None => {
                let known = by_word
                    .keys()
                    .copied()
                    .chain(also.iter().map(String::as_str));
                return Err(Unknown {
                    word: word.clone(),
                    nearest: nearest(word, known).map(str::to_string),
                });
            }
        }
    }
    Ok((chosen.into_iter().collect(), gone))
}

/// The chosen and everything they depend on, each after what it needs.
pub fn with_dependencies(table: &Table, chosen: &[usize]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut done = vec![false; table.services.len()];
    // A stack of our own: a chain may be longer than the thread's.
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for &root in chosen {
        stack.push((root, 0));
        while let Some((index, next)) = stack.pop() {
            if done[index] {
                continue;
            }
            match table.services[index].depends_on.get(next) {
                Some(&dependency) => {
                    stack.push((index, next + 1));
                    stack.push((dependency, 0));
                }
                None => {
                    done[index] = true;
                    order.push(index);
                }
            }
        }
    }
    order
}

/// For each of `chosen`, which others of `chosen` depend on it, directly or through services that are
/// not chosen.
pub fn dependents(table: &Table, chosen: &[usize]) -> HashMap<usize, Vec<usize>> {
    let is_chosen: BTreeSet<usize> = chosen.iter().copied().collect();
    let mut found: HashMap<usize, Vec<usize>> =
        chosen.iter().map(|&index| (index, Vec::new())).collect();
    for &index in chosen {
        let mut seen = BTreeSet::new();
        let mut stack = table.services[index].depends_on.clone();
        while let Some(dependency) = stack.pop() {
            if !seen.insert(dependency) {
                continue;
            }
            if is_chosen.contains(&dependency) {
                // Its own dependencies wait for it in their turn.
                found.entry(dependency).or_default().push(index);
            } else {
                stack.extend(&table.services[dependency].depends_on);
            }
        }
    }
    found
}

/// Services that depend on one of `chosen` and are not chosen themselves.
pub fn dependents_outside<'a>(table: &'a Table, chosen: &[usize]) -> Vec<(&'a Service, usize)> {
    let is_chosen: BTreeSet<usize> = chosen.iter().copied().collect();
    let outside = table
        .services
        .iter()
        .enumerate()
        .filter(|(index, _)| !is_chosen.contains(index));
    outside
        .flat_map(|(_, service)| {
            service
                .depends_on
                .iter()
                .filter(|dependency| is_chosen.contains(dependency))
                .map(move |&d| (service, d))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_named_twice_is_meant_once() {
        let words = ["old_1", "old_2", "old_1"].map(str::to_string);
        let selected = select(&Table::none(), &words, &words);
        assert!(selected.is_ok_and(|(_, gone)| gone == ["old_1", "old_2"]));
    }
}
