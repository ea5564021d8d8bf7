"""The masters' group on real processes: who is taken into it and who is not, growing and shrinking while a mount writes, masters that were
away for long, full disks and damaged logs under one master. Each time the mount goes on, and what it wrote is there at the end."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from failover_test import Worker, quiet
from local_cluster import BIN, CAIRN, main, run, wait_ended, wait_for

MASTER = os.path.join(BIN, "cairn-master")
MIB = 1 << 20


def log_of(cluster, name):
    with contextlib.suppress(FileNotFoundError), open(os.path.join(cluster.dir, "log", name + ".log"), errors="replace") as f:
        return f.read()
    return ""


def free_address():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def command(cluster, *args, timeout=60):
    return run([CAIRN, "master", args[0], "--master", cluster.masters(), *args[1:]], check=False, timeout=timeout)


def refused(cluster, *args, words, within=15):
    begin = time.monotonic()
    done = command(cluster, *args)
    assert done.returncode not in (0, 3), f"{args}: accepted: {done.stdout}"
    assert time.monotonic() - begin < within, f"{args}: {time.monotonic() - begin:.1f} s"
    for word in words:
        assert word in done.stdout, f"{args}: '{word}' is missing in: {done.stdout}"


def succeeds(cluster, *args, timeout=60):
    done = command(cluster, *args, timeout=timeout)
    assert done.returncode == 0, f"{args}: status {done.returncode}: {done.stdout}"
    return done.stdout


def voters(cluster):
    return sorted(m["address"] for m in cluster.group()["masters"] if m["role"] == "voter")


def follower(cluster):
    wait_for("a leader", lambda: cluster.leader() is not None, 30)
    leader = cluster.leader()
    return next(name for name in ("master-3", "master-2", "master") if name != leader)


def in_order(cluster, n):
    """So many voters, who lack nothing that counts."""
    masters = [m for m in cluster.group()["masters"] if m["role"] == "voter"]
    return len(masters) == n and all(m["answers"] and m.get("behind", 1e9) < 1000 for m in masters)


@contextlib.contextmanager
def work(cluster, mnt):
    """Somebody changes names and writes all the time; nothing of it fails, and all of it is there afterwards."""
    worker = Worker(os.path.join(mnt, f"work{time.monotonic_ns()}"), 1)
    worker.start()
    try:
        yield worker
    finally:
        quiet([worker])
    assert len(worker.answered) > 10, "hardly anything was done"
    worker.check(worker.folder)


def goes_on(worker, seconds=15):
    """An answer to something that was asked after now."""
    begin = time.monotonic()
    wait_for("the mount to go on", lambda: worker.failure or any(t > begin + 0.3 for t in worker.answered[-5:]), seconds)
    if worker.failure:
        raise worker.failure


@contextlib.contextmanager
def master_process(folder, address, *args, log=None):
    process = subprocess.Popen([MASTER, "--set", f"master.folder={folder}", "--set", f"master.listen={address}", *args,
                                *(["--set", f"log.file={log}"] if log else [])],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(cluster, address):
    """Named with the cluster's masters, whose certificates are known."""
    done = run([CAIRN, "master", "status", "--json", "--master", cluster.masters() + "," + address], check=False)
    return any(m["address"] == address and m["answers"] for m in json.loads(done.stdout)["masters"])


# ---------------------------------------------------------------- who is not taken


def strangers_are_refused(cluster):
    cluster.up()
    identity = cluster.status()["cluster"]
    foreign = os.path.join(cluster.folder, "foreign")
    run([CAIRN, "cluster", "init", foreign + "/tls"])
    run([CAIRN, "cluster", "issue", foreign + "/tls", "--role", "master", "--name", "x", "--out", foreign + "/x"])
    address = free_address()
    tls = [w for key, name in (("ca", "ca.crt"), ("certificate", "master.crt"), ("key", "master.key"))
           for w in ("--set", f"tls.{key}={foreign}/x/{name}")]
    log = foreign + "/log"
    with master_process(foreign + "/data", address, "--init", *tls, log=log) as process:
        wait_for("the other cluster's master", lambda: os.path.exists(log) and "master.ready" in open(log).read(), 20)
        other = next(w for w in open(log).read().split() if w.startswith("cluster=")).split("=")[1]
        refused(cluster, "add", address, words=[address, identity, other])
        assert process.poll() is None
    # Nobody listens there.
    silent = free_address()
    refused(cluster, "add", silent, words=[silent], within=20)
    assert len(voters(cluster)) == 3 and len(cluster.group()["masters"]) == 3


