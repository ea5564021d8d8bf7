"""Transport security on a real cluster: on without being asked for, who is refused and how it is told, and new certificates without a
restart."""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

from local_cluster import BIN, CAIRN, main, run, wait_for
from other_version import ERROR, HELLO, REQUEST, error_code, frame, hello, read_frame

MASTER = os.path.join(BIN, "cairn-master")
CHUNKSERVER = os.path.join(BIN, "cairn-chunkserver")
UNAUTHORIZED = 112  # common/base/error.h


def log_of(cluster, name):
    with open(os.path.join(cluster.dir, "log", name + ".log"), errors="replace") as f:
        return f.read()


def copy(source, target):
    with open(source, "rb") as a, open(target, "wb") as b:
        shutil.copyfileobj(a, b)


def issue(authority, role, name, out):
    run([CAIRN, "cluster", "issue", authority, "--role", role, "--name", name, "--out", out])
    return out


def tls_settings(folder, role):
    return [word for key, name in (("ca", "ca.crt"), ("certificate", role + ".crt"), ("key", role + ".key"))
            for word in ("--set", f"tls.{key}={folder}/{name}")]


@contextlib.contextmanager
def greeted(cluster, address, certificate=None):
    """A TLS connection with a server of the cluster, after its first byte."""
    folder = os.path.join(cluster.dir, "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder + "/ca.crt")
    context.set_alpn_protocols(["cairn/1"])
    if certificate:
        context.load_cert_chain(certificate + ".crt", certificate + ".key")
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as s:
        assert s.version() == "TLSv1.3" and s.selected_alpn_protocol() == "cairn/1", f"{s.version()} {s.selected_alpn_protocol()}"
        assert s.recv(1) == b"\x01"
        yield s


def greet(cluster, address, certificate=None):
    """The name in the certificate that a server of the cluster shows."""
    with greeted(cluster, address, certificate) as s:
        return dict(s.getpeercert()["subjectAltName"])["URI"]


def refused_to(cluster, role, program, method):
    """Whether the role's certificate is not enough for that method; the request itself says nothing."""
    with greeted(cluster, cluster.programs()[program]["address"], os.path.join(cluster.dir, "tls", role)) as s:
        s.sendall(frame(HELLO, hello(1, 1)) + frame(REQUEST, b"", method=method, deadline_ms=10_000))
        assert read_frame(s)[0] == HELLO
        kind, message = read_frame(s)
        return kind == ERROR and error_code(message) == UNAUTHORIZED


def a_local_cluster_speaks_tls_without_being_asked(cluster):
    cluster.up()
    mnt = cluster.mount()
    data = os.urandom(20 << 20)
    with open(os.path.join(mnt, "file"), "wb") as f:
        f.write(data)
        os.fsync(f.fileno())
    other = cluster.mount("other")
    with open(os.path.join(other, "file"), "rb") as f:
        assert f.read() == data, "another mount reads something else"
    identity = cluster.status()["cluster"]
    mine = os.path.join(cluster.dir, "tls", "client")
    for name, program in cluster.programs().items():
        role = name.split("-")[0]
        assert greet(cluster, program["address"], mine) == f"cairn://{identity}/{role}/local", name
        try:
            greet(cluster, program["address"])
            raise AssertionError(f"{name} lets somebody in who shows no certificate")
        except ssl.SSLError as error:
            assert "CERTIFICATE_REQUIRED" in str(error).upper().replace(" ", "_"), error
        assert "it has shown no certificate" in log_of(cluster, name), name
    for name in os.listdir(os.path.dirname(mine)):
        assert os.stat(os.path.join(os.path.dirname(mine), name)).st_mode & 0o077 == 0, f"{name} can be read by others"


def a_chunkserver_with_a_foreign_certificate_is_refused_and_named(cluster):
    cluster.up()
    identity = cluster.status()["cluster"]
    foreign, forged = os.path.join(cluster.folder, "foreign"), os.path.join(cluster.folder, "forged")
    run([CAIRN, "cluster", "init", foreign])
    run([CAIRN, "cluster", "init", forged, "--cluster", identity])

    def start(folder, log):
        return subprocess.Popen(
            [CHUNKSERVER, "--set", f"store.directories={cluster.folder}/chunks-{os.path.basename(folder)}", "--set",
             f"chunkserver.masters={cluster.masters()}", "--set", "chunkserver.listen=127.0.0.1:0", "--set", f"log.file={log}",
             *tls_settings(folder, "chunkserver")], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    log = os.path.join(cluster.folder, "foreign.log")
    server = start(issue(foreign, "chunkserver", "stranger", os.path.join(cluster.folder, "f1")), log)
    try:
        _, said = server.communicate(timeout=40)
        assert server.returncode == 1 and f"is of cluster {identity}" in said, f"status {server.returncode}: {said}"
    finally:
        server.kill()
        server.wait()
    # This one has the cluster's id and believes the right authority, but its own certificate is not of that one.
    folder = issue(forged, "chunkserver", "intruder", os.path.join(cluster.folder, "f2"))
    with open(os.path.join(folder, "ca.crt"), "ab") as bundle, open(os.path.join(cluster.dir, "tls", "ca.crt"), "rb") as real:
        bundle.write(real.read())
    server = start(folder, log)
    try:
        wait_for("the master's refusal", lambda: f"cairn://{identity}/chunkserver/intruder is not signed" in log_of(cluster, "master"), 20)
        assert server.poll() is None, "it ended: a new certificate could not be given to it"
        assert len(cluster.status()["servers"]) == 3
    finally:
        server.kill()
        server.communicate()


def refused_soon(args, env, *words):
    begin = time.monotonic()
    done = run(args, check=False, timeout=60, env={**os.environ, **env})
    assert done.returncode != 0 and time.monotonic() - begin < 10, f"{args}: {done.returncode} after {time.monotonic() - begin:.1f} s"
    for word in words:
        assert word in done.stdout, f"{args}: '{word}' is missing in: {done.stdout}"


def expired_certificate(cluster, folder):
    """What `cairn cluster issue` does not make: one that ended yesterday."""
    os.makedirs(folder)
    authority = os.path.join(cluster.dir, "tls")
    copy(authority + "/ca.crt", folder + "/ca.crt")
    identity = cluster.status()["cluster"]
    with open(folder + "/extensions", "w") as f:
        f.write(f"subjectAltName=URI:cairn://{identity}/client/old\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n")
    run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder + "/client.key",
         "-subj", "/CN=old", "-out", folder + "/request"])
    run(["openssl", "x509", "-req", "-in", folder + "/request", "-CA", authority + "/ca.crt", "-CAkey", authority + "/ca.key", "-days", "-1",
         "-extfile", folder + "/extensions", "-out", folder + "/client.crt"])
    os.chmod(folder + "/client.key", 0o600)


