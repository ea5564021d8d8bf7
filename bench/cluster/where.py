#!/usr/bin/env python3
"""Where the time of an operation goes: wall time, and the processor time of each thread of Cairn's processes.

  where.py DIR [WORKLOAD ...]     DIR: a folder on a mount of a local cluster (cairn local up)

Workloads: create (a new file of 4 KiB), fsync (4 KiB written over and fsync), mkdir, unlink, write (1 GiB in pieces of
1 MiB, then fsync; per MiB). Default: all. Reads /proc/PID/task/*/schedstat before and after, so that it needs no profiler;
what the kernel does for a thread (network, /dev/fuse, the disk's submission) counts as that thread's. Times in
microseconds per operation; threads below half of one are left out. Standard library only.
"""

import os
import shutil
import statistics
import sys
import time

PROGRAMS = {"cairn-master", "cairn-chunkserv", "cairn-chunkserver", "cairn"}


def threads():
    """(process, thread) -> (program, name, processor time in nanoseconds), for all of Cairn on this machine."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm") as file:
                program = file.read().strip()
            if program not in PROGRAMS:
                continue
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/comm") as file:
                    name = file.read().strip().rstrip("0123456789-")
                with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                    spent = int(file.read().split()[0])
                found[pid, task] = (program, "loop" if task == pid else name, spent)
        except OSError:
            continue  # it has ended meanwhile
    return found


def create(folder, count):
    for i in range(count):
        fd = os.open(f"{folder}/c{i}", os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, b"x" * 4096)
        os.close(fd)
        yield


def fsync(folder, count):
    fd = os.open(f"{folder}/f", os.O_CREAT | os.O_WRONLY, 0o644)
    for i in range(64):
        os.pwrite(fd, b"x" * 4096, i * 4096)
    os.fsync(fd)
    yield None  # not timed
    for i in range(count):
        os.pwrite(fd, b"y" * 4096, i * 17 % 64 * 4096)
        os.fsync(fd)
        yield
    os.close(fd)


def mkdir(folder, count):
    for i in range(count):
        os.mkdir(f"{folder}/d{i}")
        yield


def unlink(folder, count):
    for _ in create(folder, count):
        pass
    time.sleep(2)  # what is closed is made durable in the background
    yield None
    for i in range(count):
        os.unlink(f"{folder}/c{i}")
        yield


def write(folder, count):
    data = os.urandom(1 << 20)
    fd = os.open(f"{folder}/w", os.O_CREAT | os.O_WRONLY, 0o644)
    for i in range(count):
        os.pwrite(fd, data, i << 20)
        if i + 1 == count:
            os.fsync(fd)
        yield
    os.close(fd)


WORKLOADS = {"create": (create, 1000), "fsync": (fsync, 1000), "mkdir": (mkdir, 1000), "unlink": (unlink, 1000),
             "write": (write, 1024)}


def measure(name, folder):
    work, count = WORKLOADS[name]
    untimed = work in (fsync, unlink)
    steps = work(folder, count)
    if untimed:
        next(steps)
    before = threads()
    times = []
    last = start = time.perf_counter()
    for _ in steps:
        now = time.perf_counter()
        times.append(now - last)
        last = now
    wall = time.perf_counter() - start
    spent = {}
    for key, (program, thread, after) in threads().items():
        began = before[key][2] if key in before else 0
        spent[program, thread] = spent.get((program, thread), 0) + (after - began) / 1000 / count
    print(f"{name}: {wall / count * 1e6:.0f} us per operation (median {statistics.median(times) * 1e6:.0f}), "
          f"processor time of all threads {sum(spent.values()):.0f} us")
    for (program, thread), us in sorted(spent.items(), key=lambda item: -item[1]):
        if us >= 0.5:
            print(f"  {us:8.1f}  {program:18} {thread}")


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-") or not set(arguments[1:]) <= set(WORKLOADS):
        print(__doc__, file=sys.stderr)
        return 2
    for name in arguments[1:] or WORKLOADS:
        folder = os.path.join(arguments[0], f"where-{os.getpid()}-{name}")
        os.makedirs(folder)
        try:
            measure(name, folder)
        finally:
            shutil.rmtree(folder)
            time.sleep(2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
