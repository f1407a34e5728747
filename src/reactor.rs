//! Many waits in one thread: futures over epoll(7) and timers, so that starting and stopping a
//! service reads as one story while all of them go on side by side. Waking is by the event itself;
//! nothing polls.
//!
//! Why not a runtime from a crate: a thread would make fork(2) unsafe, and this is all there is to it.

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

struct Reactor {
    epoll: Epoll,
    next: u64,
    fds: HashMap<u64, Waker>,
    timers: BTreeMap<(Instant, u64), Waker>,
    /// Woken when nothing else can go on, just before the thread would block.
    idle: Vec<Waker>,
    tasks: HashMap<u64, Pin<Box<dyn Future<Output = ()>>>>,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

thread_local! {
    static REACTOR: RefCell<Option<Reactor>> = const { RefCell::new(None) };
}

/// The task that `block_on` itself drives.
const ROOT: u64 = 0;

fn with<T>(f: impl FnOnce(&mut Reactor) -> T) -> T {
    REACTOR.with(|cell| {
        let mut slot = cell.borrow_mut();
        let reactor = slot.get_or_insert_with(|| Reactor {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap_or_else(|errno| fail(errno)),
            next: 1,
            fds: HashMap::new(),
            timers: BTreeMap::new(),
            idle: Vec::new(),
            tasks: HashMap::new(),
            ready: Arc::default(),
        });
        f(reactor)
    })
}

/// Without epoll nothing can be awaited; there is nothing to fall back to.
fn fail(errno: Errno) -> ! {
    let _ = writeln!(io::stderr(), "pidctl: cannot wait for events: {errno}");
    std::process::exit(1)
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if let Ok(mut ready) = self.ready.lock() {
            ready.push_back(self.task);
        }
    }
}

fn waker_of(task: u64) -> Waker {
    let ready = with(|reactor| reactor.ready.clone());
    Waker::from(Arc::new(TaskWaker { task, ready }))
}

/// Runs `root` to its end, and the tasks beside it; tasks that are left then are dropped.
pub fn block_on<T>(root: impl Future<Output = T>) -> T {
    let mut root = pin!(root);
    let root_waker = waker_of(ROOT);
    root_waker.wake_by_ref();
    loop {
        while let Some(task) = with(|reactor| {
            reactor
                .ready
                .lock()
                .ok()
                .and_then(|mut ready| ready.pop_front())
        }) {
            if task == ROOT {
                if let Poll::Ready(value) =
                    root.as_mut().poll(&mut Context::from_waker(&root_waker))
                {
                    let left = with(|reactor| std::mem::take(&mut reactor.tasks));
                    drop(left);
                    return value;
                }
                continue;
            }
            // Taken out while it runs: it may spawn others.
            let Some(mut future) = with(|reactor| reactor.tasks.remove(&task)) else {
                continue;
            };
            let waker = waker_of(task);
            if future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                with(|reactor| reactor.tasks.insert(task, future));
            }
        }
        let idle = with(|reactor| std::mem::take(&mut reactor.idle));
        if idle.is_empty() {
            wait_for_events();
        }
        idle.into_iter().for_each(Waker::wake);
    }
}

fn wait_for_events() {
    let timeout = with(|reactor| {
        reactor
            .timers
            .keys()
            .next()
            .map(|(at, _)| at.saturating_duration_since(Instant::now()))
    });
    let timeout = match timeout {
        None => EpollTimeout::NONE,
        // Rounded up: waking a fraction of a millisecond early would only spin.
        Some(left) => {
            EpollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(EpollTimeout::MAX)
        }
    };
    let mut events = [EpollEvent::empty(); 64];
    let count = with(|reactor| match reactor.epoll.wait(&mut events, timeout) {
        Ok(count) => count,
        Err(Errno::EINTR) => 0,
        Err(errno) => fail(errno),
    });
    let woken = with(|reactor| {
        let mut woken: Vec<Waker> = events[..count]
            .iter()
            .filter_map(|event| reactor.fds.remove(&event.data()))
            .collect();
        let now = Instant::now();
        while let Some(entry) = reactor.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            woken.push(entry.remove());
        }
        woken
    });
    woken.into_iter().for_each(Waker::wake);
}

/// What a spawned task gives, once it has ended.
pub struct Task<T>(Rc<RefCell<TaskState<T>>>);

