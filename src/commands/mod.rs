//! One file per subcommand: it tells that command's story and nothing else.

pub mod logs;
