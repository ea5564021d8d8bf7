"""Real tools on a mount at goal 3: archives, git, sqlite, rsync, a compiler, fio, large files and directories."""

import os
import sqlite3

from local_cluster import main, run

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
       "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "HOME": "/nonexistent", "PATH": os.environ["PATH"]}
SOURCE = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(__file__), "..", "..")


def make_tree(root, files):
    """A tree of many small and some large files, with links, modes and times."""
    for i in range(files):
        folder = os.path.join(root, f"d{i % 97:02d}", f"e{i % 7}")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"file-{i:05d}")
        with open(path, "wb") as f:
            f.write((f"{i}:".encode() * 97)[: (i * 37) % 3000] if i % 50 else os.urandom(200_000))
        os.chmod(path, 0o600 + (i % 8) * 8)
        os.utime(path, ns=(1_500_000_000_000_000_000 + i * 1_000_007, 1_600_000_000_123_456_789 + i))
        if i % 100 == 0:
            os.symlink(f"file-{i:05d}", path + ".symlink")
            os.link(path, path + ".link")


def same_trees(a, b):
    run(["diff", "-r", "--no-dereference", a, b], timeout=600)
    for folder, names, files in os.walk(a):
        for name in names + files:
            one = os.lstat(os.path.join(folder, name))
            two = os.lstat(os.path.join(b, os.path.relpath(folder, a), name))
            if not os.path.isdir(os.path.join(folder, name)):
                got = (two.st_mode, two.st_uid, two.st_gid, two.st_nlink, two.st_size, two.st_mtime_ns)
                want = (one.st_mode, one.st_uid, one.st_gid, one.st_nlink, one.st_size, one.st_mtime_ns)
                assert got == want, f"{folder}/{name}: {got}, want {want}"
            assert two.st_mode == one.st_mode, f"{folder}/{name}: mode {two.st_mode:o}, want {one.st_mode:o}"


def an_archive_of_ten_thousand_files_unpacks_equal(cluster):
    cluster.up()
    mnt = cluster.mount()
    original = os.path.join(cluster.folder, "original")
    os.makedirs(original)
    make_tree(original, 10_000)
    archive = os.path.join(cluster.folder, "tree.tar")
    run(["tar", "--format=posix", "-cf", archive, "-C", cluster.folder, "original"])
    run(["tar", "xf", archive, "-C", mnt], timeout=600)
    same_trees(original, os.path.join(mnt, "original"))
    second = cluster.mount("second")
    run(["tar", "df", archive, "-C", second], timeout=600)
    run(["rm", "-rf", os.path.join(mnt, "original")], timeout=300)
    assert os.listdir(mnt) == []


def copying_tools_agree(cluster):
    cluster.up()
    mnt = cluster.mount()
    original = os.path.join(cluster.folder, "original")
    os.makedirs(original)
    make_tree(original, 800)
    run(["cp", "-a", original, os.path.join(mnt, "cp")])
    run(["rsync", "-aH", original + "/", os.path.join(mnt, "rsync")])
    same_trees(original, os.path.join(mnt, "cp"))
    same_trees(original, os.path.join(mnt, "rsync"))
    again = run(["rsync", "-aH", "--itemize-changes", original + "/", os.path.join(mnt, "rsync")]).stdout
    assert again.strip() == "", again
    os.makedirs(os.path.join(mnt, "into"))
    run(["mv", os.path.join(mnt, "cp"), os.path.join(mnt, "into", "moved")])
    same_trees(original, os.path.join(mnt, "into", "moved"))
    found = run(["find", mnt, "-name", "file-*", "-type", "f"]).stdout.splitlines()
    assert len(found) == 2 * (800 + 8), len(found)


def git_works(cluster):
    cluster.up()
    mnt = cluster.mount()
    repo = os.path.join(mnt, "repo")
    os.makedirs(repo)
    for part in ("common", "fs"):
        run(["cp", "-r", os.path.join(SOURCE, part), repo])
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "tree"], ["fsck", "--full"], ["gc", "-q"], ["fsck", "--full"]):
        run(["git", *args], cwd=repo, env=GIT)
    assert run(["git", "status", "--porcelain"], cwd=repo, env=GIT).stdout == ""
    run(["git", "-c", "safe.directory=*", "clone", "-q", repo, os.path.join(mnt, "clone")], env=GIT)
    run(["diff", "-r", "-x", ".git", repo, os.path.join(mnt, "clone")])


