//! The protocol of PID file, record, lock and gate, as src/act/{start,stop,journal,launch}.rs have it,
//! run through in every interleaving of several commands, with every crash: one instance at most,
//! nothing untracked, nobody's claim lost.
//!
//! A model: each step is what one process can do with nobody seeing its middle. What happens under
//! the lock is still cut where a crash would show.

use std::collections::{HashMap, HashSet, VecDeque};

const COMMANDS: usize = 3;

/// A process of the service, named by the command that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Life {
    None,
    /// Forked; waits for the gate, and ends if its maker does.
    Gated,
    Running,
    /// Has got the stop signal.
    Dying,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Instance {
    made_by: usize,
    ready: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    // start
    Claim,
    AwaitStop(usize),
    Join,
    /// Ends what an earlier command left of this process.
    Leftovers(usize),
    ForgetLeftovers(usize),
    Fork,
    /// Under the lock: PID file written, record not yet.
    Record,
    Open,
    AwaitReady,
    Undo,
    Release,
    // stop
    Look,
    Signal(usize),
    AwaitEnd(usize),
    CleanFile(usize),
    /// Under the lock: PID file removed, record not yet.
    CleanRecord(usize),
    // both
    Done(Outcome),
    Crashed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Outcome {
    Up,
    Stopped,
    Cancelled,
    Failed,
}

/// A rule taken away: the checker must find what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Without {
    Nothing,
    /// The child runs as soon as it is forked.
    Gate,
    /// A start forks without looking whether a stop has taken its claim.
    ClaimCheck,
    /// A stop removes whatever record and PID file are there.
    TokenCheck,
    /// A start does not look whether another is at work.
    StarterClaim,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct World {
    without: Without,
    /// A stop is among the commands.
    stops: bool,
    at: [At; COMMANDS],
    lives: [Life; COMMANDS],
    pid_file: Option<usize>,
    instance: Option<Instance>,
    starter: Option<usize>,
    stopper: Option<usize>,
    lock: Option<usize>,
    crashes_left: u8,
    exits_left: u8,
}

impl World {
    fn is_at_work(&self, command: Option<usize>) -> bool {
        command.is_some_and(|one| !matches!(self.at[one], At::Done(_) | At::Crashed))
    }

    fn lives(&self, process: usize) -> bool {
        matches!(
            self.lives[process],
            Life::Gated | Life::Running | Life::Dying
        )
    }

    fn leader(&self) -> Option<usize> {
        let instance = self.instance?;
        self.lives(instance.made_by).then_some(instance.made_by)
    }

    /// Every world that one step leads to, with what was done.
    fn next(&self) -> Vec<(String, World)> {
        let mut found = Vec::new();
        for me in 0..COMMANDS {
            if matches!(self.at[me], At::Done(_) | At::Crashed) {
                continue;
            }
            for world in self.step(me) {
                found.push((
                    format!("{me}: {:?} -> {:?}", self.at[me], world.at[me]),
                    world,
                ));
            }
            if self.crashes_left > 0 {
                let mut world = self.clone();
                world.crashes_left -= 1;
                world.at[me] = At::Crashed;
                if world.lock == Some(me) {
                    world.lock = None;
                }
                if world.lives[me] == Life::Gated {
                    world.lives[me] = Life::Dead;
                }
                found.push((format!("{me} is killed at {:?}", self.at[me]), world));
            }
        }
        for process in 0..COMMANDS {
            if self.lives[process] == Life::Dying {
                let mut world = self.clone();
                world.lives[process] = Life::Dead;
                found.push((format!("process of {process} ends"), world));
            }
            if self.lives[process] == Life::Running && self.exits_left > 0 {
                let mut world = self.clone();
                world.exits_left -= 1;
                world.lives[process] = Life::Dead;
                found.push((format!("process of {process} exits by itself"), world));
            }
        }
        found
    }

    /// What this command can do now; nothing where it waits.
    fn step(&self, me: usize) -> Vec<World> {
        let mut world = self.clone();
        let free = self.lock.is_none() || self.lock == Some(me);
        let go = |mut world: World, at: At| {
            world.at[me] = at;
            vec![world]
        };
        match self.at[me] {
            At::Claim if free => {
                if self.is_at_work(self.stopper) {
                    return go(world, At::AwaitStop(self.stopper.unwrap_or(me)));
                }
                let starting =
                    self.is_at_work(self.starter) && self.without != Without::StarterClaim;
                match (self.leader(), starting) {
                    (Some(leader), false) if self.stopper.is_some() => {
                        world.starter = Some(me);
                        go(world, At::Leftovers(leader))
                    }
                    (Some(_), false) if self.instance.is_some_and(|one| one.ready) => {
                        go(world, At::Done(Outcome::Up))
                    }
                    (Some(_), _) | (None, true) => go(world, At::Join),
                    (None, false) => {
                        world.starter = Some(me);
                        go(world, At::Fork)
                    }
                }
            }
            At::AwaitStop(stopper)
                if self.stopper != Some(stopper) || !self.is_at_work(self.stopper) =>
            {
                go(world, At::Claim)
            }
            At::Join => match (self.is_at_work(self.starter), self.instance) {
                (_, Some(one)) if one.ready => go(world, At::Done(Outcome::Up)),
                (false, None) => go(world, At::Claim),
                // Left before it was ready: awaited, and not undone.
                (false, Some(one)) if self.lives[one.made_by] == Life::Running => {
                    if !self.is_at_work(self.stopper)
                        && let Some(instance) = &mut world.instance
                    {
                        instance.ready = true;
                        return go(world, At::Done(Outcome::Up));
                    }
                    go(world, At::Done(Outcome::Cancelled))
                }
                (false, Some(one)) if !self.lives(one.made_by) => {
                    go(world, At::Done(Outcome::Failed))
                }
                _ => Vec::new(),
            },
            At::Leftovers(process) => {
                world.end(process);
                go(world, At::ForgetLeftovers(process))
            }
            At::ForgetLeftovers(process) if free && !self.lives(process) => {
                world.forget(process);
                world.stopper = world.stopper.filter(|_| world.instance.is_some());
                go(world, At::Fork)
            }
            At::Fork if free => {
                if self.starter != Some(me) && self.without != Without::ClaimCheck {
                    return go(world, At::Done(Outcome::Cancelled));
                }
                world.lock = Some(me);
                world.lives[me] = match self.without {
                    Without::Gate => Life::Running,
                    _ => Life::Gated,
                };
                world.pid_file = Some(me);
                go(world, At::Record)
            }
            At::Record => {
                world.instance = Some(Instance {
                    made_by: me,
                    ready: false,
                });
                world.stopper = None;
                world.lock = None;
                go(world, At::Open)
            }
            At::Open => {
                if world.lives[me] == Life::Gated {
                    world.lives[me] = Life::Running;
                }
                go(world, At::AwaitReady)
            }
            At::AwaitReady if free => {
                if self.starter != Some(me) {
                    return go(world, At::Done(Outcome::Cancelled));
                }
                if !self.lives(me) {
                    return go(world, At::Undo);
                }
                // Its time may run out as well.
                let mut late = go(self.clone(), At::Undo);
                if let Some(instance) = world.instance.as_mut().filter(|one| one.made_by == me) {
                    instance.ready = true;
                    world.starter = None;
                    late.extend(go(world, At::Done(Outcome::Up)));
                }
                late
            }
            At::Undo => {
                world.end(me);
                if self.lives(me) {
                    return if world == *self {
                        Vec::new()
                    } else {
                        vec![world]
                    };
                }
                go(world, At::Release)
            }
            At::Release if free => {
                world.forget(me);
                if world.starter == Some(me) {
                    world.starter = None;
                }
                go(world, At::Done(Outcome::Failed))
            }
            At::Look if free => {
                world.starter = None;
                match self.leader() {
                    Some(leader) => {
                        if !self.is_at_work(self.stopper) {
                            world.stopper = Some(me);
                        }
                        go(world, At::Signal(leader))
                    }
                    None => {
                        let dead = self.instance.map(|one| one.made_by).or(self.pid_file);
                        match dead {
                            Some(process) => go(world, At::CleanFile(process)),
                            None => go(world, At::Done(Outcome::Stopped)),
                        }
                    }
                }
            }
            At::Signal(process) => {
                world.end(process);
                go(world, At::AwaitEnd(process))
            }
            At::AwaitEnd(process) if !self.lives(process) => go(world, At::CleanFile(process)),
            At::CleanFile(process) if free => {
                // A start that came after has its own record and PID file there.
                let others = self.instance.is_some_and(|one| one.made_by != process);
                if !others && self.pid_file == Some(process) {
                    world.pid_file = None;
                }
                if self.without == Without::TokenCheck {
                    (world.pid_file, world.instance) = (None, None);
                }
                world.lock = Some(me);
                go(world, At::CleanRecord(process))
            }
            At::CleanRecord(process) => {
                if world.instance.is_some_and(|one| one.made_by == process) {
                    world.instance = None;
                }
                if world.stopper == Some(me) {
                    world.stopper = None;
                }
                world.lock = None;
                go(world, At::Done(Outcome::Stopped))
            }
            _ => Vec::new(),
        }
    }

    /// The stop signal. A gated child has it pending until it is let through.
    fn end(&mut self, process: usize) {
        if self.lives(process) {
            self.lives[process] = Life::Dying;
        }
    }

    fn forget(&mut self, process: usize) {
        if self.instance.is_some_and(|one| one.made_by == process) {
            self.instance = None;
        }
        if self.pid_file == Some(process) {
            self.pid_file = None;
        }
    }

    fn wrong(&self, before: &World) -> Option<&'static str> {
        let run: Vec<usize> = (0..COMMANDS)
            .filter(|&one| matches!(self.lives[one], Life::Running | Life::Dying))
            .collect();
        if run.len() > 1 {
            return Some("two instances");
        }
        if run
            .iter()
            .any(|&one| self.instance.map(|instance| instance.made_by) != Some(one))
        {
            return Some("untracked: it runs and no record names it");
        }
        for me in 0..COMMANDS {
            let ended_now = self.at[me] != before.at[me];
            match self.at[me] {
                At::Done(Outcome::Stopped) if ended_now => {
                    // Only what was begun after this stop had looked may live.
                    if let At::CleanRecord(process) = before.at[me]
                        && self.lives(process)
                    {
                        return Some("stopped, and it lives");
                    }
                }
                At::Done(Outcome::Cancelled) if ended_now && !self.stops => {
                    return Some("cancelled, and nobody stops it");
                }
                At::Done(Outcome::Up) if ended_now && before.at[me] == At::AwaitReady => {
                    let ours = self
                        .instance
                        .is_some_and(|one| one.made_by == me && one.ready);
                    if !ours || self.pid_file != Some(me) {
                        return Some("started, and record or PID file are lost");
                    }
                }
                _ => {}
            }
        }
        let forking = |one: usize| {
            matches!(self.at[one], At::Record | At::Open)
                && matches!(self.lives[one], Life::Gated | Life::Running)
        };
        if (0..COMMANDS).filter(|&one| forking(one)).count() > 1 {
            return Some("two children at the gate");
        }
        None
    }

    fn is_over(&self) -> bool {
        self.at
            .iter()
            .all(|at| matches!(at, At::Done(_) | At::Crashed))
    }
}

