"""Small files and directories."""

import os

from filesystem.measuring import check, parallel, remove

DIRS = 50


def small_name(i):
    return f"d{i % DIRS:02d}/f{i:05d}"


def small_content(i):
    return (b"%015d\n" % i) * 256


def create_small(root, indices):
    for i in indices:
        fd = os.open(os.path.join(root, small_name(i)), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            check(os.write(fd, small_content(i)) == 4096, "short write")
        finally:
            os.close(fd)


def make_small_dirs(root):
    os.makedirs(root)
    for d in range(DIRS):
        os.mkdir(os.path.join(root, f"d{d:02d}"))


def read_small(root, indices):
    for i in indices:
        fd = os.open(os.path.join(root, small_name(i)), os.O_RDONLY)
        try:
            check(os.read(fd, 8192) == small_content(i), f"{small_name(i)}: wrong data")
        finally:
            os.close(fd)


def ensure_small(run, which, count):
    root = run.path("small", which)
    if not os.path.exists(os.path.join(root, "complete")):
        remove(root)
        make_small_dirs(root)
        create_small(root, range(count))
        open(os.path.join(root, "complete"), "w").close()
    return root


def by_dir(part, parts, count):
    """The files of every `parts`-th directory: workers do not share directories."""
    return [i for i in range(count) if i % DIRS % parts == part]


def small_create(run, name, workers, count):
    root = run.path("small", f"{name}{run.rep}")
    remove(root)
    make_small_dirs(root)
    parallel(run, workers, lambda w: create_small(root, by_dir(w, workers, count)))
    run.rate(count)
    open(os.path.join(root, "complete"), "w").close()
    if run.rep == 0:
        read_small(root, range(count))


def small_stat_cold(run):
    count = run.opts.files
    root = ensure_small(run, "a0", count)
    run.cold()
    with run.timed():
        for i in range(count):
            if os.lstat(os.path.join(root, small_name(i))).st_size != 4096:
                check(False, f"{small_name(i)}: wrong size")
    run.rate(count)


def small_read_cold(run):
    count = run.opts.files
    root = ensure_small(run, "a0", count)
    run.cold()
    parallel(run, 4, lambda w: read_small(root, by_dir(w, 4, count)))
    run.rate(count)


def rename_2k(run):
    count = run.opts.files * 2 // 5
    root = ensure_small(run, f"b{run.rep}", count)
    os.makedirs(os.path.join(root, "moved"))
    pairs = []
    for i in range(count):  # half stay in their directory, half leave it
        old = small_name(i)
        new = old + ".new" if i // DIRS % 2 else f"moved/{i}"
        pairs.append((os.path.join(root, old), os.path.join(root, new)))
    os.unlink(os.path.join(root, "complete"))
    with run.timed():
        for old, new in pairs:
            os.rename(old, new)
    run.rate(count)
    left = sum(len(files) for _, _, files in os.walk(root))
    check(left == count, f"{left} of {count} files after the renames")
    check(all(os.path.exists(new) for _, new in pairs[:200]), "a renamed file is missing")


def unlink_all(run):
    count = run.opts.files
    root = ensure_small(run, f"a{run.rep}", count)
    os.unlink(os.path.join(root, "complete"))

    def work(w):
        for i in by_dir(w, 4, count):
            os.unlink(os.path.join(root, small_name(i)))
        for d in range(w, DIRS, 4):
            os.rmdir(os.path.join(root, f"d{d:02d}"))

    parallel(run, 4, work)
    run.rate(count)
    check(os.listdir(root) == [], "something is left")


def readdir_10k(run, cold):
    root, count = run.path("dir10k"), run.opts.files * 2
    if not os.path.exists(os.path.join(run.base, "dir10k.complete")):
        remove(root)
        os.makedirs(root)
        for i in range(count):
            os.close(os.open(os.path.join(root, f"entry-{i:06d}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        open(os.path.join(run.base, "dir10k.complete"), "w").close()

    def scan():
        n = 0
        with os.scandir(root) as it:
            for e in it:
                n += e.stat(follow_symlinks=False).st_size == 0
        check(n == count, f"{n} of {count} entries")

    if cold:
        run.cold()
    else:
        scan()
    with run.timed():
        scan()
    run.rate(count)


def mkdir_tree(run):
    root = run.path("dirs")
    remove(root)
    os.makedirs(root)
    names = [f"{i}" for i in range(10)]
    with run.timed():
        for a in names:
            os.mkdir(f"{root}/{a}")
            for b in names:
                os.mkdir(f"{root}/{a}/{b}")
                for c in names:
                    os.mkdir(f"{root}/{a}/{b}/{c}")
    run.rate(1110)
    check(sum(len(d) for _, d, _ in os.walk(root)) == 1110, "directories missing")
    remove(root)
