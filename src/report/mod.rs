//! States and outcomes as people and scripts read them.

/// A diagnostic on standard error.
pub fn warn(message: &str) {
    use std::io::Write;
    // A closed standard error harms nothing.
    let _ = writeln!(std::io::stderr(), "pidctl: {message}");
}
