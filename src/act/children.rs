//! The exits of what we started, and the signals that are messages to pidctl.

use crate::reactor::{self, Watch};
use crate::sys::wait::{self, Exit};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// Exit statuses of our children, kept until somebody asks. Orphans that the subreaper flag or PID 1
/// gave us are reaped as well; of those only the expected are remembered, there may be millions.
#[derive(Default)]
pub struct Children {
    exits: RefCell<HashMap<i32, Exit>>,
    forked: RefCell<HashSet<i32>>,
    expected: RefCell<HashSet<i32>>,
    waiting: RefCell<HashMap<i32, Vec<Waker>>>,
}

impl Children {
    /// Takes over from the kernel whatever has ended.
    pub fn reap(&self) {
        while let Some((pid, exit)) = wait::reap() {
            if self.is_forked(pid) || self.expected.borrow().contains(&pid) {
                self.exits.borrow_mut().insert(pid, exit);
            }
            for waker in self.waiting.borrow_mut().remove(&pid).unwrap_or_default() {
                waker.wake();
            }
        }
    }

    pub fn exit_of(&self, pid: i32) -> Option<Exit> {
        self.reap();
        self.exits.borrow().get(&pid).copied()
    }

    /// A child that we have just forked; an orphan of that PID may have ended before.
    pub fn add(&self, pid: i32) {
        self.exits.borrow_mut().remove(&pid);
        self.forked.borrow_mut().insert(pid);
    }

    /// A process that is no child of ours but may become one, as an orphan.
    pub fn expect(&self, pid: i32) {
        if !self.is_forked(pid) {
            self.exits.borrow_mut().remove(&pid);
            self.expected.borrow_mut().insert(pid);
        }
    }

    /// Its end has been dealt with: the number may come again.
    pub fn forget(&self, pid: i32) {
        self.exits.borrow_mut().remove(&pid);
        self.forked.borrow_mut().remove(&pid);
        self.expected.borrow_mut().remove(&pid);
    }

    /// Did we fork it ourselves? Other children of ours are orphans that the subreaper flag brought.
    pub fn is_forked(&self, pid: i32) -> bool {
        self.forked.borrow().contains(&pid)
    }

    pub async fn exited(&self, pid: i32) -> Exit {
        std::future::poll_fn(|context| match self.exit_of(pid) {
            Some(exit) => std::task::Poll::Ready(exit),
            None => {
                self.waiting
                    .borrow_mut()
                    .entry(pid)
                    .or_default()
                    .push(context.waker().clone());
                std::task::Poll::Pending
            }
        })
        .await
    }
}

/// Signals that come together are one request: timeout(1) sends its own twice, to the process and to
/// the group, and wrappers pass on what the terminal has sent to all. Nothing is done before this is
/// over, so that a signal sent because of what the first has done is never taken for the same.
const TOGETHER: Duration = Duration::from_millis(50);

/// How often the user has asked us to end, and by which signal last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interrupts {
    pub count: u32,
    pub signal: i32,
}

impl Interrupts {
    /// 128 and the signal's number, as a shell says it.
    pub fn exit_code(self) -> i32 {
        128 + if self.signal == 0 {
            libc::SIGINT
        } else {
            self.signal
        }
    }
}

/// Listens for SIGINT, SIGTERM and SIGCHLD for as long as the program runs.
pub fn listen(
    children: Rc<Children>,
    interrupts: Rc<Watch<Interrupts>>,
    hangup: bool,
) -> io::Result<()> {
    let messages = wait::messages(hangup)?;
    let gathering = Rc::new(Cell::new(false));
    reactor::spawn(async move {
        loop {
            if reactor::readable(&messages).await.is_err() {
                return;
            }
            while let Ok(Some(message)) = messages.read_signal() {
                match message.ssi_signo as i32 {
                    libc::SIGCHLD => children.reap(),
                    libc::SIGWINCH => {}
                    _ if gathering.replace(true) => {}
                    signal => {
                        let (gathering, interrupts) = (gathering.clone(), interrupts.clone());
                        reactor::spawn(async move {
                            reactor::sleep(TOGETHER).await;
                            gathering.set(false);
                            interrupts.change(|seen| {
                                seen.count += 1;
                                seen.signal = signal;
                            });
                        });
                    }
                }
            }
        }
    });
    Ok(())
}
