"""Ranges of files on real mounts: fallocate with its modes, SEEK_DATA and SEEK_HOLE, what a file takes. The same calls are made in a local
directory, and must give the same there."""

import ctypes
import errno
import os
import random
import signal
import subprocess
import tempfile
import time

from local_cluster import main, run, wait_for

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32
PAGE = 4096
CHUNK = 64 << 20

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd, mode, offset, length):
    if LIBC.fallocate(fd, mode, offset, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def outcome(call, *args):
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def extents(fd):
    """Where data is, as lseek says."""
    found, at, end = [], 0, os.fstat(fd).st_size
    while at < end:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        assert begin < at <= end, (begin, at, end)
        found.append((begin, at))
    return found


def both(cluster, test):
    """What the test gives on a mount and in a local directory."""
    mount = cluster.mount()
    with tempfile.TemporaryDirectory(prefix="cairn-ranges-") as local:
        expected, seen = test(local), test(mount)
    cluster.umount(mount)
    for here, there in zip(expected, seen):
        assert here == there, f"local: {here}\nmount: {there}"
    assert len(expected) == len(seen)


# ---------------------------------------------------------------- one call after the other

def plain_calls(directory):
    """Each: what was done, its outcome, and what the file is then."""
    path, out = os.path.join(directory, "file"), []
    with open(path, "wb+", buffering=0) as file:
        fd = file.fileno()

        def note(what, *args, same_extents=True):
            result = outcome(*args) if args else None
            os.fsync(fd)
            out.append((what, result, os.fstat(fd).st_size, hash(os.pread(fd, 1 << 20, 0)), extents(fd) if same_extents else None))

        # Whether what was allocated or zeroed, and not written, counts as data is the filesystem's affair.
        def note_call(what, *args):
            note(what, *args, same_extents=False)

        def blocks(what):
            os.fsync(fd)
            out.append((what, os.fstat(fd).st_blocks))

        os.pwrite(fd, b"a" * (40 * PAGE), 0)
        note("written")
        blocks("blocks when written")
        note("punch", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 4 * PAGE, 8 * PAGE)
        blocks("blocks after punch")
        note("punch within a page", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 20 * PAGE + 100, 200)
        note("punch over the end", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 39 * PAGE, 100 * PAGE)
        note("punch behind the end", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 100 * PAGE, PAGE)
        note("punch a hole again", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 5 * PAGE, PAGE)
        note_call("zero, unaligned", fallocate, fd, ZERO_RANGE, 13 * PAGE - 7, PAGE + 20)
        note_call("zero, keeping the size", fallocate, fd, ZERO_RANGE | KEEP_SIZE, 38 * PAGE, 20 * PAGE)
        note_call("zero, over the end", fallocate, fd, ZERO_RANGE, 38 * PAGE, 20 * PAGE)
        note_call("write into a hole", os.pwrite, fd, b"b" * 10, 50 * PAGE + 5)
        note_call("allocate within", fallocate, fd, 0, 0, 10 * PAGE)
        note_call("allocate behind, keeping the size", fallocate, fd, KEEP_SIZE, 60 * PAGE, 10 * PAGE)
        note_call("allocate behind", fallocate, fd, 0, 60 * PAGE, 10 * PAGE + 1)
        note_call("cut", os.ftruncate, fd, 30 * PAGE + 11)
        note_call("longer again", os.ftruncate, fd, 45 * PAGE)
        note_call("far behind", os.pwrite, fd, b"end", 3 * CHUNK + 17)
        note("punch over chunks", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, PAGE, 3 * CHUNK)
        note("all of it", fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 4 * CHUNK)
        blocks("blocks when nothing is left")
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            for offset in (0, 3 * CHUNK, 3 * CHUNK + 19, 3 * CHUNK + 20, 1 << 40):
                note(f"seek {whence} {offset}", os.lseek, fd, offset, whence)
    return out


def test_each_call_does_what_it_does_locally(cluster):
    cluster.up()
    both(cluster, plain_calls)


def wrong_calls(directory):
    path = os.path.join(directory, "file")
    with open(path, "wb") as file:
        file.write(b"x" * 100)
    os.mkfifo(os.path.join(directory, "fifo"))
    out = []
    writer, reader, folder = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY), os.open(directory, os.O_RDONLY)
    for fd, name in ((writer, "writer"), (reader, "reader"), (folder, "folder"), (9999, "no descriptor")):
        for mode in (0, KEEP_SIZE, PUNCH_HOLE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 1 << 20):
            for offset, length in ((0, 0), (-1, 10), (0, -1), ((1 << 63) - 1, 10)):
                out.append((name, mode, offset, length, outcome(fallocate, fd, mode, offset, length)))
    out.append(("size", os.fstat(writer).st_size))
    for whence in (os.SEEK_DATA, os.SEEK_HOLE):
        out.append(outcome(os.lseek, writer, -1, whence))
    for fd in (writer, reader, folder):
        os.close(fd)
    return out


