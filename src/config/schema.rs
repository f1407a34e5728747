//! The table's JSON Schema, for editors; the parser has the last word.

/// Draft 2020-12. A test holds it against the parser over one corpus of tables.
pub const SCHEMA: &str = include_str!("schema.json");
