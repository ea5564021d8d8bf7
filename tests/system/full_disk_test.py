"""Chunkservers with small disks: a full cluster says ENOSPC to its writers and harms nothing else; deleting gives the room back."""

import errno
import os
import random
import time

from local_cluster import main, wait_for

MIB = 1 << 20
# What the cluster's own defaults are for large disks.
SETTINGS = {"master": {"cluster": {"delete_grace": '"1s"'}}, "chunkserver": {"store": {"reserve": '"24MiB"'}}}


def block(i):
    return random.Random(i).randbytes(MIB)


def write_file(path, first, count):
    """Blocks, then an fsync and a close. Gives the errno that stopped it, or 0."""
    try:
        with open(path, "wb", buffering=0) as f:
            for i in range(count):
                f.write(block(first + i))
            os.fsync(f.fileno())
    except OSError as e:
        return e.errno
    return 0


def check_file(path, first, count):
    with open(path, "rb") as f:
        for i in range(count):
            assert f.read(MIB) == block(first + i), f"{path}: wrong data in MiB {i}"
        assert f.read(1) == b"", f"{path} is too long"


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


def all_run(cluster):
    return all(p["running"] for p in cluster.programs().values())


def write_at_once(paths, count):
    """All files grow together, so that their chunks are given out while there is room for each of them alone. An errno for each."""
    files = {path: open(path, "wb", buffering=0) for path in paths}
    failed = {path: 0 for path in paths}

    def do(path, operation):
        try:
            if not failed[path]:
                operation()
        except OSError as e:
            failed[path] = e.errno

    for i in range(count):
        for n, path in enumerate(paths):
            do(path, lambda n=n, path=path, i=i: files[path].write(block(10_000 * n + i)))
    for path in paths:
        do(path, lambda path=path: os.fsync(files[path].fileno()))
        do(path, lambda path=path: files[path].close())
    return failed


def free_of_all(cluster):
    return [s["free_bytes"] for s in cluster.status()["servers"]]


def a_full_cluster_says_so_and_recovers(cluster):
    cluster.configure(SETTINGS)
    for i in (1, 2, 3):
        cluster.give_disk(f"chunkserver-{i}", "200m")
    cluster.up()
    mnt = cluster.mount()
    for i in range(8):
        assert write_file(f"{mnt}/small{i}", 100 * i, 4) == 0
    begin = time.monotonic()
    paths = [f"{mnt}/large{n}" for n in range(8)]
    failed = write_at_once(paths, 30)
    assert time.monotonic() - begin < 40, "writers hung"
    codes = set(failed.values()) - {0}
    assert codes == {errno.ENOSPC}, failed
    assert write_file(f"{mnt}/one more", 0, 6) == errno.ENOSPC
    # Nothing else is harmed: what was fsynced is right, names can be made and changed, all programs run.
    os.mkdir(f"{mnt}/dir")
    os.rename(f"{mnt}/small0", f"{mnt}/dir/small0")
    drop_caches()
    check_file(f"{mnt}/dir/small0", 0, 4)
    for i in range(1, 8):
        check_file(f"{mnt}/small{i}", 100 * i, 4)
    for n, path in enumerate(paths):
        if not failed[path]:
            check_file(path, 10_000 * n, 30)
    assert all_run(cluster)
    status = cluster.status()
    assert status["chunks"]["lost"] == 0 and all(s["alive"] and s["stores_failed"] == 0 for s in status["servers"])
    # Deleting gives the room back, within the grace time and a little.
    for path in [*paths, f"{mnt}/one more"]:
        os.unlink(path)
    wait_for("the room to come back", lambda: min(free_of_all(cluster)) > 100 * MIB, 25)
    assert write_file(f"{mnt}/again", 5000, 24) == 0
    drop_caches()
    check_file(f"{mnt}/again", 5000, 24)
    check_file(f"{mnt}/dir/small0", 0, 4)
    cluster.umount(mnt)


main([a_full_cluster_says_so_and_recovers])
