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
    pub pidfd: Pidfd,
    /// Stopped when last looked at.
    pub stopped: bool,
}

/// A family as it is found out: grows by looking, never forgets.
#[derive(Debug, Default)]
pub struct Members {
    held: Vec<Member>,
    known: HashMap<Identity, usize>,
}

impl Members {
    /// Holds those that are not held yet and still are who they were. Gives the numbers of the new
    /// ones. An error (no more descriptors, say) leaves the rest held.
    pub fn hold<'a>(
        &mut self,
        found: impl IntoIterator<Item = &'a Stat>,
    ) -> io::Result<Vec<usize>> {
        let mut new = Vec::new();
        for stat in found {
            if self.known.contains_key(&stat.identity()) || stat.pid <= 1 {
                continue;
            }
            if let Some((pidfd, stat)) = Pidfd::hold(stat.identity())? {
                let member = Member {
                    identity: stat.identity(),
                    stopped: stat.is_stopped(),
                    comm: stat.comm,
                    pidfd,
                };
                self.known.insert(member.identity, self.held.len());
                new.push(self.held.len());
                self.held.push(member);
            }
        }
        Ok(new)
    }

    pub fn get(&self, number: usize) -> &Member {
        &self.held[number]
    }

    pub fn len(&self) -> usize {
        self.held.len()
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
