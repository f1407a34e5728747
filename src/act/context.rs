//! What every step of a command shares.

use super::children::{self, Children, Interrupts};
use super::journal::{Journal, MOST_CHILDREN};
use super::walker::Walker;
use crate::config::Table;
use crate::events::write::EventLog;
use crate::events::{Event, EventKind};
use crate::reactor::{self, Either, Permits, Watch};
use crate::state::folder::{Folder, Refused};
use crate::state::ledger::Ledger;
use crate::state::record::Claim;
use crate::sys::boot::Place;
use crate::sys::proc::{self, Identity};
use crate::sys::startup::Inherited;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub struct Act {
    pub table: Rc<Table>,
    pub place: Place,
    pub me: Identity,
    pub inherited: Inherited,
    /// The PID folder, or why there is none to work with.
    pub folder: Result<Rc<Folder>, Refused>,
    journal: Option<Rc<Journal>>,
    pub walker: Rc<Walker>,
    pub children: Rc<Children>,
    pub interrupts: Rc<Watch<Interrupts>>,
    /// So many interrupts make a running stop escalate.
    pub patience: Cell<u32>,
    /// Who is awaited, for the live display.
    pub waits: Rc<Watch<BTreeMap<String, Waiting>>>,
    pub null: File,
    /// Helpers that are being ended though nobody waits for them.
    pub unfinished: Rc<Watch<usize>>,
    /// Launches at once; more would only hold more memory.
    pub launches: Rc<Permits>,
    /// Services of the table that this command has run anything for: an orphan may be any one's of them.
    pub launched: RefCell<BTreeSet<usize>>,
    /// The records as they were at their last change; kept up to date once somebody watches.
    records: Rc<Watch<Rc<Ledger>>>,
    watching: Cell<bool>,
    /// A reading of the records that is about to be made.
    reading: RefCell<Option<Rc<Watch<bool>>>>,
    /// None where there is no table, or nothing is to be made.
    events: RefCell<Option<EventLog>>,
    flush_asked: Cell<bool>,
}

fn watch(folder: &Path) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    // The records are replaced by rename.
    inotify.add_watch(folder, AddWatchFlags::IN_MOVED_TO)?;
    Ok(inotify)
}

/// One line of the live display.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub what: String,
    pub since: Instant,
    /// When the wait ends badly: the start fails, or SIGKILL comes.
    pub until: Option<Instant>,
    pub then: &'static str,
}

/// Shows a wait for as long as it lives.
pub struct Shown {
    waits: Rc<Watch<BTreeMap<String, Waiting>>>,
    id: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.waits.change(|waits| waits.remove(&self.id));
    }
}

impl Act {
    /// `make_folder`: the PID folder is made where it is missing.
    pub fn new(
        table: Rc<Table>,
        inherited: Inherited,
        make_folder: bool,
        hangup: bool,
    ) -> io::Result<Rc<Act>> {
        let place = Place::here()?;
        let folder = match make_folder {
            true => Folder::open_or_make(&table.pids_dir),
            false => Folder::open(&table.pids_dir),
        };
        let folder = folder.map(Rc::new);
        let interrupts = Watch::new(Interrupts::default());
        let children = Rc::new(Children::default());
        children::listen(children.clone(), interrupts.clone(), hangup)?;
        let (size, keep) = table
            .services
            .first()
            .map_or((10 << 20, 3), |first| (first.log_max_size, first.log_keep));
        let log = || EventLog::new(table.events_file(), size, keep);
        let events = RefCell::new(table.is_there().then(log));
        Ok(Rc::new(Act {
            me: proc::own_identity()?,
            journal: folder.as_ref().ok().cloned().map(Journal::new),
            walker: Walker::new(place.clone(), folder.as_ref().ok().cloned()),
            children,
            interrupts,
            patience: Cell::new(1),
            waits: Watch::new(BTreeMap::new()),
            null: File::options().read(true).write(true).open("/dev/null")?,
            events,
            flush_asked: Cell::new(false),
            unfinished: Watch::new(0),
            launches: Permits::new(MOST_CHILDREN),
            launched: RefCell::default(),
            records: Watch::new(Rc::default()),
            watching: Cell::new(false),
            reading: RefCell::default(),
            table,
            place,
            inherited,
            folder,
        }))
    }

    /// Writes no events where the folder of the logs would have to be made for them.
    pub fn make_no_event_log(&self) {
        if !self.table.logs_dir.is_dir() {
            self.events.take();
        }
    }

    pub fn claim(&self) -> Claim {
        Claim::new(self.me, &self.place)
    }

    /// The records, for those who change them.
    pub fn journal(&self) -> Result<&Rc<Journal>, String> {
        match (&self.journal, &self.folder) {
            (Some(journal), _) => Ok(journal),
            (None, Err(refused)) => Err(refused.about(&self.table.pids_dir)),
            (None, Ok(_)) => Err("no records".to_string()),
        }
    }

