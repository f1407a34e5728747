//! Changes of the PID folder, many services' at once: whoever wants a change hands it in, and when
//! nobody can go on without, all of them are made in one transaction under the lock. Children forked
//! in it pass their gate after everything about them is on disk.

use crate::reactor::{self, Watch};
use crate::state::folder::Folder;
use crate::state::ledger::Ledger;
use crate::sys::spawn::{ExecFailure, Gate, Stage};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

/// Takes back a change of a file.
type Undo = Box<dyn FnOnce(&Folder)>;

/// What a change may touch: the folder is locked, the records are fresh.
pub struct Transaction<'a> {
    pub folder: &'a Folder,
    pub ledger: &'a mut Ledger,
    gate: &'a mut Option<Gate>,
    passage: &'a Rc<Passage>,
    undo: &'a mut Vec<Undo>,
}

impl Transaction<'_> {
    /// What takes back a change of a file, should the records not come to disk.
    pub fn on_failure(&mut self, undo: impl FnOnce(&Folder) + 'static) {
        self.undo.push(Box::new(undo));
    }

    /// The gate of this transaction's children, and how to learn who could not pass it.
    pub fn gate(&mut self) -> io::Result<(&mut Gate, Rc<Passage>)> {
        if self.gate.is_none() {
            *self.gate = Some(Gate::new()?);
        }
        let gate = self.gate.as_mut().ok_or(io::ErrorKind::Other)?;
        Ok((gate, self.passage.clone()))
    }
}

/// The way of a batch of children through their gate: known once all have exec'd or failed to.
pub type Passage = Watch<Option<HashMap<usize, (Stage, io::Error)>>>;

/// A change with its result, kept back until the records are on disk.
trait Change {
    fn apply(&mut self, transaction: &mut Transaction<'_>);
    fn finish(&mut self, error: Option<&str>);
}

struct Pending<T, F> {
    change: Option<F>,
    result: Option<T>,
    slot: Rc<Watch<Option<Result<T, String>>>>,
}

impl<T, F: FnOnce(&mut Transaction<'_>) -> T> Change for Pending<T, F> {
    fn apply(&mut self, transaction: &mut Transaction<'_>) {
        self.result = self.change.take().map(|change| change(transaction));
    }

    fn finish(&mut self, error: Option<&str>) {
        let result = match (self.result.take(), error) {
            (Some(result), None) => Ok(result),
            (_, error) => Err(error.unwrap_or("not done").to_string()),
        };
        self.slot.change(|slot| *slot = Some(result));
    }
}

/// Each child that waits costs a stack and shares the lock's moments.
pub const MOST_CHILDREN: usize = 128;

pub struct Journal {
    folder: Rc<Folder>,
    queue: RefCell<Vec<Box<dyn Change>>>,
}

impl Journal {
    pub fn new(folder: Rc<Folder>) -> Rc<Journal> {
        Rc::new(Journal {
            folder,
            queue: RefCell::default(),
        })
    }

    /// Makes the change with the records as they are then. The error is for people: the disk is full,
    /// the lock is held by …; the records on disk are unchanged then, and no child has passed.
    pub async fn update<T: 'static>(
        self: &Rc<Self>,
        change: impl FnOnce(&mut Transaction<'_>) -> T + 'static,
    ) -> Result<T, String> {
        let slot = Watch::new(None);
        self.queue.borrow_mut().push(Box::new(Pending {
            change: Some(change),
            result: None,
            slot: slot.clone(),
        }));
        if self.queue.borrow().len() == 1 {
            self.ask_for_flush();
        }
        slot.until(|slot| slot.is_some().then_some(())).await;
        slot.change(Option::take)
            .unwrap_or_else(|| Err("not done".to_string()))
    }

    fn flush(self: &Rc<Self>) {
        let mut changes = self.queue.take();
        let passage = Watch::new(None);
        let mut gate = None;
        let error = self
            .transact(&mut changes, &mut gate, &passage)
            .err()
            .map(|error| format!("{}: {error}", self.folder.path.display()));
        match gate {
            // Dropped unopened, it ends its children without exec.
            Some(gate) if error.is_none() => open(gate, passage),
            _ => {}
        }
        changes
            .iter_mut()
            .for_each(|change| change.finish(error.as_deref()));
        if !self.queue.borrow().is_empty() {
            self.ask_for_flush();
        }
    }

    fn transact(
        &self,
        changes: &mut Vec<Box<dyn Change>>,
        gate: &mut Option<Gate>,
        passage: &Rc<Passage>,
    ) -> io::Result<()> {
        let folder = &self.folder;
        let _held = folder.lock()?;
        let mut undo = Vec::new();
        let changed = Ledger::change(folder, |ledger| {
            let mut made = 0;
            for change in changes.iter_mut() {
                change.apply(&mut Transaction {
                    folder,
                    ledger,
                    gate: &mut *gate,
                    passage,
                    undo: &mut undo,
                });
                made += 1;
                if gate
                    .as_ref()
                    .is_some_and(|gate| gate.len() >= MOST_CHILDREN)
                {
                    break;
                }
            }
            // The rest waits for the next transaction.
            self.queue.borrow_mut().splice(0..0, changes.drain(made..));
        });
        changed.inspect_err(|_| undo.into_iter().for_each(|undo| undo(folder)))
    }

    fn ask_for_flush(self: &Rc<Self>) {
        let journal = self.clone();
        reactor::spawn(async move {
            reactor::idle().await;
            journal.flush();
        });
    }
}

fn open(gate: Gate, passage: Rc<Passage>) {
    let told = passage.clone();
    let all_failed = move |error: io::Error| {
        // Nobody knows how far they came; their exits will tell.
        drop(error);
        told.change(|passage| *passage = Some(HashMap::new()));
    };
    let children = gate.len();
    let mut reports = match gate.open() {
        Ok(reports) => reports,
        Err(error) => {
            let none_passed = (0..children).map(|child| {
                let error = io::Error::new(error.kind(), error.to_string());
                (child, (Stage::Gate, error))
            });
            return passage.change(|passage| *passage = Some(none_passed.collect()));
        }
    };
    reactor::spawn(async move {
        let failures = loop {
            if let Err(error) = reactor::readable(&reports).await {
                return all_failed(error);
            }
            match reports.read() {
                Ok(None) => continue,
                Ok(Some(failures)) => break failures,
                Err(error) => return all_failed(error),
            }
        };
        let failed = failures.into_iter().map(
            |ExecFailure {
                 child,
                 stage,
                 error,
             }| (child, (stage, error)),
        );
        passage.change(|passage| *passage = Some(failed.collect()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::pidfile::{self, PidFile};
    use crate::state::record::Claim;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn records_that_cannot_be_written_leave_no_pid_file() {
        let path = tempfile::tempdir().unwrap();
        let folder = Rc::new(Folder::open(path.path()).unwrap());
        let journal = Journal::new(folder.clone());
        let changed = reactor::block_on(journal.update(|transaction| {
            pidfile::write(transaction.folder, "web", 42).unwrap();
            transaction.on_failure(|folder| pidfile::remove(folder, "web", &[42]).unwrap());
            // JSON has no words for such a path.
            let table = Path::new(OsStr::from_bytes(b"/\xff/services.toml"));
            transaction.ledger.entry("web", table).starter = Some(Claim {
                pid: 42,
                start_time: 1,
                boot_id: String::new(),
                pid_namespace: 1,
            });
        }));
        assert!(changed.is_err());
        assert_eq!(pidfile::read(&folder, "web"), PidFile::Missing);
    }
}
