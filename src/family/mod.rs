//! Who is whose: contract section 5, each question answered once.
//!
//! | question | file |
//! |---|---|
//! | is it the recorded process? | `verdict` |
//! | who belongs to an instance? | `census`, by the `trace`s it left |
//! | which processes do we hold? | `member` |
//! | how would it take a signal? | `reception` |
//! | does this one process belong to an instance? | `instance` |
//! | who holds a port? | `holders` |
//! | may a process that pidctl did not start be stopped, or taken for ours? | `stranger` |

pub mod census;
pub mod holders;
pub mod instance;
pub mod member;
pub mod reception;
pub mod stranger;
pub mod trace;
pub mod verdict;
