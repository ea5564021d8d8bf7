"""Bad input: every mistake is told in one clear line that names the thing, with a fitting status or errno, and nothing hangs or dies."""

import errno
import os
import random
import signal
import socket
import struct
import subprocess
import time

import other_version
from local_cluster import BIN, CAIRN, main, run, wait_for

MASTER = os.path.join(BIN, "cairn-master")
CHUNKSERVER = os.path.join(BIN, "cairn-chunkserver")


def refused(args, status, *words):
    done = run(args, check=False, timeout=30)
    assert done.returncode == status, f"{args}: status {done.returncode}, want {status}: {done.stdout}"
    for word in words:
        assert word in done.stdout, f"{args}: '{word}' is missing in: {done.stdout}"


def fails_with(number, operation, *args, **kwargs):
    try:
        operation(*args, **kwargs)
    except OSError as e:
        assert e.errno == number, f"{operation.__name__}{args}: {e}, want {errno.errorcode[number]}"
        return
    raise AssertionError(f"{operation.__name__}{args} succeeded, want {errno.errorcode[number]}")


def wrong_configuration_is_refused(cluster):
    path = os.path.join(cluster.folder, "bad.toml")
    with open(path, "w") as f:
        f.write("[master]\nfolder = \"/tmp/x\"\nlistn = \"1.2.3.4:5\"\n")
    refused([MASTER, "--config", path], 2, path + ":3", "listn")
    refused([MASTER, "--config", "/nonexistent.toml"], 2, "/nonexistent.toml")
    refused([CHUNKSERVER, "--set", "store.reserve=many"], 2, "store.reserve")
    refused([CAIRN, "frobnicate"], 2)
    refused([CAIRN, "mount"], 2)
    refused([CAIRN, "mount", "127.0.0.1:1", cluster.folder, "-o", "fastplease"], 2, "fastplease")
    refused([CAIRN, "goal", "get", "/"], 1, "not on a Cairn mount")


def a_folder_or_port_in_use_is_named(cluster):
    cluster.up()
    address = cluster.masters()
    refused([MASTER, "--set", f"master.folder={cluster.dir}/master", "--set", "master.listen=127.0.0.1:0"], 1, f"{cluster.dir}/master")
    refused([MASTER, "--init", "--set", f"master.folder={cluster.folder}/other", "--set", f"master.listen={address}"], 1, address)
    refused([MASTER, "--set", f"master.folder={cluster.folder}/empty"], 1, "--init")
    refused([CHUNKSERVER, "--set", f"store.directories={cluster.dir}/chunks-1", "--set", f"chunkserver.masters={address}", "--set",
             "chunkserver.listen=127.0.0.1:0"], 1, "chunks-1")


def mounting_without_a_master_ends_within_ten_seconds(cluster):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mnt = os.path.join(cluster.folder, "mnt")
    os.makedirs(mnt)
    begin = time.monotonic()
    refused([CAIRN, "mount", f"127.0.0.1:{port}", mnt], 1, f"127.0.0.1:{port}")
    assert time.monotonic() - begin < 10
    refused([CAIRN, "status", "--master", f"127.0.0.1:{port}"], 4, f"127.0.0.1:{port}")


def garbage_on_the_ports_harms_nobody(cluster):
    cluster.up()
    mnt = cluster.mount()
    rng = random.Random(1)
    for program in cluster.programs().values():
        host, port = program["address"].rsplit(":", 1)
        for i in range(20):
            with socket.create_connection((host, int(port)), timeout=5) as s:
                # Noise, a frame cut short, and a frame with a huge length.
                s.sendall(rng.randbytes(rng.randrange(1, 3000)) if i % 2 else b"CRN1" + b"\xff" * rng.randrange(8, 200))
    with open(f"{mnt}/f", "w") as f:
        f.write("still there")
    assert open(f"{mnt}/f").read() == "still there"
    assert all(p["running"] for p in cluster.programs().values())


