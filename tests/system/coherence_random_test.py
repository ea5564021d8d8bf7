"""Random work on two or three mounts of one cluster, by several processes each, on a few objects. Each object is a register (a range of a
file, an owner, a size, what a name leads to...) and the history of each must be linearizable: nobody reads what is older than the last
answered write, on whichever mount. So must it be while masters fail over, and mounts are stopped, go on, and are killed.

    coherence_random_test.py [TEST] [--seed N] [--seconds N]
"""

import contextlib
import errno
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time
import traceback

from linearizability import NEVER, Op, first_wrong, without_unseen, wrong_log
from local_cluster import main, wait_ended, wait_for

SEED = None
SECONDS = None
PAGE = 4096
WORD = 8
# (begin, bytes) of what is written at once: in one page, over its end, a whole page, many pages that begin and end within one.
RANGES = [(0, 64), (PAGE - 40, 80), (4 * PAGE, PAGE), (8 * PAGE + 1000, 150_000)]
FILES = 2
MAPPED = 64 * PAGE  # a page for each mount's stores in a mapping
RECORD = 16
NAMES = "abc"
FOLDERS = "xy"


class Worker:
    """One process on one mount. Tells what it did as operations on registers, by name."""

    def __init__(self, number, mount, path, shared, seed):
        self.number, self.mount, self.path, self.shared = number, mount, path, shared
        self.random = random.Random(seed)
        self.token = number * 1_000_000_000
        self.ops = []  # (register, Op)
        self.appends, self.logs = [], []
        self.errors = []
        self.begin = 0.0
        self.held = {}
        self.dir = -1

    # ------------------------------------------------------------ what it keeps open

    def open_all(self):
        self.dir = os.open(f"{self.path}/work", os.O_RDONLY | os.O_DIRECTORY)
        for i in range(FILES):
            self.held[i] = os.open(f"data{i}", os.O_RDWR, dir_fd=self.dir)
        self.held["log"] = os.open("log", os.O_RDWR | os.O_APPEND, dir_fd=self.dir)
        self.held["size"] = os.open("size", os.O_RDWR, dir_fd=self.dir)
        self.held["map"] = mmap.mmap(self.held[0], MAPPED + 8 * PAGE)

    def close_all(self):
        with contextlib.suppress(OSError, KeyError):
            self.held.pop("map").close()
        for fd in [*self.held.values(), self.dir]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.held, self.dir = {}, -1

    # ------------------------------------------------------------ telling

    def new_token(self):
        self.token += 1
        return self.token

    def did(self, register, kind, value, failed=False):
        self.ops.append((register, Op(self.begin, NEVER if failed else time.monotonic(), kind, value, f"mount {self.mount} worker {self.number}")))

    def changed(self, register, kind, value, work):
        """A change: if it fails as it may under faults, it may have happened, or happen yet."""
        try:
            work()
        except OSError:
            self.did(register, kind, value, failed=True)
            raise
        self.did(register, kind, value)

    # ------------------------------------------------------------ ranges of files

    def write_range(self):
        i, at = self.random.randrange(FILES), self.random.randrange(len(RANGES))
        offset, size = RANGES[at]
        token = self.new_token()
        data = struct.pack("<Q", token) * (size // WORD)
        fresh = self.random.random() < 0.3

        def write():
            fd = os.open(f"data{i}", os.O_WRONLY, dir_fd=self.dir) if fresh else self.held[i]
            try:
                wrote = os.pwrite(fd, data, offset)
                if wrote != len(data):  # the kernel has sent it in parts, and one failed
                    raise OSError(errno.EIO, f"{wrote} of {len(data)} bytes were written")
                if self.shared.fsyncs or self.random.random() < 0.05:
                    os.fsync(fd)
            finally:
                if fresh:
                    os.close(fd)

        # One write is several registers: between pages it may be seen in parts.
        failure = None
        try:
            write()
        except OSError as error:
            failure = error
        for end in ("first", "last"):
            self.did(f"data{i}.{at}.{end}", "write", token, failed=failure is not None)
        if failure:
            raise failure

    def read_range(self):
        i, at = self.random.randrange(FILES), self.random.randrange(len(RANGES))
        offset, size = RANGES[at]
        how = self.random.random()
        if how < 0.4:
            data = os.pread(self.held[i], size, offset)
        elif how < 0.6 and i == 0 and at < 3 and self.shared.maps:
            data = self.held["map"][offset : offset + size]
        else:
            fd = os.open(f"data{i}", os.O_RDONLY, dir_fd=self.dir)
            try:
                data = os.pread(fd, size, offset)
            finally:
                os.close(fd)
        assert len(data) == size, f"{len(data)} of {size} bytes"
        words = struct.unpack(f"<{size // WORD}Q", data)
        self.did(f"data{i}.{at}.first", "read", words[0])
        self.did(f"data{i}.{at}.last", "read", words[-1])

    def store(self):
        """In a mapping, and msync: until then only this mount has it, so others read it. One worker a mount does this."""
        token = self.new_token()
        offset = MAPPED + self.mount * PAGE

        def work():
            self.held["map"][offset : offset + WORD] = struct.pack("<Q", token)
            self.held["map"].flush(offset, PAGE)

        self.changed(f"store{self.mount}", "write", token, work)

    def read_store(self):
        other = self.random.choice([m for m in range(self.shared.mounts) if m != self.mount])
        offset = MAPPED + other * PAGE
        data = self.held["map"][offset : offset + WORD] if self.random.random() < 0.5 else os.pread(self.held[0], WORD, offset)
        self.did(f"store{other}", "read", struct.unpack("<Q", data)[0])

    # ------------------------------------------------------------ attributes

    def set_owner(self):
        uid = self.new_token() % 0x7FFF_FFFF
        self.changed("uid", "write", uid, lambda: os.chown("attributes", uid, -1, dir_fd=self.dir))

    def set_time(self):
        ns = self.new_token()
        self.changed("mtime", "write", ns, lambda: os.utime("attributes", ns=(0, ns), dir_fd=self.dir))

    def set_xattr(self):
        token = self.new_token()
        path = f"/proc/self/fd/{self.dir}/attributes"
        self.changed("xattr", "write", token, lambda: os.setxattr(path, "user.token", struct.pack("<Q", token)))

    def read_attributes(self):
        if self.random.random() < 0.3:
            value = os.getxattr(f"/proc/self/fd/{self.dir}/attributes", "user.token")
            return self.did("xattr", "read", struct.unpack("<Q", value)[0])
        found = os.stat("attributes", dir_fd=self.dir)
        self.did("uid", "read", found.st_uid)
        self.did("mtime", "read", found.st_mtime_ns)

    def set_size(self):
        size = self.new_token()

        def work():
            if self.random.random() < 0.5:
                os.ftruncate(self.held["size"], size)
            else:
                os.truncate(f"/proc/self/fd/{self.dir}/size", size)

        self.changed("size", "write", size, work)

    def read_size(self):
        # Not by lseek(SEEK_END): beside a recall the kernel may look at the size that it had before it asked (docs, "Known gaps").
        found = os.fstat(self.held["size"]) if self.random.random() < 0.5 else os.stat("size", dir_fd=self.dir)
        self.did("size", "read", found.st_size)

    # ------------------------------------------------------------ names

    def name(self):
        """A name's register is the token that a symlink there says."""
        return self.random.choice(NAMES)

    def create_name(self):
        name, token = self.name(), self.new_token()
        try:
            self.changed(f"name.{name}", "create", token, lambda: os.symlink(str(token), f"names/{name}", dir_fd=self.dir))
        except FileExistsError:
            self.ops.pop()
            self.did(f"name.{name}", "present", True)

    def replace_name(self):
        name, token = self.name(), self.new_token()
        os.symlink(str(token), f"names/.{token}", dir_fd=self.dir)
        self.changed(f"name.{name}", "write", token,
                     lambda: os.rename(f"names/.{token}", f"names/{name}", src_dir_fd=self.dir, dst_dir_fd=self.dir))

    def remove_name(self):
        name = self.name()
        try:
            self.changed(f"name.{name}", "remove", None, lambda: os.unlink(f"names/{name}", dir_fd=self.dir))
        except FileNotFoundError:
            self.ops.pop()
            self.did(f"name.{name}", "present", False)

    def read_name(self):
        name = self.name()
        try:
            self.did(f"name.{name}", "read", int(os.readlink(f"names/{name}", dir_fd=self.dir)))
        except FileNotFoundError:
            self.did(f"name.{name}", "read", None)

    def look_at_name(self):
        name = self.name()
        try:
            os.stat(f"names/{name}", dir_fd=self.dir, follow_symlinks=False)
            self.did(f"name.{name}", "present", True)
        except FileNotFoundError:
            self.did(f"name.{name}", "present", False)

    def list_names(self):
        fd = os.open("names", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.dir)
        try:
            found = os.listdir(fd)
        finally:
            os.close(fd)
        for name in NAMES:
            self.did(f"name.{name}", "present", name in found)
        for name in FOLDERS:
            self.did(f"folder.{name}", "present", name in found)

    def make_folder(self):
        name = self.random.choice(FOLDERS)
        try:
            self.changed(f"folder.{name}", "create", 1, lambda: os.mkdir(f"names/{name}", dir_fd=self.dir))
        except FileExistsError:
            self.ops.pop()
            self.did(f"folder.{name}", "present", True)

    def remove_folder(self):
        name = self.random.choice(FOLDERS)
        try:
            self.changed(f"folder.{name}", "remove", None, lambda: os.rmdir(f"names/{name}", dir_fd=self.dir))
        except FileNotFoundError:
            self.ops.pop()
            self.did(f"folder.{name}", "present", False)

    def look_at_folder(self):
        name = self.random.choice(FOLDERS)
        try:
            os.stat(f"names/{name}", dir_fd=self.dir)
            self.did(f"folder.{name}", "present", True)
        except FileNotFoundError:
            self.did(f"folder.{name}", "present", False)

    # ------------------------------------------------------------ a log

    def append(self):
        record = b"%015d\n" % self.new_token()

        def work():
            fd = os.open("log", os.O_WRONLY | os.O_APPEND, dir_fd=self.dir) if self.random.random() < 0.3 else self.held["log"]
            try:
                assert os.write(fd, record) == RECORD
                if self.shared.fsyncs:
                    os.fsync(fd)
            finally:
                if fd != self.held["log"]:
                    os.close(fd)

        try:
            work()
        except OSError:
            self.appends.append((self.begin, NEVER, record))
            raise
        self.appends.append((self.begin, time.monotonic(), record))

    def read_log(self):
        data = b""
        while part := os.pread(self.held["log"], 1 << 20, len(data)):
            data += part
        assert len(data) % RECORD == 0, f"the log ends within a record: {data[-40:]}"
        self.logs.append((self.begin, time.monotonic(), [data[i : i + RECORD] for i in range(0, len(data), RECORD)]))

    # ------------------------------------------------------------ all of it

    def choices(self):
        weights = {self.write_range: 8, self.read_range: 12, self.read_store: 3, self.set_owner: 1, self.set_time: 1, self.set_xattr: 1,
                   self.read_attributes: 4, self.set_size: 1, self.read_size: 2, self.create_name: 2, self.replace_name: 2,
                   self.remove_name: 3, self.read_name: 4, self.look_at_name: 3, self.list_names: 2, self.make_folder: 1,
                   self.remove_folder: 1, self.look_at_folder: 2, self.append: 2, self.read_log: 0.5}
        if not self.shared.maps:
            # What a mount has not synced goes with it: others on it may have read it.
            del weights[self.read_store], weights[self.read_log]
        elif self.number < self.shared.mounts:
            weights[self.store] = 3
        return list(weights), list(weights.values())

    def step(self, work):
        self.begin = time.monotonic()
        try:
            work()
        except OSError as error:
            self.errors.append((time.monotonic(), work.__name__, errno.errorcode[error.errno]))
            if error.errno in self.shared.allowed:
                return self.open_again()
            raise AssertionError(f"mount {self.mount}: {work.__name__}: {error}") from error
        longest = time.monotonic() - self.begin
        self.shared.longest[self.number] = max(self.shared.longest[self.number], longest)

    def open_again(self):
        """Handles that were told of an error may be of a mount that has died."""
        self.close_all()
        while not self.shared.over.is_set():
            try:
                return self.open_all()
            except OSError:
                time.sleep(0.05)

    def run(self):
        self.open_all()
        works, weights = self.choices()
        while not self.shared.over.is_set():
            self.step(self.random.choices(works, weights)[0])
            pause = self.random.random()
            if pause < 0.02:
                time.sleep(pause)
        self.close_all()


class Shared:
    """What the processes share."""

    def __init__(self, workers, mounts, fsyncs, allowed, maps):
        self.over = multiprocessing.Event()
        self.longest = multiprocessing.Array("d", workers)
        self.mounts, self.fsyncs, self.allowed, self.maps = mounts, fsyncs, allowed, maps


def work_in_a_process(worker, path):
    try:
        os.setpgid(0, 0)
        worker.run()
        failure = None
    except BaseException:
        failure = traceback.format_exc()
    with open(path, "wb") as f:
        pickle.dump((worker.ops, worker.appends, worker.logs, worker.errors, failure), f)


def prepare(mnt):
    os.mkdir(f"{mnt}/work")
    os.mkdir(f"{mnt}/work/names")
    for i in range(FILES):
        with open(f"{mnt}/work/data{i}", "wb") as f:
            f.write(bytes(MAPPED + 8 * PAGE))
    for name in ("attributes", "size", "log"):
        open(f"{mnt}/work/{name}", "wb").close()
    os.setxattr(f"{mnt}/work/attributes", "user.token", bytes(WORD))
    os.utime(f"{mnt}/work/attributes", ns=(0, 0))


class Blind:
    """From the stop of a mount's process to its first answer after it goes on, its kernel may show pages that it has."""

    def __init__(self, mount, begin, end):
        self.mount, self.begin, self.end = mount, begin, end

    def covers(self, mount, begin, end):
        return mount == self.mount and begin < self.end and end > self.begin


def check(results, blind, final):
    registers, appends, logs = {}, [], [final["log"]]
    # The kernel has what is written in its pages before the mount hears of it: whoever reads on the same mount may see it before the
    # write returns (or fails), and only then is it anybody else's business.
    written = {(op.mount(), register, op.value): op.end for ops, *_ in results for register, op in ops if op.kind == "write"}
    for ops, own_appends, own_logs, _, _ in results:
        for register, op in ops:
            pages = op.kind == "read" and register.startswith(("data", "store"))
            unfinished = written.get((op.mount(), register, op.value), 0) > op.begin
            if pages and (unfinished or any(b.covers(op.mount(), op.begin, op.end) for b in blind)):
                continue
            registers.setdefault(register, []).append(op)
        appends += own_appends
        logs += own_logs
    wrong = []
    for register, ops in sorted(registers.items()):
        ops = without_unseen(ops)
        first = first_wrong(ops, None if register.startswith(("name", "folder")) else 0)
        if first:
            around = sorted((op for op in ops if op.begin < first.end and op.end > first.begin - 0.5), key=lambda op: op.begin)[-25:]
            wrong.append(f"{register}: fits into no order: {first}\n  " + "\n  ".join(map(str, around)))
    logs.append(logs.pop(0))
    failure = wrong_log(appends, logs)
    if failure:
        wrong.append(f"log: {failure}")
    assert not wrong, "\n".join(wrong)
    return sum(map(len, registers.values())), len(appends)


def read_log_at_last(mnt):
    begin = time.monotonic()
    with open(f"{mnt}/work/log", "rb") as f:
        data = f.read()
    return {"log": (begin, time.monotonic(), [data[i : i + RECORD] for i in range(0, len(data), RECORD)])}


def random_work(cluster, options, seconds, faults=None, fsyncs=False, allowed=(), maps=True, each=2):
    """Workers on mounts with these options, for some seconds; `faults(mounts, until)` runs meanwhile and gives the blind times."""
    seed = SEED if SEED is not None else int.from_bytes(os.urandom(4), "big")
    seconds = SECONDS or seconds
    print(f"        seed {seed}", flush=True)
    mounts = [cluster.mount(f"m{i}", options=option) for i, option in enumerate(options)]
    prepare(mounts[0])
    count = each * len(mounts)
    shared = Shared(count, len(mounts), fsyncs, allowed, maps)
    fork = multiprocessing.get_context("fork")
    files = [os.path.join(cluster.folder, f"history{i}") for i in range(count)]
    workers = [Worker(i, i % len(mounts), mounts[i % len(mounts)], shared, f"{seed}/{i}") for i in range(count)]
    processes = [fork.Process(target=work_in_a_process, args=(w, f), daemon=True) for w, f in zip(workers, files)]
    for process in processes:
        process.start()
    until = time.monotonic() + seconds
    try:
        blind = faults(mounts, until) if faults else None
        while time.monotonic() < until and all(p.is_alive() for p in processes):
            time.sleep(0.1)
    finally:
        shared.over.set()
        for process in processes:
            process.join(60)
    assert not any(p.is_alive() for p in processes), "an operation hangs"
    results = []
    for path in files:
        with open(path, "rb") as f:
            results.append(pickle.load(f))
    failures = [r[4] for r in results if r[4]]
    assert not failures, "\n".join(failures)
    operations, appends = check(results, blind or [], read_log_at_last(mounts[-1]))
    errors = [e for r in results for e in r[3]]
    print(f"        {operations} answers, {appends} records, longest operation {max(shared.longest):.2f} s, errors: "
          f"{sorted({e[1:] for e in errors})}", flush=True)
    return errors, max(shared.longest)


# ---------------------------------------------------------------- tests


def three_mounts(cluster):
    cluster.up()
    random_work(cluster, ["", "", "kernel=6.1"], 12)


def two_mounts_with_what_linux_6_1_has(cluster):
    cluster.up()
    random_work(cluster, ["kernel=6.1", "kernel=6.1"], 8)


def leaders_are_killed(cluster):
    cluster.master_count = 3
    cluster.tcp = True
    cluster.up()

    def faults(mounts, until):
        while time.monotonic() < until - 5:
            leader = cluster.leader()
            if not leader:
                time.sleep(0.1)
                continue
            cluster.kill(leader)
            time.sleep(2)
            cluster.start(leader)
            wait_for("three masters", lambda: sum(1 for m in cluster.group()["masters"] if m["answers"]) == 3, 30)
            time.sleep(2)

    random_work(cluster, ["", ""], 15, faults)


def mounts_are_stopped(cluster, how_long=(0.5, 3, 12)):
    cluster.up()

    def faults(mounts, until):
        blind = []
        for i, seconds in enumerate(how_long):
            time.sleep(1)
            mnt = mounts[i % len(mounts)]
            pid = int(cluster.mount_pids(mnt)["pid"])
            begin = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            cluster.stopped.add(pid)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
            cluster.stopped.discard(pid)
            os.statvfs(mnt)
            blind.append(Blind(str(i % len(mounts)), begin, time.monotonic()))
        time.sleep(2)
        return blind

    random_work(cluster, ["", ""], sum(how_long) + 3, faults, fsyncs=True, allowed=(errno.EIO,))


def a_mount_is_stopped_for_a_minute(cluster):
    mounts_are_stopped(cluster, (60,))


def mounts_are_killed(cluster):
    cluster.up()

    def faults(mounts, until):
        number = 0
        while time.monotonic() < until - 3:
            time.sleep(2)
            mnt = mounts[number % len(mounts)]
            number += 1
            pid = int(cluster.mount_pids(mnt)["pid"])
            os.kill(pid, signal.SIGKILL)
            wait_ended("the mount", pid)
            subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL, check=False)
            cluster.mounts.remove(mnt)
            cluster.mount(os.path.basename(mnt))

    # No mappings: whoever touches one of a mount that has died gets SIGBUS.
    random_work(cluster, ["", ""], 10, faults, fsyncs=True, allowed=(errno.EIO, errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV), maps=False)


if __name__ == "__main__":
    for option in ("--seed", "--seconds"):
        if option in sys.argv:
            at = sys.argv.index(option)
            value = int(sys.argv[at + 1])
            del sys.argv[at:at + 2]
            SEED, SECONDS = (value, SECONDS) if option == "--seed" else (SEED, value)
    main([three_mounts, two_mounts_with_what_linux_6_1_has, leaders_are_killed, mounts_are_stopped, mounts_are_killed],
         only_by_name=[a_mount_is_stopped_for_a_minute])
