#!/usr/bin/env python3
"""Measures pidctl against floors in C and against what else is installed. See docs/BENCHMARKS.md.

Builds all it needs, runs the sides in turn (A B A B), prints medians as a Markdown table, and ends
everything it started: all of it descends from this process, which makes itself their subreaper.
Exits 0 if every *must* holds, 1 if one does not, 2 if nothing could be measured.
"""

import argparse
import contextlib
import ctypes
import datetime
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
REPORT = ROOT / "docs" / "BENCHMARKS.md"
COMMAND_LIMIT = 120  # seconds; a command that takes longer has failed

PR_SET_CHILD_SUBREAPER = 36


class Failed(Exception):
    """A measurement that cannot be had, in words for the table."""


# ---- processes: everything here is a child of this process, or becomes one ----


def become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("bench: cannot become a subreaper: " + os.strerror(ctypes.get_errno()))


def stat_of(pid):
    """(comm, state, parent), or None where there is no such process."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    comm, _, rest = text.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    return comm.decode(errors="replace"), fields[0].decode(), int(fields[1])


def own_children():
    """PIDs of the children of this process; zombies too."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    stats = ((pid, stat_of(pid)) for pid in pids)
    return [pid for pid, stat in stats if stat and stat[2] == os.getpid()]


def end_children(spare=()):
    """SIGKILL for every child but those spared, until there is none: orphans become children."""
    while pids := [pid for pid in own_children() if pid not in spare]:
        for pid in pids:  # not reaped yet, so the PID cannot be anybody else's
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def await_child(process):
    """Reaps until `process` has ended: the orphans of what is measured are ours, as init's would be."""
    signal.setitimer(signal.ITIMER_REAL, COMMAND_LIMIT)
    try:
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == process.pid:
                process.returncode = status
                return status
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def too_late(_signal, _frame):
    raise Failed(f"no end within {COMMAND_LIMIT} s")


def interrupted(_signal, _frame):
    raise KeyboardInterrupt


# ---- one measurement ----


@dataclass
class Sample:
    ms: float
    peak_mib: float
    after_ms: float  # from the other process's exit to this one's


