//! What every test stands on: a folder of its own, the real binary, a program that can be told to
//! be any kind of process, and the certainty that nothing of it is left when the test ends.

pub mod invocation;
pub mod port;
pub mod process;
pub mod table;

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

pub use invocation::{Invocation, Output, Running, entry};
pub use process::Process;
pub use table::Entry;

/// How long something may take that should come at once, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The user that owns nothing.
pub const NOBODY: u32 = 65534;

/// Asks again and again; fails with what the last answer was.
#[track_caller]
pub fn eventually(deadline: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let since = Instant::now();
    loop {
        match look() {
            Ok(()) => return,
            Err(why) if since.elapsed() >= deadline => panic!("after {deadline:?}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(3)),
        }
    }
}

/// Fails with the message if the condition does not hold in time.
#[track_caller]
pub fn await_that(message: &str, mut condition: impl FnMut() -> bool) {
    eventually(PATIENCE, || {
        condition().then_some(()).ok_or(message.to_owned())
    });
}

/// The program of many roles. Cargo builds it with `cargo test`, but not with `--test it` alone.
pub fn testee() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let profile = test.ancestors().nth(2).expect("target/<profile>");
    let program = profile.join("examples/testee");
    let modified = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/testee");
    let newest = fs::read_dir(sources)
        .ok()
        .and_then(|files| files.flatten().map(|file| modified(file.path())).max());
    assert!(
        modified(program.clone()) >= newest.flatten(),
        "{} is missing or older than its source: cargo build --example testee",
        program.display()
    );
    program
}

/// A program that is being written cannot be executed, and a child that another thread has forked
/// holds the open file until it execs: no copy while somebody spawns.
static SPAWNING: RwLock<()> = RwLock::new(());

/// Another program of the same content: another inode, another name.
pub fn copy_program(from: &Path, to: &Path) {
    let _alone = SPAWNING.write().unwrap_or_else(|e| e.into_inner());
    fs::copy(from, to).expect("a copy");
}

/// Returns once the child has called exec.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _side_by_side = SPAWNING.read().unwrap_or_else(|e| e.into_inner());
    command.spawn()
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

pub struct TestEnv {
    dir: PathBuf,
    /// Their end of file says that all who were told of them are dead.
    alive: fs::File,
    _bystanders: fs::File,
    leases: Mutex<Vec<port::Lease>>,
    /// The names of the entries whose testee says that it is ready.
    telling: Mutex<Vec<String>>,
}

/// A member of a family, as it named itself.
#[derive(Clone, Debug)]
pub struct Member {
    pub process: Process,
    pub service: String,
    pub words: String,
}