/// How many worlds there are, or the way to a wrong one.
fn explore(first: [At; COMMANDS], without: Without) -> Result<usize, String> {
    let (crashes, exits) = (2, 1);
    let begin = World {
        without,
        stops: first.contains(&At::Look),
        at: first,
        lives: [Life::None; COMMANDS],
        pid_file: None,
        instance: None,
        starter: None,
        stopper: None,
        lock: None,
        crashes_left: crashes,
        exits_left: exits,
    };
    let mut seen: HashSet<World> = HashSet::from([begin.clone()]);
    let mut from: HashMap<World, (String, World)> = HashMap::new();
    let mut queue = VecDeque::from([begin]);
    while let Some(world) = queue.pop_front() {
        let next = world.next();
        if next.is_empty() && !world.is_over() {
            let path = path(&from, &world);
            return Err(format!("nobody can go on: {world:#?}\n{path}"));
        }
        for (what, world_after) in next {
            if let Some(wrong) = world_after.wrong(&world) {
                let path = path(&from, &world);
                return Err(format!("{wrong}: {world_after:#?}\n{path}\n{what}"));
            }
            if seen.insert(world_after.clone()) {
                from.insert(world_after.clone(), (what, world.clone()));
                queue.push_back(world_after);
            }
        }
    }
    Ok(seen.len())
}