def names_and_paths(cluster):
    cluster.up()
    mnt = cluster.mount()
    fails_with(errno.ENAMETOOLONG, os.mkdir, f"{mnt}/{'x' * 256}")
    os.mkdir(f"{mnt}/known")  # all names that are there are known to the mount: none
    for call in (os.stat, os.unlink, os.rmdir):
        fails_with(errno.ENAMETOOLONG, call, f"{mnt}/known/{'x' * 256}")
    os.mkdir(f"{mnt}/{'x' * 255}")
    fails_with(errno.ENOENT, os.stat, f"{mnt}/none")
    fails_with(errno.ENOENT, os.rmdir, f"{mnt}/none")
    os.makedirs(f"{mnt}/d/e")
    fails_with(errno.ENOTEMPTY, os.rmdir, f"{mnt}/d")
    fails_with(errno.EEXIST, os.mkdir, f"{mnt}/d")
    open(f"{mnt}/f", "w").close()
    fails_with(errno.ENOTDIR, os.mkdir, f"{mnt}/f/x")
    fails_with(errno.ENOTDIR, os.rmdir, f"{mnt}/f")
    fails_with(errno.EISDIR, os.unlink, f"{mnt}/d")
    fails_with(errno.EINVAL, os.rename, f"{mnt}/d", f"{mnt}/d/e/d")
    fails_with(errno.ENODATA, os.getxattr, f"{mnt}/f", "user.none")
    os.setxattr(f"{mnt}/f", "user.a", b"b" * 1000)
    assert os.getxattr(f"{mnt}/f", "user.a") == b"b" * 1000 and os.listxattr(f"{mnt}/f") == ["user.a"]
    fails_with(errno.EEXIST, os.setxattr, f"{mnt}/f", "user.a", b"c", os.XATTR_CREATE)
    fails_with(errno.EFBIG, os.truncate, f"{mnt}/f", (1 << 58) - (1 << 26) + 1)
    os.symlink("loop", f"{mnt}/loop")
    fails_with(errno.ELOOP, os.stat, f"{mnt}/loop")
    os.rename(f"{mnt}/f", f"{mnt}/g")
    every = bytes(b for b in range(1, 256) if b != 0x2F)
    os.mkdir(mnt.encode() + b"/" + every)
    assert every in os.listdir(mnt.encode())


def unlinked_files_live_while_they_are_open(cluster):
    cluster.up()
    mnt = cluster.mount()
    other = cluster.mount("other")
    f = open(f"{mnt}/f", "w+b")
    f.write(b"x" * 100_000)
    f.flush()
    os.fsync(f.fileno())
    held = open(f"{other}/f", "rb")
    os.unlink(f"{mnt}/f")
    assert not os.path.exists(f"{mnt}/f")
    assert held.read() == b"x" * 100_000
    f.seek(0)
    f.write(b"y" * 10)
    f.flush()
    os.fsync(f.fileno())
    f.seek(0)
    assert f.read(11) == b"y" * 10 + b"x"
    assert os.fstat(f.fileno()).st_nlink == 0
    f.close()
    held.close()


def servers_of_another_cluster_are_refused(cluster):
    cluster.up()
    other = type(cluster)(chunkservers=1)
    try:
        other.up()
        run([CAIRN, "local", "down", "--dir", other.dir])
        done = run([CHUNKSERVER, "--set", f"store.directories={other.dir}/chunks-1", "--set", f"chunkserver.masters={cluster.masters()}", "--set",
                    "chunkserver.listen=127.0.0.1:0"], check=False, timeout=40)
        assert done.returncode == 1 and "cluster" in done.stdout, f"status {done.returncode}: {done.stdout}"
    finally:
        other.clean()