class Bench:
    def __init__(self, options, tools, pidctl, work):
        self.options = options
        self.tools = tools
        self.pidctl = str(pidctl)
        self.work = work
        self.idle = str(tools / "idle")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PIDCTL_")}
        self.folders = 0
        self.crowd_pid = 0  # nobody's: 0 is no child

    def timed(self, command, cwd=None, other=0, allowed=(0,)):
        read, write = os.pipe()
        errors = tempfile.TemporaryFile(dir=self.work)
        try:
            process = subprocess.Popen(
                [str(self.tools / "timed"), str(write), str(other), *map(str, command)],
                cwd=cwd or self.work,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[write],
            )
            os.close(write)
            write = -1
            await_child(process)
            answer = os.read(read, 200).split()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        finally:
            os.close(read)
            errors.close()
            if write >= 0:
                os.close(write)
        if len(answer) != 4:
            raise Failed("; ".join(said[-2:]) or "the timer said nothing")
        ns, peak, status, after = map(int, answer)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        if code not in allowed:
            name = pathlib.Path(command[0]).name
            raise Failed(f"{name} {' '.join(map(str, command[1:3]))}: exit {code}: {'; '.join(said[-2:])}")
        return Sample(ns / 1e6, peak / 1024, after / 1e6)

    def output(self, command, cwd=None):
        """What a command says, measured by nobody."""
        with tempfile.TemporaryFile(dir=self.work) as out:
            process = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd or self.work,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            await_child(process)
            out.seek(0)
            return out.read().decode(errors="replace")

    def folder(self, services=0, port=None):
        """A folder of its own with pids/ and logs/, and a table where services are wanted."""
        self.folders += 1
        folder = self.work / f"{self.folders}"
        for path in (folder, folder / "pids", folder / "logs"):
            path.mkdir(mode=0o755)
        lines = []
        if port:
            listener = str(self.tools / "listener")
            lines += ["[[service]]", 'name = "listener"', f"port = {port}", f'command = ["{listener}", "{port}"]']
        for number in range(services):
            lines += ["[[service]]", f'name = "s{number:05}"', f'command = ["{self.idle}"]']
        if lines:
            (folder / "services.toml").write_text("\n".join(lines) + "\n")
        return folder

    def await_running(self, folder, count, comm="idle"):
        """The PIDs, once `count` services have a PID file and run their program."""
        deadline = time.monotonic() + 30
        while True:
            pids = [int(path.read_text() or 0) for path in (folder / "pids").glob("*.pid")]
            stats = [stat_of(pid) for pid in pids]
            running = sum(1 for stat in stats if stat and stat[0] == comm and stat[1] != "Z")
            if running == count == len(pids):
                return pids
            if time.monotonic() > deadline:
                raise Failed(f"{running} of {count} services run, {len(pids)} PID files")
            time.sleep(0.01)

    def ensure_stopped(self, folder, pids):
        left = len(list((folder / "pids").glob("*.pid")))
        living = [pid for pid in pids if (stat := stat_of(pid)) and stat[1] != "Z"]
        if left or living:
            raise Failed(f"after the stop: {len(living)} services alive, {left} PID files")

    # the steps that several scenarios share

    def start(self, folder, count):
        sample = self.timed([self.pidctl, "start", "--no-wait"], folder)
        pids = self.await_running(folder, count)
        if residents := [pid for pid in own_children() if exe_of(pid) == self.pidctl]:
            raise Failed(f"pidctl stays resident: PID {residents[0]}")
        return sample, pids

    def stop(self, folder, pids):
        sample = self.timed([self.pidctl, "stop"], folder)
        self.ensure_stopped(folder, pids)
        return sample

    def floor_start(self, folder, count):
        sample = self.timed([self.tools / "floor_start", folder, count, self.idle])
        return sample, self.await_running(folder, count)

    def floor_stop(self, folder, pids):
        sample = self.timed([self.tools / "floor_stop", folder, len(pids)])
        self.ensure_stopped(folder, pids)
        return sample

    @contextlib.contextmanager
    def crowd(self, processes, sockets, spinners):
        """Yields (PID, port) of one listener in it."""
        process = subprocess.Popen(
            [str(self.tools / "crowd"), str(processes), str(sockets), str(spinners)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.crowd_pid = process.pid
            words = process.stdout.readline().split()
            if len(words) != 3:
                raise Failed("no crowd of that size can be made here")
            yield int(words[1]), int(words[2])
        finally:
            self.crowd_pid = 0
            process.stdin.close()
            process.stdout.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, 0)
            process.returncode = 0

    def clear(self):
        end_children(spare=(self.crowd_pid,))


def exe_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- rows ----


class Series:
    """The numbers of one side."""

    def __init__(self, values, unit="ms"):
        self.values = list(values)
        self.median = statistics.median(self.values)
        self.unit = unit

    def __str__(self):
        low, high = min(self.values), max(self.values)
        text = f"{self.median:.3g}" if self.median < 100 else f"{self.median:.0f}"
        if len(self.values) == 1:
            return f"{text} {self.unit}"
        return f"{text} {self.unit} ({low:.3g}–{high:.3g})" if high < 100 else f"{text} {self.unit} ({low:.0f}–{high:.0f})"


class Rows:
    def __init__(self):
        self.lines = []
        self.missed = 0

    def add(self, work, ours, against="", reference=None, must=None, aim=None, unit="ms"):
        """`must` and `aim` are limits on our median: (text, number), or None where there is none."""
        ratio = f"{ours.median / reference:.2f} ×" if reference else ""
        verdicts = []
        for limit in (must, aim):
            if limit is None:
                verdicts.append("")
                continue
            text, number, strictly = (*limit, False)[:3]
            held = ours.median < number if strictly else ours.median <= number
            verdicts.append(f"{text}: {'ok' if held else '**miss**'}")
            self.missed += limit is must and not held
        self.print(work, ours, against, ratio, *verdicts)

    def fail(self, work, why):
        self.missed += 1
        self.print(work, "**failed**", re.sub(r"\s+", " ", str(why)).replace("|", "/"), "", "", "")

    def note(self, work, text):
        self.print(work, "", text, "", "", "")

    def print(self, *cells):
        line = "| " + " | ".join(str(cell) for cell in cells) + " |"
        self.lines.append(line)
        print(line, flush=True)


HEAD = ["| work | pidctl | against | ratio | must | aim |", "|---|---|---|---|---|---|"]


def times(factor, reference):
    return (f"≤ {factor} ×", factor * reference)


# ---- scenarios: one or more rows each ----


def thousand(bench, rows):
    """Start, status, stop and memory at N services, nothing else going on."""
    count, ours, floor = bench.options.services, bench.folder(bench.options.services), bench.folder()
    start, status, stop, peaks, floor_start, floor_stop = [], [], [], [], [], []
    for _ in range(bench.options.rounds):
        sample, pids = bench.start(ours, count)
        start.append(sample.ms)
        peaks.append(sample.peak_mib)
        bench.timed([bench.pidctl, "start"], ours)  # until they are ready, or status would say starting
        sample = bench.timed([bench.pidctl, "status"], ours)
        status.append(sample.ms)
        peaks.append(sample.peak_mib)
        sample = bench.stop(ours, pids)
        stop.append(sample.ms)
        peaks.append(sample.peak_mib)

        sample, pids = bench.floor_start(floor, count)
        floor_start.append(sample.ms)
        floor_stop.append(bench.floor_stop(floor, pids).ms)
    reference = Series(floor_stop)
    rows.add(f"`stop` of {count} services", Series(stop), f"floor {reference}", reference.median,
             times(2, reference.median), times(1.3, reference.median))
    reference = Series(floor_start)
    rows.add(f"`start --no-wait` of {count} services, idle", Series(start), f"floor {reference}", reference.median,
             times(2, reference.median), times(1, reference.median))
    rows.add(f"`status` of {count} running services", Series(status), must=("≤ 50 ms", 50), aim=("≤ 25 ms", 25))
    rows.add(f"peak memory of `start`, `status`, `stop` at {count} services (none stays resident)",
             Series([max(peaks)], "MiB"), must=("≤ 12 MiB", 12), aim=("≤ 8 MiB", 8))


def busy(bench, rows):
    """Start at N services with every core busy."""
    count, ours, floor = bench.options.services, bench.folder(bench.options.services), bench.folder()
    cores = len(os.sched_getaffinity(0))
    start, reference = [], []
    for _ in range(bench.options.rounds):
        with bench.crowd(0, 0, cores):
            sample, pids = bench.start(ours, count)
            start.append(sample.ms)
        bench.stop(ours, pids)
        with bench.crowd(0, 0, cores):
            sample, pids = bench.floor_start(floor, count)
            reference.append(sample.ms)
        bench.floor_stop(floor, pids)
    reference = Series(reference)
    rows.add(f"`start --no-wait` of {count} services, every core busy", Series(start), f"floor {reference}",
             reference.median, times(2, reference.median), times(1, reference.median))


def stop_one(bench):
    """From the service's exit to the stopper's: (pidctl, start-stop-daemon or None)."""
    ours, theirs = bench.folder(1), bench.folder()
    peer = shutil.which("start-stop-daemon")
    after, peers = [], []
    for _ in range(2 * bench.options.rounds):
        _, pids = bench.start(ours, 1)
        after.append(bench.timed([bench.pidctl, "stop"], ours, other=pids[0]).after_ms)
        bench.ensure_stopped(ours, pids)
        if peer:
            _, pids = bench.floor_start(theirs, 1)
            file = theirs / "pids" / "s00000.pid"
            command = [peer, "--stop", "--quiet", "--pidfile", file, "--remove-pidfile", "--retry", "TERM/5"]
            peers.append(bench.timed(command, other=pids[0]).after_ms)
    return Series(after), Series(peers) if peers else None


def one(bench, rows):
    after, peer = stop_one(bench)
    rows.add("`stop` of one service: from its exit to pidctl's", after, f"start-stop-daemon {peer}" if peer else "",
             peer and peer.median, ("≤ 3 ms", 3), ("≤ 1 ms", 1))


def ask_port(bench, rows, where, port, pid, aim_best):
    """`free --dry-run` for a holder that nobody knows, against whichever peers are here."""
    folder = bench.folder()
    commands = {
        "ss": ["ss", "-Hltnp", f"sport = :{port}"],
        "fuser": ["fuser", f"{port}/tcp"],
        "lsof": ["lsof", "-nP", "-t", f"-iTCP:{port}", "-sTCP:LISTEN"],
        "killport": ["killport", "--dry-run", str(port)],
    }
    peers = {}
    for name, command in commands.items():
        if shutil.which(command[0]) and re.search(rf"\b{pid}\b", bench.output(command, folder)):
            peers[name] = []
    free = [bench.pidctl, "free", "--dry-run", str(port)]
    if not re.search(rf"\b{pid}\b", said := bench.output(free, folder)):
        raise Failed(f"free does not name the holder: {said.strip()[:200]}")
    ours = []
    for _ in range(bench.options.rounds):
        ours.append(bench.timed(free, folder).ms)
        for name in peers:
            peers[name].append(bench.timed(commands[name], folder).ms)
    ours = Series(ours)
    ranked = sorted(((Series(values), name) for name, values in peers.items()), key=lambda peer: peer[0].median)
    against = ", ".join(f"{name} {series}" for series, name in ranked) or "no peer installed"
    best = ranked[0][0].median if ranked else None
    rows.add(f"`free --dry-run PORT`, holder unknown, {where}", ours, against, best,
             ("< best peer", best, True) if best else None,
             (f"≤ {aim_best} ×", aim_best * best) if best and aim_best else None)
    return best


def ask_own_port(bench, rows, where, must, aim):
    port = free_port()
    folder = bench.folder(port=port)
    bench.timed([bench.pidctl, "start"], folder)
    pids = bench.await_running(folder, 1, "listener")
    command = [bench.pidctl, "free", "--dry-run", str(port)]
    ours = Series([bench.timed(command, folder).ms for _ in range(2 * bench.options.rounds)])
    bench.stop(folder, pids)
    rows.add(f"the same for a port of our own running service, {where}", ours, must=must, aim=aim)


def crowded(bench, rows):
    """One service, one port, among many foreign processes and sockets."""
    size = bench.options.crowd
    with bench.crowd(size, size, 0) as (pid, port):
        each(rows, "`stop` of one service in a crowd", lambda: crowded_stop(bench, rows))
        bench.clear()
        each(rows, "`status` of one service in a crowd", lambda: crowded_status(bench, rows))
        bench.clear()
        where = f"among {size} processes and sockets"
        each(rows, "`free --dry-run PORT` in a crowd", lambda: ask_port(bench, rows, where, port, pid, 0.4))
        each(rows, "`free --dry-run` of an own port in a crowd",
             lambda: ask_own_port(bench, rows, where, None, ("≤ 3 ms", 3)))
        bench.clear()


def crowded_stop(bench, rows):
    walk = Series([bench.timed([bench.tools / "floor_walk"]).ms for _ in range(bench.options.rounds)])
    after, peer = stop_one(bench)
    against = f"one walk in C {walk}" + (f"; start-stop-daemon {peer}" if peer else "")
    rows.add(f"the same among {bench.options.crowd} foreign processes", after, against, walk.median, None,
             ("≤ 1 ms + walk", 1 + walk.median))


def crowded_status(bench, rows):
    folder = bench.folder(1)
    _, pids = bench.start(folder, 1)
    bench.timed([bench.pidctl, "start"], folder)
    command = [bench.pidctl, "status"]
    ours = Series([bench.timed(command, folder).ms for _ in range(2 * bench.options.rounds)])
    bench.stop(folder, pids)
    rows.add(f"`status` of one service among {bench.options.crowd} foreign processes", ours,
             must=("≤ 5 ms", 5), aim=("≤ 2 ms", 2))


def quiet(bench, rows):
    """One port on a machine with nothing else on it."""
    best = None
    with bench.crowd(1, 1, 0) as (pid, port):
        best = ask_port(bench, rows, "on a quiet machine", port, pid, None)
    ask_own_port(bench, rows, "on a quiet machine", ("< best peer", best, True) if best else None, ("< 2.4 ms", 2.4, True))


def growth(bench, rows):
    """Time per service at twice the services against half of them."""
    few, many = bench.options.services // 2, bench.options.services * 2
    cost = {word: {few: [], many: []} for word in ("start", "status", "stop")}
    folders = {few: bench.folder(few), many: bench.folder(many)}
    for _ in range(max(3, bench.options.rounds // 2)):
        for count, folder in folders.items():
            sample, pids = bench.start(folder, count)
            cost["start"][count].append(sample.ms / count)
            bench.timed([bench.pidctl, "start"], folder)
            cost["status"][count].append(bench.timed([bench.pidctl, "status"], folder).ms / count)
            cost["stop"][count].append(bench.stop(folder, pids).ms / count)
    for word, sides in cost.items():
        a, b = (Series((ms * 1000 for ms in sides[count]), "µs") for count in (few, many))
        rows.add(f"growth: `{word}` per service, {many} services against {few}", b, f"{a}", a.median,
                 ("linear (≤ 1.5 ×)", 1.5 * a.median))


def walks(bench, rows):
    """How often /proc is listed whole, counted by strace."""
    strace = shutil.which("strace")
    if not strace:
        rows.note("walks over /proc", "strace is not installed")
        return
    count = min(50, bench.options.services)
    folder = bench.folder(count)
    log = folder / "strace"

    def counted(*command, follow=True):
        # A listing ends with a getdents that returns nothing. Not followed into the services of a
        # start: strace would wait for them.
        flags = ["-f"] if follow else []
        bench.timed([strace, *flags, "-y", "-e", "trace=getdents64", "-o", log, bench.pidctl, *command], folder)
        return len(re.findall(r"getdents64\(\d+</proc>.*= 0$", log.read_text(errors="replace"), re.M))

    start = counted("start", "--no-wait", follow=False)
    pids = bench.await_running(folder, count)
    bench.timed([bench.pidctl, "start"], folder)
    status = counted("status")
    stop = counted("stop")
    bench.ensure_stopped(folder, pids)
    for word, number, aim in (("start", start, 0), ("status", status, 0), ("stop", stop, 1)):
        rows.add(f"walks over /proc of `{word}`, {count} services, every leader alive", Series([number], ""),
                 must=("≤ 1", 1), aim=(f"≤ {aim}", aim))


def size(bench, rows):
    mib = os.path.getsize(bench.pidctl) / 2**20
    rows.add("size of the release binary", Series([mib], "MiB"), must=("≤ 2.5 MiB", 2.5), aim=("≤ 1.5 MiB", 1.5))


SCENARIOS = {
    "one": one,
    "thousand": thousand,
    "busy": busy,
    "crowd": crowded,
    "quiet": quiet,
    "growth": growth,
    "walks": walks,
    "size": size,
}


def each(rows, name, measure):
    """One scenario's failure is a row of its own and does not end the others."""
    try:
        measure()
    except (Failed, OSError, ValueError) as error:
        rows.fail(name, error)


# ---- the whole ----


def build_tools():
    tools = ROOT / "target" / "bench"
    tools.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    if not shutil.which(compiler):
        sys.exit(f"bench: no C compiler ({compiler})")
    bare = ["-DBARE", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"]
    for source in sorted(HERE.glob("*.c")):
        ways = [["-static"], []]
        if source.stem == "idle":
            ways.insert(0, bare)
        for way in ways:
            command = [compiler, "-O2", "-Wall", "-Wextra", *way, "-o", str(tools / source.stem), str(source)]
            last = way is ways[-1]
            if subprocess.run(command, stderr=None if last else subprocess.DEVNULL).returncode == 0:
                break
        else:
            sys.exit(f"bench: {source.name} does not compile")
    return tools


def build_pidctl():
    if subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=ROOT).returncode:
        sys.exit("bench: cargo build --release failed")
    return ROOT / "target" / "release" / "pidctl"


def machine():
    model = "unknown processor"
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
        model = found.group(1) if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{datetime.date.today().isoformat()}, Linux {platform.release()}, {model}, "
            f"{len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, load {os.getloadavg()[0]:.2f} at the start")


def write_report(lines):
    begin, end = "<!-- results: written by bench/run.py --write -->", "<!-- end of results -->"
    text = REPORT.read_text()
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        sys.exit(f"bench: {REPORT} has no place for the results")
    REPORT.write_text(head + begin + "\n\n" + "\n".join(lines) + "\n\n" + end + tail)


def main():
    parser = argparse.ArgumentParser(description="Measures pidctl; see docs/BENCHMARKS.md.")
    parser.add_argument("only", nargs="*", metavar="SCENARIO", help=f"only these: {', '.join(SCENARIOS)}")
    parser.add_argument("--pidctl", type=pathlib.Path, help="this binary (default: build the release)")
    parser.add_argument("--rounds", type=int, default=9, help="of each measurement (default: 9)")
    parser.add_argument("--services", type=int, default=1000, help="default: 1000")
    parser.add_argument("--crowd", type=int, default=10000, help="foreign processes and sockets (default: 10000)")
    parser.add_argument("--write", action="store_true", help="put the results into docs/BENCHMARKS.md")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in SCENARIOS]:
        parser.error(f"no scenario {unknown[0]}; there are {', '.join(SCENARIOS)}")
    if min(options.rounds, options.services, options.crowd) < 1:
        parser.error("the numbers must be positive")
    if options.write and options.only:
        parser.error("--write wants all scenarios")

    tools = build_tools()
    pidctl = (options.pidctl or build_pidctl()).resolve()
    become_subreaper()
    signal.signal(signal.SIGALRM, too_late)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupted)
    # Memory, not a disk: on ext4 creating a file can cost more than starting a process.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = pathlib.Path(tempfile.mkdtemp(prefix="pidctl-bench-", dir=memory))
    rows = Rows()
    preface = [f"{machine()}; medians of {options.rounds} rounds or more, lowest and highest in brackets.", ""]
    try:
        print("\n".join(preface + HEAD), flush=True)
        bench = Bench(options, tools, pidctl, work)
        for name in options.only or SCENARIOS:
            try:
                each(rows, f"scenario {name}", lambda: SCENARIOS[name](bench, rows))
            finally:
                bench.clear()
    except KeyboardInterrupt:
        print("bench: interrupted; everything it started is ended", file=sys.stderr)
        return 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the cleaning up is not to be interrupted
        end_children()
        shutil.rmtree(work, ignore_errors=True)
    if options.write:
        write_report(preface + HEAD + rows.lines)
    print(f"\n{rows.missed} of the musts missed" if rows.missed else "\nevery must holds")
    return 1 if rows.missed else 0


if __name__ == "__main__":
    sys.exit(main())
