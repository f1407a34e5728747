//! `pidctl check`: the table's mistakes, or, where it has none, what will go wrong all the same.

use super::Session;
use crate::check::{self, Warning};
use crate::config::{TableError, TableErrors};
use crate::exit_code::ExitCode;
use crate::report::{self, json};
use serde::Serialize;

#[derive(Serialize)]
struct Report<'a> {
    errors: &'a [TableError],
    warnings: &'a [Warning],
}

pub fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let table = session.table().inspect_err(|mistakes: &TableErrors| {
        if session.style.json {
            print(&mistakes.errors, &[]);
        }
    })?;
    let warnings = check::warnings(&table, || session.act(&table, false, false))?;
    if session.style.json {
        print(&[], &warnings);
    } else if !session.style.quiet {
        for warning in &warnings {
            report::tell(&warning.told(&table.given));
        }
        report::say(&format!(
            "{}: {}, no mistake, {}",
            table.given.display(),
            counted(table.services.len(), "service"),
            counted(warnings.len(), "warning"),
        ));
    }
    Ok(ExitCode::Done)
}

fn print(errors: &[TableError], warnings: &[Warning]) {
    json::print(&Report { errors, warnings });
}

fn counted(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
