"""What nobody changes costs no message: a second `git status`, `find` or `ls -lR` asks no server anything, on one mount or two, and little
of the mount's process. By the mounts' own counters."""

import os
import subprocess
import time

from local_cluster import CAIRN, main, run, wait_for

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
       "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t", "HOME": "/nonexistent", "PATH": os.environ["PATH"],
       "GIT_OPTIONAL_LOCKS": "0"}  # else each `git status` makes a file and removes it: three requests


def make_tree(root, files, each=50):
    for i in range(files):
        folder = os.path.join(root, f"d{i // each // 20}", f"e{i // each}")
        if i % each == 0:
            os.makedirs(folder)
        with open(os.path.join(folder, f"f{i}"), "wb") as f:
            f.write(b"line\n" * (i % 7))


class Counts:
    def __init__(self, cluster, mnt):
        self.cluster, self.mnt = cluster, mnt
        self.before = self.now()

    def now(self):
        metrics = self.cluster.metrics(self.mnt)
        kernel = {name: value for name, value in metrics.items() if name.startswith("cairn_fuse_request_seconds_count")}
        # Free space is always asked for, and `find` asks once.
        space = kernel.get('cairn_fuse_request_seconds_count{op="statfs"}', 0)
        return metrics["cairn_client_master_requests_total"] - space, sum(kernel.values())

    def since(self):
        """(to masters, from the kernel) since the last time."""
        before, self.before = self.before, self.now()
        return self.before[0] - before[0], self.before[1] - before[1]


def walk(what, mnt):
    commands = {"find": ["find", mnt, "-type", "f", "-size", "+1"], "ls": ["ls", "-lR", mnt], "git": ["git", "-C", f"{mnt}/repo", "status", "--short"]}
    done = subprocess.run(commands[what], env={**os.environ, **GIT}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, timeout=1200)
    return done.stdout


def settle(cluster, mounts, settled=False):
    """What follows from writing is over: 5 s after the last write a mount lowers its leases, so that others may read without asking it."""
    for mnt in mounts:
        run([CAIRN, "sync", mnt])
    time.sleep(1 if settled else 6)
    for mnt in mounts:
        counts = Counts(cluster, mnt)

        def quiet(counts=counts):
            time.sleep(0.5)
            return counts.since()[0] == 0

        wait_for("the mount to be quiet", quiet, 60)


def second_walks_ask_nobody(cluster, mounts, whats):
    settle(cluster, mounts)
    for what in whats:
        for mnt in mounts:
            first = walk(what, mnt)  # from here on all of it is known
            settle(cluster, [mnt], settled=True)  # closes are told a moment later
            counts = Counts(cluster, mnt)
            assert walk(what, mnt) == first, f"{what} on {mnt}: another answer"
            to_masters, of_kernel = counts.since()
            print(f"        {what} on {os.path.basename(mnt)}: {to_masters:.0f} requests to masters, {of_kernel:.0f} of the kernel", flush=True)
            assert to_masters == 0, f"{what} asked {to_masters:.0f} times"


def a_quiet_tree_on_two_mounts(cluster):
    cluster.up()
    mounts = [cluster.mount("one"), cluster.mount("two")]
    repo = f"{mounts[0]}/repo"
    make_tree(repo, 1500)
    run(["git", "init", "-q", repo], env={**os.environ, **GIT})
    run(["git", "-C", repo, "add", "."], env={**os.environ, **GIT})
    run(["git", "-C", repo, "commit", "-qm", "all"], env={**os.environ, **GIT})
    second_walks_ask_nobody(cluster, mounts, ("git", "find", "ls"))
    # Of 1500 files: a request for each directory, none for a file.
    counts = Counts(cluster, mounts[1])
    walk("find", mounts[1])
    of_kernel = counts.since()[1]
    assert of_kernel < 700, f"find made {of_kernel:.0f} requests to the mount's process"
    # What one file costs when it changes: a few, not the tree again.
    with open(f"{repo}/d0/e0/f1", "ab") as f:
        f.write(b"more\n")
    counts = Counts(cluster, mounts[1])
    assert walk("git", mounts[1]) == b" M d0/e0/f1\n"
    to_masters = counts.since()[0]
    print(f"        git status after a change elsewhere: {to_masters:.0f} requests to masters", flush=True)
    assert to_masters < 40, f"git status asked {to_masters:.0f} times after one change"


def a_tree_of_two_hundred_thousand_files(cluster):
    cluster.up()
    mnt = cluster.mount()
    make_tree(f"{mnt}/tree", 200_000, each=200)
    second_walks_ask_nobody(cluster, [mnt], ("find", "ls"))


if __name__ == "__main__":
    main([a_quiet_tree_on_two_mounts], only_by_name=[a_tree_of_two_hundred_thousand_files])
