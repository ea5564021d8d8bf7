"""What `cmake --install` puts where: programs that run, units that systemd takes, and a helper that mount(8) finds."""

import os
import shutil
import stat
import subprocess

from local_cluster import main, run

BUILD = os.environ["CAIRN_BUILD_DIR"]


def installed(cluster):
    prefix = os.path.join(cluster.folder, "prefix")
    run(["cmake", "--install", BUILD, "--prefix", prefix])
    return prefix


def everything_is_installed(cluster):
    prefix = installed(cluster)
    for program in ("cairn", "cairn-master", "cairn-chunkserver"):
        assert "." in run([f"{prefix}/bin/{program}", "--version"]).stdout
    for path in ("share/doc/cairn/operations.md", "share/doc/cairn/decisions/004-capabilities.md", "share/doc/cairn/README.md",
                 "lib/sysusers.d/cairn.conf"):
        assert stat.S_ISREG(os.stat(f"{prefix}/{path}").st_mode), path
    for program in ("master", "chunkserver"):
        example = run([f"{prefix}/bin/cairn-{program}", "--example-config"]).stdout
        assert open(f"{prefix}/share/doc/cairn/config/{program}.toml").read() == example


def systemd_takes_the_units(cluster):
    if not shutil.which("systemd-analyze"):
        print("systemd-analyze is not here", flush=True)
        return
    prefix = installed(cluster)
    units = os.path.join(prefix, "lib/systemd/system")
    names = sorted(os.listdir(units))
    assert names == ["cairn-chunkserver.service", "cairn-master.service", "cairn-mount@.service"], names
    for name in names:
        # The programs are not in the system's folders here, and verify looks whether they are there.
        path = os.path.join(units, name)
        text = open(path).read().replace("=cairn", f"={prefix}/bin/cairn").replace(f"Directory={prefix}/bin/", "Directory=")
        text = text.replace(f"User={prefix}/bin/cairn", "User=root")
        with open(path, "w") as f:
            f.write(text)
    for name in names:
        verified = run(["systemd-analyze", "verify", "--man=no", os.path.join(units, name.replace("@.", "@mnt-cairn."))], check=False)
        own = [line for line in verified.stdout.splitlines() if "cairn" in line]
        assert verified.returncode == 0 and not own, verified.stdout


def mount_finds_its_helper(cluster):
    """In a mount namespace of its own, with a /sbin of its own: mount(8) looks for helpers nowhere else."""
    prefix = installed(cluster)
    assert os.path.realpath(f"{prefix}/sbin/mount.cairn") == os.path.realpath(f"{prefix}/bin/cairn")
    sbin = os.path.join(cluster.folder, "sbin")
    os.makedirs(sbin)
    os.symlink(f"{prefix}/bin/cairn", f"{sbin}/mount.cairn")
    cluster.up()
    mnt = os.path.join(cluster.folder, "mnt")
    os.makedirs(mnt)
    script = f"""set -e
      mount --bind {sbin} "$(readlink -f /sbin)"
      mount -t cairn -o rw,_netdev,noexec 'cairn#{cluster.masters()}' {mnt}
      trap '{prefix}/bin/cairn umount {mnt}' EXIT
      grep -q ' {mnt} .*noexec' /proc/self/mountinfo
      echo hello > {mnt}/f
      test "$(cat {mnt}/f)" = hello
      echo mounted"""
    done = subprocess.run(["unshare", "--mount", "--propagation", "private", "bash", "-c", script], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "mounted" in done.stdout, done.stdout


main([everything_is_installed, systemd_takes_the_units, mount_finds_its_helper])
