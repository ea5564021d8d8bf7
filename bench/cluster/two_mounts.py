#!/usr/bin/env python3
"""What it costs that several mounts of one filesystem see the same.

  two_mounts.py --mounts NAME=DIR1,DIR2 [--mounts ...] [--reps N] [--count N] [--seconds S] [--out FILE]
  two_mounts.py --requests DIR                        only of Cairn: requests to servers for common walks

DIR1 and DIR2 are mounts of one filesystem. The systems take turns, repetition by repetition. Per repetition:

  alone               a change of mode on one mount, nobody else has looked
  attributes recalled the same, after the other mount has looked at the file (and may keep what it saw)
  name made           a file made in a directory that the other mount has listed and looked into
  data read           4 KiB read on one mount that the other has just written (and not synced, closed)
  data flushed        the same, with the file held open by the writer

  made, one mount     files made in one directory by one process (files/s)
  made, two mounts    by one process on each mount, together
  written in turn     4 KiB of one file, written on one mount, then on the other (writes/s)
  written at once     4 KiB of one file by a process on each mount, as fast as they can, together

After each change the other mount must see it: a look that shows what was before counts as stale, and is told. Times are of the
calling process. Standard library only.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PAGE = b"x" * 4096


class Result:
    def __init__(self):
        self.times, self.rates, self.stale, self.looks = {}, {}, 0, 0

    def saw(self, fresh):
        self.looks += 1
        self.stale += 0 if fresh else 1


def timed(times, work):
    begin = time.monotonic()
    value = work()
    times.append(time.monotonic() - begin)
    return value


def attributes(one, two, count, result):
    path = "attributes"
    open(f"{one}/{path}", "wb").close()
    for i in range(count):
        timed(result.times.setdefault("alone", []), lambda: os.chmod(f"{one}/{path}", 0o600 + i % 64))
    for i in range(count):
        os.stat(f"{two}/{path}")
        timed(result.times.setdefault("attributes recalled", []), lambda: os.chmod(f"{one}/{path}", 0o600 + i % 64))
        result.saw(os.stat(f"{two}/{path}").st_mode & 0o777 == 0o600 + i % 64)


def names(one, two, count, result):
    for mnt in (one, two):
        os.listdir(mnt)
    for i in range(count):
        os.path.exists(f"{two}/name{i}")
        timed(result.times.setdefault("name made", []), lambda: os.close(os.open(f"{one}/name{i}", os.O_CREAT | os.O_WRONLY, 0o644)))
        result.saw(os.path.exists(f"{two}/name{i}"))


def data(one, two, count, result):
    def read():
        with open(f"{two}/data", "rb", buffering=0) as f:
            return f.read(4096)

    for held in (False, True):
        what = "data flushed" if held else "data read"
        fd = os.open(f"{one}/data", os.O_CREAT | os.O_WRONLY, 0o644)
        for i in range(count):
            page = b"%08d" % i * 512
            writer = fd if held else os.open(f"{one}/data", os.O_WRONLY)
            os.pwrite(writer, page, 0)
            if not held:
                os.close(writer)
            result.saw(timed(result.times.setdefault(what, []), read) == page)
        os.close(fd)


def together(works, seconds):
    """How often the works were done, all of them together, by a process each, in a second."""
    counts = []
    until = time.monotonic() + seconds
    pipes = []
    for work in works:
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            done = 0
            while time.monotonic() < until:
                work(done)
                done += 1
            os.write(into, b"%d" % done)
            os._exit(0)
        os.close(into)
        pipes.append((pid, out))
    for pid, out in pipes:
        counts.append(int(os.read(out, 64)))
        os.close(out)
        os.waitpid(pid, 0)
    return counts


def rates(one, two, seconds, result):
    def maker(folder, tag):
        return lambda i: os.close(os.open(f"{folder}/{tag}{i}", os.O_CREAT | os.O_WRONLY, 0o644))

    def writer(folder):
        fd = os.open(f"{folder}/shared", os.O_CREAT | os.O_WRONLY, 0o644)
        return lambda i: os.pwrite(fd, PAGE, 0)

    def note(what, count, each=None):
        result.rates.setdefault(what, []).append(count / seconds)
        if each and min(each) * 10 < max(each):
            print(f"    {what}: {each} by each: not fair", flush=True)

    for folder in ("one", "both"):
        os.mkdir(f"{one}/{folder}")
    note("made, one mount", sum(together([maker(f"{one}/one", "a")], seconds)))
    both = together([maker(f"{one}/both", "a"), maker(f"{two}/both", "b")], seconds)
    note("made, two mounts", sum(both), both)
    first, second = writer(one), writer(two)

    def in_turn(i):
        (second if i % 2 else first)(i)

    note("written in turn", sum(together([in_turn], seconds)))
    both = together([first, second], seconds)
    note("written at once", sum(both), both)


def one_repetition(dirs, repetition, arguments, result):
    folders = [os.path.join(d, f"two-mounts-{os.getpid()}-{repetition}") for d in dirs]
    os.mkdir(folders[0])
    try:
        attributes(*folders, arguments.count, result)
        names(*folders, arguments.count, result)
        data(*folders, arguments.count, result)
        rates(*folders, arguments.seconds, result)
    finally:
        shutil.rmtree(folders[0], ignore_errors=True)


def quantile(times, part):
    times = sorted(times)
    return times[min(len(times) - 1, int(part * len(times)))]


def table(results):
    names_of = list(results)
    print(f"\n| ms: median; p99 | {' | '.join(names_of)} |\n|---|{'---:|' * len(names_of)}")
    for what in next(iter(results.values())).times:
        cells = [f"{quantile(r.times[what], 0.5) * 1000:.2f}; {quantile(r.times[what], 0.99) * 1000:.2f}" for r in results.values()]
        print(f"| {what} | {' | '.join(cells)} |")
    print(f"\n| a second, median | {' | '.join(names_of)} |\n|---|{'---:|' * len(names_of)}")
    for what in next(iter(results.values())).rates:
        print(f"| {what} | {' | '.join(f'{statistics.median(r.rates[what]):.0f}' for r in results.values())} |")
    stale = [f"{r.stale} of {r.looks}" for r in results.values()]
    print(f"| looks that showed what was before | {' | '.join(stale)} |")


# ---------------------------------------------------------------- requests of one mount


def run_file(mount):
    folder = os.environ.get("CAIRN_RUN_DIR", "/run/cairn/mounts")
    for name in os.listdir(folder):
        if name.endswith(".mount"):
            with open(os.path.join(folder, name)) as f:
                record = dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line)
            if record["mountpoint"] == mount:
                return record
    sys.exit(f"no mount of Cairn at {mount} (run files are looked for in {folder})")


def counts(mount):
    """(requests to masters, to chunkservers, from the kernel) so far."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(run_file(mount)["socket"])
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: mount\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    lines = answer.split(b"\r\n\r\n", 1)[1].decode().splitlines()
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def total(start):
        return sum(value for name, value in values.items() if name.startswith(start))

    return total("cairn_client_master_requests_total"), total("cairn_fuse_request_seconds_count")


