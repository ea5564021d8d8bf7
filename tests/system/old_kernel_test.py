"""What one mount does is seen on another (coherence_test) on Debian 12's own kernel (6.1), in a virtual machine: QEMU, that kernel from its package, this machine's
files read-only under a layer in memory. Needs what `deploy/install-deps.sh --long` installs. Emulated, so slow; CAIRN_KVM=1 uses the
processor's own virtualization, which does not work inside every virtual machine.

    old_kernel_test.py [--package FILE.deb] [--command 'COMMAND ...']     default: the kernel of linux-image-amd64, fetched by apt-get
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
SYSTEM = os.path.join(ROOT, "tests", "system")
MODULES = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "fuse"]
MEMORY = "6144"
LONGEST = 1500
COMMANDS = [
    ["python3", f"{SYSTEM}/coherence_test.py"],
]
INIT = """#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev
for module in @MODULES@; do busybox insmod /modules/$module || echo "no module $module"; done
busybox mount -t tmpfs -o size=80% none /layer
busybox mkdir /layer/upper /layer/work /layer/root /layer/lower
busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /layer/lower || busybox poweroff -f
busybox mount -t overlay -o lowerdir=/layer/lower,upperdir=/layer/upper,workdir=/layer/work none /layer/root || busybox poweroff -f
cd /layer/root
for folder in proc sys dev; do busybox mount --move /$folder $folder; done
busybox mkdir -p dev/shm dev/pts
busybox mount -t tmpfs none dev/shm
busybox mount -t devpts none dev/pts
busybox ip link set lo up
busybox chroot . /bin/bash @SCRIPT@ 2>&1
busybox poweroff -f
"""


def modules_of(lib, version):
    """Files of the modules and of what they need, in the order in which they are loaded."""
    done = []
    for module in MODULES:
        shown = subprocess.run(["modprobe", "--show-depends", "-d", lib, "-S", version, module], stdout=subprocess.PIPE, check=True, text=True)
        for line in shown.stdout.splitlines():
            if line.startswith("insmod ") and line.split()[1] not in done:
                done.append(line.split()[1])
    return done


def image_of(folder, package):
    """(kernel, its modules), unpacked from its package."""
    if not package:
        depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], stdout=subprocess.PIPE, check=True, text=True).stdout
        name = next(line.split()[1] for line in depends.splitlines() if "linux-image-6.1" in line)
        subprocess.run(["apt-get", "download", name], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        package = glob.glob(f"{folder}/{name}_*.deb")[0]
    subprocess.run(["dpkg-deb", "-x", package, f"{folder}/package"], check=True)
    version = os.listdir(f"{folder}/package/lib/modules")[0]
    subprocess.run(["depmod", "-b", f"{folder}/package", version], check=True)
    return f"{folder}/package/boot/vmlinuz-{version}", modules_of(f"{folder}/package", version)


def first_files(folder, modules, script):
    """The first files that the kernel sees: what loads the modules and changes to this machine's files."""
    root = f"{folder}/first"
    for name in ("bin", "modules", "proc", "sys", "dev", "layer"):
        os.makedirs(f"{root}/{name}")
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")
    for module in modules:
        shutil.copy(module, f"{root}/modules/")
    init = INIT.replace("@MODULES@", " ".join(map(os.path.basename, modules))).replace("@SCRIPT@", script)
    with open(f"{root}/init", "w") as f:
        f.write(init)
    os.chmod(f"{root}/init", 0o755)
    made = f"{folder}/first.cpio"
    with open(made, "wb") as f:
        subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=root, stdout=f, check=True)
    return made


def boot(folder, kernel, first):
    """Runs it and shows what it says. Gives the words that the commands' script ended with."""
    said = f"{folder}/said"
    fast = os.environ.get("CAIRN_KVM") == "1"
    command = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-smp", "2", "-m", MEMORY,
               *(["-enable-kvm", "-cpu", "host"] if fast else ["-accel", "tcg,thread=multi", "-cpu", "max"]), "-kernel", kernel, "-initrd", first,
               "-append", "console=ttyS0 quiet panic=-1", "-serial", "stdio",
               "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap", "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
    words = None
    begin = time.monotonic()
    with open(said, "wb") as out:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            machine.wait(LONGEST)
        except subprocess.TimeoutExpired:
            print(f"        it has not ended after {LONGEST} s", flush=True)
        finally:
            machine.kill()
            machine.wait()
    with open(said, errors="replace") as f:
        for line in f:
            print(f"        {line.rstrip()}", flush=True)
            if line.startswith("OLD-KERNEL "):
                words = line.split()[1:]
    print(f"        {time.monotonic() - begin:.0f} s{'' if fast else ', emulated'}", flush=True)
    return words


def main():
    arguments = sys.argv[1:]
    package = arguments[arguments.index("--package") + 1] if "--package" in arguments else None
    commands = [arguments[arguments.index("--command") + 1].split()] if "--command" in arguments else COMMANDS
    for program in ("qemu-system-x86_64", "busybox", "cpio"):
        assert shutil.which(program), f"{program} is missing: deploy/install-deps.sh --long installs it"
    folder = tempfile.mkdtemp(prefix="cairn-old-kernel-", dir=os.path.join(ROOT, "build"))
    try:
        kernel, modules = image_of(folder, os.path.abspath(package) if package else None)
        script = f"{folder}/commands.sh"
        with open(script, "w") as f:
            f.write("export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb\nuname -r\nfailed=0\n")
            for command in commands:
                f.write(f"{' '.join(command)} || {{ echo 'failed: {' '.join(command[:3])}'; failed=$((failed + 1)); }}\n")
            f.write("echo OLD-KERNEL $(uname -r) $failed\n")
        words = boot(folder, kernel, first_files(folder, modules, script))
        assert words and words[0].startswith("6.1."), "it did not get to the end"
        assert words[1] == "0", f"{words[1]} of {len(commands)} failed on {words[0]}"
        print(f"ok      the tests of several mounts on Linux {words[0]}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