def a_master_of_another_cluster_is_refused_without_certificates_too(cluster):
    cluster.master_count = 1
    off = {"tls": {"mode": '"off"'}}
    cluster.configure({"master": off, "chunkserver": off})
    os.environ["CAIRN_TLS"] = "off"
    try:
        cluster.up()
        address = free_address()
        folder = os.path.join(cluster.folder, "foreign")
        log = folder + ".log"
        with master_process(folder, address, "--init", "--set", "tls.mode=off", log=log):
            wait_for("the other cluster's master", lambda: answers(cluster, address), 20)
            other = next(w for w in open(log).read().split() if w.startswith("cluster=")).split("=")[1]
            refused(cluster, "add", address, words=[address, cluster.status()["cluster"], other, "belongs to cluster"])
            assert answers(cluster, address) and len(voters(cluster)) == 1
        # The last voter stays.
        refused(cluster, "remove", voters(cluster)[0], words=["last voter"])
        assert cluster.leader() == "master"
    finally:
        del os.environ["CAIRN_TLS"]


def a_copied_folder_is_complained_about(cluster):
    cluster.up()
    mnt = cluster.mount()
    victim = follower(cluster)
    cluster.kill(victim)
    copy = os.path.join(cluster.dir, "copy")  # beside the certificates
    shutil.copytree(os.path.join(cluster.dir, victim), copy)
    cluster.start(victim)
    with work(cluster, mnt) as worker:
        wait_for("three masters in order", lambda: in_order(cluster, 3), 30)
        term = cluster.group()["term"]
        address = free_address()
        with master_process(copy, address) as process:
            _, said = process.communicate(timeout=20)
        assert process.returncode == 1, f"status {process.returncode}: {said}"
        for word in (copy, cluster.programs()[victim]["address"], address, "empty folder"):
            assert word in said, f"'{word}' is missing in: {said}"
        goes_on(worker)
        assert cluster.group()["term"] == term, "the copy made an election"
        assert in_order(cluster, 3)


def a_master_that_moved_gets_no_others(cluster):
    cluster.master_count = 1
    cluster.up()
    old = cluster.masters()
    run([CAIRN, "local", "down", "--dir", cluster.dir])
    new, joining = free_address(), free_address()
    with master_process(os.path.join(cluster.dir, "master"), new), master_process(os.path.join(cluster.dir, "second"), joining, "--join"):
        wait_for("both", lambda: answers(cluster, new) and answers(cluster, joining), 20)
        done = run([CAIRN, "master", "add", "--master", f"{new},{old}", joining], check=False)
        assert done.returncode == 1, done.stdout
        for word in (old, new, "master.advertise"):
            assert word in done.stdout, f"'{word}' is missing in: {done.stdout}"
    cluster.up()
    assert cluster.leader() == "master"


# ---------------------------------------------------------------- removed, and back


