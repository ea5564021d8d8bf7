"""One run of a workload: its clock, its processes, what it used."""

import contextlib
import json
import mmap
import os
import signal
import sqlite3
import subprocess
import time
import traceback

MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")


def cpu_group(folder):
    """Seconds of processor time of a control group (version 1 or 2) since its making."""
    try:
        with open(os.path.join(folder, "cpuacct.usage")) as f:
            return int(f.read()) / 1e9
    except FileNotFoundError:
        with open(os.path.join(folder, "cpu.stat")) as f:
            return int(f.readline().split()[1]) / 1e6


def cpu_busy():
    """(busy, stolen) seconds of all processors since boot."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


class Run:
    """One run of one workload on one mount: where it works, and its clock."""

    def __init__(self, opts, name, root, cold_command, rep):
        self.opts, self.name, self.rep = opts, name, rep
        self.base = os.path.join(root, "fsbench")
        self.cold_command = cold_command
        self.result = {}

    def path(self, *parts):
        return os.path.join(self.base, *parts)

    def cold(self):
        if self.cold_command:
            subprocess.run(self.cold_command, shell=True, check=True,
                           stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3\n")

    def settle_down(self):
        """Wait, at most --quiet seconds, for a tenth of a second with less than a fifth of one processor busy."""
        deadline = time.monotonic() + self.opts.quiet
        while time.monotonic() < deadline:
            before = cpu_busy()[0]
            time.sleep(0.1)
            if cpu_busy()[0] - before <= 0.02:
                return
        if self.opts.quiet:
            self.result["noisy"] = True

    @contextlib.contextmanager
    def timed(self):
        os.sync()
        self.settle_down()
        if self.opts.pretouch:
            # a hypervisor that takes freed memory back makes the next use of it several times dearer
            mmap.mmap(-1, self.opts.pretouch * MIB,
                      flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()
        group = self.opts.cpu_group
        group0 = cpu_group(group) if group else 0
        busy0, steal0 = cpu_busy()
        t0 = time.monotonic()
        yield
        wall = time.monotonic() - t0
        busy1, steal1 = cpu_busy()
        if group:
            self.result["cpu_group"] = cpu_group(group) - group0
        os.sync()
        settle = time.monotonic() - t0 - wall
        self.result.update(wall=wall, cpu=busy1 - busy0, steal=steal1 - steal0,
                           settle=settle)

    def rate(self, amount):
        self.result["value"] = amount / self.result["wall"]

    def seconds(self):
        self.result["value"] = self.result["wall"]


def parallel(run, count, work):
    """work(i) in `count` forked processes, started together and timed together."""
    gate_r, gate_w = os.pipe()
    children = []
    for i in range(count):
        err_r, err_w = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(gate_w)
                os.read(gate_r, 1)  # ends when the parent closes its side
                work(i)
                status = 0
            except BaseException as e:
                os.write(err_w, f"{type(e).__name__}: {e}".encode()[:4000])
            finally:
                os._exit(status)
        os.close(err_w)
        children.append((pid, err_r))
    os.close(gate_r)
    errors = []
    with run.timed():
        os.close(gate_w)
        for pid, err_r in children:
            status = os.waitpid(pid, 0)[1]
            message = os.read(err_r, 4096).decode(errors="replace")
            os.close(err_r)
            if status:
                errors.append(message or f"worker status {status}")
    if errors:
        raise RuntimeError("; ".join(sorted(set(errors))[:3]))


def command(args, cwd=None, env=None):
    p = subprocess.run(args, cwd=cwd, env=env, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode:
        text = (p.stderr or p.stdout).decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(args[:3])}...: status {p.returncode}: {text[-600:]}")
    return p.stdout.decode(errors="replace")


def check(ok, what):
    if not ok:
        raise RuntimeError("VERIFY: " + what)


def remove(path):
    subprocess.run(["rm", "-rf", path], check=True)


def in_child(timeout, work):
    """work() -> dict in a process group of its own; a hang or a crash becomes an error."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            os.setsid()
            try:
                out = work()
            except BaseException as e:
                out = {"error": f"{type(e).__name__}: {e}"[:1000]}
                if not isinstance(e, (OSError, RuntimeError, sqlite3.Error)):
                    out["trace"] = traceback.format_exc()[-2000:]
            os.write(w, json.dumps(out).encode())
        finally:
            os._exit(0)
    os.close(w)
    deadline, status = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            status = True
            break
        time.sleep(0.005)
    if status is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        for _ in range(100):  # a process stuck in the kernel may never go: leave it
            if os.waitpid(pid, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        os.close(r)
        return {"error": f"timed out after {timeout} s"}
    data = b""
    while chunk := os.read(r, 65536):
        data += chunk
    os.close(r)
    return json.loads(data) if data else {"error": "the run's process died"}
