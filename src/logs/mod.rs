//! The services' logs: opened safely, rotated at start, read from the end, followed, and shown.

pub mod folder;
pub mod follow;
pub mod open;
pub mod print;
pub mod rotate;
pub mod sanitize;
pub mod tail;

/// How much of a file is read at once, and the most of a line that is ever held.
pub const BLOCK: usize = 64 * 1024;