def a_mount_without_a_good_certificate_fails_and_says_what_to_do(cluster):
    cluster.up()
    address = cluster.masters()
    mnt = os.path.join(cluster.folder, "mnt")
    empty = os.path.join(cluster.folder, "empty")
    os.makedirs(mnt)
    os.makedirs(empty)
    # As on another machine: nothing is known of the local cluster's certificates.
    elsewhere = {"CAIRN_RUN_DIR": empty, "HOME": empty}
    refused_soon([CAIRN, "mount", address, mnt], elsewhere, address, "cairn cluster issue", "/etc/cairn/tls")
    refused_soon([CAIRN, "status", "--master", address], elsewhere, "cairn cluster issue")
    refused_soon([CAIRN, "mount", address, mnt, "-o", "tls=on"], elsewhere, "client.crt", "cairn cluster issue")
    refused_soon([CAIRN, "mount", "192.0.2.1:9400", mnt], elsewhere, "another machine", "cairn cluster issue")
    foreign = os.path.join(cluster.folder, "foreign")
    run([CAIRN, "cluster", "init", foreign])
    folder = issue(foreign, "client", "stranger", os.path.join(cluster.folder, "f1"))
    refused_soon([CAIRN, "mount", address, mnt, "-o", f"tls_dir={folder}"], elsewhere, "is of cluster")
    old = os.path.join(cluster.folder, "old")
    expired_certificate(cluster, old)
    refused_soon([CAIRN, "mount", address, mnt, "-o", f"tls_dir={old}"], elsewhere, "client.crt", "expired on")
    assert not os.path.ismount(mnt)
    good = issue(os.path.join(cluster.dir, "tls"), "client", "guest", os.path.join(cluster.folder, "f2"))
    env = {**os.environ, **elsewhere}
    run([CAIRN, "mount", address, mnt, "-o", f"tls_dir={good}"], env=env)
    run([CAIRN, "umount", mnt], env=env)


