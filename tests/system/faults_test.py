"""Faults on real processes: whatever is killed or stopped, nothing that was fsynced is lost, every byte is right, and nothing hangs."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time

from local_cluster import CAIRN, main, run, wait_for

MIB = 1 << 20


def block(i):
    return random.Random(i).randbytes(MIB)


def write_blocks(path, count, after=None):
    """Blocks with an fsync each; `after(i)` runs after block i. Gives the longest time one took."""
    longest = 0.0
    with open(path, "wb", buffering=0) as f:
        for i in range(count):
            begin = time.monotonic()
            assert f.write(block(i)) == MIB
            os.fsync(f.fileno())
            longest = max(longest, time.monotonic() - begin)
            if after:
                after(i)
    return longest


def check_blocks(path, count):
    assert os.path.getsize(path) == count * MIB, f"{path}: {os.path.getsize(path)} bytes"
    with open(path, "rb") as f:
        for i in range(count):
            assert f.read(MIB) == block(i), f"{path}: wrong data in MiB {i}"


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3\n")


def a_chunkserver_killed_while_writing(cluster):
    cluster.up()
    mnt = cluster.mount()
    longest = write_blocks(f"{mnt}/f", 40, lambda i: cluster.kill("chunkserver-2") if i == 15 else None)
    assert longest < 20, f"one write took {longest:.1f} s"
    check_blocks(f"{mnt}/f", 40)
    drop_caches()
    check_blocks(f"{mnt}/f", 40)
    cluster.up()
    wait_for("every chunk to be whole again", lambda: healthy(cluster), 90)


def healthy(cluster):
    status = cluster.status()
    return status is not None and status["chunks"]["under_goal"] == 0 and status["chunks"]["at_risk"] == 0 and status["chunks"]["lost"] == 0


def a_chunkserver_killed_while_reading(cluster):
    cluster.up()
    mnt = cluster.mount()
    write_blocks(f"{mnt}/f", 40)
    for victim in ("chunkserver-1", "chunkserver-3"):
        drop_caches()
        with open(f"{mnt}/f", "rb") as f:
            for i in range(40):
                if i == 10:
                    cluster.kill(victim)
                assert f.read(MIB) == block(i), f"wrong data in MiB {i}"
        cluster.up()


def a_chunkserver_stopped_does_not_hang_anybody(cluster):
    cluster.up()
    mnt = cluster.mount()
    stopped = {}

    def stop(i):
        if i == 10:
            cluster.signal("chunkserver-3", signal.SIGSTOP)
            stopped["at"] = time.monotonic()

    longest = write_blocks(f"{mnt}/f", 25, stop)
    print(f"        longest write with a stopped chunkserver: {longest:.1f} s")
    assert longest < 10, f"one write took {longest:.1f} s"
    check_blocks(f"{mnt}/f", 25)
    cluster.signal("chunkserver-3", signal.SIGCONT)


def small_files_wait_once_for_a_stopped_chunkserver(cluster, chunkservers=3):
    cluster.chunkservers = chunkservers
    cluster.up()
    mnt = cluster.mount()
    count, at = 200, 40
    took = []
    for i in range(count):
        if i == at:
            cluster.signal("chunkserver-2", signal.SIGSTOP)
        begin = time.monotonic()
        with open(f"{mnt}/{i}", "wb") as f:
            f.write(block(i)[:5000])
        took.append(time.monotonic() - begin)
    stalls = [f"{t:.1f}" for t in took if t > 0.5]
    print(f"        {chunkservers} chunkservers: {count - at} files in {sum(took[at:]):.1f} s; those that took longer: {stalls}")
    # One wait of up to 2 s for everybody; what the machine is slow at is in the other files too.
    assert sum(t for t in took if t > 0.5) < 3.9, stalls
    run([CAIRN, "sync", mnt], timeout=30)
    # And once for reading.
    other = cluster.mount("other")
    took = []
    for i in range(0, count, 3):
        begin = time.monotonic()
        with open(f"{other}/{i}", "rb") as f:
            assert f.read() == block(i)[:5000]
        took.append(time.monotonic() - begin)
    stalls = [f"{t:.1f}" for t in took if t > 0.5]
    assert sum(t for t in took if t > 0.5) < 3.9, stalls


def small_files_wait_once_for_one_of_four(cluster):
    small_files_wait_once_for_a_stopped_chunkserver(cluster, 4)


def writing_goes_on_after_two_chunkservers_were_stopped_for_a_while(cluster):
    cluster.up()
    mnt = cluster.mount()
    with open(f"{mnt}/f", "wb", buffering=0) as f:
        f.write(block(0)[:30000])
        os.fsync(f.fileno())
        # By number: a process started now would have to close the file, and that waits too.
        pids = [cluster.pid(name) for name in ("chunkserver-1", "chunkserver-2")]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            cluster.stopped.add(pid)
        cont = threading.Timer(6, lambda: [os.kill(pid, signal.SIGCONT) for pid in pids])
        cont.start()
        begin = time.monotonic()
        f.write(block(1)[:30000])
        os.fsync(f.fileno())
        print(f"        the fsync took {time.monotonic() - begin:.1f} s of which they were stopped for 6")
        cont.join()
    assert open(f"{mnt}/f", "rb").read() == block(0)[:30000] + block(1)[:30000]
    wait_for("every chunk to be whole again", lambda: healthy(cluster), 60)


def who_waits_for_a_master_can_be_killed(cluster):
    cluster.up()
    mnt = cluster.mount()
    # A directory each: the kernel has one change in a directory at a time, and who waits for its turn waits in the kernel.
    numbers = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
    for name in ["d", "file", *map(int, numbers)]:
        os.mkdir(f"{mnt}/{name}")
    master = cluster.pid("master")
    # Gets a signal all the time, and is called as programs in C call: Python itself would hide an EINTR.
    busy = subprocess.Popen([sys.executable, "-c", """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
