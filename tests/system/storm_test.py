"""Storms: several processes on two mounts create, rename, link, remove, list, read, write parts of pages and store in mappings, all in the
same few directories and files. No process may wait in the kernel, where no signal reaches it, for long; no mount is
fenced, and nobody sees an error that a local disk would not give; but for one: a file that was removed twice while one process opened it
is ESTALE, since the kernel looks its name up only once more.

    storm_test.py [TEST] [--seconds N]
"""

import errno
import mmap
import multiprocessing
import os
import random
import sys
import time
import traceback

from local_cluster import main

SECONDS = 30
WAITS_MAX = 2.0
PAGE = 4096
FOLDERS = ("d0", "d1", "d0/sub")
NAMES = [f"n{i}" for i in range(6)]
FILES = ("shared0", "shared1")
SIZE = 40 * PAGE
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR}  # another one was faster
EXPECTED_TWICE = EXPECTED | {errno.ESTALE}  # of names that are removed


class Storm:
    def __init__(self, mnt, seed):
        self.mnt = mnt
        self.random = random.Random(seed)
        self.counts = {}

    def place(self):
        return f"{self.mnt}/{self.random.choice(FOLDERS)}/{self.random.choice(NAMES)}"

    def shared(self):
        return f"{self.mnt}/{self.random.choice(FILES)}"

    def create(self):
        with open(self.place(), "xb", buffering=0) as f:
            f.write(b"x" * self.random.randrange(6000))

    def rename(self):
        os.rename(self.place(), self.place())

    def link(self):
        os.link(self.place(), self.place())

    def unlink(self):
        os.unlink(self.place())

    def folder(self):
        path = self.place() + ".d"
        os.mkdir(path) if self.random.random() < 0.5 else os.rmdir(path)

    def list(self):
        folder = f"{self.mnt}/{self.random.choice(FOLDERS)}"
        for entry in os.scandir(folder):
            entry.stat(follow_symlinks=False)

    def look(self):
        os.stat(self.place())

    def read(self):
        with open(self.place(), "rb", buffering=0) as f:
            f.read()

    def read_shared(self):
        with open(self.shared(), "rb", buffering=0) as f:
            os.pread(f.fileno(), self.random.randrange(1, 5 * PAGE), self.random.randrange(SIZE))

    def write_part(self):
        with open(self.shared(), "r+b", buffering=0) as f:
            for _ in range(self.random.randrange(1, 4)):
                os.pwrite(f.fileno(), b"w" * self.random.randrange(1, 6000), self.random.randrange(SIZE - 6000))

    def append_and_cut(self):
        with open(f"{self.mnt}/log", "ab", buffering=0) as f:
            f.write(b"a" * 100)
        if self.random.random() < 0.1:
            os.truncate(f"{self.mnt}/log", self.random.randrange(2000))

    def store(self):
        with open(self.shared(), "r+b", buffering=0) as f, mmap.mmap(f.fileno(), SIZE) as mapped:
            for _ in range(self.random.randrange(1, 5)):
                at = self.random.randrange(SIZE)
                mapped[at] = (mapped[at] + 1) % 256
            if self.random.random() < 0.5:
                mapped.flush()

    def change_attributes(self):
        os.chmod(self.place(), 0o600 + self.random.randrange(64))

    def step(self):
        work = self.random.choice([self.create, self.create, self.rename, self.link, self.unlink, self.folder, self.list, self.look, self.read,
                                   self.read_shared, self.read_shared, self.write_part, self.append_and_cut, self.store, self.change_attributes])
        try:
            work()
        except OSError as error:
            stays = work in (self.read_shared, self.write_part, self.store, self.append_and_cut)
            if error.errno not in (EXPECTED if stays else EXPECTED_TWICE):
                raise
        self.counts[work.__name__] = self.counts.get(work.__name__, 0) + 1

    def run(self, until, results):
        try:
            while time.monotonic() < until:
                self.step()
            results.put((self.counts, None))
        except BaseException:
            results.put((self.counts, traceback.format_exc()))


def in_the_kernel(pids):
    """Processes that no signal reaches now, and where they wait."""
    found = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat") as f:
                state = f.read().rsplit(")", 1)[1].split()[0]
            if state == "D":
                with open(f"/proc/{pid}/stack") as f:
                    found[pid] = f.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def watch(pids, until):
    """The longest time that one was seen to wait without a break, and where. The same wait: nothing but D, whenever looked."""
    since, longest, where = {}, 0.0, ""
    while (now := time.monotonic()) < until:
        waiting = in_the_kernel(pids)
        for pid in list(since):
            if pid not in waiting:
                del since[pid]
        for pid, stack in waiting.items():
            waited = now - since.setdefault(pid, now)
            if waited > longest:
                longest, where = waited, stack
        time.sleep(0.01)
    return longest, where


def storm(cluster, options, seconds, each=3):
    cluster.up()
    mounts = [cluster.mount(f"m{i}", options=option) for i, option in enumerate(options)]
    for folder in FOLDERS:
        os.mkdir(f"{mounts[0]}/{folder}")
    for name in (*FILES, "log"):
        with open(f"{mounts[0]}/{name}", "wb") as f:
            f.write(bytes(SIZE))
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"        seed {seed}", flush=True)
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    until = time.monotonic() + seconds
    processes = [fork.Process(target=Storm(mnt, f"{seed}/{i}/{mnt[-1]}").run, args=(until, results), daemon=True)
                 for mnt in mounts for i in range(each)]
    for process in processes:
        process.start()
    longest, where = watch([p.pid for p in processes], until)
    ended = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(30)
    failures = [failure for _, failure in ended if failure]
    assert not failures, "\n".join(failures)
    total = {}
    for counts, _ in ended:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    print(f"        {sum(total.values())} operations ({min(total.values())} of the rarest kind), longest wait in the kernel {longest:.2f} s", flush=True)
    assert longest < WAITS_MAX, f"a process waited for {longest:.2f} s:\n{where}"
    log = "".join(open(os.path.join(cluster.dir, "log", name), errors="replace").read() for name in os.listdir(os.path.join(cluster.dir, "log")))
    assert "session_fenced" not in log, "a mount was fenced"
    assert sorted(os.listdir(f"{mounts[0]}/d1")) == sorted(os.listdir(f"{mounts[1]}/d1"))
    for name in FILES:
        with open(f"{mounts[0]}/{name}", "rb") as one, open(f"{mounts[1]}/{name}", "rb") as two:
            assert one.read() == two.read(), f"{name} is not the same on both mounts"


def on_two_mounts(cluster):
    storm(cluster, ["", ""], SECONDS)


def with_what_linux_6_1_has(cluster):
    storm(cluster, ["kernel=6.1", "kernel=6.1"], SECONDS / 2)


if __name__ == "__main__":
    if "--seconds" in sys.argv:
        at = sys.argv.index("--seconds")
        SECONDS = int(sys.argv[at + 1])
        del sys.argv[at:at + 2]
    main([on_two_mounts, with_what_linux_6_1_has])
