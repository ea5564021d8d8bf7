"""Small synchronous writers: a log, and SQLite."""

import os
import sqlite3

from filesystem.measuring import check, remove


def append_log(run):
    root = run.path("log")
    remove(root)
    os.makedirs(root)
    path, count = os.path.join(root, "log"), run.opts.appends
    line = lambda i: b"%09d " % i + b"l" * 189 + b"\n"
    with run.timed():
        fd = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        for i in range(count):
            check(os.write(fd, line(i)) == 200, "short write")
            os.fdatasync(fd)
        os.close(fd)
    run.rate(count)
    with open(path, "rb") as f:
        check(f.read() == b"".join(map(line, range(count))), "wrong data")
    remove(root)


def sqlite(run):
    root = run.path("sqlite")
    remove(root)
    os.makedirs(root)
    path, count = os.path.join(root, "db"), run.opts.appends
    with run.timed():
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)")
        for i in range(count):
            db.execute("BEGIN")
            db.execute("INSERT INTO t VALUES (?, ?)", (i, f"value {i} " * 8))
            db.execute("COMMIT")
        db.close()
    run.rate(count)
    db = sqlite3.connect(path)
    check(db.execute("SELECT count(*), sum(k) FROM t").fetchone() == (count, count * (count - 1) // 2),
          "rows missing")
    check(db.execute("PRAGMA integrity_check").fetchone() == ("ok",), "integrity_check")
    db.close()
    remove(root)
