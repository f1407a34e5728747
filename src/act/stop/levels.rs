//! Who waits for whom to end, and what of a deadline is each one's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Of a deadline's slice, so much is kept for SIGKILL and the proof.
const KILL_SHARE: u32 = 4;
const KILL_SHARE_MOST: Duration = Duration::from_secs(1);

/// How many levels of services come after a service's own, itself included.
pub(super) struct Levels {
    depth: HashMap<usize, u32>,
    deepest: u32,
}

impl Levels {
    pub(super) fn left(&self, index: usize) -> u32 {
        self.deepest - self.depth.get(&index).copied().unwrap_or(0) + 1
    }
}

/// The length of the longest chain of dependents before each service.
pub(super) fn levels(dependents: &HashMap<usize, Vec<usize>>) -> Levels {
    let mut depth: HashMap<usize, u32> = dependents.keys().map(|&index| (index, 0)).collect();
    // Each round settles one more level; there are no cycles.
    loop {
        let mut changed = false;
        for (index, before) in dependents {
            let deeper = before
                .iter()
                .filter_map(|dependent| depth.get(dependent))
                .max()
                .map_or(0, |most| most + 1);
            if depth.get(index) != Some(&deeper) {
                depth.insert(*index, deeper);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let deepest = depth.values().copied().max().unwrap_or(0);
    Levels { depth, deepest }
}

/// A deadline as one service sees it.
pub(super) struct Slice {
    pub(super) began: Instant,
    pub(super) deadline: Duration,
    /// Levels that must still end in what is left of it.
    pub(super) left: u32,
}

impl Slice {
    /// When SIGKILL comes, and when no wait goes on.
    pub(super) fn times(&self) -> (Instant, Instant) {
        let end = self.began + self.deadline;
        let now = Instant::now();
        let share = end.saturating_duration_since(now) / self.left;
        let kept = (share / KILL_SHARE).min(KILL_SHARE_MOST);
        (now + share - kept, now + share)
    }
}
