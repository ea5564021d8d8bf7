"""A real local cluster for a test: processes, mounts, faults. Everything is in a temporary folder; whatever happens, mounts and
processes that this test made are gone afterwards."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

BIN = os.environ.get("CAIRN_BIN_DIR") or os.path.join(os.path.dirname(__file__), "..", "..", "build", "release", "bin")
CAIRN = os.path.join(BIN, "cairn")


def run(args, timeout=120, check=True, **kwargs):
    """The command's result; its output in the error if it fails."""
    done = subprocess.run(args, timeout=timeout, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, args))[:200]}: status {done.returncode}: {done.stdout[-2000:]}")
    return done


def wait_for(what, condition, seconds):
    """Polls: what other processes do has no event that a test could wait for."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        subprocess.run(["sleep", "0.05"], check=True)


def wait_ended(what, pid):
    """Until a killed process has no thread left: the last one still holds its files, and so the lock of its folder."""
    def ended():
        try:
            with open(f"/proc/{pid}/stat") as f:
                zombie = f.read().rsplit(")", 1)[1].split()[0] in "ZX"
            return zombie and len(os.listdir(f"/proc/{pid}/task")) == 1
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_for(f"{what} to end", ended, 10)


class Cluster:
    def __init__(self, chunkservers=3, masters=1, tcp=False):
        self.folder = tempfile.mkdtemp(prefix="cairn-test-")
        self.dir = os.path.join(self.folder, "data")
        self.mounts = []
        self.stopped = set()
        os.environ["CAIRN_RUN_DIR"] = os.path.join(self.folder, "run")
        os.makedirs(os.environ["CAIRN_RUN_DIR"])
        self.chunkservers = chunkservers
        self.master_count = masters
        self.tcp = tcp
        self.disks = []

    def configure(self, settings):
        """A fresh cluster with these settings: {program: {section: {key: value as in TOML}}}, "chunkserver" for all of them."""
        self.up()
        run([CAIRN, "local", "down", "--dir", self.dir])
        for name in self.programs():
            folder = name.replace("chunkserver", "chunks")
            if not os.path.ismount(os.path.join(self.dir, folder)):
                shutil.rmtree(os.path.join(self.dir, folder), ignore_errors=True)
            path = os.path.join(self.dir, "config", name + ".toml")
            with open(path) as f:
                text = f.read()
            for section, keys in settings.get(name, settings.get(name.split("-")[0], {})).items():
                lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
                header = f"[{section}]\n"
                text = text.replace(header, header + lines) if header in text else f"{text}\n{header}{lines}"
            with open(path, "w") as f:
                f.write(text)

    def give_disk(self, name, size):
        """The chunkserver's folder becomes a disk of its own, of that size. Before it is started."""
        path = os.path.join(self.dir, name.replace("chunkserver", "chunks"))
        os.makedirs(path, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={size}", "cairn-test", path])
        self.disks.append(path)

    def up(self):
        run([CAIRN, "local", "up", "--dir", self.dir, "--chunkservers", str(self.chunkservers), "--masters", str(self.master_count),
             *(["--tcp"] if self.tcp else [])])

    def programs(self):
        out = run([CAIRN, "local", "status", "--dir", self.dir, "--json"], check=False).stdout
        return {p["name"]: p for p in json.loads(out)["programs"]}

    def pid(self, name):
        program = self.programs()[name]
        assert program["running"], f"{name} does not run"
        return program["pid"]

    def signal(self, name, number):
        pid = self.pid(name)
        os.kill(pid, number)
        if number == signal.SIGSTOP:
            self.stopped.add(pid)
        if number == signal.SIGCONT:
            self.stopped.discard(pid)
        if number == signal.SIGKILL:
            wait_ended(name, pid)

    def kill(self, name):
        self.signal(name, signal.SIGKILL)

    def masters(self):
        """Addresses of all of them, as --master takes them."""
        return ",".join(p["address"] for name, p in self.programs().items() if name.split("-")[0] == "master")

    def group(self):
        """What `cairn master status` says."""
        return json.loads(run([CAIRN, "master", "status", "--master", self.masters(), "--json"], check=False).stdout)

    def leader(self):
        """The program that leads; none: no master does at the moment."""
        address = self.group()["leader"]
        return next((name for name, p in self.programs().items() if address and p["address"] == address), None)

    def start(self, name):
        """What was killed, without waiting for it."""
        path = os.path.join(self.dir, "config", name + ".toml")
        if name.startswith("chunkserver"):
            command = ["cairn-chunkserver", "--config", path, "--set", "chunkserver.masters=" + self.masters()]
        else:
            command = ["cairn-master", "--config", path, *(["--join"] if self.master_count > 1 else [])]
        with open(os.path.join(self.dir, "log", name + ".err"), "a") as log:
            process = subprocess.Popen([os.path.join(BIN, command[0]), *command[1:]], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True)
        with open(f"/proc/{process.pid}/stat") as f:
            started = f.read().rsplit(")", 1)[1].split()[19]
        with open(os.path.join(self.dir, "run", name + ".pid"), "w") as f:
            f.write(f"{process.pid} {started}\n")

    def status(self):
        done = run([CAIRN, "status", "--master", self.masters(), "--json"], check=False)
        return json.loads(done.stdout) if done.returncode in (0, 3) else None

    def mount(self, name="mnt", options=""):
        path = os.path.join(self.folder, name)
        os.makedirs(path, exist_ok=True)
        self.mounts.append(path)
        run([CAIRN, "mount", self.masters(), path, *(["-o", options] if options else [])])
        return path

    def mount_pids(self, path):
        """The mount's process and its guardian, by the run file."""
        for name in os.listdir(os.environ["CAIRN_RUN_DIR"]):
            if not name.endswith(".mount"):
                continue
            with open(os.path.join(os.environ["CAIRN_RUN_DIR"], name)) as f:
                record = dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line)
            if record["mountpoint"] == path:
                return record
        raise AssertionError(f"no run file of {path}")

    def metrics(self, path):
        """Of the mount's process: {name, or name{labels}: value}."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.mount_pids(path)["socket"])
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: mount\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        lines = answer.split(b"\r\n\r\n", 1)[1].decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def umount(self, path):
        run([CAIRN, "umount", path], timeout=120)
        self.mounts.remove(path)

    def clean(self):
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for path in list(self.mounts):
            with contextlib.suppress(subprocess.TimeoutExpired, AssertionError):
                record = self.mount_pids(path)
                subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, timeout=30)
                try:
                    subprocess.run([CAIRN, "umount", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
                except subprocess.TimeoutExpired:  # a file is still open, or data cannot be written: its guardian clears the rest away
                    print(f"        {path}: still used after 60 s, killed", flush=True)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(record["pid"]), signal.SIGKILL)
        with contextlib.suppress(Exception):
            for program in self.programs().values():
                if program["running"]:
                    os.kill(program["pid"], signal.SIGKILL)
        for path in self.disks:
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL, timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self):
        for folder in (os.path.join(self.dir, "log"), os.environ["CAIRN_RUN_DIR"]):
            for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
                if not name.endswith((".log", ".err")):
                    continue
                with open(os.path.join(folder, name), errors="replace") as f:
                    lines = f.readlines()[-15:]
                print(f"--- {name}\n{''.join(lines)}", file=sys.stderr)


def main(tests, only_by_name=(), masters=1, tcp=False):
    """Runs each test on a fresh cluster; names on the command line choose, also of those that run by name only. Prints what passed."""
    wanted = sys.argv[1:] or [test.__name__ for test in tests]
    failed = []
    for test in [*tests, *only_by_name]:
        if test.__name__ not in wanted:
            continue
        cluster = Cluster(masters=masters, tcp=tcp)
        begin = time.monotonic()
        try:
            test(cluster)
            print(f"ok      {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except BaseException:
            # The logs are long, and whoever reads a part of the output reads its end: why it failed comes last.
            cluster.logs()
            reason = traceback.format_exc().strip()
            failed.append(f"{test.__name__}: {reason.splitlines()[-1][:300]}")
            print(f"FAILED  {test.__name__}\n{reason}", flush=True)
        finally:
            cluster.clean()
    sys.exit("failed:\n" + "\n".join(failed) if failed else 0)