def the_leader_is_removed_and_a_wiped_master_added_again(cluster):
    cluster.up()
    mnt = cluster.mount()
    with work(cluster, mnt) as worker:
        leader = cluster.leader()
        if leader != "master":
            succeeds(cluster, "transfer", cluster.programs()["master"]["address"])
            leader = "master"
        address = cluster.programs()[leader]["address"]
        succeeds(cluster, "remove", address)
        assert address not in voters(cluster) and len(voters(cluster)) == 2
        assert cluster.leader() not in (None, leader)
        goes_on(worker)
        # It says that it is out, and does not lead again.
        wait_for("the removed master to say so", lambda: "master.removed" in log_of(cluster, leader) or any(
            m["address"] == address and m.get("joining") for m in cluster.group()["masters"]), 20)
        assert not any(m["leading"] for m in cluster.group()["masters"] if m["address"] == address)
        cluster.kill(leader)
        shutil.rmtree(os.path.join(cluster.dir, leader))
        cluster.start(leader)
        wait_for("it waits", lambda: any(m["address"] == address and m.get("joining") for m in cluster.group()["masters"]), 20)
        assert cluster.masters().startswith(address), "it is the first one that is asked"
        cluster.umount(cluster.mount("other"))
        assert cluster.status()["servers"]
        succeeds(cluster, "add", address)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 20)

        # Emptied without being removed: its old id has to go first.
        victim = follower(cluster)
        address = cluster.programs()[victim]["address"]
        old = next(m["master"] for m in cluster.group()["masters"] if m["address"] == address)
        cluster.kill(victim)
        shutil.rmtree(os.path.join(cluster.dir, victim))
        cluster.start(victim)
        wait_for("it waits", lambda: any(m["address"] == address and m.get("joining") for m in cluster.group()["masters"]), 20)
        refused(cluster, "add", address, words=[address, old, "remove"])
        shown = run([CAIRN, "master", "status", "--master", cluster.masters()], check=False).stdout
        assert old in shown, f"the id that has to be removed is not shown: {shown}"
        succeeds(cluster, "remove", address)
        succeeds(cluster, "add", address)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 20)
        new = next(m["master"] for m in cluster.group()["masters"] if m["address"] == address)
        assert new != old
        goes_on(worker)


# ---------------------------------------------------------------- growing


def local_up_replaces_a_master_whose_folder_is_lost(cluster):
    cluster.up()
    mnt = cluster.mount()
    cluster.kill("master")
    shutil.rmtree(os.path.join(cluster.dir, "master"))
    with open(f"{mnt}/file", "w") as f:  # the others go on
        f.write("x")
    said = run([CAIRN, "local", "up", "--dir", cluster.dir]).stdout
    assert "has an empty folder" in said, said
    assert in_order(cluster, 3), cluster.group()
    with open(f"{mnt}/file") as f:
        assert f.read() == "x"


def a_group_grows_to_five_and_shrinks(cluster):
    cluster.master_count = 1
    cluster.up()
    mnt = cluster.mount()
    with work(cluster, mnt) as worker:
        for n in (3, 5):
            cluster.master_count = n
            cluster.up()
            assert len(voters(cluster)) == n, voters(cluster)
            goes_on(worker)
        for n in (4, 3, 2, 1):
            leader = cluster.leader()
            # The leader each second time.
            address = next(p["address"] for name, p in cluster.programs().items() if p["address"] in voters(cluster)
                           and (name == leader) == (n % 2 == 0))
            succeeds(cluster, "remove", address)
            assert len(voters(cluster)) == n
            goes_on(worker)
        assert cluster.leader() is not None


def an_interrupted_add_is_completed_by_asking_again(cluster):
    cluster.up()
    mnt = cluster.mount()
    with work(cluster, mnt) as worker, contextlib.ExitStack() as stack:
        address = free_address()
        folder = os.path.join(cluster.dir, "new")
        log = os.path.join(cluster.dir, "log", "new.log")
        stack.enter_context(master_process(folder, address, "--join", log=log))
        wait_for("the new master", lambda: answers(cluster, address), 20)
        # The command dies.
        adding = subprocess.Popen([CAIRN, "master", "add", "--master", cluster.masters(), address], stdout=subprocess.DEVNULL)
        wait_for("it to be asked", lambda: "master.joins" in log_of(cluster, "new"), 20)
        adding.kill()
        adding.wait()
        succeeds(cluster, "add", address)
        assert len(voters(cluster)) == 4
        # The new master dies, as soon as it belongs to the cluster.
        second = free_address()
        folder = os.path.join(cluster.dir, "new2")
        log = os.path.join(cluster.dir, "log", "new2.log")
        with master_process(folder, second, "--join", log=log):
            wait_for("the new master", lambda: answers(cluster, second), 20)
            adding = subprocess.Popen([CAIRN, "master", "add", "--master", cluster.masters(), second], stdout=subprocess.DEVNULL)
            wait_for("it to be asked", lambda: "master.joins" in log_of(cluster, "new2"), 20)
        goes_on(worker)
        stack.enter_context(master_process(folder, second, "--join", log=log))
        # The leader dies.
        leader = cluster.leader()
        cluster.kill(leader)
        done = run([CAIRN, "master", "add", "--master", cluster.masters() + "," + address, second], timeout=60)
        adding.wait(timeout=60)
        assert len(voters(cluster)) == 5, done.stdout
        cluster.start(leader)
        wait_for("five masters in order", lambda: in_order(cluster, 5), 30)
        goes_on(worker)
        for extra in (address, second):
            run([CAIRN, "master", "remove", "--master", cluster.masters() + "," + extra, extra])