def test_wrong_arguments_are_refused_as_locally(cluster):
    cluster.up()
    both(cluster, wrong_calls)


def test_what_is_not_there_to_give_is_refused(cluster):
    cluster.up()
    mount = cluster.mount()
    with open(os.path.join(mount, "file"), "wb+", buffering=0) as file:
        fd = file.fileno()
        assert outcome(fallocate, fd, 0, 0, 1 << 55) == "ENOSPC"
        assert os.fstat(fd).st_size == 0
        # What ext4 cannot do either, for other files than its own kind, is refused and not ignored.
        for mode in (COLLAPSE, INSERT, 1 << 12):
            refused = outcome(fallocate, fd, mode, 0, PAGE)
            assert refused == errno.errorcode[errno.EOPNOTSUPP], (mode, refused)
        # The largest file: all of nothing is punched at once, and what is at its end is there and nowhere else.
        end = (1 << 58) - CHUNK
        assert outcome(fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, end) is None
        os.ftruncate(fd, end)
        assert outcome(fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, end) is None
        assert outcome(os.lseek, fd, 0, os.SEEK_DATA) == "ENXIO"
        assert os.lseek(fd, 5, os.SEEK_HOLE) == 5
        os.pwrite(fd, b"end", end - 3)
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_DATA) == end - PAGE
        assert os.pread(fd, 3, end - 3) == b"end" and os.pread(fd, 3, (1 << 32) - 3) == bytes(3)
        os.ftruncate(fd, end - 1)
        assert os.pread(fd, 3, end - 3) == b"en"
        for refused in ((fallocate, fd, ZERO_RANGE, end, 1), (os.ftruncate, fd, end + 1), (os.pwrite, fd, b"x", end)):
            assert outcome(*refused) == "EFBIG", refused
    cluster.umount(mount)


# ---------------------------------------------------------------- many calls, from a seed

def random_calls(directory, seed):
    chooser = random.Random(seed)
    path, out = os.path.join(directory, "file"), []
    file = open(path, "wb+", buffering=0)
    for step in range(150):
        fd = file.fileno()
        offset, length = chooser.randrange(60 * PAGE), chooser.randrange(1, 20 * PAGE)
        if chooser.random() < 0.3:
            offset, length = offset // PAGE * PAGE, (length // PAGE + 1) * PAGE
        base = chooser.choice((0, 0, CHUNK - 30 * PAGE))  # around a chunk's end, too
        what = chooser.choice(("write", "write", "punch", "zero", "zero+", "allocate", "allocate+", "cut", "sync", "reopen", "map"))
        result = None
        if what == "write":
            result = os.pwrite(fd, bytes([chooser.randrange(1, 255)]) * length, base + offset)
        elif what == "punch":
            result = outcome(fallocate, fd, PUNCH_HOLE | KEEP_SIZE, base + offset, length)
        elif what.startswith("zero"):
            result = outcome(fallocate, fd, ZERO_RANGE | (0 if "+" in what else KEEP_SIZE), base + offset, length)
        elif what.startswith("allocate"):
            result = outcome(fallocate, fd, 0 if "+" in what else KEEP_SIZE, base + offset, length)
        elif what == "cut":
            os.ftruncate(fd, base + offset)
        elif what == "sync":
            os.fsync(fd)
        elif what == "reopen":
            file.close()
            file = open(path, "rb+", buffering=0)
        size = os.fstat(file.fileno()).st_size
        at = chooser.randrange(size + 1)
        out.append((seed, step, what, base + offset, length, result, size, os.pread(file.fileno(), 30 * PAGE, at)))
        if what == "map" and size < CHUNK // 2:
            # Whatever says that it is a hole is zeros, and all that is not zeros is data.
            data = bytearray(os.pread(file.fileno(), size, 0))
            for begin, end in extents(file.fileno()):
                data[begin:end] = bytes(end - begin)
            assert not any(data), (seed, step)
    file.close()
    os.unlink(path)
    return out


