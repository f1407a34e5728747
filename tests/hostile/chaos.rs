//! Many commands at once, in any order, while PID files vanish, leaders and commands are killed and
//! processes are stopped: never two instances, nobody else touched, and at rest all agree.
//!
//! Longer: `PIDCTL_CHAOS_SECONDS=300 cargo test --test hostile chaos -- --nocapture`; the same actions
//! again with the `PIDCTL_CHAOS_SEED` that it prints.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ground::{describe, number};
use crate::support::{Process, TestEnv, await_that};

const SERVICES: [&str; 3] = ["tree", "slow", "daemon"];
const WORKERS: usize = 6;

/// xorshift64*: the same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}

#[test]
fn chaos_makes_no_second_instance_and_touches_nobody() {
    let seconds = number("PIDCTL_CHAOS_SECONDS", 3) as u64;
    let seed = number("PIDCTL_CHAOS_SEED", std::process::id() as usize);
    let env = TestEnv::new();
    let only = |name: &str| format!("only={}", env.at(&format!("only.{name}")));
    env.table(&[
        env.service("tree")
            .does(&format!(
                "{} child=ignore=TERM,tree=1x2 child=setsid,double-fork",
                only("tree")
            ))
            .key("stop_timeout = \"100ms\""),
        env.service("slow")
            .does(&format!("{} exit-on=TERM slow=60", only("slow")))
            .key("prepare = \"sleep 0.03\"")
            .key("depends_on = [\"tree\"]"),
        env.service("daemon")
            .does(&format!("{} daemonize child=setsid", only("daemon")))
            .key("daemonizes = true"),
    ]);
    let canaries = [
        env.bystander(&["catch=TERM"]),
        env.stranger(&["catch=TERM"]),
    ];
    println!("seed {seed}");
    let until = Instant::now() + Duration::from_secs(seconds);
    let actions = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (env, actions, canaries) = (&env, &actions, &canaries);
            scope.spawn(move || {
                let mut random = Random(seed as u64 * 31 + worker as u64 + 1);
                while Instant::now() < until {
                    act(env, &mut random);
                    actions.fetch_add(1, Ordering::Relaxed);
                    no_second_instance(env);
                    canaries.iter().for_each(|canary| canary.assert_alive());
                }
            });
        }
    });
    at_rest(&env);
    println!(
        "chaos: {} actions in {seconds} s, seed {seed}: never two, nobody else touched",
        actions.into_inner()
    );
}

fn act(env: &TestEnv, random: &mut Random) {
    let id = SERVICES[random.below(SERVICES.len())];
    match random.below(14) {
        0..=2 => command(env, &["start", id], &[0, 1]),
        3 => command(env, &["start", "--no-wait"], &[0, 1]),
        4..=5 => command(env, &["stop", id], &[0, 1]),
        6 => command(env, &["stop", "--force"], &[0, 1]),
        7..=8 => command(env, &["restart", id], &[0, 1]),
        9 => command(env, &["--json", "status"], &[0, 1, 3, 150]),
        10 => {
            let _ = std::fs::remove_file(env.path(&format!("pids/{id}.pid")));
        }
        // A command is killed somewhere in its middle.
        11 => {
            let word = ["start", "stop", "restart"][random.below(3)];
            let call = env.pidctl(&[word]).spawn();
            std::thread::sleep(Duration::from_millis(random.below(120) as u64));
            call.signal(nix::sys::signal::Signal::SIGKILL);
            call.finish();
        }
        12 => leader(env, id, libc::SIGKILL),
        _ => leader(env, id, libc::SIGSTOP),
    }
}

fn command(env: &TestEnv, words: &[&str], allowed: &[i32]) {
    let output = env.run(words);
    assert!(allowed.contains(&output.code()), "{output}");
    assert!(!output.stderr.contains("panicked"), "{output}");
}

/// Signals the leader, if the PID file names a process of this test.
fn leader(env: &TestEnv, id: &str, signal: i32) {
    let text = std::fs::read_to_string(env.path(&format!("pids/{id}.pid")));
    let named = text.ok().and_then(|text| text.trim().parse().ok());
    let process = named.and_then(Process::of);
    if let Some(process) = process.filter(|process| env.survivors().contains(process)) {
        process.signal(signal);
    }
}

fn no_second_instance(env: &TestEnv) {
    for name in SERVICES {
        let text = std::fs::read_to_string(env.path(&format!("only.{name}"))).unwrap_or_default();
        assert!(!text.contains("violation"), "two of {name}: {text}");
    }
}

/// No command runs any more: what lives is shown, and PID files, records and processes agree.
fn at_rest(env: &TestEnv) {
    let output = env.run(&["start"]);
    assert_eq!(output.code(), 0, "{output}");
    let status = env.run(&["--json", "status"]).expect(0);
    for id in SERVICES {
        let service = status.service(id);
        assert_eq!(service["pid"].to_string(), env.pid_text(id), "{status}");
    }
    env.ok(&["stop"]);
    await_that("forks of pidctl live on", || {
        env.survivors().iter().all(|one| one.comm() != "pidctl")
    });
    let left: Vec<String> = env.survivors().iter().map(describe).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    for id in SERVICES {
        assert!(!env.has_pid_file(id), "{id} keeps its PID file");
    }
    no_second_instance(env);
}
