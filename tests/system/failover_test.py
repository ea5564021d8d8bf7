"""Failover of masters on real processes: three masters, three chunkservers, two mounts with work on them that keeps a model. The leader is
killed, or stopped and continued; no acknowledged operation is lost, none acts twice, no call fails, and the tree is the model.

    failover_test.py                 a few rounds, as CI runs them
    failover_test.py --rounds 50     prints how long the changes and the reads waited, from the kill to the next answer
"""

import os
import random
import signal
import sys
import threading
import time

from local_cluster import CAIRN, main, run, wait_ended, wait_for

ROUNDS = 4


class Worker(threading.Thread):
    """Creates, renames, links, removes and writes in a directory of its own, and knows what must be there."""

    def __init__(self, folder, seed):
        super().__init__()
        self.folder = folder
        self.random = random.Random(seed)
        self.files = {}  # name: inode (a key of contents)
        self.contents = {}
        self.next = 0
        self.answered = []  # (kind, when it ended)
        self.failure = None
        self.ends = threading.Event()
        os.mkdir(folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def new_name(self):
        self.next += 1
        return f"f{self.next}"

    def create(self):
        name = self.new_name()
        os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))  # EEXIST: it acted twice
        self.files[name] = self.next
        self.contents[self.next] = b""

    def rename(self, name):
        to = self.new_name()
        os.rename(self.path(name), self.path(to))  # ENOENT: it acted twice
        self.files[to] = self.files.pop(name)

    def link(self, name):
        to = self.new_name()
        os.link(self.path(name), self.path(to))
        self.files[to] = self.files[name]

    def remove(self, name):
        os.unlink(self.path(name))
        del self.files[name]

    def write(self, name):
        data = self.random.randbytes(self.random.randrange(1, 20_000))
        with open(self.path(name), "ab", buffering=0) as f:
            assert f.write(data) == len(data)
            os.fsync(f.fileno())
        self.contents[self.files[name]] += data

    def step(self):
        if len(self.files) < 5:
            return self.create()
        what = self.random.choices([self.create, self.rename, self.link, self.remove, self.write], [4, 3, 2, 3, 2])[0]
        return what() if what == self.create else what(self.random.choice(sorted(self.files)))

    def run(self):
        try:
            while not self.ends.is_set():
                self.step()
                self.answered.append(time.monotonic())
                time.sleep(0.002)
        except BaseException as error:
            self.failure = error

    def check(self, folder):
        """What is there, through any mount, is the model: names, links and contents."""
        assert sorted(os.listdir(folder)) == sorted(self.files), f"{folder}: {set(os.listdir(folder)) ^ set(self.files)}"
        inodes = {}
        for name, inode in self.files.items():
            path = os.path.join(folder, name)
            stat = os.stat(path)
            assert inodes.setdefault(inode, stat.st_ino) == stat.st_ino, f"{path}: another file"
            assert stat.st_nlink == list(self.files.values()).count(inode), f"{path}: {stat.st_nlink} links"
            with open(path, "rb") as f:
                assert f.read() == self.contents[inode], f"{path}: other contents"
        assert len(set(inodes.values())) == len(inodes)