# ---------------------------------------------------------------- away for long

SMALL = {"master": {"disk": {"checkpoint": '"1MiB"', "reserve": '"8MiB"'}}}


def first_of(cluster, name):
    address = cluster.programs()[name]["address"]
    return next((m.get("first", 0) for m in cluster.group()["masters"] if m["address"] == address), 0)


def fill(folder, count):
    os.makedirs(folder)
    for i in range(count):
        os.symlink(f"{i:04d}" + "x" * 900, f"{folder}/{i}")


def is_filled(folder, count):
    assert len(os.listdir(folder)) == count
    for i in range(0, count, 97):
        assert os.readlink(f"{folder}/{i}").startswith(f"{i:04d}xx"), f"{folder}/{i}"


def a_master_that_was_away_gets_a_checkpoint(cluster):
    cluster.configure(SMALL)
    cluster.up()
    mnt = cluster.mount()
    victim = follower(cluster)
    there = next(m["last"] for m in cluster.group()["masters"] if m["address"] == cluster.programs()[victim]["address"])
    cluster.kill(victim)
    n = 0
    end = time.monotonic() + 120
    while first_of(cluster, cluster.leader()) <= there + 1:  # the log keeps 10,000 entries behind a checkpoint
        assert time.monotonic() < end, "the log is not purged"
        fill(f"{mnt}/fill{n}", 2000)
        n += 1
    with work(cluster, mnt) as worker:
        leader = cluster.leader()
        sender = cluster.pid(leader)
        cluster.start(victim)
        # The sender is killed as soon as it is asked for something, and whoever leads then gives the rest.
        end = time.monotonic() + 20
        while "checkpoint.fetching" not in log_of(cluster, victim):
            assert time.monotonic() < end, "nothing is fetched"
            time.sleep(0.002)
        os.kill(sender, signal.SIGKILL)
        wait_ended("the sender", sender)
        print(f"        cut off half-way: {'master.starting_anew' not in log_of(cluster, victim)}", flush=True)
        cluster.start(leader)
        wait_for("the log to be replaced", lambda: "master.log_replaced" in log_of(cluster, victim), 40)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 40)
        goes_on(worker)
    # It serves what it got.
    if cluster.leader() != victim:
        succeeds(cluster, "transfer", cluster.programs()[victim]["address"])
    wait_for("it to lead", lambda: cluster.leader() == victim, 10)
    time.sleep(1.1)  # names are believed for a second
    for i in range(n):
        is_filled(f"{mnt}/fill{i}", 2000)


# ---------------------------------------------------------------- disks


def fill_disk(path, leave=0):
    with open(os.path.join(path, "ballast"), "ab", buffering=0) as f:
        with contextlib.suppress(OSError):
            while shutil.disk_usage(path).free > leave:
                f.write(b"\0" * MIB)
        if leave:
            return
        with contextlib.suppress(OSError):
            while True:
                f.write(b"\0" * 512)


def write_log(path, count):
    """So many changes of 60 KB: what the full disk has set aside for the log is not enough for 2400 of them."""
    with open(path, "w"):
        pass
    for i in range(count):
        os.setxattr(path, "user.large", bytes([i % 251]) * 60_000)
    return bytes([(count - 1) % 251]) * 60_000


