//! Walks over /proc, shared: whoever needs one asks, and one walk answers all. While families are still
//! ending it waits a little for more of them, so a thousand services that end at once are proven gone
//! by a few walks, and the walks never take most of the time.

use crate::family::census::{Census, Interest};
use crate::family::trace::Traces;
use crate::reactor::{self, Watch};
use crate::state::folder::Folder;
use crate::state::ledger::Ledger;
use crate::sys::boot::Place;
use crate::sys::proc::{Identity, Stat};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

type Answer = Rc<Watch<Option<Result<Vec<Stat>, String>>>>;

pub struct Walker {
    place: Place,
    /// Whose records keep the instances of others apart; none where `free` works without a table.
    folder: Option<Rc<Folder>>,
    asked: RefCell<Vec<(Traces, Answer)>>,
    /// Families whose end is awaited by somebody who will ask.
    hunted: Cell<usize>,
    /// Changes with the two above.
    stir: Rc<Watch<()>>,
    last: Cell<Option<(Instant, Duration)>>,
}

/// How long a walk waits for more to ask, for each who may: a thousand need longer to end than a few.
const GATHER: Duration = Duration::from_millis(2);
const GATHER_BOUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(150));
/// After a walk, so many times its cost passes before the next, while others may still ask.
const SHARE: u32 = 3;

/// Somebody who will ask for walks, for as long as it lives.
pub struct Hunter(Rc<Walker>);

impl Drop for Hunter {
    fn drop(&mut self) {
        self.0.hunted.set(self.0.hunted.get() - 1);
        self.0.stir.change(|()| ());
    }
}

impl Walker {
    pub fn new(place: Place, folder: Option<Rc<Folder>>) -> Rc<Walker> {
        Rc::new(Walker {
            place,
            folder,
            asked: RefCell::default(),
            hunted: Cell::new(0),
            stir: Watch::new(()),
            last: Cell::new(None),
        })
    }

    /// The living processes that bear these traces, by a walk that began after the call.
    pub fn family(
        self: &Rc<Self>,
        traces: Traces,
    ) -> impl Future<Output = Result<Vec<Stat>, String>> + use<> {
        let answer: Answer = Watch::new(None);
        self.asked.borrow_mut().push((traces, answer.clone()));
        self.stir.change(|()| ());
        if self.asked.borrow().len() == 1 {
            let walker = self.clone();
            reactor::spawn(async move {
                reactor::idle().await;
                walker.gather().await;
                walker.walk();
            });
        }
        async move {
            answer.until(|answer| answer.is_some().then_some(())).await;
            answer
                .change(Option::take)
                .unwrap_or_else(|| Err("no answer".to_string()))
        }
    }

    /// How many families are being ended.
    pub fn hunted(&self) -> u32 {
        self.hunted.get() as u32
    }

    pub fn hunter(self: &Rc<Self>) -> Hunter {
        self.hunted.set(self.hunted.get() + 1);
        Hunter(self.clone())
    }

    /// Until everybody has asked who will, or it is time.
    async fn gather(&self) {
        let patience = (GATHER * self.hunted()).clamp(GATHER_BOUNDS.0, GATHER_BOUNDS.1);
        let until = Instant::now() + patience;
        let until = self
            .last
            .get()
            .map_or(until, |(end, cost)| until.max(end + cost * SHARE));
        let all = self
            .stir
            .until(|()| (self.asked.borrow().len() >= self.hunted.get()).then_some(()));
        reactor::by(until, all).await;
    }

    fn walk(&self) {
        let began = Instant::now();
        let (mut traces, answers): (Vec<Traces>, Vec<Answer>) =
            self.asked.take().into_iter().unzip();
        let others = self.others(&traces).map(|others| traces.extend(others));
        let census = others
            .map_err(|error| format!("the records of others cannot be read: {error}"))
            .and_then(|()| {
                Census::take(&Interest::of(&traces))
                    .map_err(|error| format!("/proc cannot be read: {error}"))
            });
        let folder = self
            .folder
            .as_ref()
            .map_or_else(PathBuf::new, |folder| folder.path.clone());
        let families = census
            .as_ref()
            .map(|census| census.families(&traces, &folder));
        for (number, answer) in answers.iter().enumerate() {
            let result = match &families {
                Ok(families) => Ok(families[number].iter().map(|&stat| stat.clone()).collect()),
                Err(why) => Err(String::clone(why)),
            };
            answer.change(|answer| *answer = Some(result));
        }
        self.last.set(Some((Instant::now(), began.elapsed())));
    }

    /// The recorded instances that nobody asked for: what is theirs is nobody else's. Where they cannot
    /// be read, nobody can be told from them.
    fn others(&self, asked: &[Traces]) -> io::Result<Vec<Traces>> {
        let Some(folder) = &self.folder else {
            return Ok(Vec::new());
        };
        let known: HashSet<Identity> = asked
            .iter()
            .flat_map(|traces| traces.known.iter().copied())
            .collect();
        let tokens: HashSet<&str> = asked
            .iter()
            .filter_map(|traces| traces.token.as_deref())
            .collect();
        let ledger = Ledger::read(folder)?;
        let instances = ledger
            .entries
            .values()
            .filter_map(|entry| entry.instance.as_ref());
        let others = instances.filter(|instance| {
            !tokens.contains(instance.token.as_str())
                && !known.contains(&instance.leader.identity())
        });
        Ok(others
            .map(|instance| Traces::of(instance, &self.place))
            .collect())
    }
}
