//! Ending at once on Ctrl-C, for commands that have nothing to undo.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// From now on SIGINT ends pidctl with exit code 130 and SIGTERM with 143: also while it waits for a
/// reader that does not read, and as PID 1, which no signal ends that it does not handle.
pub fn exit_on_interrupt() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(exit_now),
        SaFlags::empty(),
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler calls nothing but _exit(2), which is async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

extern "C" fn exit_now(signal: libc::c_int) {
    // SAFETY: always sound to call; runs no destructors, which is what is wanted here.
    unsafe { libc::_exit(128 + signal) }
}