print("ready", flush=True)
for i in range(int(sys.argv[2])):
    if libc.mkdir(f"{sys.argv[1]}/busy-{i}".encode(), 0o755) != 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        os._exit(1)
os._exit(0)  # at an ordinary end the handler goes before the timer
""", f"{mnt}/d", "4000"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert busy.stdout.readline() == "ready\n"
    os.kill(master, signal.SIGSTOP)
    cluster.stopped.add(master)
    waiting = {number: subprocess.Popen(["mkdir", f"{mnt}/{int(number)}/new"]) for number in numbers}
    writer = subprocess.Popen(["dd", "if=/dev/zero", f"of={mnt}/file/unwritten", "bs=64k", "count=10", "status=none"])
    time.sleep(1.5)
    for number, process in [*waiting.items(), (signal.SIGKILL, writer)]:
        begin = time.monotonic()
        assert process.poll() is None, "it did not wait for the master"
        process.send_signal(number)
        assert process.wait(timeout=20) == -number
        took = time.monotonic() - begin
        assert took < 1, f"{signal.Signals(number).name}: it ended only after {took:.1f} s"
    time.sleep(6)
    assert busy.poll() is None, busy.stdout.read()
    os.kill(master, signal.SIGCONT)
    assert busy.wait(timeout=100) == 0, busy.stdout.read()
    # What was given up may have been made, each once; and the mount goes on.
    os.mkdir(f"{mnt}/d/after")
    made = os.listdir(f"{mnt}/d")
    assert len(made) == len(set(made)) and {f"busy-{i}" for i in range(4000)} <= set(made), len(made)
    with open(f"{mnt}/d/written", "wb") as f:
        f.write(block(1))
        os.fsync(f.fileno())
    run([CAIRN, "sync", mnt])


def who_is_killed_does_not_wait_for_what_it_wrote(cluster):
    cluster.up()
    mnt = cluster.mount()
    pids = [cluster.pid(name) for name in ("chunkserver-1", "chunkserver-2")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        cluster.stopped.add(pid)
    writer = subprocess.Popen(["sh", "-c", f"exec >{mnt}/f; echo written; exec sleep 100"])
    wait_for("it to be written", lambda: os.path.exists(f"{mnt}/f") and os.path.getsize(f"{mnt}/f") == 8, 20)
    begin = time.monotonic()
    writer.kill()
    writer.wait(timeout=30)
    took = time.monotonic() - begin
    assert took < 5, f"it ended only after {took:.1f} s"
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    run([CAIRN, "sync", mnt])
    with open(f"{mnt}/f") as f:
        assert f.read() == "written\n"


def a_chunkserver_restarted_between_write_and_fsync(cluster):
    cluster.up()
    mnt = cluster.mount()
    with open(f"{mnt}/f", "wb", buffering=0) as f:
        for i in range(8):
            f.write(block(i))
            cluster.kill(f"chunkserver-{i % 3 + 1}")
            cluster.up()
            os.fsync(f.fileno())
    for name in ("chunkserver-1", "chunkserver-2", "chunkserver-3"):
        cluster.kill(name)
    cluster.up()
    drop_caches()
    check_blocks(f"{mnt}/f", 8)


def the_master_restarts_in_the_middle_of_a_copy(cluster):
    cluster.up()
    mnt = cluster.mount()
    source = os.path.join(cluster.folder, "source")
    os.makedirs(source)
    for i in range(400):
        with open(f"{source}/{i}", "wb") as f:
            f.write(block(i)[: (i * 911) % 60000])
    copy = subprocess.Popen(["cp", "-a", source, f"{mnt}/copy"])
    try:
        wait_for("the copy to be half-way", lambda: os.path.isdir(f"{mnt}/copy") and len(os.listdir(f"{mnt}/copy")) > 50, 60)
        cluster.kill("master")
        assert copy.poll() is None, "the copy was over before the master was killed"
        cluster.up()
        assert copy.wait(timeout=120) == 0, "the copy failed"
    finally:
        copy.kill()
    run(["diff", "-r", source, f"{mnt}/copy"])


def fails_with_eio(action):
    """How long it took."""
    begin = time.monotonic()
    try:
        action()
    except OSError as error:
        assert error.errno == errno.EIO, error
        return time.monotonic() - begin
    raise AssertionError("it succeeded without a master")


def data_waits_for_the_master_as_long_as_it_is_away(cluster):
    cluster.configure({"master": {"cluster": {"session_time": '"2 s"'}}})
    cluster.up()
    mnt = cluster.mount(options="master_timeout=3")
    write_blocks(f"{mnt}/open", 2)
    half_written = open(f"{mnt}/open", "r+b", buffering=0)
    unsent = open(f"{mnt}/unsent", "wb", buffering=0)
    half_written.seek(2 * MIB)
    half_written.write(block(2))
    unsent.write(block(0)[:5000])
    cluster.kill("master")
    time.sleep(1)  # the mount has begun to write it by itself, and waits too: fsync does not wait for both in turn
    took = fails_with_eio(lambda: os.fsync(unsent.fileno()))
    assert 2 < took < 4.5, f"fsync waited {took:.1f} s, of a master_timeout of 3 s"
    took = fails_with_eio(lambda: os.stat(f"{mnt}/unknown"))
    assert 2 < took < 8, f"stat waited {took:.1f} s"
    time.sleep(10)  # far longer than the session's time and what anything waits
    status = run([CAIRN, "status", "--master", cluster.masters()], check=False)
    assert status.returncode == 4 and "does not answer" in status.stdout, status.stdout
    cluster.up()
    run([CAIRN, "sync", mnt])
    half_written.close()
    unsent.close()
    other = cluster.mount("other")
    check_blocks(f"{other}/open", 3)
    with open(f"{other}/unsent", "rb") as f:
        assert f.read() == block(0)[:5000]


def a_writer_killed_in_mid_write_leaves_one_answer(cluster):
    cluster.up()
    one = cluster.mount("one")
    two = cluster.mount("two")
    write_blocks(f"{one}/f", 4)
    # More, without an fsync, and the mount's process dies.
    f = open(f"{one}/f", "r+b", buffering=0)
    f.seek(4 * MIB)
    for i in range(4, 12):
        f.write(block(i))
    os.kill(int(cluster.mount_pids(one)["pid"]), signal.SIGKILL)
    try:
        f.close()
    except OSError as e:
        assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO), e
    first = open(f"{two}/f", "rb").read()
    assert first[: 4 * MIB] == b"".join(block(i) for i in range(4)), "what was fsynced is lost"
    for name in ("chunkserver-1", "chunkserver-2"):  # one answer on all replicas
        drop_caches()
        cluster.kill(name)
        assert open(f"{two}/f", "rb").read() == first
        cluster.up()
    with open(f"{two}/f", "ab") as f:  # and it can be written again
        f.write(b"more")
    assert open(f"{two}/f", "rb").read()[-4:] == b"more"


def the_session_of_a_killed_mount_ends_at_once(cluster):
    """The guardian ends it: nobody waits for what the dead one holds until its session's time is over."""
    cluster.up()
    one = cluster.mount("one")
    open(f"{one}/f", "wb").write(b"text")
    def ended():
        folder = os.path.join(cluster.dir, "log")
        return sum(open(os.path.join(folder, name), errors="replace").read().count("master.session_closed")
                   for name in os.listdir(folder) if name.startswith("master"))
    before = ended()
    os.kill(int(cluster.mount_pids(one)["pid"]), signal.SIGKILL)
    wait_for("the end of the session", lambda: ended() > before, 5)