impl TestEnv {
    pub fn new() -> TestEnv {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // What a test writes is not writable for others, whatever the caller's umask.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let base = fs::canonicalize(std::env::temp_dir()).expect("a folder for temporary files");
        let dir = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let dir = base.join(format!("pidctl-test.{}.{count}", std::process::id()));
            match fs::DirBuilder::new().mode(0o755).create(&dir) {
                Ok(()) => break dir,
                // Of an earlier run that was killed.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", dir.display()),
            }
        };
        chmod(&dir, 0o755);
        fs::create_dir(dir.join("ready")).expect("a folder");
        fs::write(dir.join("members"), "").expect("a file");
        // Services of other users write there too.
        chmod(&dir.join("members"), 0o666);
        chmod(&dir.join("ready"), 0o777);
        TestEnv {
            alive: fifo(&dir.join("alive")),
            _bystanders: fifo(&dir.join("bystanders")),
            dir,
            leases: Mutex::default(),
            telling: Mutex::default(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The path as text, for words and tables.
    pub fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    #[track_caller]
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn exists(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }

    #[track_caller]
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub fn await_file(&self, name: &str) {
        await_that(&format!("{name} is not there"), || self.exists(name));
    }

    /// An entry whose testee says that it is ready; to be put into `table`.
    pub fn service(&self, name: &str) -> Entry {
        Entry::new(name, &testee(), &self.path("ready").join(name))
    }

    pub fn table(&self, entries: &[Entry]) {
        self.table_in("services.toml", "", entries);
    }

    /// A table in another place, or with something before its first entry.
    pub fn table_in(&self, file: &str, head: &str, entries: &[Entry]) {
        let entries_text: Vec<String> = entries.iter().map(Entry::toml).collect();
        self.write(file, format!("{head}\n{}", entries_text.join("\n")));
        chmod(&self.path(file), 0o644);
        let telling = entries.iter().filter(|entry| entry.tells);
        *self.telling.lock().unwrap() = telling.map(|entry| entry.name.clone()).collect();
    }

    /// A port that only this test has, until it ends.
    pub fn free_port(&self) -> u16 {
        let lease = port::lease();
        let port = lease.port;
        self.leases.lock().unwrap().push(lease);
        port
    }

    pub fn pidctl(&self, args: &[&str]) -> Invocation {
        self.program(Path::new(env!("CARGO_BIN_EXE_pidctl")))
            .args(args)
    }

    /// The same by another user; only root may. A copy, since the build may be out of its reach.
    pub fn as_nobody(&self, args: &[&str]) -> Invocation {
        let copy = self.path("pidctl");
        if !copy.exists() {
            copy_program(Path::new(env!("CARGO_BIN_EXE_pidctl")), &copy);
        }
        self.program(&copy).args(args).user(NOBODY, NOBODY)
    }

    pub fn program(&self, program: &Path) -> Invocation {
        Invocation::new(self, program)
    }

    /// A script that finds the binary as `$PIDCTL`.
    pub fn sh(&self, script: &str) -> Invocation {
        self.program(Path::new("/bin/sh"))
            .env("PIDCTL", env!("CARGO_BIN_EXE_pidctl"))
            .args(&["-c", script])
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Output {
        self.pidctl(args).run()
    }

    /// A call that must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Output {
        self.run(args).expect(0)
    }

    /// Starts the whole table; every testee of it is what it was told to be.
    #[track_caller]
    pub fn up(&self) -> Output {
        self.forget_ready();
        let output = self.ok(&["--json", "start"]);
        self.await_ready();
        output
    }

    pub fn forget_ready(&self) {
        for name in self.telling.lock().unwrap().iter() {
            let _ = fs::remove_file(self.path("ready").join(name));
        }
    }

    #[track_caller]
    pub fn await_ready(&self) {
        let names = self.telling.lock().unwrap().clone();
        for name in names {
            self.await_file(&format!("ready/{name}"));
        }
    }

    /// The state of a service as `status` tells it, whatever its exit status.
    #[track_caller]
    pub fn state(&self, id: &str) -> String {
        self.run(&["--json", "status", id]).state(id)
    }

    /// Whom the PID file names, as text.
    #[track_caller]
    pub fn pid_text(&self, id: &str) -> String {
        self.read(&format!("pids/{id}.pid")).trim().to_owned()
    }

    /// Whom the PID file names; fails if there is no such process.
    #[track_caller]
    pub fn pid(&self, id: &str) -> Process {
        let text = self.pid_text(id);
        let process = text.parse().ok().and_then(Process::of);
        process.unwrap_or_else(|| panic!("PID file of {id} names no process: {text:?}"))
    }

    pub fn has_pid_file(&self, id: &str) -> bool {
        self.exists(&format!("pids/{id}.pid"))
    }

    #[track_caller]
    pub fn log(&self, id: &str) -> String {
        self.read(&format!("logs/{id}.log"))
    }

    /// The event log, line by line.
    #[track_caller]
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.read("logs/events.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// Waits until the event log tells this of the service.
    #[track_caller]
    pub fn await_event(&self, id: &str, event: &str) {
        await_that(&format!("no event {event:?} of {id}"), || {
            let log = fs::read_to_string(self.path("logs/events.jsonl")).unwrap_or_default();
            log.lines()
                .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
                .any(|one| one["service"] == id && one["event"] == event)
        });
    }

    /// All that named themselves and are alive.
    pub fn members(&self) -> Vec<Member> {
        let text = self.read("members");
        let living = text.lines().filter_map(|line| {
            let mut words = line.splitn(3, ' ');
            let process = Process::of(words.next()?.parse().ok()?)?;
            Some(Member {
                process,
                service: words.next()?.to_owned(),
                words: words.next()?.to_owned(),
            })
        });
        living.filter(|one| one.process.is_alive()).collect()
    }

    /// The one living member that was told this word.
    #[track_caller]
    pub fn member(&self, word: &str) -> Process {
        let members = self.members();
        let found: Vec<&Member> = members
            .iter()
            .filter(|one| one.words.split(' ').any(|own| own == word))
            .collect();
        match found[..] {
            [one] => one.process,
            _ => panic!("not one {word:?} in {members:#?}"),
        }
    }

    /// A testee that no pidctl started, in a session of its own; ready.
    pub fn bystander(&self, words: &[&str]) -> Bystander {
        self.bystander_of(&testee(), words)
    }

    /// The same of another program: a stranger to every table.
    pub fn stranger(&self, words: &[&str]) -> Bystander {
        let program = self.path("stranger");
        if !program.exists() {
            copy_program(&testee(), &program);
        }
        self.bystander_of(&program, words)
    }

    pub fn bystander_of(&self, program: &Path, words: &[&str]) -> Bystander {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let ready = self.path("ready").join(format!("bystander.{count}"));
        let mut command = Command::new(program);
        command
            .arg("setsid")
            .arg(format!("ready={}", ready.display()))
            .arg(format!("fifo={}", self.at("bystanders")))
            .args(words)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PIDCTL_TEST", &self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = spawn(&mut command).expect("a bystander");
        let bystander = Bystander { child };
        await_that("the bystander is not ready", || ready.exists());
        bystander
    }

    /// Who is alive of all that pidctl started here, children of this test apart.
    pub fn survivors(&self) -> Vec<Process> {
        let own = std::process::id() as i32;
        self.marked(&[&self.path("alive")])
            .into_iter()
            .filter(|process| process.parent() != own)
            .collect()
    }

    /// Waits until no pidctl runs here that this test did not start itself: one that a service has
    /// called, or a child that has not yet seen the end of its parent.
    #[track_caller]
    pub fn await_no_pidctl(&self) {
        let pidctl = Path::new(env!("CARGO_BIN_EXE_pidctl"));
        eventually(PATIENCE, || {
            let found = self.survivors().into_iter().find(|process| {
                let exe = fs::read_link(format!("/proc/{}/exe", process.pid));
                exe.is_ok_and(|exe| exe == pidctl)
            });
            found.map_or(Ok(()), |one| {
                Err(format!("still there: {}", describe(&one)))
            })
        });
    }

    /// The proof that a family is gone: nobody holds the FIFO that every testee opens, and nobody
    /// has the mark in its environment. Now, not eventually: `stop` has said so.
    #[track_caller]
    pub fn assert_nobody_left(&self) {
        let end_of_file = match (&self.alive).read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("somebody wrote to the FIFO"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let survivors = self.survivors();
        assert!(
            end_of_file && survivors.is_empty(),
            "left behind: {:#?}\nall that lived: {}",
            survivors.iter().map(describe).collect::<Vec<_>>(),
            self.read("members")
        );
    }

    fn marked(&self, fifos: &[&Path]) -> Vec<Process> {
        process::marked(&format!("PIDCTL_TEST={}", self.dir.display()), fifos)
    }
}

impl Drop for TestEnv {
    /// Nothing is left running, also when the test has failed.
    fn drop(&mut self) {
        let (alive, bystanders) = (self.path("alive"), self.path("bystanders"));
        let since = Instant::now();
        loop {
            let left = self.marked(&[&alive, &bystanders]);
            if left.is_empty() {
                break;
            }
            if since.elapsed() > PATIENCE {
                eprintln!("cannot end {left:?}");
                break;
            }
            left.iter().for_each(Process::kill);
        }
        if std::env::var_os("PIDCTL_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A process of the test itself. Ended and waited for when dropped.
pub struct Bystander {
    child: Child,
}

impl Bystander {
    pub fn process(&self) -> Process {
        Process::of(self.child.id() as i32).expect("a child that nobody has waited for")
    }

    pub fn pid(&self) -> String {
        self.child.id().to_string()
    }

    #[track_caller]
    pub fn assert_alive(&self) {
        assert!(self.process().is_alive(), "the bystander was ended");
    }

    #[track_caller]
    pub fn assert_ended(&self) {
        assert!(!self.process().is_alive(), "the bystander is alive");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Made, and opened for reading without waiting for a writer.
fn fifo(path: &Path) -> fs::File {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666)).expect("a FIFO");
    chmod(path, 0o666);
    fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .expect("a FIFO")
}

pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

pub fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.permissions().mode() & 0o7777
}

fn describe(process: &Process) -> String {
    let command = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    format!("{} {:?} {command}", process.pid, process.state())
}