fn path(from: &HashMap<World, (String, World)>, world: &World) -> String {
    let mut steps = Vec::new();
    let mut world = world;
    while let Some((what, before)) = from.get(world) {
        steps.push(what.as_str());
        world = before;
    }
    steps.reverse();
    steps.join("\n")
}

const IDLE: At = At::Done(Outcome::Stopped);

/// Three commands at once, or two; those that come last also meet what the dead have left.
const CASES: [[At; COMMANDS]; 5] = [
    [At::Claim, At::Claim, IDLE],
    [At::Claim, At::Look, IDLE],
    [At::Claim, At::Claim, At::Claim],
    [At::Claim, At::Claim, At::Look],
    [At::Claim, At::Look, At::Look],
];

#[test]
fn no_interleaving_of_three_commands_breaks_the_protocol() {
    let mut worlds = 0;
    for case in CASES {
        worlds += explore(case, Without::Nothing).unwrap_or_else(|why| panic!("{why}"));
    }
    println!("protocol: {worlds} states of three commands, two crashes and an exit: all hold");
}

#[test]
fn the_checker_sees_what_each_rule_is_for() {
    for without in [
        Without::Gate,
        Without::ClaimCheck,
        Without::TokenCheck,
        Without::StarterClaim,
    ] {
        let found = CASES.iter().find_map(|case| explore(*case, without).err());
        assert!(found.is_some(), "nothing is wrong without {without:?}");
    }
}
