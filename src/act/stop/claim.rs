//! The first look: what is to be done with each, and whose it is to do.

use super::Targets;
use crate::act::context::Act;
use crate::observe::{Observation, Scene, tree_of};
use crate::plan::{self, StopStep};
use crate::state::folder;
use crate::state::pidfile::PidFile;
use crate::state::record::Instance;
use std::rc::Rc;

/// What was found of one id, and whether another `stop` is at it already.
pub(super) struct Look {
    pub(super) step: StopStep,
    pub(super) instance: Option<Rc<Instance>>,
    pub(super) pid_file_pid: Option<i32>,
    pub(super) already_stopping: bool,
    /// A start that this stop cancels.
    pub(super) cancelled_start: bool,
    /// Where the records could not be changed: told, and no reason to leave a process running.
    pub(super) trouble: Option<String>,
}

fn look(observation: Observation) -> Look {
    let entry = observation.entry.as_ref();
    let instance = entry.and_then(|entry| entry.instance.clone());
    let step = match plan::stop(&observation) {
        // What ancestry shows now may be all that ever shows it.
        StopStep::End {
            leader: Some(leader),
            first,
        } => StopStep::End {
            leader: Some(leader),
            first: first.iter().flat_map(tree_of).collect(),
        },
        step => step,
    };
    Look {
        instance,
        pid_file_pid: match &observation.pid_file {
            PidFile::Pid { pid, .. } => Some(*pid),
            _ => None,
        },
        already_stopping: observation.stopper_at_work,
        cancelled_start: observation.starter_at_work,
        trouble: None,
        step,
    }
}

/// Looks at all of them at once under the lock, takes the claims of those who start them, and says
/// that they are being stopped and whom that means.
pub(super) async fn claim(act: &Rc<Act>, targets: &Targets) -> Vec<Look> {
    let services: Vec<(String, Option<usize>)> = targets
        .indices
        .iter()
        .map(|&index| (act.table.services[index].id.clone(), Some(index)))
        .chain(targets.gone.iter().map(|id| (id.clone(), None)))
        .collect();
    let shared = act.clone();
    let wanted = services.clone();
    let trouble = match act.journal() {
        Ok(journal) => {
            let claimed = journal.update(move |transaction| {
                let scene = Scene::with(
                    &shared.place,
                    &shared.table,
                    transaction.folder,
                    transaction.ledger,
                );
                let looks: Vec<Look> = wanted
                    .iter()
                    .map(|(id, index)| look(observe(&shared, &scene, id, *index)))
                    .collect();
                let me = shared.claim();
                for ((id, _), look) in wanted.iter().zip(&looks) {
                    if matches!(look.step, StopStep::NotOurs(_)) {
                        continue;
                    }
                    // What its PID file alone proves has no entry yet; a start must learn of this stop.
                    if matches!(look.step, StopStep::End { .. }) {
                        transaction.ledger.entry(id, &shared.table.file);
                    }
                    let Some(entry) = transaction.ledger.entries.get_mut(id) else {
                        continue;
                    };
                    entry.starter = None;
                    entry.restarter = None;
                    entry.failure = None;
                    if let StopStep::End { first, leader } = &look.step
                        && !look.already_stopping
                    {
                        entry.stopper = Some(me.clone());
                        let Some(instance) = &mut entry.instance else {
                            continue;
                        };
                        let known: Vec<(i32, u64)> = first
                            .iter()
                            .map(|stat| (stat.pid, stat.start_time))
                            .collect();
                        if known.len() > 1 || leader.is_none() {
                            Rc::make_mut(instance).members = known;
                        }
                    }
                }
                looks
            });
            match claimed.await {
                Ok(looks) => return looks,
                Err(why) => Some(why),
            }
        }
        // Nothing was ever started from here.
        Err(_) if matches!(act.folder, Err(folder::Refused::Missing)) => None,
        Err(why) => Some(why),
    };
    // Without the lock: what is proven ours is ended all the same.
    let scene = Scene::new(&act.place, act.folder.as_deref(), &act.table);
    let looks = services
        .iter()
        .map(|(id, index)| look(observe(act, &scene, id, *index)));
    looks
        .map(|look| Look {
            trouble: trouble.clone(),
            ..look
        })
        .collect()
}

fn observe(act: &Act, scene: &Scene<'_>, id: &str, index: Option<usize>) -> Observation {
    scene.observe(id, index.map(|index| &act.table.services[index]))
}