def servers_do_not_listen_for_others_in_clear(cluster):
    folder = os.path.join(cluster.folder, "m")
    master = [MASTER, "--init", "--set", f"master.folder={folder}/master", "--set", "master.listen=0.0.0.0:0", "--set",
              "master.advertise=127.0.0.1:9400"]
    refused_soon(master, {}, "cairn cluster init", 'tls.mode = "off"')
    refused_soon([CHUNKSERVER, "--set", f"store.directories={folder}/chunks", "--set", "chunkserver.listen=0.0.0.0:0", "--set",
                  "chunkserver.advertise=127.0.0.1:9410", "--set", "chunkserver.masters=127.0.0.1:1"], {}, "cairn cluster init")
    refused_soon([*master, "--set", "tls.mode=on"], {}, "master.crt", "cairn cluster issue")
    authority = os.path.join(cluster.folder, "authority")
    run([CAIRN, "cluster", "init", authority])
    refused_soon([CAIRN, "cluster", "init", authority], {}, "--force")
    wrong = issue(authority, "client", "x", os.path.join(cluster.folder, "x"))
    refused_soon([*master, *tls_settings(wrong, "client")], {}, "client.crt", "here a master's is wanted")
    listed = json.loads(run([CAIRN, "cluster", "show", wrong, "--json"]).stdout)
    assert [(c["role"], c["valid"]) for c in listed] == [("authority", True), ("client", True)], listed


def a_new_certificate_needs_no_restart(cluster):
    cluster.up()
    mnt = cluster.mount()
    folder = os.path.join(cluster.dir, "tls")
    run([CAIRN, "cluster", "issue", folder, "--role", "chunkserver", "--name", "renewed", "--out", folder, "--force"])
    cluster.signal("chunkserver-1", signal.SIGHUP)
    wait_for("the new certificate", lambda: "/chunkserver/renewed" in log_of(cluster, "chunkserver-1"), 10)
    programs = cluster.programs()
    assert greet(cluster, programs["chunkserver-1"]["address"], folder + "/client").endswith("/chunkserver/renewed")
    # The others see by themselves that the file has changed.
    wait_for("the new certificate, without a signal",
             lambda: greet(cluster, programs["chunkserver-2"]["address"], folder + "/client").endswith("/renewed"), 10)
    with open(folder + "/chunkserver.crt", "w") as f:
        f.write("rubbish")
    cluster.signal("chunkserver-1", signal.SIGHUP)
    wait_for("the complaint", lambda: "tls.not_reloaded" in log_of(cluster, "chunkserver-1"), 10)
    assert greet(cluster, programs["chunkserver-1"]["address"], folder + "/client").endswith("/renewed")
    with open(os.path.join(mnt, "file"), "wb") as f:
        f.write(b"x" * (1 << 20))
        os.fsync(f.fileno())