def sqlite_commits_a_thousand_times(cluster):
    cluster.up()
    path = os.path.join(cluster.mount(), "db")
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
    for i in range(1000):
        db.execute("BEGIN")
        db.execute("INSERT INTO t VALUES (?, ?)", (i, f"value {i} " * 9))
        db.execute("COMMIT")
    db.close()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*), sum(k) FROM t").fetchone() == (1000, 499500)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()  # Python closes it by itself only when it next looks for cycles, and an open file keeps the mount


def a_program_compiles(cluster):
    cluster.up()
    mnt = cluster.mount()
    run(["cp", "-r", os.path.join(SOURCE, "common"), mnt])
    for name in ("bytes", "random", "quantity"):
        run(["clang++-19", "-std=c++23", "-I", mnt, "-c", f"{mnt}/common/base/{name}.cc", "-o", f"{mnt}/{name}.o"], timeout=300)
        run(["clang++-19", "-std=c++23", "-I", SOURCE, "-c", f"{mnt}/common/base/{name}.cc", "-o", f"{cluster.folder}/{name}.o"], timeout=300)
        assert os.path.getsize(f"{mnt}/{name}.o") > 1000
    run(["ar", "rcs", f"{mnt}/lib.a", f"{mnt}/bytes.o", f"{mnt}/random.o", f"{mnt}/quantity.o"])
    assert len(run(["ar", "t", f"{mnt}/lib.a"]).stdout.split()) == 3


def fio_verifies(cluster):
    cluster.up()
    mnt = cluster.mount()
    for mode, block in (("randwrite", "4k"), ("write", "1m"), ("randrw", "13k")):
        run(["fio", "--name=v", f"--filename={mnt}/fio-{mode}", f"--rw={mode}", f"--bs={block}", "--size=48m", "--verify=crc32c", "--do_verify=1",
             "--verify_fatal=1", "--verify_state_save=0", "--ioengine=psync", "--fsync=200"], timeout=300)


def a_large_file_keeps_every_byte(cluster):
    cluster.up()
    mnt = cluster.mount()
    size_mib = int(os.environ.get("CAIRN_LARGE_FILE_MIB", "4096"))
    path = os.path.join(mnt, "large")
    # Numbered blocks: a block in the wrong place is found as well as a wrong byte.
    with open(path, "wb") as f:
        base = os.urandom(1 << 20)
        for i in range(size_mib):
            f.write(i.to_bytes(8, "little") + base[8:])
        f.flush()
        os.fsync(f.fileno())
    assert os.path.getsize(path) == size_mib << 20
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")
    with open(path, "rb") as f:
        for i in range(size_mib):
            block = f.read(1 << 20)
            assert block[:8] == i.to_bytes(8, "little") and block[8:] == base[8:], f"wrong data in MiB {i}"
    os.truncate(path, 100_000_000)
    assert os.path.getsize(path) == 100_000_000
    os.truncate(path, 200_000_000)
    with open(path, "rb") as f:
        f.seek(100_000_000)
        assert f.read(1 << 20) == bytes(1 << 20), "old bytes show after a truncate"


def fill_list_and_empty(cluster, count):
    cluster.up()
    mnt = cluster.mount()
    big = os.path.join(mnt, "big")
    os.makedirs(big)
    for i in range(count):
        os.close(os.open(os.path.join(big, f"entry-{i:06d}"), os.O_CREAT | os.O_WRONLY, 0o644))
    assert len(set(os.listdir(big))) == count
    with os.scandir(big) as entries:  # stays whole while what was read is removed
        seen = 0
        for entry in entries:
            seen += 1
            os.unlink(entry.path)
    assert seen == count and os.listdir(big) == []
    os.rmdir(big)


def a_directory_of_five_thousand_entries(cluster):
    fill_list_and_empty(cluster, 5_000)


def a_directory_of_fifty_thousand_entries(cluster):
    fill_list_and_empty(cluster, 50_000)


if __name__ == "__main__":
    main([an_archive_of_ten_thousand_files_unpacks_equal, copying_tools_agree, git_works, sqlite_commits_a_thousand_times, a_program_compiles,
          fio_verifies, a_large_file_keeps_every_byte, a_directory_of_five_thousand_entries],
         only_by_name=[a_directory_of_fifty_thousand_entries])