    /// The records, followed from now on: looked at after each change of them.
    pub fn records(self: &Rc<Self>) -> &Rc<Watch<Rc<Ledger>>> {
        if !self.watching.replace(true)
            && let Ok(folder) = &self.folder
        {
            let read = |folder: &Folder| Ledger::read(folder).ok();
            if let Some(ledger) = read(folder) {
                self.records.change(|records| *records = ledger);
            }
            let (folder, records) = (folder.clone(), self.records.clone());
            let inotify = watch(&folder.path);
            reactor::spawn(async move {
                loop {
                    match &inotify {
                        Ok(inotify) if reactor::readable(inotify).await.is_ok() => {
                            while inotify.read_events().is_ok() {}
                        }
                        // No inotify to be had (a limit): look often enough instead.
                        _ => reactor::sleep(Duration::from_millis(50)).await,
                    }
                    if let Some(ledger) = read(&folder) {
                        records.change(|records| *records = ledger);
                    }
                }
            });
        }
        &self.records
    }

    pub fn watches_records(&self) -> bool {
        self.watching.get()
    }

    /// Reads the records anew, for those who must not decide by older ones.
    pub fn refresh_records(self: &Rc<Self>) {
        if let Ok(folder) = &self.folder
            && let Ok(ledger) = Ledger::read(folder)
        {
            self.records().change(|records| *records = ledger);
        }
    }

    /// The same for many at once: one reading serves all who ask before it.
    pub async fn fresh_records(self: &Rc<Self>) {
        let under_way = self.reading.borrow().clone();
        let reading = under_way.unwrap_or_else(|| {
            let (act, reading) = (self.clone(), Watch::new(false));
            self.reading.replace(Some(reading.clone()));
            let done = reading.clone();
            reactor::spawn(async move {
                reactor::idle().await;
                act.reading.take();
                act.refresh_records();
                done.change(|done| *done = true);
            });
            reading
        });
        reading.until(|done| done.then_some(())).await;
    }

    /// Until our claim to start `id` is gone: a `stop` has taken it.
    pub async fn claim_lost(self: &Rc<Self>, id: &str) {
        let me = self.claim();
        let is_ours = |ledger: &Ledger| {
            ledger
                .entries
                .get(id)
                .is_some_and(|entry| entry.starter.as_ref() == Some(&me))
        };
        loop {
            self.records()
                .until(|ledger| (!is_ours(ledger)).then_some(()))
                .await;
            // Records that could not be read (no more descriptors, say) take nothing away.
            match self.folder.as_ref().map(|folder| Ledger::read(folder)) {
                Ok(Ok(ledger)) if is_ours(&ledger) => {
                    self.records.change(|records| *records = ledger);
                }
                Ok(Ok(_)) | Err(_) => return,
                Ok(Err(_)) => reactor::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Until as many interrupts have come as make a stop escalate.
    pub async fn impatience(&self) {
        let patience = self.patience.get();
        self.interrupts
            .until(|seen| (seen.count >= patience).then_some(()))
            .await;
    }

    /// Until the user has asked us to end.
    pub async fn interrupted(&self) {
        self.interrupts
            .until(|seen| (seen.count > 0).then_some(()))
            .await;
    }

    pub fn interrupts(&self) -> u32 {
        self.interrupts.see(|seen| seen.count)
    }

    /// Shows that `id` is awaited until the result is dropped.
    pub fn show(
        &self,
        id: &str,
        what: impl Into<String>,
        until: Option<Instant>,
        then: &'static str,
    ) -> Shown {
        let waiting = Waiting {
            what: what.into(),
            since: Instant::now(),
            until,
            then,
        };
        self.waits
            .change(|waits| waits.insert(id.to_string(), waiting));
        Shown {
            waits: self.waits.clone(),
            id: id.to_string(),
        }
    }

    /// Adds to the event log; written when nobody can go on without waiting.
    pub fn event(
        self: &Rc<Self>,
        kind: EventKind,
        service: &str,
        pid: Option<i32>,
        why: impl Into<String>,
        more: &[(&str, serde_json::Value)],
    ) {
        let mut log = self.events.borrow_mut();
        let Some(events) = log.as_mut() else { return };
        // What stands for a service where there is none (`port 8080`) has a space, which no id has.
        let service = (!service.contains(' ')).then(|| service.to_string());
        let more = more
            .iter()
            .map(|(key, value)| (key.to_string(), value.clone()))
            .collect();
        events.push(Event {
            event: kind,
            service,
            pid,
            why: why.into(),
            more,
        });
        if !self.flush_asked.replace(true) {
            let act = self.clone();
            reactor::spawn(async move {
                reactor::idle().await;
                act.flush_events();
            });
        }
    }

    pub fn flush_events(&self) {
        self.flush_asked.set(false);
        let mut log = self.events.borrow_mut();
        if let Some(warning) = log.as_mut().and_then(EventLog::flush) {
            crate::report::warn(&warning);
        }
    }

    /// Runs to the end, unless the user asks `count` times for it to end: then `None`, at once.
    pub async fn unless_interrupted<T>(
        &self,
        count: u32,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let interrupted = self
            .interrupts
            .until(|seen| (seen.count >= count).then_some(()));
        match reactor::race(work, interrupted).await {
            Either::First(value) => Some(value),
            Either::Second(()) => None,
        }
    }
}