def a_full_disk_under_one_masters_log(cluster):
    cluster.configure({"master": {"disk": {"reserve": '"32MiB"', "checkpoint": '"4MiB"'}}})
    cluster.up()
    run([CAIRN, "local", "down", "--dir", cluster.dir])
    for name in ("master", "master-2", "master-3"):
        path = os.path.join(cluster.dir, name)
        os.rename(path, path + ".moved")
        os.makedirs(path)
        run(["mount", "-t", "tmpfs", "-o", "size=900m", "cairn-test", path])
        cluster.disks.append(path)
        shutil.copytree(path + ".moved", path, dirs_exist_ok=True)
    cluster.up()
    mnt = cluster.mount()
    with work(cluster, mnt) as worker:
        victim = follower(cluster)
        disk = os.path.join(cluster.dir, victim)
        fill_disk(disk)
        one = write_log(f"{mnt}/one", 2400)
        goes_on(worker)
        assert cluster.leader() != victim
        if not cluster.programs()[victim]["running"]:  # then it says why
            with open(os.path.join(cluster.dir, "log", victim + ".err")) as f:
                said = f.read()
            print(f"        the follower ended: {said.strip()[-300:]}", flush=True)
            assert "space" in said, f"{victim} ended, and said: {said}"
        os.unlink(disk + "/ballast")
        if not cluster.programs()[victim]["running"]:
            cluster.start(victim)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 40)
        # And the leader's.
        leader = cluster.leader()
        disk = os.path.join(cluster.dir, leader)
        fill_disk(disk, leave=16 * MIB)  # below its reserve
        wait_for("it to step aside", lambda: "master.stepping_aside" in log_of(cluster, leader), 20)
        wait_for("another leader", lambda: cluster.leader() not in (None, leader), 20)
        goes_on(worker)
        fill_disk(disk)
        two = write_log(f"{mnt}/two", 2400)
        warnings = cluster.group()["warnings"]
        assert any(cluster.programs()[leader]["address"] in w for w in warnings), warnings
        os.unlink(disk + "/ballast")
        if not cluster.programs()[leader]["running"]:
            cluster.start(leader)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 40)
        goes_on(worker)
    assert os.getxattr(f"{mnt}/one", "user.large") == one and os.getxattr(f"{mnt}/two", "user.large") == two


def a_damaged_log_stops_its_master(cluster):
    cluster.up()
    mnt = cluster.mount()
    fill(f"{mnt}/fill", 500)
    with work(cluster, mnt) as worker:
        victim = follower(cluster)
        address = cluster.programs()[victim]["address"]
        cluster.kill(victim)
        folder = os.path.join(cluster.dir, victim)
        segment = max((os.path.join(folder, "log", n) for n in os.listdir(folder + "/log") if n.endswith(".log")))
        with open(segment, "r+b") as f:
            f.seek(200_000)
            assert f.read(100) != bytes(100), "the log does not reach so far"
            f.seek(200_000)
            f.write(b"damaged")
        done = run([MASTER, "--config", os.path.join(cluster.dir, "config", victim + ".toml")], check=False, timeout=20)
        assert done.returncode == 1, f"status {done.returncode}: {done.stdout}"
        for word in (segment, "remove this one from the group", "add it again"):
            assert word in done.stdout, f"'{word}' is missing in: {done.stdout}"
        shutil.rmtree(folder)
        cluster.start(victim)
        succeeds(cluster, "remove", address)
        wait_for("it waits", lambda: any(m["address"] == address and m.get("joining") for m in cluster.group()["masters"]), 20)
        succeeds(cluster, "add", address)
        wait_for("three masters in order", lambda: in_order(cluster, 3), 20)
        goes_on(worker)
    is_filled(f"{mnt}/fill", 500)


if __name__ == "__main__":
    main([strangers_are_refused, a_master_of_another_cluster_is_refused_without_certificates_too, a_copied_folder_is_complained_about,
          a_master_that_moved_gets_no_others,
          the_leader_is_removed_and_a_wiped_master_added_again, local_up_replaces_a_master_whose_folder_is_lost, a_group_grows_to_five_and_shrinks,
          an_interrupted_add_is_completed_by_asking_again, a_master_that_was_away_gets_a_checkpoint, a_full_disk_under_one_masters_log,
          a_damaged_log_stops_its_master], masters=3, tcp=True)
