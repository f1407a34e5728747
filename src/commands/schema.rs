//! `pidctl schema`: the JSON Schema of the table. It needs none, and is JSON with and without `--json`.

use crate::config::schema::SCHEMA;
use crate::exit_code::ExitCode;
use crate::report;

pub fn run() -> anyhow::Result<ExitCode> {
    report::document(SCHEMA)?;
    Ok(ExitCode::Done)
}