struct TaskState<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// Starts a task beside the others. Dropping the handle does not end it.
pub fn spawn<T: 'static>(future: impl Future<Output = T> + 'static) -> Task<T> {
    let state = Rc::new(RefCell::new(TaskState {
        value: None,
        waker: None,
    }));
    let shared = state.clone();
    // Boxed on its own: a future that another holds is kept twice, before and while it is awaited.
    let future = Box::pin(future);
    let wrapped = async move {
        let value = future.await;
        let mut state = shared.borrow_mut();
        state.value = Some(value);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    };
    let id = with(|reactor| {
        let id = reactor.next;
        reactor.next += 1;
        reactor.tasks.insert(id, Box::pin(wrapped));
        id
    });
    waker_of(id).wake();
    Task(state)
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match state.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Registered in epoll for one event; taken out again when dropped.
struct Registration<'a> {
    fd: BorrowedFd<'a>,
    id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        with(|reactor| {
            reactor.fds.remove(&self.id);
            let _ = reactor.epoll.delete(self.fd);
        });
    }
}

async fn ready(fd: BorrowedFd<'_>, flags: EpollFlags) -> io::Result<()> {
    let mut registration: Option<Registration<'_>> = None;
    poll_fn(|context| match &registration {
        None => {
            let added = with(|reactor| {
                let id = reactor.next;
                reactor.next += 1;
                reactor
                    .epoll
                    .add(fd, EpollEvent::new(flags | EpollFlags::EPOLLONESHOT, id))?;
                reactor.fds.insert(id, context.waker().clone());
                Ok::<u64, Errno>(id)
            });
            match added {
                Ok(id) => {
                    registration = Some(Registration { fd, id });
                    Poll::Pending
                }
                Err(errno) => Poll::Ready(Err(errno.into())),
            }
        }
        Some(held) => with(|reactor| match reactor.fds.get_mut(&held.id) {
            // Still waiting: only who is woken may have changed.
            Some(waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            None => Poll::Ready(Ok(())),
        }),
    })
    .await
}

/// Until the descriptor is readable (a pidfd: until the process has ended). One waiter a descriptor.
pub async fn readable(fd: impl AsFd) -> io::Result<()> {
    ready(fd.as_fd(), EpollFlags::EPOLLIN).await
}

/// Until the descriptor is writable (a socket: until it is connected).
pub async fn writable(fd: impl AsFd) -> io::Result<()> {
    ready(fd.as_fd(), EpollFlags::EPOLLOUT).await
}

/// Until nobody is at the other end any more (of a pipe: no reader). Never for what has no other end.
pub async fn hung_up(fd: impl AsFd) {
    if ready(fd.as_fd(), EpollFlags::empty()).await.is_err() {
        std::future::pending().await
    }
}

struct Timer((Instant, u64));

impl Drop for Timer {
    fn drop(&mut self) {
        with(|reactor| reactor.timers.remove(&self.0));
    }
}

pub async fn sleep_until(at: Instant) {
    let mut timer: Option<Timer> = None;
    poll_fn(|context| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        with(|reactor| {
            let key = match &timer {
                Some(timer) => timer.0,
                None => {
                    let key = (at, reactor.next);
                    reactor.next += 1;
                    timer = Some(Timer(key));
                    key
                }
            };
            reactor.timers.insert(key, context.waker().clone());
        });
        Poll::Pending
    })
    .await;
}

pub async fn sleep(duration: Duration) {
    sleep_until(Instant::now() + duration).await;
}

/// Until no other task can go on: whoever collects work of many tasks does it then, once for all.
pub async fn idle() {
    let mut asked = false;
    poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        with(|reactor| reactor.idle.push(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Which of two came first.
pub enum Either<A, B> {
    First(A),
    Second(B),
}

/// Until one of the two is done; the other is dropped. The first is asked first. Both are boxed: an
/// `async fn` would keep what it awaits twice, and a thousand services wait at once.
pub fn race<A, B>(
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> impl Future<Output = Either<A, B>> {
    let (mut first, mut second) = (Box::pin(first), Box::pin(second));
    poll_fn(move |context| {
        if let Poll::Ready(value) = first.as_mut().poll(context) {
            return Poll::Ready(Either::First(value));
        }
        second.as_mut().poll(context).map(Either::Second)
    })
}

/// `Some` if it is done by `deadline`.
pub fn by<T>(
    deadline: Instant,
    future: impl Future<Output = T>,
) -> impl Future<Output = Option<T>> {
    let (mut future, mut timer) = (Box::pin(future), Box::pin(sleep_until(deadline)));
    poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => timer.as_mut().poll(context).map(|()| None),
    })
}

/// Who is to be woken, in the order they came.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
}

/// One who waits. Who waits no longer (a race was lost, say) leaves the line: else it would grow with
/// every wait, and a wake-up meant for the next would be spent on nobody.
struct Waiter<'a> {
    line: &'a RefCell<Line>,
    number: Option<u64>,
}

