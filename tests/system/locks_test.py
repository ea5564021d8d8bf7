"""Locks of files on real mounts: fcntl (POSIX and open-file-description) and flock do on Cairn, by processes on one mount and on two, what they
do on a local directory; waiting, signals, deadlocks, deaths; SQLite."""

import errno
import fcntl
import json
import mmap
import os
import random
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

from local_cluster import CAIRN, main, run, wait_ended, wait_for

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
FLOCK = "hhqqi4x"  # struct flock


# ---------------------------------------------------------------- a process that does what it is told

def ranged(fd, command, mode, start, length):
    kind = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}[mode]
    return struct.unpack(FLOCK, fcntl.fcntl(fd, command, struct.pack(FLOCK, kind, os.SEEK_SET, start, length, 0)))


def obey(fds, words):
    what, *rest = words
    if what == "open":
        name, path, flags = rest
        fds[name] = os.open(path, os.O_RDONLY if flags == "r" else os.O_RDWR)
        return "ok"
    if what == "dup":
        fds[rest[1]] = os.dup(fds[rest[0]])
        return "ok"
    if what == "close":
        os.close(fds.pop(rest[0]))
        return "ok"
    if what == "map":
        fds[rest[1]] = mmap.mmap(fds[rest[0]], 10, mmap.MAP_SHARED, mmap.PROT_READ)
        return "ok"
    if what == "unmap":
        fds.pop(rest[0]).close()
        return "ok"
    if what == "alarm":
        signal.setitimer(signal.ITIMER_REAL, rest[0])
        return "ok"
    if what == "write":
        os.pwrite(fds[rest[0]], rest[1].encode(), 0)
        return "ok"
    if what == "flock":
        fcntl.flock(fds[rest[0]], {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[rest[1]] | (0 if rest[2] else fcntl.LOCK_NB))
        return "ok"
    fd, mode, start, length = rest
    commands = {"set": fcntl.F_SETLK, "wait": fcntl.F_SETLKW, "get": fcntl.F_GETLK, "oset": OFD_SETLK, "owait": OFD_SETLKW, "oget": OFD_GETLK}
    result = ranged(fds[fd], commands[what], mode, start, length)
    if what not in ("get", "oget"):
        return "ok"
    return "free" if result[0] == fcntl.F_UNLCK else f"taken {result[4]}"


def player():
    """Reads commands, a line each, and answers each with a line."""
    class Alarm(Exception):
        pass

    def alarmed(*_):
        raise Alarm

    signal.signal(signal.SIGALRM, alarmed)
    fds = {}
    for line in sys.stdin:
        try:
            answer = obey(fds, json.loads(line))
        except OSError as error:
            names = {errno.EACCES: "EAGAIN", errno.EDEADLK: "EDEADLK"}  # of two names for one number the usual
            answer = names.get(error.errno, errno.errorcode[error.errno])
        except Alarm:
            answer = "EINTR"
        print(json.dumps(answer), flush=True)


class Player:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, __file__, "--player"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def tell(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=30):
        deadline = time.monotonic() + seconds
        os.set_blocking(self.process.stdout.fileno(), True)
        while not self.ready(max(0.0, deadline - time.monotonic())):
            raise AssertionError(f"no answer in {seconds} s")
        return json.loads(self.process.stdout.readline())

    def ready(self, seconds):
        import select
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def ask(self, *words, seconds=30):
        self.tell(*words)
        return self.answer(seconds)

    def end(self):
        self.process.kill()
        self.process.wait()


def players(count):
    return [Player() for _ in range(count)]


# ---------------------------------------------------------------- the same as on a local directory

def script(seed):
    """Words for three processes; each has files open by names of its own. Locks do not wait."""
    rng = random.Random(seed)
    steps, opened, number = [], {0: [], 1: [], 2: []}, 0
    for _ in range(120):
        who = rng.randrange(3)
        if not opened[who] or (len(opened[who]) < 4 and rng.random() < 0.1):
            number += 1
            name = f"fd{number}"
            if opened[who] and rng.random() < 0.3:
                steps.append((who, "dup", rng.choice(opened[who]), name))
            else:
                steps.append((who, "open", name, f"file{rng.randrange(2)}", "rw"))
            opened[who].append(name)
            continue
        fd = rng.choice(opened[who])
        what = rng.choices(["set", "oset", "flock", "get", "oget", "close"], [6, 4, 4, 2, 2, 1])[0]
        mode = rng.choice("rwwu" if what in ("set", "oset", "flock") else "rw")
        if what == "close":
            opened[who].remove(fd)
            steps.append((who, "close", fd))
        elif what == "flock":
            steps.append((who, "flock", fd, mode, False))
        else:
            steps.append((who, what, fd, mode, rng.randrange(0, 12), rng.choice([0, 1, 2, 5])))
    return steps


def play(steps, folders, expected=None):
    """What each step answered. `folders`: where each process works."""
    folder_of = {who: folders[who % len(folders)] for who in range(3)}
    for name in ("file0", "file1"):
        with open(os.path.join(folders[0], name), "w") as f:
            f.write("x" * 20)
    actors = players(3)
    answers = []
    try:
        for i, (who, what, *rest) in enumerate(steps):
            if what == "open":
                rest = [rest[0], os.path.join(folder_of[who], rest[1]), rest[2]]
            answer = actors[who].ask(what, *rest)
            # The kernel tells of the end of an open file when close() has returned.
            end = time.monotonic() + 3
            while expected and answer != simple(expected[i]) and expected[i] in ("ok", "free") and time.monotonic() < end:
                answer = simple(actors[who].ask(what, *rest))
            answers.append(answer)
    finally:
        for actor in actors:
            actor.end()
    return answers


def simple(answer):
    return answer.split()[0] if isinstance(answer, str) else answer


def compare_with_local(folders, seeds):
    for seed in seeds:
        steps = script(seed)
        with tempfile.TemporaryDirectory() as local:
            expected = play(steps, [local])
        found = play(steps, folders, expected)
        for i, step in enumerate(steps):
            assert simple(found[i]) == simple(expected[i]), f"seed {seed}, step {i} {step}: {found[i]}, on a local directory {expected[i]}"
        for folder in folders[:1]:
            for name in ("file0", "file1"):
                os.unlink(os.path.join(folder, name))


def one_mount_is_like_a_local_directory(cluster):
    cluster.up()
    compare_with_local([cluster.mount()], range(1, 9))


def two_mounts_are_like_a_local_directory(cluster):
    cluster.up()
    compare_with_local([cluster.mount("a"), cluster.mount("b")], range(101, 113))


# ---------------------------------------------------------------- two mounts and a file on them

class Pair:
    def __init__(self, cluster, masters=1):
        cluster.up()
        self.cluster = cluster
        self.mounts = [cluster.mount("a"), cluster.mount("b")]
        with open(os.path.join(self.mounts[0], "f"), "w") as f:
            f.write("x" * 100)
        self.actors = players(2)
        for actor, mount in zip(self.actors, self.mounts):
            assert actor.ask("open", "f", os.path.join(mount, "f"), "rw") == "ok"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for actor in self.actors:
            actor.end()


def waits_and_signals(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        for how in (("set", "wait"), ("oset", "owait"), ("flock", "flock")):
            lock = (lambda what, mode, wait=False: ("flock", "f", mode, wait) if what == "flock" else (what, "f", mode, 0, 10))
            assert one.ask(*lock(how[0], "w")) == "ok"
            assert two.ask(*lock(how[0], "r")) == "EAGAIN"
            # Any signal ends the wait, soon.
            two.ask("alarm", 0.5)
            begin = time.monotonic()
            assert two.ask(*lock(how[1], "r", True)) == "EINTR", how
            assert time.monotonic() - begin < 1.5, how
            # What was given up does not come later.
            two.tell(*lock(how[1], "w", True))
            assert not two.ready(1)
            assert one.ask(*lock(how[0], "u")) == "ok"
            begin = time.monotonic()
            assert two.answer() == "ok"
            assert time.monotonic() - begin < 1, "it is told when it may go on"
            assert one.ask(*lock(how[0], "r")) == "EAGAIN"
            assert two.ask(*lock(how[0], "u")) == "ok"
            assert one.ask(*lock(how[0], "w")) == "ok"
            assert one.ask(*lock(how[0], "u")) == "ok"


def a_circle_of_two_mounts_is_a_deadlock(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        assert one.ask("set", "f", "w", 0, 1) == "ok"
        assert two.ask("set", "f", "w", 1, 1) == "ok"
        one.tell("wait", "f", "w", 1, 1)
        assert not one.ready(1)
        assert two.ask("wait", "f", "w", 0, 1, seconds=5) == "EDEADLK"
        assert two.ask("set", "f", "u", 0, 0) == "ok"
        assert one.answer(5) == "ok"


def getlk_names_who_is_here(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        three = Player()
        assert three.ask("open", "f", os.path.join(pair.mounts[0], "f"), "rw") == "ok"
        assert one.ask("set", "f", "w", 5, 5) == "ok"
        assert three.ask("get", "f", "r", 0, 0) == f"taken {one.pid}"
        assert two.ask("get", "f", "r", 0, 0) == "taken 0"
        assert three.ask("get", "f", "r", 0, 0) == f"taken {one.pid}"
        assert two.ask("get", "f", "r", 10, 0) == "free"
        three.end()


def whoever_dies_lets_go(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        # The process.
        for words in (("set", "f", "w", 0, 0), ("oset", "f", "w", 0, 0), ("flock", "f", "w", False)):
            holder = Player()
            assert holder.ask("open", "f", os.path.join(pair.mounts[0], "f"), "rw") == "ok"
            assert holder.ask(*words) == "ok"
            assert two.ask(*words) == "EAGAIN"
            holder.end()
            wait_for("the lock of a process that died", lambda: two.ask(*words) == "ok", 5)
            assert two.ask(words[0], "f", "u", *words[3:]) == "ok"
        # One that is killed while it waits leaves nothing behind.
        assert two.ask("set", "f", "w", 0, 0) == "ok"
        waiting = Player()
        assert waiting.ask("open", "f", os.path.join(pair.mounts[0], "f"), "rw") == "ok"
        waiting.tell("wait", "f", "w", 0, 0)
        assert not waiting.ready(0.5)
        waiting.end()
        assert two.ask("set", "f", "u", 0, 0) == "ok"
        subprocess.run(["sleep", "0.5"], check=True)
        assert two.ask("set", "f", "w", 0, 0) == "ok"
        assert two.ask("set", "f", "u", 0, 0) == "ok"
        # The mount.
        assert one.ask("set", "f", "w", 0, 0) == "ok"
        two.tell("wait", "f", "w", 0, 0)
        assert not two.ready(1)
        pid = int(cluster.mount_pids(pair.mounts[0])["pid"])
        os.kill(pid, signal.SIGKILL)
        wait_ended("the mount", pid)
        begin = time.monotonic()
        assert two.answer() == "ok"
        assert time.monotonic() - begin < 12


def a_closed_descriptor_takes_its_process_locks(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        assert one.ask("set", "f", "w", 0, 0) == "ok"
        # Opened for reading only, when locks are there: its close counts, too.
        assert one.ask("open", "again", os.path.join(pair.mounts[0], "f"), "r") == "ok"
        assert two.ask("set", "f", "r", 0, 0) == "EAGAIN"
        assert one.ask("close", "again") == "ok"
        assert two.ask("set", "f", "w", 0, 0) == "ok"
        assert two.ask("set", "f", "u", 0, 0) == "ok"
        # Locked through one that was opened for reading only.
        assert one.ask("open", "reader", os.path.join(pair.mounts[0], "f"), "r") == "ok"
        assert one.ask("set", "reader", "r", 0, 0) == "ok"
        assert two.ask("set", "f", "w", 0, 0) == "EAGAIN"
        assert one.ask("close", "reader") == "ok"
        wait_for("the lock of a closed descriptor", lambda: two.ask("set", "f", "w", 0, 0) == "ok", 3)


def a_late_end_of_a_handle_takes_no_later_lock(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        assert one.ask("open", "reader", os.path.join(pair.mounts[0], "f"), "r") == "ok"
        assert one.ask("set", "reader", "r", 0, 10) == "ok"
        assert one.ask("map", "reader", "mapping") == "ok"
        assert one.ask("close", "reader") == "ok"
        assert one.ask("set", "f", "w", 0, 10) == "ok"
        assert one.ask("unmap", "mapping") == "ok"  # the kernel lets go of the handle only now
        time.sleep(0.3)
        assert two.ask("set", "f", "r", 0, 10) == "EAGAIN"
        assert one.ask("set", "f", "u", 0, 0) == "ok"
        assert two.ask("set", "f", "r", 0, 10) == "ok"


def a_mount_ends_though_somebody_waits_for_a_lock(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        three, four = players(2)
        pair.actors += [three, four]
        for actor in (three, four):
            assert actor.ask("open", "f", os.path.join(pair.mounts[0], "f"), "rw") == "ok"
        assert two.ask("set", "f", "w", 0, 10) == "ok"
        assert three.ask("set", "f", "w", 20, 10) == "ok"
        one.tell("wait", "f", "w", 0, 10)  # for another mount
        four.tell("flock", "f", "w", True)
        assert four.answer() == "ok"
        three.tell("flock", "f", "w", True)  # for a process of the same
        assert not one.ready(0.5) and not three.ready(0)
        pid = int(cluster.mount_pids(pair.mounts[0])["pid"])
        os.kill(pid, signal.SIGTERM)
        wait_ended("the mount", pid)
        for actor in (one, three):
            assert actor.answer(5) != "ok"
        wait_for("the locks of a mount that has ended", lambda: two.ask("set", "f", "w", 20, 10) == "ok", 5)
        subprocess.run(["umount", "-l", pair.mounts[0]], stderr=subprocess.DEVNULL, check=False)
        cluster.mounts.remove(pair.mounts[0])


def breaking_tells_the_holder(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        assert one.ask("set", "f", "w", 0, 10) == "ok"
        two.tell("wait", "f", "w", 0, 0)
        assert not two.ready(0.5)
        path = os.path.join(pair.mounts[1], "f")
        listed = json.loads(run([CAIRN, "lock", "ls", path, "--json"]).stdout)["locks"]
        assert [lock["state"] for lock in listed] == ["held", "waits"], listed
        assert listed[0]["mountpoint"] == pair.mounts[0] and listed[0]["pid"] == one.pid, listed
        assert listed[0]["host"] == socket.gethostname(), listed
        assert "exclusive" in run([CAIRN, "lock", "ls", path]).stdout
        why = json.loads(run([CAIRN, "why", path, "--json"]).stdout)
        assert len(why["locks"]) == 2 and len(why["open"]) == 2, why
        assert pair.mounts[0] in run([CAIRN, "why", path]).stdout
        broken = json.loads(run([CAIRN, "lock", "break", path, "--json"]).stdout)["broken"]
        assert len(broken) == 1 and broken[0]["pid"] == one.pid, broken
        assert two.answer(5) == "ok"
        assert one.ask("write", "f", "late") == "EIO", "it is told"
        assert one.ask("write", "f", "x") == "ok", "once"
        assert one.ask("set", "f", "r", 0, 1) == "EAGAIN"
        assert run([CAIRN, "lock", "ls", os.path.join(pair.mounts[0], "missing")], check=False).returncode == 1


# ---------------------------------------------------------------- SQLite

def metric(mount, decided):
    out = run(["curl", "-sf", "--unix-socket", metric.sockets[mount], "http://mount/metrics"]).stdout
    for line in out.splitlines():
        if line.startswith("cairn_client_locks_total") and f'"{decided}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0.0


metric.sockets = {}


def sqlite_on_one_mount_asks_nobody_for_locks(cluster):
    cluster.up()
    mount = cluster.mount()
    metric.sockets[mount] = cluster.mount_pids(mount)["socket"]
    db = sqlite3.connect(os.path.join(mount, "db"), isolation_level=None)
    for journal in ("delete", "wal"):
        assert db.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
        db.execute("create table if not exists t (n integer)")
        for i in range(3):
            db.execute("insert into t values (?)", (i,))
        asked, here = metric(mount, "at_master"), metric(mount, "here")
        for i in range(20):
            db.execute("insert into t values (?)", (i,))
            assert db.execute("select count(*) from t").fetchone()[0] > i
        assert metric(mount, "at_master") == asked, journal
        assert metric(mount, "here") > here, "they are asked of the mount"
    db.close()


COUNT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for _ in range(int(sys.argv[2])):
    db.execute("begin immediate")
    n = db.execute("select n from t").fetchone()[0]
    db.execute("update t set n = ?", (n + 1,))
    db.execute("commit")
"""


def sqlite_writers_on_two_mounts_lose_nothing(cluster):
    cluster.up()
    mounts = [cluster.mount("a"), cluster.mount("b")]
    db = sqlite3.connect(os.path.join(mounts[0], "db"), isolation_level=None)
    db.execute("create table t (n integer)")
    db.execute("insert into t values (0)")
    db.close()
    writers = [subprocess.Popen([sys.executable, "-c", COUNT, os.path.join(mount, "db"), "25"], stderr=subprocess.PIPE, text=True)
               for mount in mounts for _ in range(2)]
    for writer in writers:
        _, errors = writer.communicate(timeout=150)
        assert writer.returncode == 0, errors
    for mount in mounts:
        db = sqlite3.connect(os.path.join(mount, "db"))
        assert db.execute("select n from t").fetchone()[0] == 100, mount
        assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
        db.close()


# ---------------------------------------------------------------- masters die

def an_election_keeps_locks(cluster):
    with Pair(cluster) as pair:
        one, two = pair.actors
        for _ in range(6):  # until the mount decides by itself
            assert one.ask("set", "f", "w", 0, 10) == "ok"
        assert two.ask("flock", "f", "w", False) == "ok"
        leader = cluster.leader()
        cluster.kill(leader)
        wait_for("another master to lead", lambda: cluster.leader() not in (None, leader), 20)
        assert two.ask("set", "f", "r", 5, 1) == "EAGAIN"
        assert one.ask("flock", "f", "r", False) == "EAGAIN"
        two.tell("wait", "f", "w", 0, 0)
        assert not two.ready(1)
        cluster.start(leader)
        wait_for("three masters", lambda: all(p["running"] for p in cluster.programs().values()), 20)
        second = cluster.leader()
        cluster.kill(second)
        wait_for("another master to lead", lambda: cluster.leader() not in (None, second), 20)
        assert not two.ready(1)
        assert one.ask("set", "f", "u", 0, 0) == "ok"
        assert two.answer(25) == "ok", "it has asked the new leader"
        cluster.start(second)


TESTS = [one_mount_is_like_a_local_directory, two_mounts_are_like_a_local_directory, waits_and_signals, a_circle_of_two_mounts_is_a_deadlock,
         getlk_names_who_is_here, whoever_dies_lets_go, a_closed_descriptor_takes_its_process_locks,
         a_late_end_of_a_handle_takes_no_later_lock, a_mount_ends_though_somebody_waits_for_a_lock, breaking_tells_the_holder,
         sqlite_on_one_mount_asks_nobody_for_locks, sqlite_writers_on_two_mounts_lose_nothing]

if __name__ == "__main__":
    if sys.argv[1:] == ["--player"]:
        player()
    elif sys.argv[1:2] == ["--masters"]:
        sys.argv[1:3] = []
        main([an_election_keeps_locks], masters=3)
    else:
        main(TESTS)
