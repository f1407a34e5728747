//! Processes that pidctl holds by pidfd: whom it signals and whose end it awaits.

use crate::reactor;
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::{Identity, Stat};
use std::collections::HashMap;
use std::io;

#[derive(Debug)]
pub struct Member {
    pub identity: Identity,
    pub comm: String,
    /// By SIGSTOP or a terminal, when it was first held.
    pub was_stopped: bool,
    pub pidfd: Pidfd,
}

/// A family as it is found out: grows by looking, never forgets.
#[derive(Debug, Default)]
pub struct Members {
    held: Vec<Member>,
    known: HashMap<Identity, usize>,
    escaped: usize,
}

impl Members {
    /// Holds those that are not held yet and still are who they were. Gives the numbers of the new
    /// ones, and counts who was gone before it could be held. An error (no more descriptors, say)
    /// leaves the rest held.
    pub fn hold(&mut self, found: &[Stat]) -> io::Result<Vec<usize>> {
        let mut new = Vec::new();
        if self.held.is_empty() {
            self.held.reserve_exact(found.len());
        }
        self.escaped = 0;
        for stat in found {
            if self.known.contains_key(&stat.identity()) || stat.pid <= 1 {
                continue;
            }
            match Pidfd::hold(stat.identity())? {
                Some((pidfd, stat)) => new.push(self.add(pidfd, stat)),
                None => self.escaped += 1,
            }
        }
        Ok(new)
    }

    /// Takes one that is held already; gives its number.
    pub fn add(&mut self, pidfd: Pidfd, stat: Stat) -> usize {
        let identity = stat.identity();
        self.known.insert(identity, self.held.len());
        self.held.push(Member {
            identity,
            was_stopped: stat.is_stopped(),
            comm: stat.comm,
            pidfd,
        });
        self.held.len() - 1
    }

    /// Somebody of the last `hold` was gone before it could be held: it may have left a successor.
    pub fn is_elusive(&self) -> bool {
        self.escaped > 0
    }

    pub fn get(&self, number: usize) -> &Member {
        &self.held[number]
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.held.iter()
    }

    pub fn living(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.held
            .iter()
            .enumerate()
            .filter(|(_, member)| !member.pidfd.has_ended())
    }

    pub fn identities(&self) -> Vec<Identity> {
        self.held.iter().map(|member| member.identity).collect()
    }

    /// Until every one of them has ended. Woken by the exit itself.
    pub async fn all_ended(&self) -> io::Result<()> {
        for member in &self.held {
            if !member.pidfd.has_ended() {
                reactor::readable(&member.pidfd).await?;
            }
        }
        Ok(())
    }
}