impl<'a> Waiter<'a> {
    fn new(line: &'a RefCell<Line>) -> Waiter<'a> {
        Waiter { line, number: None }
    }

    fn wait(&mut self, waker: &Waker) {
        let mut line = self.line.borrow_mut();
        let number = *self.number.get_or_insert_with(|| {
            line.next += 1;
            line.next
        });
        line.wakers.insert(number, waker.clone());
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.line.borrow_mut().wakers.remove(&number);
        }
    }
}

/// Something that tasks wait for and others change: a value and whom to wake.
#[derive(Debug)]
pub struct Watch<T> {
    value: RefCell<T>,
    line: RefCell<Line>,
}

impl<T> Watch<T> {
    pub fn new(value: T) -> Rc<Watch<T>> {
        Rc::new(Watch {
            value: RefCell::new(value),
            line: RefCell::default(),
        })
    }

    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.borrow_mut());
        let woken = std::mem::take(&mut self.line.borrow_mut().wakers);
        woken.into_values().for_each(Waker::wake);
        result
    }

    pub fn see<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.value.borrow())
    }

    /// Until `look` finds what it wants; looked at once now, and after every change.
    pub async fn until<R>(&self, mut look: impl FnMut(&T) -> Option<R>) -> R {
        let mut waiter = Waiter::new(&self.line);
        poll_fn(|context| match look(&self.value.borrow()) {
            Some(found) => Poll::Ready(found),
            None => {
                waiter.wait(context.waker());
                Poll::Pending
            }
        })
        .await
    }
}

/// So many may go on at once; the others wait in line.
pub struct Permits {
    free: Cell<usize>,
    line: RefCell<Line>,
}

/// Given back when dropped.
pub struct Permit(Rc<Permits>);

impl Permits {
    pub fn new(count: usize) -> Rc<Permits> {
        Rc::new(Permits {
            free: Cell::new(count),
            line: RefCell::default(),
        })
    }

    pub async fn take(self: &Rc<Self>) -> Permit {
        let mut waiter = Waiter::new(&self.line);
        poll_fn(|context| {
            if self.free.get() == 0 {
                waiter.wait(context.waker());
                return Poll::Pending;
            }
            self.free.set(self.free.get() - 1);
            Poll::Ready(())
        })
        .await;
        Permit(self.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        let next = self.0.line.borrow_mut().wakers.pop_first();
        next.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_no_longer_leaves_the_line() {
        let watch = Watch::new(());
        block_on(async {
            for _ in 0..3 {
                let never = watch.until(|()| None::<()>);
                by(Instant::now(), never).await;
            }
        });
        assert!(watch.line.borrow().wakers.is_empty());
    }

    #[test]
    fn a_permit_goes_to_somebody_who_waits() {
        let permits = Permits::new(1);
        let taken = block_on(async {
            let held = permits.take().await;
            // Woken for another reason meanwhile; gives up; waits.
            let restless = permits.clone();
            let first = spawn(async move {
                let mut take = pin!(restless.take());
                let woken = race(take.as_mut(), idle()).await;
                assert!(matches!(woken, Either::Second(())));
                take.await;
            });
            let leaving = permits.clone();
            let second = spawn(async move {
                race(leaving.take(), idle()).await;
            });
            let patient = permits.clone();
            let third = spawn(async move {
                patient.take().await;
            });
            second.await;
            drop(held);
            let limit = Instant::now() + Duration::from_secs(10);
            by(limit, async {
                first.await;
                third.await;
            })
            .await
        });
        assert!(taken.is_some(), "a wake-up was lost");
    }

    #[test]
    fn tasks_wait_side_by_side_and_wake_by_events() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let order = Watch::new(Vec::new());
        let seen = order.clone();
        block_on(async move {
            let first = order.clone();
            let reader = spawn(async move {
                readable(&read).await.unwrap();
                first.change(|list| list.push("read"));
            });
            let second = order.clone();
            spawn(async move {
                idle().await;
                second.change(|list| list.push("idle"));
                nix::unistd::write(&write, b"x").unwrap();
            });
            reader.await;
            assert!(
                by(Instant::now(), std::future::pending::<()>())
                    .await
                    .is_none()
            );
        });
        seen.see(|list| assert_eq!(list, &["idle", "read"]));
    }
}
