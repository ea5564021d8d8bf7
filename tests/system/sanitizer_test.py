"""A short life of a whole cluster, for the sanitizers: files, syncs, names, a chunkserver that is killed, an orderly end. No process
may print a report of a sanitizer, and all but the killed one end with status 0. Under a build without sanitizers only the latter."""

import ctypes
import glob
import os
import random
import signal
import threading

from local_cluster import CAIRN, main, run

PR_SET_CHILD_SUBREAPER = 36
FILES = 300


class Statuses:
    """How processes end that daemons' parents have left behind: they become children of this process."""

    def __init__(self):
        assert ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        self.ended = {}
        self.waiting = []

    def follow(self, name, pid):
        thread = threading.Thread(target=self.wait, args=(name, pid), daemon=True)
        thread.start()
        self.waiting.append(thread)

    def wait(self, name, pid):
        self.ended[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def all(self):
        for thread in self.waiting:
            thread.join(30)
            assert not thread.is_alive(), f"a process has not ended; those that have: {self.ended}"
        return self.ended


def follow_programs(cluster, statuses, again=""):
    for name, program in cluster.programs().items():
        if name + again not in statuses.ended and (not again or name == "chunkserver-2"):
            statuses.follow(name + again, program["pid"])


def mount(cluster, statuses, name):
    path = cluster.mount(name)
    record = cluster.mount_pids(path)
    # The guardian ends with the status of the process that it guards.
    statuses.follow(name, int(record["guardian_pid"]))
    return path


def reports_go_to(folder):
    """Sanitizers write to files of their own: whatever a program does with its output, none is missed."""
    os.makedirs(folder)
    for variable in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
        before = os.environ.get(variable)
        os.environ[variable] = (before + ":" if before else "") + f"log_path={folder}/{variable}"


def make_tree(root):
    rng = random.Random(7)
    for i in range(FILES):
        folder = os.path.join(root, f"d{i % 17}", f"e{i % 3}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file-{i}"), "wb") as f:
            f.write(rng.randbytes(300_000 if i % 50 == 0 else rng.randrange(12_000)))


def small_work(mnt):
    """Writes, syncs, cuts, names, links, attributes: a little of each."""
    os.mkdir(f"{mnt}/work")
    for i in range(40):
        path = f"{mnt}/work/{i}"
        with open(path, "w+b", buffering=0) as f:
            f.write(b"%d" % i * 3000)
            os.fsync(f.fileno())
            f.truncate(100 + i)
            f.seek(50_000)
            f.write(b"end")
            os.fdatasync(f.fileno())
            f.seek(0)
            assert f.read() == (b"%d" % i * 3000)[: 100 + i].ljust(50_000, b"\0") + b"end", path
        os.setxattr(path, "user.number", b"%d" % i)
        os.rename(path, f"{mnt}/work/renamed-{i % 10}")
    os.symlink("renamed-1", f"{mnt}/work/symlink")
    os.link(f"{mnt}/work/renamed-2", f"{mnt}/work/link")
    assert sorted(os.listdir(f"{mnt}/work")) == sorted(["symlink", "link"] + [f"renamed-{i}" for i in range(10)])
    with open(f"{mnt}/work/renamed-3", "rb") as held:
        os.unlink(f"{mnt}/work/renamed-3")
        assert held.read(2) == b"33"
    run(["rm", "-r", f"{mnt}/work"])
    assert not os.path.exists(f"{mnt}/work")


def no_report_of_a_sanitizer(cluster):
    reports = os.path.join(cluster.folder, "reports")
    reports_go_to(reports)
    statuses = Statuses()
    source = os.path.join(cluster.folder, "tree")
    make_tree(source)
    cluster.up()
    follow_programs(cluster, statuses)
    mnt = mount(cluster, statuses, "mnt")
    run(["cp", "-a", source, f"{mnt}/first"])
    small_work(mnt)

    with open(f"{mnt}/written", "wb", buffering=0) as f:
        for i in range(24):
            f.write(bytes([i]) * 100_000)
            if i == 8:
                cluster.kill("chunkserver-2")
            if i % 4 == 0:
                os.fsync(f.fileno())
        os.fsync(f.fileno())
    run(["cp", "-a", source, f"{mnt}/second"])
    cluster.up()
    follow_programs(cluster, statuses, "-again")

    other = mount(cluster, statuses, "other")
    for folder in ("first", "second"):
        run(["diff", "-r", source, f"{other}/{folder}"])
    with open(f"{other}/written", "rb") as f:
        assert f.read() == b"".join(bytes([i]) * 100_000 for i in range(24))
    run(["rm", "-r", f"{other}/first"])
    run([CAIRN, "sync", other])
    assert not os.path.exists(f"{mnt}/first"), "the removal is not seen on the other mount"
    for path in (mnt, other):
        cluster.umount(path)
    run([CAIRN, "local", "down", "--dir", cluster.dir])

    found = {os.path.basename(path): open(path, errors="replace").read() for path in glob.glob(f"{reports}/*")}
    assert not found, "\n".join(f"{name}:\n{text}" for name, text in found.items())
    want = {name: 0 for name in ("master", "chunkserver-1", "chunkserver-2-again", "chunkserver-3", "mnt", "other")}
    want["chunkserver-2"] = -signal.SIGKILL
    assert statuses.all() == want, f"{statuses.ended}, want {want}"


if __name__ == "__main__":
    main([no_report_of_a_sanitizer])
