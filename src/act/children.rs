//! The exits of what we started, and the signals that are messages to pidctl.

use crate::reactor::{self, Watch};
use crate::sys::wait::{self, Exit};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::task::Waker;

/// Exit statuses of our children, kept until somebody asks. Orphans that the subreaper flag gave us
/// are reaped as well.
#[derive(Default)]
pub struct Children {
    exits: RefCell<HashMap<i32, Exit>>,
    forked: RefCell<HashSet<i32>>,
    waiting: RefCell<HashMap<i32, Vec<Waker>>>,
}

impl Children {
    /// Takes over from the kernel whatever has ended.
    pub fn reap(&self) {
        while let Some((pid, exit)) = wait::reap() {
            self.exits.borrow_mut().insert(pid, exit);
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
    reactor::spawn(async move {
        loop {
            if reactor::readable(&messages).await.is_err() {
                return;
            }
            while let Ok(Some(message)) = messages.read_signal() {
                match message.ssi_signo as i32 {
                    libc::SIGCHLD => children.reap(),
                    libc::SIGWINCH => {}
                    signal => interrupts.change(|seen| {
                        seen.count += 1;
                        seen.signal = signal;
                    }),
                }
            }
        }
    });
    Ok(())
}
