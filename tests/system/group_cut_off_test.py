"""A leader that is cut off from everybody, in a network of namespaces that this test makes (it needs root): the rest elects another one
within seconds, the mount goes on, the old leader leads nobody meanwhile, and it is one of them again afterwards. The cluster's parts run with
the certificates that `cairn cluster init` and `issue` make, as on machines of their own.

    group_cut_off_test.py                 twice, as CI runs it
    group_cut_off_test.py --rounds 20     prints how long the mount waited
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from failover_test import Worker, quiet, report
from local_cluster import BIN, CAIRN, run, wait_for

MASTERS = 3
PORT = 9400
TAG = f"ct{os.getpid() % 100000}"  # of everything that this test makes in the kernel; interface names have 15 bytes


def address(i):
    return f"10.213.77.{i}"


class Network:
    """Masters 1 to 3 and "machine 4", which has the chunkservers and the mount, each in a namespace, on one bridge."""

    def __init__(self):
        self.names = [f"{TAG}n{i}" for i in range(1, MASTERS + 2)]
        self.bridge = f"{TAG}b"

    def make(self):
        run(["ip", "link", "add", self.bridge, "type", "bridge"])
        run(["ip", "link", "set", self.bridge, "up"])
        for i, name in enumerate(self.names, 1):
            run(["ip", "netns", "add", name])
            run(["ip", "link", "add", f"{TAG}v{i}", "type", "veth", "peer", "name", "eth0", "netns", name])
            run(["ip", "link", "set", f"{TAG}v{i}", "master", self.bridge, "up"])
            run(["ip", "-n", name, "address", "add", f"{address(i)}/24", "dev", "eth0"])
            run(["ip", "-n", name, "link", "set", "eth0", "up"])
            run(["ip", "-n", name, "link", "set", "lo", "up"])

    def clean(self):
        for i, name in enumerate(self.names, 1):
            subprocess.run(["ip", "link", "delete", f"{TAG}v{i}"], stderr=subprocess.DEVNULL, timeout=30)
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, timeout=30)
        subprocess.run(["ip", "link", "delete", self.bridge], stderr=subprocess.DEVNULL, timeout=30)

    def cut(self, i, off=True):
        run(["ip", "link", "set", f"{TAG}v{i}", "down" if off else "up"])


class Machines:
    def __init__(self, network):
        self.network = network
        self.folder = tempfile.mkdtemp(prefix="cairn-test-")
        self.processes = []
        self.mnt = os.path.join(self.folder, "mnt")
        self.masters = ",".join(f"{address(i)}:{PORT}" for i in range(1, MASTERS + 1))
        self.tls = os.path.join(self.folder, "tls")
        self.env = {**os.environ, "CAIRN_RUN_DIR": os.path.join(self.folder, "run"), "HOME": self.folder}
        for name in ("run", "mnt"):
            os.makedirs(os.path.join(self.folder, name))

    def inside(self, i, args):
        return ["nsenter", f"--net=/run/netns/{self.network.names[i - 1]}", *args]

    def start(self, i, name, program, *args):
        settings = [f"tls.ca={self.tls}/ca.crt", f"tls.certificate={self.tls}/{program}.crt", f"tls.key={self.tls}/{program}.key",
                    f"log.file={self.folder}/{name}.log"]
        self.processes.append(subprocess.Popen(
            self.inside(i, [os.path.join(BIN, "cairn-" + program), *args, *[w for s in settings for w in ("--set", s)]]), env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(os.path.join(self.folder, name + ".err"), "w")))

    def cairn(self, i, *args, check=True, timeout=60):
        return run(self.inside(i, [CAIRN, *args]), env=self.env, check=check, timeout=timeout)

    def up(self):
        run([CAIRN, "cluster", "init", self.tls])
        for role in ("master", "chunkserver", "client", "admin"):
            run([CAIRN, "cluster", "issue", self.tls, "--role", role, "--name", "test", "--out", f"{self.folder}/{role}"])
            for end in (".crt", ".key"):
                shutil.copy(f"{self.folder}/{role}/{role}{end}", f"{self.tls}/{role}{end}")
        os.makedirs(os.path.join(self.folder, ".config", "cairn"))
        for role in ("client", "admin"):
            shutil.copytree(f"{self.folder}/{role}", os.path.join(self.folder, ".config", "cairn", "tls"), dirs_exist_ok=True)
        for i in range(1, MASTERS + 1):
            self.start(i, f"master-{i}", "master", "--init" if i == 1 else "--join", "--set", f"master.folder={self.folder}/master-{i}",
                       "--set", f"master.listen={address(i)}:{PORT}")
        wait_for("the first master", lambda: self.status(4, address(1))["leader"] != "", 20)
        for i in range(2, MASTERS + 1):
            wait_for("a master", lambda i=i: any(m["answers"] for m in self.status(4, address(i))["masters"]), 20)
            self.cairn(4, "master", "add", "--master", f"{address(1)}:{PORT}", f"{address(i)}:{PORT}")
        for i in range(1, 4):
            self.start(4, f"chunkserver-{i}", "chunkserver", "--set", f"store.directories={self.folder}/chunks-{i}", "--set",
                       f"chunkserver.masters={self.masters}", "--set", f"chunkserver.listen={address(4)}:{9410 + i}")
        wait_for("three chunkservers", lambda: self.servers() == 3, 20)
        self.cairn(4, "mount", self.masters, self.mnt)

    def servers(self):
        done = self.cairn(4, "status", "--master", self.masters, "--json", check=False)
        return sum(1 for s in json.loads(done.stdout)["servers"] if s["alive"]) if done.returncode in (0, 3) else 0

    def status(self, i, *hosts):
        """What `cairn master status` says on that machine; of all masters, or of those only."""
        named = ",".join(f"{host}:{PORT}" for host in hosts) or self.masters
        return json.loads(self.cairn(i, "master", "status", "--json", "--master", named, check=False).stdout)

    def leader(self, i=4):
        found = self.status(i)["leader"]
        return int(found.split(":")[0].rsplit(".", 1)[1]) if found else None

    def clean(self):
        with contextlib.suppress(Exception):
            subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL, timeout=30)
            subprocess.run([CAIRN, "umount", self.mnt], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def logs(self):
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".log", ".err")):
                with open(os.path.join(self.folder, name), errors="replace") as f:
                    print(f"--- {name}\n{''.join(f.readlines()[-12:])}", file=sys.stderr)


def a_leader_that_is_cut_off(machines, rounds):
    machines.up()
    wait_for("three masters", lambda: sum(m["role"] == "voter" for m in machines.status(4)["masters"]) == MASTERS, 20)
    worker = Worker(os.path.join(machines.mnt, "work"), 1)
    worker.start()
    waits = []
    try:
        for _ in range(rounds):
            time.sleep(1)
            old = machines.leader()
            term = machines.status(4)["term"]
            begin = time.monotonic()
            machines.network.cut(old)
            # The old one, asked on its own machine: at most for an election's time does it believe that it leads.
            time.sleep(1.0)
            alone = machines.status(old, address(old))
            asked = time.monotonic() - begin
            own = next(m for m in alone["masters"] if m["address"] == f"{address(old)}:{PORT}")
            assert own["answers"] and not own["leading"], f"cut off for {asked:.1f} s it says that it leads: {own}"
            wait_for("an answer to the mount", lambda: worker.failure or any(t > begin + 0.3 for t in worker.answered[-3:]), 15)
            late = [t for t in worker.answered if t > begin + 0.1]
            waited = max(b - a for a, b in zip([begin, *late], late))
            print(f"        the mount waited for {waited:.2f} s", flush=True)
            waits.append(waited)
            assert waited < 5, "the mount waited for far longer than an election takes"
            new = machines.leader()
            assert new not in (None, old) and machines.status(4)["term"] > term
            # A read there is not answered with what was.
            done = machines.cairn(old, "status", "--master", f"{address(old)}:{PORT}", "--json", check=False)
            assert done.returncode not in (0, 3), f"the old leader answers: {done.stdout}"
            assert address(old) in done.stdout, f"the error does not name it: {done.stdout}"
            time.sleep(1)
            machines.network.cut(old, off=False)
            wait_for("it to follow again", lambda: all(m["answers"] and m.get("behind", 1e9) < 1000 for m in machines.status(4)["masters"]), 20)
            back = machines.status(4)
            assert back["leader"].startswith(address(new)), "its return cost another election"
            assert sum(m["leading"] for m in back["masters"]) == 1
    finally:
        quiet([worker])
    worker.check(worker.folder)
    assert len(worker.answered) > 100
    report("the mount's wait", waits)
    machines.cairn(4, "umount", machines.mnt, timeout=120)


def main():
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 2
    network = Network()
    machines = Machines(network)
    begin = time.monotonic()
    try:
        network.make()
        a_leader_that_is_cut_off(machines, rounds)
        print(f"ok      a_leader_that_is_cut_off ({time.monotonic() - begin:.1f} s)", flush=True)
    except BaseException:
        machines.logs()
        raise
    finally:
        machines.clean()
        network.clean()
        shutil.rmtree(machines.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