def data_that_is_authenticated_only_arrives(cluster):
    cluster.configure({"chunkserver": {"tls": {"data": '"authenticated"'}}})
    cluster.up()
    data = os.urandom(30 << 20)
    path = os.path.join(cluster.folder, "mnt")
    os.makedirs(path)
    cluster.mounts.append(path)
    run([CAIRN, "mount", cluster.masters(), path, "-o", "tls_data=authenticated"])
    with open(os.path.join(path, "file"), "wb") as f:
        f.write(data)
        os.fsync(f.fileno())
    # This one wants it encrypted, and both get on with the same chunkservers.
    other = cluster.mount("other")
    with open(os.path.join(other, "file"), "rb") as f:
        assert f.read() == data
    assert cluster.status()["chunks"]["under_goal"] == 0


def a_role_opens_its_methods_and_no_others(cluster):
    cluster.up()
    # Numbers as in common/proto/methods.h and master/service/raft_peers.h.
    for role, program, closed, open_ in (
            ("client", "master", (200, 201, 202, 252, 254, 255, 256, 270, 271, 272, 280, 281, 282), (5, 250, 253)),
            ("admin", "master", (200, 201, 202, 270, 271, 272), (5, 250, 253, 256)),
            ("chunkserver", "master", (1, 4, 5, 21, 250, 251, 252, 254, 255, 256, 270, 271, 272, 280), (200, 253)),
            ("master", "master", (1, 4, 200, 254), (253, 271)),
            ("client", "chunkserver-1", (150, 151, 152, 153, 154, 155, 283, 284), (102,)),
            ("chunkserver", "chunkserver-1", (150, 151, 152, 153, 154, 155, 283, 284), (102, 103)),
            ("master", "chunkserver-1", (), (102, 155))):
        for method in closed:
            assert refused_to(cluster, role, program, method), f"a {role} may ask the {program} for {method}"
        for method in open_:
            assert not refused_to(cluster, role, program, method), f"a {role} may not ask the {program} for {method}"
    assert "rpc.role_refused" in log_of(cluster, "master")
    guest = issue(os.path.join(cluster.dir, "tls"), "client", "guest", os.path.join(cluster.folder, "guest"))
    only_looks = {"CAIRN_TLS_DIR": guest}
    address = cluster.masters()
    run([CAIRN, "status", "--master", address], env={**os.environ, **only_looks})
    export = [CAIRN, "metadata", "export", "--master", address, os.path.join(cluster.folder, "dump")]
    refused_soon(export, only_looks, "administrator's certificate", "cairn cluster issue")
    # A cluster whose certificates are of before there was one for its administrator.
    for end in (".crt", ".key"):
        os.unlink(os.path.join(cluster.dir, "tls", "admin" + end))
    refused_soon(export, {}, "administrator's certificate")
    cluster.up()
    run(export)


def answers(path, user):
    """How many bytes a process of that user is answered."""
    pid = os.fork()
    if pid == 0:
        got = 0
        try:
            os.setgid(user)
            os.setuid(user)
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(10)
                s.connect(path)
                s.sendall(b"GET /health HTTP/1.1\r\nHost: mount\r\n\r\n")
                got = min(len(s.recv(1000)), 100)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except BaseException:
            got = 255
        os._exit(got)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status <= 100, f"user {user} could not try"
    return status


def unix_sockets_are_for_their_user(cluster):
    cluster.up()
    mnt = cluster.mount()
    record = cluster.mount_pids(mnt)
    for folder in (cluster.folder, os.environ["CAIRN_RUN_DIR"]):
        os.chmod(folder, 0o755)
    os.chmod(record["socket"], 0o777)  # so that only the peer's credentials are in the way
    assert answers(record["socket"], 0) > 0
    assert answers(record["socket"], 65534) == 0
    with open(record["log_file"]) as f:
        assert "transport.user_refused" in f.read()


if __name__ == "__main__":
    main([a_local_cluster_speaks_tls_without_being_asked, a_chunkserver_with_a_foreign_certificate_is_refused_and_named,
          a_mount_without_a_good_certificate_fails_and_says_what_to_do, servers_do_not_listen_for_others_in_clear,
          a_new_certificate_needs_no_restart, data_that_is_authenticated_only_arrives,
          a_role_opens_its_methods_and_no_others, unix_sockets_are_for_their_user], tcp=True)