def everything_killed_at_once(cluster):
    cluster.up()
    mnt = cluster.mount()
    write_blocks(f"{mnt}/f", 10)
    for i in range(50):
        with open(f"{mnt}/small-{i}", "wb") as f:
            f.write(block(i)[:5000])
            f.flush()
            os.fsync(f.fileno())
    os.kill(int(cluster.mount_pids(mnt)["pid"]), signal.SIGKILL)
    for name in ("master", "chunkserver-1", "chunkserver-2", "chunkserver-3"):
        os.kill(cluster.pid(name), signal.SIGKILL)
    wait_for("all to end", lambda: not any(p["running"] for p in cluster.programs().values()), 10)
    subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL)
    cluster.up()
    again = cluster.mount("again")
    check_blocks(f"{again}/f", 10)
    for i in range(50):
        assert open(f"{again}/small-{i}", "rb").read() == block(i)[:5000]


def a_flipped_byte_is_found_and_repaired(cluster):
    cluster.up()
    mnt = cluster.mount()
    data = block(1) + block(2)
    with open(f"{mnt}/f", "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    wait_for("the chunk to be sealed", lambda: cluster.status()["chunks"]["open"] == 0, 20)
    # The same byte of the file in the value log of one chunkserver.
    needle = data[5000:5064]
    damaged = 0
    for server in (1, 2):
        folder = os.path.join(cluster.dir, f"chunks-{server}")
        for where, _, files in os.walk(folder):
            for name in files:
                path = os.path.join(where, name)
                with open(path, "r+b") as f:
                    content = f.read()
                    at = content.find(needle)
                    if at >= 0 and damaged < 2:
                        f.seek(at)
                        f.write(bytes([needle[0] ^ 0xFF]))
                        damaged += 1
    assert damaged == 2, "the bytes were not found on disk"
    for _ in range(3):  # whichever replica is asked first
        drop_caches()
        assert open(f"{mnt}/f", "rb").read() == data, "damaged data reached the reader"
    second = cluster.mount("second")
    third = cluster.mount("third")
    assert open(f"{second}/f", "rb").read() == data and open(f"{third}/f", "rb").read() == data
    wait_for("the bad replicas to be repaired", lambda: healthy(cluster), 60)


def places(folder, needle):
    """(path, offset) of each place under the folder that has these bytes."""
    found = []
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)
            with open(path, "rb") as f:
                at = f.read().find(needle)
            if at >= 0:
                found.append((path, at))
    return found


