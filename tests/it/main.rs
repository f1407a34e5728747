//! The contract, tested on real processes with the real binary. One file per subcommand or
//! guarantee; one test says one thing.

mod support;

mod testee;
