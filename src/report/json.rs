//! The one JSON document of a command.

use serde::Serialize;

/// `{"services":[…]}`
#[derive(Serialize)]
pub struct Services<'a, T> {
    pub services: &'a [T],
}

/// Prints it on one line with a newline.
pub fn print(document: &impl Serialize) {
    match serde_json::to_string(document) {
        Ok(text) => super::print(&format!("{text}\n")),
        Err(error) => super::warn(&format!("the JSON cannot be made: {error}")),
    }
}