def a_flipped_byte_that_nobody_reads_is_found_and_repaired(cluster):
    cluster.up()
    mnt = cluster.mount()
    data = block(1) + block(2)
    with open(f"{mnt}/f", "wb") as f:
        f.write(data)
    cluster.umount(mnt)  # nobody is left to read it
    wait_for("the chunk to be sealed", lambda: cluster.status()["chunks"]["open"] == 0 and healthy(cluster), 20)
    needle = data[5000:5064]
    folder = os.path.join(cluster.dir, "chunks-1")
    cluster.signal("chunkserver-1", signal.SIGTERM)
    wait_for("it to end", lambda: not cluster.programs()["chunkserver-1"]["running"], 20)
    (path, at), = places(folder, needle)
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(bytes([needle[0] ^ 0xFF]))
    cluster.up()  # a round begins with the start of a server, and an hour after the last
    log = os.path.join(cluster.dir, "log", "chunkserver-1.log")
    wait_for("the scrubber to find it", lambda: "chunk.bad" in open(log).read(), 30)
    wait_for("it to be repaired", lambda: places(folder, needle) and healthy(cluster), 60)


def a_server_that_is_gone_for_good_is_removed(cluster):
    cluster.chunkservers = 4
    cluster.configure({"master": {"chunks": {"repair_delay": '"3s"'}}})
    cluster.up()
    mnt = cluster.mount()
    for i in range(12):
        write_blocks(f"{mnt}/f{i}", 1)
    wait_for("all chunks to be sealed", lambda: cluster.status()["chunks"]["open"] == 0, 20)
    def first():
        address = cluster.programs()["chunkserver-1"]["address"]
        return next(s for s in cluster.status()["servers"] if s["address"].endswith(address))

    wait_for("it to say what it holds", lambda: first()["chunks"] > 0, 20)
    gone = first()

    def remove(*more, server=gone["server"]):
        return run([CAIRN, "server", "remove", server, "--master", cluster.masters(), *more], check=False)

    refused = remove("--force")
    assert refused.returncode == 1 and "was heard of" in refused.stdout, refused.stdout
    # Files with one copy, of which some are on that server only.
    os.mkdir(f"{mnt}/single")
    run([CAIRN, "goal", "set", f"{mnt}/single", "1"])
    singles = []

    def one_is_there_only():
        singles.append(f"{mnt}/single/{len(singles)}")
        write_blocks(singles[-1], 1)
        return gone["address"].split(":", 1)[1] in run([CAIRN, "info", singles[-1]]).stdout

    # It may be passed over for a while, if it was slow to answer.
    wait_for("a file with its one copy on it", one_is_there_only, 30)
    while len(singles) < 16:
        one_is_there_only()
    wait_for("another one elsewhere", lambda: not one_is_there_only(), 30)
    cluster.kill("chunkserver-1")
    wait_for("it to count as gone", lambda: first()["silent_ms"] > 4000, 20)
    wait_for("what had several copies to be repaired",
             lambda: not any("silent" in run([CAIRN, "info", f"{mnt}/f{i}"]).stdout for i in range(12)), 60)
    refused = remove()
    assert refused.returncode == 1 and "no other copy" in refused.stdout and "--force" in refused.stdout, refused.stdout
    assert remove(server="123").returncode == 1 and remove(server="nonsense").returncode == 2
    removed = remove("--force")
    assert removed.returncode == 0, removed.stdout
    lost = {int(line) for line in removed.stdout.splitlines() if line.isdigit()}
    assert lost and lost < {os.stat(path).st_ino for path in singles}, removed.stdout
    status = cluster.status()
    assert len(status["servers"]) == 3 and all(s["alive"] for s in status["servers"])
    assert not [w for w in status["warnings"] if "heard of" in w], status["warnings"]
    drop_caches()
    for i in range(12):
        check_blocks(f"{mnt}/f{i}", 1)
    for path in singles:
        if os.stat(path).st_ino not in lost:
            check_blocks(path, 1)
        os.unlink(path)
    # If it comes back after all, it is a new server, and what it holds is in nobody's way.
    cluster.up()
    wait_for("it to be there again", lambda: (s := cluster.status()) and len(s["servers"]) == 4 and healthy(cluster), 30)
    check_blocks(f"{mnt}/f0", 1)


