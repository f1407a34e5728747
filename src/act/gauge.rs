//! What a drill measures while a family is ended: when the first signal went out, when each of the
//! family ended, and who was still there when SIGKILL's turn came.

use crate::reactor::{self, Watch};
use crate::sys::pidfd::Pidfd;
use crate::sys::proc::Identity;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub struct Gauge {
    signalled: Cell<Option<Instant>>,
    watched: RefCell<HashSet<Identity>>,
    /// When each was seen to end.
    pub ends: Rc<Watch<HashMap<Identity, Instant>>>,
    left: RefCell<Option<Vec<Identity>>>,
}

impl Gauge {
    pub fn new() -> Rc<Gauge> {
        Rc::new(Gauge {
            signalled: Cell::new(None),
            watched: RefCell::default(),
            ends: Watch::new(HashMap::new()),
            left: RefCell::new(None),
        })
    }

    pub fn signalled(&self) {
        if self.signalled.get().is_none() {
            self.signalled.set(Some(Instant::now()));
        }
    }

    pub fn first_signal(&self) -> Option<Instant> {
        self.signalled.get()
    }

    /// From now on their ends are written down, each when it happens.
    pub fn watch(&self, family: Vec<Identity>) {
        for identity in family {
            if !self.watched.borrow_mut().insert(identity) {
                continue;
            }
            let ends = self.ends.clone();
            reactor::spawn(async move {
                if let Ok(Some((pidfd, _))) = Pidfd::hold(identity) {
                    let _ = reactor::readable(&pidfd).await;
                }
                ends.change(|ends| ends.insert(identity, Instant::now()));
            });
        }
    }

    /// Until all ends are written down; all have ended.
    pub async fn all_ends(&self) {
        let watched = self.watched.borrow().len();
        self.ends
            .until(|ends| (ends.len() >= watched).then_some(()))
            .await;
    }

    pub fn time_is_up(&self, left: Vec<Identity>) {
        self.left.borrow_mut().get_or_insert(left);
    }

    /// Who had not ended by itself; `None` where it never came to SIGKILL.
    pub fn left(&self) -> Option<Vec<Identity>> {
        self.left.borrow().clone()
    }
}
