"""The metadata as a file, and back: an export while the cluster works, and the way back when every master is lost."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import threading

from local_cluster import CAIRN, main, run, wait_for


def content(name, size):
    return random.Random(name).randbytes(size)


def make_tree(root, seed, files):
    """Folders, files of several sizes, links, attributes."""
    rng = random.Random(seed)
    os.makedirs(root)
    folders = [root]
    for i in range(files // 10 + 1):
        folder = os.path.join(rng.choice(folders), f"d{i}")
        os.mkdir(folder)
        folders.append(folder)
    for i in range(files):
        path = os.path.join(rng.choice(folders), f"f{i}")
        with open(path, "wb") as f:
            f.write(content(path[len(root):], rng.choice([0, 10, 5000, 70_000, 300_000])))
        os.chmod(path, rng.choice([0o600, 0o644, 0o755]))
        os.utime(path, ns=(rng.randrange(10**18), rng.randrange(10**18)))
        if i % 7 == 0:
            os.link(path, path + ".link")
        if i % 11 == 0:
            os.symlink(f"to-{i}", path + ".sym")
        if i % 5 == 0:
            os.setxattr(path, "user.n", str(i).encode())


def snapshot(root):
    """Everything that a tree shows, but for what reading it changes."""
    out = {}
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            s = os.lstat(path)
            entry = [oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_ino]
            if os.path.islink(path):
                entry.append(os.readlink(path))
            elif os.path.isfile(path):
                with open(path, "rb") as f:
                    entry += [s.st_size, s.st_mtime_ns, hashlib.sha256(f.read()).hexdigest()]
                entry.append(sorted((n, os.getxattr(path, n)) for n in os.listxattr(path)))
            out[path[len(root):]] = entry
    return out


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


def metadata(*words, check=True):
    return run([CAIRN, "metadata", *words], check=check)


def check_of(cluster):
    done = metadata("check", "--master", cluster.masters(), "--json", check=False)
    assert done.returncode in (0, 3), done.stdout
    return json.loads(done.stdout)


def import_into(cluster, dump):
    metadata("import", dump, "--folder", os.path.join(cluster.dir, "master"), "--address", cluster.masters())


def settled(cluster):
    status = cluster.status()
    return status is not None and check_of(cluster)["settled"]


def healthy(cluster):
    chunks = cluster.status()["chunks"]
    return all(chunks[kind] == 0 for kind in ("under_goal", "at_risk", "lost", "open"))


def chunks_held(cluster):
    return sum(server["chunks"] for server in cluster.status()["servers"])


def all_masters_lost_last_export_at_hand(cluster):
    cluster.up()
    mnt = cluster.mount()
    make_tree(f"{mnt}/tree", 1, 120)
    with open(f"{mnt}/grows", "wb") as f:
        f.write(b"a" * 200_000)
    run([CAIRN, "sync", mnt])
    before = snapshot(f"{mnt}/tree")
    # A workload goes on while the export is made: it neither stops nor shows half of anything.
    stop = threading.Event()
    made = []

    def work():
        os.mkdir(f"{mnt}/busy")
        while not stop.is_set():
            path = f"{mnt}/busy/{len(made)}"
            with open(path, "wb") as f:
                f.write(content(path, 1000))
            os.rename(path, path + ".done")
            made.append(path)

    worker = threading.Thread(target=work)
    worker.start()
    dump = os.path.join(cluster.folder, "dump")
    try:
        wait_for("the workload to run", lambda: len(made) > 20, 60)
        metadata("export", dump, "--master", cluster.masters())
        count = len(made)
        wait_for("the workload to go on after the export", lambda: len(made) > count + 5, 30)
    finally:
        stop.set()
        worker.join()
    assert os.stat(dump).st_mode & 0o777 == 0o600
    assert not os.path.exists(dump + ".part")
    held = json.loads(metadata("verify", dump, "--json").stdout)
    assert held["kinds"]["inodes"] > 120 and held["kinds"]["chunks"] > 50, held

    # What comes after the export: a new file, an old one that grows (its chunk gets a newer version), one that goes.
    with open(f"{mnt}/after", "wb") as f:
        f.write(b"n" * 150_000)
    with open(f"{mnt}/grows", "r+b") as f:
        f.write(b"B" * 1000)
        f.seek(200_000)
        f.write(b"c" * 100_000)
    after_inode = os.stat(f"{mnt}/after").st_ino
    os.unlink(f"{mnt}/tree/{next(n for n in before if n.count('/') == 1 and '/f' in n)}".replace("//", "/"))
    run([CAIRN, "sync", mnt])
    cluster.umount(mnt)
    held_before = None

    cluster.kill("master")
    shutil.rmtree(os.path.join(cluster.dir, "master"))
    run([CAIRN, "local", "down", "--dir", cluster.dir])
    import_into(cluster, dump)
    cluster.up()
    wait_for("every chunkserver to be heard", lambda: settled(cluster), 60)
    status = cluster.status()
    assert any("imported from an export" in w and "metadata accept" in w for w in status["warnings"]), status["warnings"]
    found = check_of(cluster)
    assert found["restored"] and found["unknown_chunks"] >= 1, found
    assert after_inode in [c["inode"] for c in found["chunks"]], "the file made after the export is not listed"
    held_before = chunks_held(cluster)

    mnt = cluster.mount()
    assert not os.path.exists(f"{mnt}/after")
    now = snapshot(f"{mnt}/tree")
    # The file that was removed after the export is back in the tree; its bytes may be gone or be there.
    missing = {n for n in before if before[n] != now.get(n)}
    assert not missing, f"{len(missing)} of {len(before)} differ: {[(n, before[n], now.get(n)) for n in list(missing)[:3]]}"
    with open(f"{mnt}/grows", "rb") as f:
        data = f.read()
    assert len(data) == 200_000 and data[:1000] == b"B" * 1000 and data[1000:] == b"a" * 199_000, "not what the newest version has"
    # New work: ids are not used again, new data is right.
    make_tree(f"{mnt}/new", 2, 30)
    assert os.stat(f"{mnt}/new").st_ino > after_inode + 2**32
    fresh = snapshot(f"{mnt}/new")
    drop_caches()
    assert snapshot(f"{mnt}/new") == fresh
    wait_for("every chunk to be whole", lambda: healthy(cluster), 60)
    # Nothing is deleted that only servers know, whatever the time; then the operator says so.
    assert chunks_held(cluster) >= held_before
    cluster.kill("master")
    cluster.up()
    wait_for("every chunkserver to be heard again", lambda: check_of(cluster)["unknown_chunks"] >= found["unknown_chunks"], 30)
    metadata("accept", "--master", cluster.masters())
    assert not check_of(cluster)["restored"]
    wait_for("what is of no file to be garbage", lambda: cluster.status()["chunks"]["garbage"] > 0, 30)
    assert metadata("accept", "--master", cluster.masters(), check=False).returncode == 1
    drop_caches()
    assert snapshot(f"{mnt}/new") == fresh
    cluster.umount(mnt)


def a_damaged_export_is_refused_and_nothing_is_made(cluster):
    cluster.up()
    mnt = cluster.mount()
    make_tree(f"{mnt}/tree", 3, 20)
    run([CAIRN, "sync", mnt])
    dump = os.path.join(cluster.folder, "dump")
    metadata("export", dump, "--master", cluster.masters())
    folder = os.path.join(cluster.folder, "restored")
    with open(dump, "rb") as f:
        whole = f.read()
    bad = os.path.join(cluster.folder, "bad")
    middle = len(whole) // 2
    for what, data in (("cut", whole[:-1]), ("cut in the middle", whole[:middle]), ("empty", b""),
                       ("altered", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:]), ("longer", whole + b"\0")):
        with open(bad, "wb") as f:
            f.write(data)
        for done in (metadata("verify", bad, check=False),
                     metadata("import", bad, "--folder", folder, "--address", "127.0.0.1:1", check=False)):
            assert done.returncode == 1 and "dump" in done.stdout, f"{what}: {done.returncode} {done.stdout}"
        assert not os.path.exists(folder), what
    # A folder that is not free is left alone.
    os.mkdir(folder)
    with open(os.path.join(folder, "mine"), "w") as f:
        f.write("x")
    done = metadata("import", dump, "--folder", folder, "--address", "127.0.0.1:1", check=False)
    assert done.returncode == 1 and "not empty" in done.stdout, done.stdout
    assert os.listdir(folder) == ["mine"]
    done = metadata("import", dump, "--folder", os.path.join(cluster.dir, "master"), "--address", "127.0.0.1:1", check=False)
    assert done.returncode == 1, "a running master's folder was taken"
    # Nobody there: no file is left behind.
    done = metadata("export", os.path.join(cluster.folder, "none"), "--master", "127.0.0.1:1", check=False)
    assert done.returncode == 1 and not [n for n in os.listdir(cluster.folder) if n.startswith("none")]
    cluster.umount(mnt)


def dumps_kept(cluster):
    with open(os.path.join(cluster.dir, "log", "master.log")) as f:
        return sum("master.dump_kept" in line for line in f)


def wait_for_dumps(cluster, mnt, more):
    """Until so many have been made; there are changes meanwhile, for nothing is kept twice. The second one was begun after the call."""
    count = dumps_kept(cluster)

    def busy():
        for _ in range(5):
            with open(f"{mnt}/busy", "w"):
                pass
            os.unlink(f"{mnt}/busy")
        return dumps_kept(cluster) >= count + more

    wait_for("the metadata to be kept", busy, 90)
    return dumps_kept(cluster)


def addresses(cluster):
    return {name: p["address"] for name, p in cluster.programs().items() if name.startswith("chunkserver")}


def rescue(cluster, *more, check=True):
    servers = [word for address in addresses(cluster).values() for word in ("--server", address)]
    return run([CAIRN, "rescue", "--folder", os.path.join(cluster.dir, "master"), "--address", cluster.masters(), *servers, *more],
               check=check)


def every_master_and_every_export_lost(cluster):
    cluster.configure({"master": {"rescue": {"interval": '"5s"'}}})
    cluster.up()
    mnt = cluster.mount()
    make_tree(f"{mnt}/tree", 5, 80)
    with open(f"{mnt}/grows", "wb") as f:
        f.write(b"a" * 200_000)
    with open(f"{mnt}/goes", "wb") as f:
        f.write(b"g" * 100_000)
    run([CAIRN, "sync", mnt])
    before = snapshot(f"{mnt}/tree")
    wait_for_dumps(cluster, mnt, 1)
    refused = rescue(cluster, check=False)
    assert refused.returncode == 1 and "is not empty" in refused.stdout, refused.stdout

    # No dump is made of what follows: the master dies before the next one is due.
    count = wait_for_dumps(cluster, mnt, 2)
    with open(f"{mnt}/after", "wb") as f:
        f.write(b"n" * 150_000)
        f.flush()
        os.fsync(f.fileno())
        after_inode = os.fstat(f.fileno()).st_ino
    with open(f"{mnt}/grows", "r+b") as f:
        f.write(b"B" * 1000)
        f.flush()
        os.fsync(f.fileno())
        f.seek(64 << 20)
        f.write(b"c" * 5000)
        f.flush()
        os.fsync(f.fileno())
        grows_inode = os.fstat(f.fileno()).st_ino
    os.unlink(f"{mnt}/goes")
    cluster.kill("master")
    assert dumps_kept(cluster) == count, "a dump came in between: the test proves nothing"
    shutil.rmtree(os.path.join(cluster.dir, "master"))

    found = json.loads(rescue(cluster, "--json").stdout)
    assert [(c["inode"], c["index"], c["length"]) for c in found["lost_and_found"]] == [(after_inode, 0, 150_000)], found
    assert [(c["inode"], c["index"], c["length"]) for c in found["attached"]] == [(grows_inode, 1, 5000)], found
    assert found["servers"] == 3 and found["dumps_passed_over"] == 0, found
    cluster.up()
    wait_for("every chunkserver to be heard", lambda: settled(cluster), 60)
    assert any("rescued from chunkservers" in w for w in cluster.status()["warnings"]), cluster.status()["warnings"]
    again = cluster.mount("again")
    now = snapshot(f"{again}/tree")
    assert now == before, [n for n in before if before[n] != now.get(n)][:5]
    with open(f"{again}/lost+found/inode-{after_inode}", "rb") as f:
        assert f.read() == b"n" * 150_000
    with open(f"{again}/grows", "rb") as f:
        data = f.read()
    assert len(data) == (64 << 20) + 5000 and data[:1000] == b"B" * 1000 and data[1000:200_000] == b"a" * 199_000
    assert data[200_000:64 << 20] == bytes((64 << 20) - 200_000) and data[64 << 20:] == b"c" * 5000
    # Removed after the dump: it is there again, as long as its bytes were.
    assert os.path.getsize(f"{again}/goes") == 100_000
    make_tree(f"{again}/new", 6, 10)
    metadata("accept", "--master", cluster.masters())
    # And the new master keeps dumps of its own.
    wait_for_dumps(cluster, again, 1)
    cluster.umount(again)


def a_chunkserver_is_lost_with_the_masters(cluster):
    cluster.up()
    mnt = cluster.mount()
    make_tree(f"{mnt}/tree", 7, 30)
    run([CAIRN, "sync", mnt])
    before = snapshot(f"{mnt}/tree")
    dump = os.path.join(cluster.folder, "dump")
    metadata("export", dump, "--master", cluster.masters())
    cluster.umount(mnt)
    run([CAIRN, "local", "down", "--dir", cluster.dir])
    shutil.rmtree(os.path.join(cluster.dir, "master"))
    import_into(cluster, dump)
    for name in ("master", "chunkserver-1", "chunkserver-2"):
        cluster.start(name)

    def lost():
        """Servers that status says may be removed: they were not heard for a while."""
        status = cluster.status()
        return [s["server"] for s in status["servers"] if any(f"cairn server remove {s['server']}" in w and "gone for good" in w and
                                                               "has not been heard" in w for w in status["warnings"])] if status else []

    wait_for("the lost one to be named", lambda: len(lost()) == 1, 60)
    assert not check_of(cluster)["settled"], "a replica may be on a server that has not been heard"
    assert any("waiting for" in w for w in cluster.status()["warnings"]), cluster.status()["warnings"]
    run([CAIRN, "server", "remove", lost()[0], "--force", "--master", cluster.masters()])
    wait_for("the others to be enough", lambda: settled(cluster), 30)
    mnt = cluster.mount("again")
    assert snapshot(f"{mnt}/tree") == before
    cluster.umount(mnt)


if __name__ == "__main__":
    main([all_masters_lost_last_export_at_hand, a_chunkserver_is_lost_with_the_masters,
          a_damaged_export_is_refused_and_nothing_is_made, every_master_and_every_export_lost])
