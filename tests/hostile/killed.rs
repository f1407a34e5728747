//! Killed at any instant: SIGKILL at each of pidctl's system calls in turn. Every instant between two
//! calls looks to the rest of the world like the entry of the second.
//!
//! All of them, in a PID namespace, where a walk over /proc is short:
//! `PIDCTL_EVERY=1 unshare -pf --mount-proc cargo test --test hostile killed -- --nocapture`

use crate::ground::{self, Ground, Swept, capture, said};
use crate::tracer::{Blow, trace};

#[test]
fn killed_at_any_call_of_start() {
    sweep(Swept::Start);
}

#[test]
fn killed_at_any_call_of_stop() {
    sweep(Swept::Stop);
}

#[test]
fn killed_at_any_call_of_restart() {
    sweep(Swept::Restart);
}

#[test]
fn killed_at_any_call_of_free() {
    sweep(Swept::Free);
}

fn sweep(swept: Swept) {
    let killed = ground::sweep(swept, |ground, at| strike(ground, swept, at));
    println!(
        "{}: killed at {killed} of {killed} points, 0 untracked",
        swept.word()
    );
}

/// Not hit where the command had ended before that call.
fn strike(ground: &Ground, swept: Swept, at: usize) -> (bool, bool) {
    ground.set(swept);
    let output = capture(&ground.env);
    let traced = trace(
        ground.command(&ground.words(swept)),
        &output,
        at,
        Blow::Kill,
        &|_| None,
    )
    .expect("a traced pidctl");
    let when = format!(
        "{} killed at call {at} ({:?}), having said {:?}",
        swept.word(),
        traced.hit,
        said(&ground.env)
    );
    assert!(!traced.hung, "{when}: hung");
    ground.verify(&when, at.is_multiple_of(2));
    let hit = traced.hit.is_some();
    (hit, hit)
}
