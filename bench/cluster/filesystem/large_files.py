"""Large files: sequential, and by fio at random."""

import json
import mmap
import os
import random
import struct

from filesystem.measuring import MIB, check, command, parallel, remove

_blocks = []


def block(tag, index):
    """The 1 MiB that belongs at MiB `index` of file `tag`: random, with a stamp in front."""
    if not _blocks:
        rng = random.Random(4711)
        _blocks.extend(bytearray(rng.randbytes(MIB)) for _ in range(7))
    b = _blocks[(tag + index) % 7]
    struct.pack_into("<QQ", b, 0, tag, index)
    return b


def write_file(path, mib, tag):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        for i in range(mib):
            view = memoryview(block(tag, i))
            while view:
                view = view[os.write(fd, view):]
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path, mib, tag, whole):
    """Read in 1 MiB pieces; compare all of it, or (fast) the first 64 bytes of each."""
    fd = os.open(path, os.O_RDONLY)
    buf = bytearray(MIB)
    view = memoryview(buf)
    try:
        for i in range(mib):
            got = 0
            while got < MIB:
                n = os.readv(fd, [view[got:]])
                check(n > 0, f"{path}: short by {mib - i} MiB")
                got += n
            want = block(tag, i)
            if whole:
                check(buf == want, f"{path}: wrong data in MiB {i}")
            else:
                check(buf[:64] == want[:64], f"{path}: wrong data in MiB {i}")
        check(os.readv(fd, [view]) == 0, f"{path}: longer than written")
    finally:
        os.close(fd)


def seq_paths(run, streams):
    each = max(1, run.opts.size // streams)
    return [(run.path(f"seq{streams}", f"f{i}"), each, streams * 16 + i) for i in range(streams)]


def ensure_seq(run, streams):
    files = seq_paths(run, streams)
    if all(os.path.exists(p) and os.path.getsize(p) == mib * MIB for p, mib, _ in files):
        return files
    remove(run.path(f"seq{streams}"))
    os.makedirs(run.path(f"seq{streams}"))
    for f in files:
        write_file(*f)
    return files


def seq_write(run, streams):
    files = seq_paths(run, streams)
    remove(run.path(f"seq{streams}"))
    os.makedirs(run.path(f"seq{streams}"))
    block(0, 0)
    parallel(run, streams, lambda i: write_file(*files[i]))
    run.rate(sum(mib for _, mib, _ in files))
    if run.rep == 0:
        run.cold()
        for f in files:
            read_file(*f, whole=True)


def seq_read(run, streams, cold):
    files = ensure_seq(run, streams)
    block(0, 0)
    if cold:
        run.cold()
    else:
        for f in files:
            read_file(*f, whole=False)
    parallel(run, streams, lambda i: read_file(*files[i], whole=False))
    run.rate(sum(mib for _, mib, _ in files))


def fio(run, direction, *args):
    with run.timed():
        out = command(["fio", "--name=fsbench", "--ioengine=psync", "--bs=4k", "--group_reporting",
                       "--randrepeat=1", "--output-format=json", *args])
    job = json.loads(out[out.index("{"):])["jobs"][0]
    check(job["error"] == 0, f"fio error {job['error']}")
    d = job[direction]
    seconds = d["runtime"] / 1000
    ns = d["clat_ns"].get("percentile", {})
    run.result.update(value=d["total_ios"] / seconds, fio_seconds=seconds,
                      p50_us=ns.get("50.000000", 0) / 1000, p99_us=ns.get("99.000000", 0) / 1000)


def can_direct(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return False
    try:
        m = mmap.mmap(-1, 4096)
        return os.preadv(fd, [m], 0) == 4096
    except OSError:
        return False
    finally:
        os.close(fd)


def rand_read_4k_cold(run):
    path, mib, _ = ensure_seq(run, 1)[0]
    direct = can_direct(path)
    run.cold()
    fio(run, "read", f"--filename={path}", "--rw=randread", f"--size={mib}m", "--numjobs=4",
        "--readonly", "--norandommap", "--time_based", f"--runtime={run.opts.seconds}",
        f"--direct={int(direct)}")
    run.result["direct"] = direct


def ensure_rand(run):
    mib = run.opts.rand_mib
    path = run.path("rand", "f")
    if not (os.path.exists(path) and os.path.getsize(path) == mib * MIB):
        remove(run.path("rand"))
        os.makedirs(run.path("rand"))
        write_file(path, mib, 1)
    return path, mib


def rand_write_4k_fsync(run):
    path, mib = ensure_rand(run)
    fio(run, "write", f"--filename={path}", "--rw=randwrite", f"--size={mib}m", "--fdatasync=1",
        "--norandommap", "--time_based", f"--runtime={max(1, run.opts.seconds // 2)}")
    check(os.path.getsize(path) == mib * MIB, "file size changed")


def rand_write_4k_4jobs(run):
    path, mib = ensure_rand(run)
    part = mib // 4
    fio(run, "write", f"--filename={path}", "--rw=randwrite", f"--size={part}m", f"--io_size={part}m",
        f"--offset_increment={part}m", "--numjobs=4", "--end_fsync=1")
    check(os.path.getsize(path) == mib * MIB, "file size changed")