def test_many_calls_give_what_they_give_locally(cluster):
    cluster.up()
    seeds = [int(os.environ["SEED"])] if "SEED" in os.environ else range(1, 6)
    for seed in seeds:
        both(cluster, lambda directory, seed=seed: random_calls(directory, seed))


# ---------------------------------------------------------------- two mounts, and tools

def test_the_other_mount_sees_it_at_once(cluster):
    cluster.up()
    one, two = cluster.mount("one"), cluster.mount("two")
    with open(f"{one}/file", "wb+", buffering=0) as ours:
        os.pwrite(ours.fileno(), b"x" * (64 * PAGE), 0)
        with open(f"{two}/file", "rb+", buffering=0) as theirs:
            for turn in range(20):
                there, here = (theirs, ours) if turn % 2 else (ours, theirs)
                assert os.pread(here.fileno(), PAGE, turn * PAGE) == b"x" * PAGE
                fallocate(there.fileno(), PUNCH_HOLE | KEEP_SIZE, turn * PAGE, PAGE)
                assert os.pread(here.fileno(), PAGE, turn * PAGE) == bytes(PAGE)
                fallocate(there.fileno(), 0, 0, (65 + turn) * PAGE)
                assert os.fstat(here.fileno()).st_size == (65 + turn) * PAGE
                assert os.lseek(here.fileno(), 0, os.SEEK_DATA) == (turn + 1) * PAGE
    cluster.umount(one)
    cluster.umount(two)


def killed_in(cluster, call, *args):
    """The call is made while no chunkserver answers, and its process killed before they do."""
    servers = [program["pid"] for name, program in cluster.programs().items() if name.startswith("chunkserver")]
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
        cluster.stopped.add(pid)
    child = os.fork()
    if child == 0:
        call(*args)
        os._exit(0)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    time.sleep(0.3)  # the mount sees after a while that nobody waits
    for pid in servers:
        os.kill(pid, signal.SIGCONT)
        cluster.stopped.discard(pid)
    os.waitpid(child, 0)


def test_who_is_killed_while_it_asks_harms_nobody(cluster):
    """The answer comes when nobody waits for it any more, and the kernel may have what was there before."""
    cluster.up()
    one, two = cluster.mount("one"), cluster.mount("two")
    with open(f"{one}/file", "wb+", buffering=0) as file, open(f"{two}/file", "rb", buffering=0) as theirs:
        fd = file.fileno()
        os.pwrite(fd, b"x" * (16 * PAGE), 0)
        os.fsync(fd)
        killed_in(cluster, os.lseek, fd, 0, os.SEEK_HOLE)
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 16 * PAGE
        assert os.pread(fd, PAGE, 0) == b"x" * PAGE
        killed_in(cluster, fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 4 * PAGE)
        wait_for("the range to be as the other mount sees it", lambda: os.pread(fd, PAGE, 0) == os.pread(theirs.fileno(), PAGE, 0), 20)
        assert os.lseek(fd, 0, os.SEEK_DATA) == os.lseek(theirs.fileno(), 0, os.SEEK_DATA)
    cluster.umount(one)
    cluster.umount(two)


def test_a_sparse_copy_takes_no_more_than_the_file(cluster):
    cluster.up()
    mount = cluster.mount()
    with open(f"{mount}/sparse", "wb") as file:
        for at in (0, 100 * PAGE, CHUNK + 5 * PAGE, 3 * CHUNK):
            file.seek(at)
            file.write(os.urandom(3 * PAGE))
    run(["cp", f"{mount}/sparse", f"{mount}/copy"])
    run(["cmp", f"{mount}/sparse", f"{mount}/copy"])
    run(["sync", "-f", mount])
    used = [int(subprocess.check_output(["du", "-k", f"{mount}/{name}"]).split()[0]) for name in ("sparse", "copy")]
    assert used == [48, 48], used
    run(["fallocate", "--dig-holes", f"{mount}/copy"])
    run(["cmp", f"{mount}/sparse", f"{mount}/copy"])
    cluster.umount(mount)


if __name__ == "__main__":
    main([
        test_each_call_does_what_it_does_locally,
        test_wrong_arguments_are_refused_as_locally,
        test_what_is_not_there_to_give_is_refused,
        test_many_calls_give_what_they_give_locally,
        test_the_other_mount_sees_it_at_once,
        test_who_is_killed_while_it_asks_harms_nobody,
        test_a_sparse_copy_takes_no_more_than_the_file,
    ])