def other_protocols():
    """What a server of another protocol says to a hello: its own hello (the client has to see it), or that it refuses."""
    text = b"other-version 9.9 speaks protocol 7 to 9, cairn speaks 1 to 1"
    refusal = struct.pack("<H", 105) + bytes([len(text)]) + text  # error code `protocol`
    yield other_version.frame(other_version.HELLO, other_version.hello(7, 9)), ["protocol", "1 to 1", "7 to 9"]
    yield other_version.frame(other_version.ERROR, refusal) + other_version.frame(other_version.GOODBYE, refusal), ["protocol", "7 to 9"]
    yield other_version.frame(other_version.HELLO, other_version.hello(1, 1), frame_version=2), ["frame version 2", "ours is 1"]


def a_master_of_another_protocol_is_refused_with_both_versions(cluster):
    mnt = os.path.join(cluster.folder, "mnt")
    os.makedirs(mnt)
    for answer, words in other_protocols():
        with other_version.server(answer) as address:
            begin = time.monotonic()
            refused([CAIRN, "mount", address, mnt], 1, address, *words)
            assert time.monotonic() - begin < 10, "mounting"
            refused([CAIRN, "status", "--master", address], 4, address, *words)
            assert not os.path.ismount(mnt)


def a_chunkserver_names_the_versions_of_a_master_of_another_protocol(cluster):
    """It goes on asking: the master may be about to be replaced. It ends at once when it is told to."""
    for i, (answer, words) in enumerate(other_protocols()):
        log = os.path.join(cluster.folder, f"chunkserver-{i}.log")

        def told(log=log, words=words):
            with open(log) as f:
                text = f.read()
            return all(word in text for word in words)

        with other_version.server(answer) as address, open(log, "w") as out:
            server = subprocess.Popen([CHUNKSERVER, "--set", f"store.directories={cluster.folder}/chunks-{i}", "--set",
                                       f"chunkserver.masters={address}", "--set", "chunkserver.listen=127.0.0.1:0"],
                                      stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            try:
                wait_for(f"{words} in the chunkserver's log", told, 10)
                server.send_signal(signal.SIGTERM)
                assert server.wait(10) == 0, f"status {server.returncode}"
            finally:
                server.kill()
                server.wait()


def clients_of_another_protocol_are_refused_with_both_versions(cluster):
    off = {"tls": {"mode": '"off"'}}  # the other version speaks in clear
    cluster.configure({"master": off, "chunkserver": off})
    os.environ["CAIRN_TLS"] = "off"
    try:
        cluster.up()
        clients_of_another_protocol(cluster)
    finally:
        del os.environ["CAIRN_TLS"]


def clients_of_another_protocol(cluster):
    for name, program in cluster.programs().items():
        answers = other_version.ask(program["address"], other_version.frame(other_version.HELLO, other_version.hello(7, 9)))
        assert [kind for kind, _ in answers] == [other_version.ERROR, other_version.GOODBYE], f"{name}: {answers}"
        for _, message in answers:
            text = other_version.error_text(message)
            assert "speaks protocol 1 to 1" in text and "other-version 9.9 speaks 7 to 9" in text, f"{name}: {text}"
        # Who also speaks ours is welcome.
        host, port = program["address"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as s:
            s.sendall(other_version.frame(other_version.HELLO, other_version.hello(1, 9)))
            assert other_version.read_frame(s)[0] == other_version.HELLO, name
    assert all(p["running"] for p in cluster.programs().values())


if __name__ == "__main__":
    main([wrong_configuration_is_refused, a_folder_or_port_in_use_is_named, mounting_without_a_master_ends_within_ten_seconds,
          garbage_on_the_ports_harms_nobody, names_and_paths, unlinked_files_live_while_they_are_open, servers_of_another_cluster_are_refused,
          a_master_of_another_protocol_is_refused_with_both_versions, a_chunkserver_names_the_versions_of_a_master_of_another_protocol,
          clients_of_another_protocol_are_refused_with_both_versions], tcp=True)
