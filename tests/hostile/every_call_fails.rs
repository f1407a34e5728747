//! Every system call of pidctl made to fail in turn, once and for good: an error that says what failed,
//! never a panic, nothing untracked, nobody else signalled, no success that is none.
//!
//! All of them, in a PID namespace, where a walk over /proc is short:
//! `PIDCTL_EVERY=1 unshare -pf --mount-proc cargo test --test hostile fails -- --nocapture`

use crate::ground::{self, Ground, Swept, capture, said};
use crate::tracer::{Blow, Call, End, trace};

#[test]
fn any_call_of_start_fails() {
    sweep(Swept::Start, false);
}

#[test]
fn any_call_of_stop_fails() {
    sweep(Swept::Stop, false);
}

#[test]
fn any_call_of_restart_fails() {
    sweep(Swept::Restart, false);
}

#[test]
fn any_call_of_free_fails() {
    sweep(Swept::Free, false);
}

#[test]
fn any_kind_of_call_of_start_fails_for_good() {
    sweep(Swept::Start, true);
}

#[test]
fn any_kind_of_call_of_stop_fails_for_good() {
    sweep(Swept::Stop, true);
}

/// How a call can fail; several ways are taken in turn. Nothing for calls that cannot fail, and for
/// those with which a process ends.
#[allow(non_upper_case_globals)]
fn errors_of(call: i64) -> &'static [i32] {
    use libc::*;
    match call {
        SYS_exit | SYS_exit_group | SYS_rt_sigreturn | SYS_execve | SYS_arch_prctl => &[],
        SYS_getpid | SYS_gettid | SYS_geteuid | SYS_getuid | SYS_getppid | SYS_set_tid_address => {
            &[]
        }
        // Undoing what was done is not refused by Linux.
        SYS_munmap | SYS_rt_sigaction | SYS_rt_sigprocmask | SYS_sigaltstack => &[],
        SYS_close => &[],
        SYS_mmap | SYS_brk | SYS_mprotect | SYS_mremap => &[ENOMEM],
        SYS_open | SYS_openat => &[EMFILE, EACCES, ENOSPC, EIO, ENFILE],
        SYS_read | SYS_pread64 => &[EIO, EINTR],
        SYS_write | SYS_pwrite64 | SYS_writev => &[ENOSPC, EIO, EINTR],
        SYS_fork | SYS_clone | SYS_clone3 | SYS_vfork => &[EAGAIN, ENOMEM],
        SYS_mkdir | SYS_mkdirat | SYS_rename | SYS_renameat | SYS_renameat2 => {
            &[ENOSPC, EROFS, EACCES, EIO]
        }
        SYS_unlink | SYS_unlinkat | SYS_fchmod | SYS_chmod => &[EROFS, EACCES, EIO],
        SYS_pidfd_open => &[EMFILE, ENOMEM, ENOSYS],
        SYS_pidfd_send_signal => &[EPERM],
        SYS_flock => &[EINTR, ENOLCK],
        SYS_fcntl => &[ENOLCK, EIO],
        SYS_epoll_wait | SYS_epoll_pwait | SYS_poll | SYS_ppoll => &[EINTR],
        SYS_epoll_ctl => &[ENOMEM, ENOSPC],
        SYS_wait4 | SYS_waitid => &[EINTR],
        SYS_socket | SYS_pipe2 | SYS_epoll_create1 | SYS_signalfd4 | SYS_inotify_init1
        | SYS_memfd_create | SYS_eventfd2 => &[EMFILE, ENOMEM],
        SYS_inotify_add_watch => &[ENOSPC],
        SYS_getrandom => &[EINTR],
        SYS_kill => &[EPERM],
        SYS_prctl => &[EINVAL],
        SYS_clock_nanosleep | SYS_nanosleep => &[EINTR],
        _ => &[EIO, ENOMEM],
    }
}

fn sweep(swept: Swept, lasting: bool) {
    let failed = ground::sweep(swept, |ground, at| strike(ground, swept, at, lasting));
    println!(
        "{}: {failed} calls failed{}, 0 untracked, 0 panics, 0 lies",
        swept.word(),
        if lasting { " for good" } else { "" }
    );
}

fn strike(ground: &Ground, swept: Swept, at: usize, lasting: bool) -> (bool, bool) {
    ground.set(swept);
    let output = capture(&ground.env);
    let errno_of = |call: &Call| {
        // Nothing is interrupted for ever.
        let errors: Vec<i32> = errors_of(call.number)
            .iter()
            .copied()
            .filter(|&errno| !(lasting && errno == libc::EINTR))
            .collect();
        (!errors.is_empty()).then(|| errors[at % errors.len()])
    };
    let traced = trace(
        ground.command(&ground.words(swept)),
        &output,
        at,
        Blow::Fail { lasting },
        &errno_of,
    )
    .expect("a traced pidctl");
    let text = said(&ground.env);
    let when = format!(
        "{}{} call {at} failed ({:?}) -> {:?}, having said {text:?}",
        swept.word(),
        if lasting { " for good" } else { "" },
        traced.hit,
        traced.end,
    );
    assert!(!traced.hung, "{when}: hung");
    let memory = traced.hit.is_some_and(|(_, errno)| errno == libc::ENOMEM);
    // Before main, the runtime's own way to say that it has no memory.
    let before_main = memory && text.contains("initialization or cleanup bug");
    assert!(!text.contains("panicked") || before_main, "{when}: panic");
    match traced.end {
        End::Code(0) => match swept {
            Swept::Stop => {
                let left = ground.services();
                assert!(left.is_empty(), "{when}: success, but left: {left:?}");
            }
            Swept::Start | Swept::Restart => ground.assert_up(&when),
            Swept::Free => ground.assert_freed(&when),
        },
        End::Code(_) => {
            // The dynamic linker's and the runtime's own words count too.
            // Where no write succeeds any more, the exit status is all that is left to say it with.
            let mute = when.contains("for good") && matches!(traced.hit, Some((1, _)));
            assert!(
                mute || !text.trim().is_empty(),
                "{when}: fails and says nothing"
            );
        }
        // Out of memory the allocator ends the program, as Rust's always does.
        End::Signal(signal) => assert!(memory || traced.hit.is_none(), "{when}: signal {signal}"),
    }
    ground.verify(&when, at.is_multiple_of(2));
    (traced.calls >= at, traced.hit.is_some())
}