def requests(mount):
    folder = os.path.join(mount, f"requests-{os.getpid()}")
    source = tempfile.mkdtemp()
    files = 2000
    for i in range(files):
        os.makedirs(f"{source}/tree/d{i // 50}", exist_ok=True)
        with open(f"{source}/tree/d{i // 50}/f{i}", "wb") as f:
            f.write(b"line\n" * (i % 500))
    subprocess.run(["tar", "-C", source, "-cf", f"{source}/tree.tar", "tree"], check=True)
    git = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "GIT_OPTIONAL_LOCKS": "0"}
    os.mkdir(folder)

    def measure(what, *command):
        before = counts(mount)
        subprocess.run(command, env=git, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = counts(mount)
        masters, kernel = ((b - a) / files for a, b in zip(before, after))
        print(f"| {what} | {masters:.2f} | {kernel:.2f} |", flush=True)

    print("| | requests to masters a file | of the kernel a file |\n|---|---:|---:|")
    try:
        measure("untar", "tar", "-C", folder, "-xf", f"{source}/tree.tar")
        tree = f"{folder}/tree"
        subprocess.run(f"cd {tree} && git init -q && git add -A && git commit -qm all && sync -f .", shell=True, env=git, check=True)
        time.sleep(8)  # what was written is lowered by then
        for again in ("", ", again"):
            measure("git status" + again, "git", "-C", tree, "status", "--short")
        for again in ("", ", again"):
            measure("find -size" + again, "find", tree, "-type", "f", "-size", "+1")
        cairn = os.environ.get("CAIRN_BIN", os.path.join(os.path.dirname(__file__), "..", "..", "build", "release", "bin"))
        masters = run_file(mount)["masters"]
        subprocess.run([f"{cairn}/cairn", "umount", mount], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([f"{cairn}/cairn", "mount", masters, mount], check=True, stdout=subprocess.DEVNULL)
        for what, command in (("git status, mounted anew", ["git", "-C", tree, "status", "--short"]),
                              ("the same, again", ["git", "-C", tree, "status", "--short"]),
                              ("find -size, likewise", ["find", tree, "-type", "f", "-size", "+1"])):
            measure(what, *command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mounts", action="append", default=[], metavar="NAME=DIR1,DIR2")
    parser.add_argument("--requests", metavar="DIR")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--out", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.requests:
        return requests(os.path.abspath(arguments.requests))
    systems = {}
    for named in arguments.mounts:
        name, _, dirs = named.partition("=")
        systems[name] = dirs.split(",")
        if len(systems[name]) != 2:
            parser.error(f"--mounts {named}: two directories are wanted")
    if not systems:
        parser.error("no --mounts")
    results = {name: Result() for name in systems}
    for repetition in range(arguments.reps):
        for name, dirs in systems.items():
            print(f"  {name}, repetition {repetition + 1}", flush=True)
            one_repetition(dirs, repetition, arguments, results[name])
    table(results)
    if arguments.out:
        with open(arguments.out, "w") as f:
            json.dump({name: {"times": r.times, "rates": r.rates, "stale": r.stale, "looks": r.looks} for name, r in results.items()}, f)
    return None


if __name__ == "__main__":
    main()