def cairn_reports_and_ends_cleanly(cluster):
    cluster.up()
    mnt = cluster.mount()
    write_blocks(f"{mnt}/f", 2)
    assert "ok" in run([CAIRN, "info", f"{mnt}/f"]).stdout
    run([CAIRN, "goal", "set", f"{mnt}/f", "2"])
    assert "goal 2" in run([CAIRN, "goal", "get", f"{mnt}/f"]).stdout
    run([CAIRN, "sync", mnt])
    os.truncate(f"{mnt}/f", 0)
    cluster.umount(mnt)
    run([CAIRN, "local", "down", "--dir", cluster.dir])
    assert run([CAIRN, "local", "status", "--dir", cluster.dir], check=False).returncode == 4
    cluster.up()
    mnt = cluster.mount()
    assert os.path.getsize(f"{mnt}/f") == 0
    cluster.kill("chunkserver-1")
    wait_for("a warning", lambda: run([CAIRN, "status", "--master", cluster.masters()], check=False).returncode == 3, 20)


if __name__ == "__main__":
    main([a_chunkserver_killed_while_writing, a_chunkserver_killed_while_reading, a_chunkserver_stopped_does_not_hang_anybody,
          small_files_wait_once_for_a_stopped_chunkserver, small_files_wait_once_for_one_of_four,
          writing_goes_on_after_two_chunkservers_were_stopped_for_a_while, who_waits_for_a_master_can_be_killed,
          who_is_killed_does_not_wait_for_what_it_wrote,
          a_chunkserver_restarted_between_write_and_fsync, the_master_restarts_in_the_middle_of_a_copy, data_waits_for_the_master_as_long_as_it_is_away,
          a_writer_killed_in_mid_write_leaves_one_answer, the_session_of_a_killed_mount_ends_at_once,
          everything_killed_at_once, a_flipped_byte_is_found_and_repaired,
          a_flipped_byte_that_nobody_reads_is_found_and_repaired, a_server_that_is_gone_for_good_is_removed, cairn_reports_and_ends_cleanly])