class Reader(threading.Thread):
    """Looks again and again: listings and absent names, which a mount answers from what it knows while its lease lasts, and what only a
    master can answer."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.answered = []
        self.failure = None
        self.ends = threading.Event()

    def run(self):
        i = 0
        try:
            while not self.ends.is_set():
                os.listdir(self.folder)
                i += 1
                assert not os.path.exists(os.path.join(self.folder, f"absent{i}"))
                os.statvfs(self.folder)  # always the master's answer
                self.answered.append(time.monotonic())
                time.sleep(0.005)
        except BaseException as error:
            self.failure = error


def recovery(times, at):
    """From the kill to the end of the longest wait for an answer after it: what was on its way may still have been answered."""
    late = [t for t in times if t > at]
    gaps = [(end - begin, end) for begin, end in zip([at, *late], late)]
    return max(gaps)[1] - at


def quiet(workers):
    for worker in workers:
        worker.ends.set()
    for worker in workers:
        worker.join(120)
        assert not worker.is_alive(), "an operation hangs"
        if worker.failure:
            raise worker.failure


def one_round(cluster, workers, readers, how):
    wait_for("a leader", lambda: cluster.leader() is not None, 30)
    leader = cluster.leader()
    pid = cluster.pid(leader)
    at = time.monotonic()
    if how == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        cluster.stopped.add(pid)
        os.kill(pid, signal.SIGSTOP)
    wait_for("an answer to everybody", lambda: all(any(t > at + 0.5 for t in list(w.answered)) for w in workers + readers) or
             any(w.failure for w in workers + readers), 60)
    for worker in workers + readers:
        if worker.failure:
            raise worker.failure
    if how == "kill":
        wait_ended(leader, pid)
        cluster.start(leader)
    else:
        time.sleep(1)
        os.kill(pid, signal.SIGCONT)
        cluster.stopped.discard(pid)
    wait_for("three masters in order", lambda: sum(1 for m in cluster.group()["masters"] if m["answers"] and m.get("behind", 1e9) < 1000) == 3, 60)
    changes = [recovery(list(w.answered), at) for w in workers]
    reads = [recovery(list(r.answered), at) for r in readers]
    return min(changes), max(changes), max(reads)


def report(name, times):
    times = sorted(times)
    print(f"        {name}: median {times[len(times) // 2]:.2f} s, worst {times[-1]:.2f} s", flush=True)
    for low in range(0, int(times[-1] / 0.25) + 1):
        count = sum(1 for t in times if low * 0.25 <= t < (low + 1) * 0.25)
        if count:
            print(f"        {low * 0.25:5.2f} s {'#' * count}", flush=True)


def work_survives(cluster, rounds):
    cluster.up()
    mounts = [cluster.mount("a"), cluster.mount("b")]
    workers = [Worker(os.path.join(mnt, f"w{i}"), i) for i, mnt in enumerate(mounts)]
    readers = [Reader(mnt) for mnt in mounts]
    for thread in workers + readers:
        thread.start()
    first, changes, reads = [], [], []
    try:
        for i in range(rounds):
            time.sleep(1)
            how = "kill" if i % 2 == 0 else "stop"
            begin, change, read = one_round(cluster, workers, readers, how)
            print(f"        round {i + 1}, {how}: first change after {begin:.2f} s, one of each mount {change:.2f} s, reads {read:.2f} s", flush=True)
            first.append(begin)
            changes.append(change)
            reads.append(read)
    finally:
        quiet(workers + readers)
    for worker in workers:
        for mnt in mounts:
            worker.check(os.path.join(mnt, os.path.basename(worker.folder)))
    report("first change", first)
    report("a change of each mount", changes)
    report("reads", reads)
    assert max(changes) < 15 and max(reads) < 15, "a failover took far too long"
    return sum(len(w.answered) for w in workers)


def the_leader_is_killed_and_stopped(cluster):
    work_survives(cluster, ROUNDS)


def a_mount_that_was_told_one_master_survives_it(cluster):
    cluster.up()
    path = os.path.join(cluster.folder, "mnt")
    os.makedirs(path)
    cluster.mounts.append(path)
    run([CAIRN, "mount", cluster.programs()["master"]["address"], path])
    with open(f"{path}/before", "w") as f:
        f.write("x" * 5000)
    wait_for("master to lead", lambda: cluster.leader() is not None, 20)
    time.sleep(2)  # it learns of the others
    cluster.kill("master")
    with open(f"{path}/after", "w") as f:
        f.write("y" * 5000)
        f.flush()
        os.fsync(f.fileno())
    assert sorted(os.listdir(path)) == ["after", "before"]
    # A command that finds the cluster by the mount reaches the masters that the mount has learned of.
    assert "5000" in run([CAIRN, "info", f"{path}/after"]).stdout
    assert cluster.leader() in ("master-2", "master-3")


def leadership_is_moved_and_a_master_replaced(cluster):
    cluster.up()
    mnt = cluster.mount()
    before = cluster.leader()
    run([CAIRN, "master", "transfer", "--master", cluster.masters()])
    wait_for("another leader", lambda: cluster.leader() not in (None, before), 10)
    with open(f"{mnt}/f", "w") as f:
        f.write("after the transfer")
    victim = next(name for name in ("master-3", "master-2") if name != cluster.leader())
    address = cluster.programs()[victim]["address"]
    cluster.kill(victim)
    wait_for("a warning", lambda: any("ONE MORE FAILURE" in w for w in (cluster.status() or {"warnings": []})["warnings"]), 20)
    run([CAIRN, "master", "remove", "--master", cluster.masters(), address])
    assert all(m["role"] != "voter" or m["address"] != address for m in cluster.group()["masters"])
    run(["rm", "-rf", os.path.join(cluster.dir, victim)])
    cluster.start(victim)
    wait_for("it waits to be added", lambda: any(m.get("joining") for m in cluster.group()["masters"]), 20)
    run([CAIRN, "master", "add", "--master", cluster.masters(), address])
    assert sum(1 for m in cluster.group()["masters"] if m["role"] == "voter") == 3
    with open(f"{mnt}/f") as f:
        assert f.read() == "after the transfer"


if __name__ == "__main__":
    if "--rounds" in sys.argv:
        at = sys.argv.index("--rounds")
        ROUNDS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
        sys.argv.append("the_leader_is_killed_and_stopped")
    main([the_leader_is_killed_and_stopped, a_mount_that_was_told_one_master_survives_it, leadership_is_moved_and_a_master_replaced], masters=3, tcp=True)
