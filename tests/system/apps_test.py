"""Real programs on two mounts at once: what one machine does, the other goes on with, without waiting. And what must not be lost at an
end: appends from both sides, files that are unlinked elsewhere, `cairn sync`, `cairn umount`, umount(8)."""

import mailbox
import os
import signal
import subprocess
import threading
import time

from local_cluster import CAIRN, main, run, wait_ended, wait_for

GIT = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
       "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "HOME": "/nonexistent"}


def two_mounts(cluster):
    cluster.up()
    return cluster.mount("one"), cluster.mount("two")


def in_threads(*works):
    """All at once; the first failure is raised."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
        assert not thread.is_alive(), "it hangs"
    if failures:
        raise failures[0]


def git(repo, *args):
    return run(["git", "-C", repo, *args], env=GIT).stdout


def put(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def get(path):
    with open(path, "rb") as f:
        return f.read()


# ---------------------------------------------------------------- programs


def git_on_both(cluster):
    one, two = two_mounts(cluster)
    run(["git", "init", "-q", "--bare", f"{one}/bare"], env=GIT)
    run(["git", "init", "-q", f"{one}/repo"], env=GIT)
    for i in range(10):
        put(f"{one}/repo/f{i}", b"line\n" * i)
        git(f"{one}/repo", "add", ".")
        git(f"{one}/repo", "commit", "-qm", f"commit {i}")
        # The same work tree, seen from the other side.
        assert git(f"{two}/repo", "status", "--short") == ""
        assert git(f"{two}/repo", "log", "-1", "--format=%s") == f"commit {i}\n"
        put(f"{two}/repo/f{i}", b"changed\n", "ab")
        assert git(f"{one}/repo", "status", "--short") == f" M f{i}\n"
        git(f"{two}/repo", "checkout", "-q", f"f{i}")
    git(f"{one}/repo", "push", "-q", f"{one}/bare", "HEAD:refs/heads/main")
    run(["git", "clone", "-q", "-b", "main", f"{two}/bare", f"{two}/clone"], env=GIT)
    for i in range(3):
        git(f"{one}/repo", "commit", "-q", "--allow-empty", "-m", f"more {i}")
        git(f"{one}/repo", "push", "-q", f"{one}/bare", "HEAD:refs/heads/main")
        git(f"{two}/clone", "pull", "-q", "--ff-only")
        assert git(f"{two}/clone", "log", "-1", "--format=%s").strip() == f"more {i}"
    git(f"{one}/clone", "fsck", "--strict")


def maildir_delivery(cluster):
    one, two = two_mounts(cluster)
    mailbox.Maildir(f"{one}/mail", create=True)
    count = 40

    def deliver(mnt, who):
        box = mailbox.Maildir(f"{mnt}/mail")
        for i in range(count):
            box.add(f"From: {who}\nSubject: {who}-{i}\n\n{'text ' * i}\n".encode())

    seen = set()

    def read():
        box = mailbox.Maildir(f"{two}/mail")
        end = time.monotonic() + 120
        while len(seen) < 2 * count:
            assert time.monotonic() < end, f"{len(seen)} messages"
            for key in box.keys():
                message = box.get(key)  # a reader moves what it has read
                if message is None:
                    continue
                assert message["Subject"] not in seen, f"{message['Subject']} twice"
                assert len(message.get_payload()) >= 5 * int(message["Subject"].split("-")[1]), "a message in part"
                seen.add(message["Subject"])
                box.remove(key)

    in_threads(lambda: deliver(one, "a"), lambda: deliver(two, "b"), read)
    assert os.listdir(f"{one}/mail/new") == os.listdir(f"{one}/mail/tmp") == []


def make_on_both(cluster):
    """Two makes in one tree: whoever comes second finds what the first has made; neither sees half a file."""
    one, two = two_mounts(cluster)
    os.mkdir(f"{one}/src")
    objects = " ".join(f"o/{i}.o" for i in range(30))
    put(f"{one}/src/Makefile", f"all.txt: {objects}\n\tcat $^ > $@.$$$$ && mv $@.$$$$ $@\n"
        "o/%.o: %.c\n\t@mkdir -p o\n\t@(echo made of $<; cat $<) > $@.$$$$ && mv $@.$$$$ $@\n".encode())
    for i in range(30):
        put(f"{one}/src/{i}.c", b"source %d\n" % i * (i + 1))
    in_threads(lambda: run(["make", "-s", "-j3", "-C", f"{one}/src"]), lambda: run(["make", "-s", "-j3", "-C", f"{two}/src"]))
    want = b"".join(b"made of %d.c\n" % i + b"source %d\n" % i * (i + 1) for i in range(30))
    assert get(f"{one}/src/all.txt") == get(f"{two}/src/all.txt") == want
    put(f"{two}/src/7.c", b"another source\n")
    run(["make", "-s", "-C", f"{one}/src"])  # by the times: the source is newer
    assert b"another source" in get(f"{two}/src/all.txt")
    assert run(["make", "-C", f"{two}/src"]).stdout.count("up to date") == 1


def tail_follows_the_other_mount(cluster):
    one, two = two_mounts(cluster)
    put(f"{one}/log", b"")
    tail = subprocess.Popen(["tail", "-s", "0.05", "-n", "+1", "-f", f"{two}/log"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    lines = [b"line %d %s\n" % (i, b"x" * (i * 37 % 5000)) for i in range(60)]
    try:
        with open(f"{one}/log", "ab", buffering=0) as log:
            for line in lines:
                log.write(line)
                assert tail.stdout.readline() == line
    finally:
        tail.kill()
        tail.wait()


def rsync_in_place(cluster):
    one, two = two_mounts(cluster)
    source = os.path.join(cluster.folder, "source")
    os.mkdir(source)
    for i in range(20):
        put(f"{source}/{i}", os.urandom(i * 20_000))
    for _ in range(3):
        for mnt, other in ((one, two), (two, one)):
            run(["rsync", "-aI", "--inplace", "--no-whole-file", f"{source}/", f"{mnt}/copy"])
            run(["diff", "-r", source, f"{other}/copy"])
            for i in range(0, 20, 3):
                with open(f"{source}/{i}", "r+b") as f:
                    f.seek(i * 7000)
                    f.write(os.urandom(5000))


# ---------------------------------------------------------------- nothing is lost


def appends_leave_no_gap_and_do_not_overlap(cluster):
    cluster.up()
    mounts = [cluster.mount(name) for name in ("one", "two", "three")]
    records, count = {}, 150

    def append(mnt, who):
        with open(f"{mnt}/log", "ab", buffering=0) as f:
            for i in range(count):
                record = b"%s %d %s\n" % (who.encode(), i, b"y" * (i * 131 % 3000))
                records.setdefault(who, []).append(record)
                assert f.write(record) == len(record)

    in_threads(*[lambda mnt=mnt, who=f"{os.path.basename(mnt)}{i}": append(mnt, who) for mnt in mounts for i in range(2)])
    for mnt in mounts:
        lines = get(f"{mnt}/log").splitlines(keepends=True)
        assert len(lines) == 6 * count
        for who, own in records.items():
            there = [line for line in lines if line.startswith(who.encode() + b" ")]
            assert there == own, f"{who}: {[line[:12] for line in there if line not in own]}, {[a.split()[1] for a in there][:200]}"


def two_busy_writers_go_on_in_batches(cluster):
    one, two = two_mounts(cluster)
    put(f"{one}/f", bytes(1 << 20))
    written = {}

    def write(mnt, letter):
        end, count = time.monotonic() + 5, 0
        with open(f"{mnt}/f", "r+b", buffering=0) as f:
            while time.monotonic() < end:
                os.pwrite(f.fileno(), letter * 4096, count % 256 * 4096)
                count += 1
        written[letter] = count

    before = cluster.metrics(one)["cairn_client_recalls_total"]
    in_threads(lambda: write(one, b"a"), lambda: write(two, b"b"))
    recalls = cluster.metrics(one)["cairn_client_recalls_total"] - before
    print(f"        {written} writes, {recalls:.0f} recalls of one mount", flush=True)
    assert min(written.values()) > 30, f"one of them hardly went on: {written}"
    assert sum(written.values()) > 10 * recalls, "not in batches"
    assert get(f"{one}/f") == get(f"{two}/f")


def orphans_live_through_a_failover(cluster):
    cluster.master_count = 3
    cluster.tcp = True
    one, two = two_mounts(cluster)
    put(f"{one}/f", b"first " * 1000)
    with open(f"{one}/f", "r+b", buffering=0) as held:
        os.unlink(f"{two}/f")
        assert not os.path.exists(f"{one}/f")
        leader = cluster.leader()
        pid = cluster.pid(leader)
        os.kill(pid, signal.SIGKILL)
        wait_ended(leader, pid)
        assert os.fstat(held.fileno()).st_nlink == 0 and held.read() == b"first " * 1000
        held.write(b"more")
        os.fsync(held.fileno())
        assert os.pread(held.fileno(), 4, 6000) == b"more"
    put(f"{two}/f", b"another")
    assert get(f"{one}/f") == b"another"


def every_end_flushes(cluster):
    one, two = two_mounts(cluster)
    data = os.urandom(3_000_000)
    put(f"{one}/synced", data)
    over = threading.Event()

    def busy():
        while not over.is_set():
            put(f"{one}/busy", b"again")

    # What others write meanwhile is not waited for, and is no error.
    in_threads(busy, lambda: (time.sleep(0.2), run([CAIRN, "sync", one]), over.set()))
    pid = int(cluster.mount_pids(one)["pid"])
    os.kill(pid, signal.SIGKILL)  # what `cairn sync` answered stays
    wait_ended("the mount", pid)
    assert get(f"{two}/synced") == data
    subprocess.run(["umount", "-l", one], stderr=subprocess.DEVNULL, check=False)
    cluster.mounts.remove(one)
    one = cluster.mount("again")
    put(f"{one}/umounted", data)
    cluster.umount(one)
    assert get(f"{two}/umounted") == data
    one = cluster.mount("third")
    put(f"{one}/by-the-kernel", data)
    pid = int(cluster.mount_pids(one)["pid"])
    run(["umount", one])
    cluster.mounts.remove(one)
    wait_for("the mount's process to end", lambda: not os.path.exists(f"/proc/{pid}"), 30)
    assert get(f"{two}/by-the-kernel") == data


if __name__ == "__main__":
    main([git_on_both, maildir_delivery, make_on_both, tail_follows_the_other_mount, rsync_in_place, appends_leave_no_gap_and_do_not_overlap,
          two_busy_writers_go_on_in_batches, orphans_live_through_a_failover, every_end_flushes])
