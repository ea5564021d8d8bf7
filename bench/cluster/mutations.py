#!/usr/bin/env python3
"""How many changes of names masters take a second, and how long each takes: 1, 16 and 256 in flight.

  mutations.py [--kinds create,mixed,...] [--masters N] [--repeat R] [--seconds S] [--chunks]
  mutations.py --scale INODES        a namespace of that size: pauses, memory, restarts

Starts a cluster of its own in a fresh folder (--dir, removed before and after unless --keep), runs bench/mutation_bench of
the build (--build, default build/release), prints tables. A figure is the median of the repetitions. "us a change" is the
processor time of the masters' threads, of the client, and of all of it. Standard library only; needs the release build with
-DCAIRN_BENCHMARKS=ON.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
OFTEN = "--set=disk.checkpoint=4 MiB"  # so that a few seconds see several checkpoints


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def thread_seconds(pid):
    """Processor seconds of each kind of thread of a process."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm") as file:
                name = file.read().strip().rstrip("0123456789-")
            with open(f"/proc/{pid}/task/{task}/schedstat") as file:
                spent = int(file.read().split()[0]) / 1e9
        except OSError:
            continue
        name = "loop" if task == str(pid) else name
        # LevelDB's background thread has the name of the thread that made it.
        found[name] = found.get(name, 0) + spent
    return found


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0


class Cluster:
    """One master as a process of ours, or several by `cairn local up`; with chunkservers where chunks are wanted."""

    def __init__(self, arguments):
        self.bin = Path(arguments.build) / "bin"
        self.folder = Path(arguments.dir)
        self.chunks = arguments.chunks
        self.count = arguments.masters
        self.port = free_port()
        self.processes = {}
        self.settings = [f"--set={value}" for value in arguments.set]
        self.over = [] if arguments.unix else ["--tcp"]
        self.tls = None if arguments.clear or arguments.unix else self.folder / ("local/tls" if arguments.masters > 1 else "tls")

    def start_program(self, name, *words):
        log = open(self.folder / f"{name}.out", "ab")
        self.processes[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def start_master(self):
        begun = time.monotonic()
        self.start_program(
            "master", str(self.bin / "cairn-master"), "--init", f"--set=master.folder={self.folder}/master",
            f"--set=master.listen={HOST}:{self.port}", f"--set=log.file={self.folder}/master.log", *self.settings)
        while True:
            if self.processes["master"].poll() is not None:
                sys.exit(f"mutations.py: the master ended; see {self.folder}")
            try:
                socket.create_connection((HOST, self.port), 1).close()
                return time.monotonic() - begun
            except OSError:
                time.sleep(0.002)

    def start(self):
        if self.count > 1:
            subprocess.run([self.bin / "cairn", "local", "up", "--dir", self.folder / "local", *self.over, "--masters",
                            str(self.count)], check=True, stdout=subprocess.DEVNULL)
            return
        if self.tls and not self.tls.exists():  # beside the programs' folders: they find it
            cluster = [self.bin / "cairn", "cluster"]
            subprocess.run([*cluster, "init", self.folder / "authority"], check=True, stdout=subprocess.DEVNULL)
            for role in ("master", "chunkserver", "client"):
                subprocess.run([*cluster, "issue", self.folder / "authority", "--role", role, "--name", "bench",
                                "--out", self.tls], check=True, stdout=subprocess.DEVNULL)
        self.start_master()
        for i in range(3 if self.chunks else 0):
            self.start_program(
                f"chunkserver-{i}", str(self.bin / "cairn-chunkserver"), f"--set=chunkserver.listen={HOST}:{free_port()}",
                f"--set=chunkserver.masters={HOST}:{self.port}",
                f"--set=store.directories={self.folder}/chunkserver-{i}",
                f"--set=log.file={self.folder}/chunkserver-{i}.log")

    def stop_program(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait()

    def stop_chunkservers(self):
        for name in [name for name in self.processes if name != "master"]:
            self.stop_program(name)

    def stop(self):
        if self.count > 1:
            subprocess.run([self.bin / "cairn", "local", "down", "--dir", self.folder / "local"], check=False,
                           stdout=subprocess.DEVNULL)
        for name in list(self.processes):
            self.stop_program(name)

    def addresses(self):
        if self.count == 1:
            return f"{HOST}:{self.port}"
        found = json.loads(subprocess.run([self.bin / "cairn", "local", "status", "--json", "--dir",
                                           self.folder / "local"], check=False, capture_output=True).stdout)
        return ",".join(program["address"] for program in found["programs"] if program["name"].startswith("master"))

    def master_pids(self):
        if self.count == 1:
            return [self.processes["master"].pid]
        found = json.loads(subprocess.run([self.bin / "cairn", "local", "status", "--json", "--dir",
                                           self.folder / "local"], check=False, capture_output=True).stdout)
        return [program["pid"] for program in found["programs"] if program["name"].startswith("master")]

    def master_log(self, event):
        with open(self.folder / "master.log") as file:
            return [line.strip() for line in file if event in line]


def run_bench(arguments, cluster, *words):
    """Lines of mutation_bench, each with the processor time that went into it."""
    command = [str(Path(arguments.build) / "bench" / "mutation_bench"), "--masters", cluster.addresses(),
               "--sessions", str(arguments.sessions), *(["--tls", str(cluster.tls)] if cluster.tls else []), *words]
    pids = cluster.master_pids()
    before = [thread_seconds(pid) for pid in pids]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    client_before = thread_seconds(process.pid)
    results = []
    for line in process.stdout:
        if not line.startswith("{"):
            if line != "# made\n":
                print(line.rstrip(), flush=True)
            before = [thread_seconds(pid) for pid in pids]
            client_before = thread_seconds(process.pid)
            continue
        result = json.loads(line)
        client_after = thread_seconds(process.pid)
        after = [thread_seconds(pid) for pid in pids]
        spent = {}
        for old, new in zip(before, after):
            for name, seconds in new.items():
                spent[name] = spent.get(name, 0) + (seconds - old.get(name, 0)) * 1e6 / result["changes"]
        result["all_us"] = sum(spent.values())
        spent["client"] = (sum(client_after.values()) - sum(client_before.values())) * 1e6 / result["changes"]
        result["all_us"] += spent["client"]
        result["spent_us"] = spent
        before, client_before = after, client_after
        results.append(result)
    if process.wait() != 0:
        sys.exit(f"mutations.py: mutation_bench failed; see {cluster.folder}")
    return results


def table(rows):
    print("| kind | in flight | changes/s | p50 ms | p99 ms | longest ms | us a change: loop, apply, log; client; all |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for same in rows:
        middle = {key: statistics.median(row[key] for row in same) for key in ("per_second", "p50_ms", "p99_ms")}
        spent = {name: statistics.median(row["spent_us"].get(name, 0) for row in same)
                 for name in ("loop", "apply", "log", "client")}
        threads = f"{spent['loop']:.1f}, {spent['apply']:.1f}, {spent['log']:.1f}; {spent['client']:.1f}; " \
                  f"{statistics.median(row['all_us'] for row in same):.1f}"
        print(f"| {same[0]['kind']} | {same[0]['in_flight']} | {middle['per_second']:.0f} | {middle['p50_ms']:.2f} "
              f"| {middle['p99_ms']:.2f} | {max(row['max_ms'] for row in same):.0f} | {threads} |")
    print(flush=True)


def throughput(arguments, cluster):
    rows = []
    for kind in arguments.kinds.split(","):
        runs = []
        for _ in range(arguments.repeat):
            words = ["--kind", kind, "--seconds", str(arguments.seconds), "--in-flight", arguments.in_flight]
            # One run for each number in flight would leave out what the others leave behind (tables to be merged).
            runs.append(run_bench(arguments, cluster, *words, *(["--chunks"] if arguments.chunks else [])))
        rows += [list(same) for same in zip(*runs)]
    table(rows)


def pauses(result):
    listed = ", ".join(f"{length:.0f} ms at {at:.1f} s" for at, length in result["pauses"][:5])
    print(f"{result['in_flight']} in flight: {result['per_second']:.0f}/s, p50 {result['p50_ms']:.2f} ms, "
          f"p99 {result['p99_ms']:.2f} ms, p99.9 {result['p999_ms']:.1f} ms, longest {result['max_ms']:.0f} ms{'; ' + listed if listed else ''}", flush=True)


def restart(cluster, what, how, before=None):
    cluster.stop_program("master", how)
    if before:
        before()
    took = cluster.start_master()
    recovered = cluster.master_log("master.log_recovered")[-1]
    print(f"restart after {what}: {took:.2f} s until it answers; {recovered.split('master.log_recovered ')[-1]}", flush=True)


def scale(arguments, cluster):
    if not arguments.reuse:
        chunks = ["--chunks"] if arguments.chunks else []
        run_bench(arguments, cluster, "--fill", str(arguments.scale), *chunks, "--seconds", "1", "--in-flight", "1",
                  "--directories", "1000")
        print(f"resident after filling: {resident_mib(cluster.master_pids()[0]):.0f} MiB", flush=True)
        cluster.stop_chunkservers()  # those have none of these chunks, and would say so
    cluster.stop_program("master")
    cluster.settings.append(OFTEN)
    cluster.start_master()
    print("with a checkpoint each 4 MiB of log (default: 64 MiB):")
    for in_flight, background in (("1", "0"), ("16", "0"), ("1", "64")):
        made = len(cluster.master_log("checkpoint.made"))
        for result in run_bench(arguments, cluster, "--kind", "mixed", "--seconds", str(arguments.seconds), "--in-flight",
                                in_flight, "--background", background):
            pauses(result)
        took = [int(line.split(" ms=")[1].split()[0]) for line in cluster.master_log("checkpoint.made")[made:]]
        print(f"  {len(took)} checkpoints made meanwhile" + (f", {min(took)} to {max(took)} ms each" if took else ""))
    pid = cluster.master_pids()[0]
    print(f"resident: {resident_mib(pid):.0f} MiB; state on disk: "
          f"{sum(f.stat().st_size for f in (cluster.folder / 'master' / 'state').iterdir()) >> 20} MiB", flush=True)
    restart(cluster, "SIGKILL", signal.SIGKILL)
    cluster.settings.remove(OFTEN)
    restart(cluster, "SIGTERM", signal.SIGTERM)
    for result in run_bench(arguments, cluster, "--kind", "mixed", "--seconds", "8", "--in-flight", "256"):
        pauses(result)  # most of what a restart of the machine may have to replay

    def forget_boot_id():  # as after a restart of the machine
        (cluster.folder / "master" / "state-origin").unlink()

    restart(cluster, "SIGKILL and a restart of the machine", signal.SIGKILL, forget_boot_id)
    print(f"resident after the restart: {resident_mib(cluster.master_pids()[0]):.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=ROOT / "build/release")
    parser.add_argument("--dir", default="/tmp/cairn-mutations")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--masters", type=int, default=1)
    parser.add_argument("--kinds", default="create,mixed")
    parser.add_argument("--in-flight", default="1,16,256")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--clear", action="store_true", help="without TLS")
    parser.add_argument("--unix", action="store_true", help="with several masters: over Unix sockets, without TLS")
    parser.add_argument("--chunks", action="store_true", help="files with a chunk, and three chunkservers")
    parser.add_argument("--set", action="append", default=[], help="a setting of the master: section.key=value")
    parser.add_argument("--scale", type=int, help="so many inodes")
    parser.add_argument("--reuse", action="store_true", help="with --scale: the folder that an earlier run kept (--keep)")
    arguments = parser.parse_args()
    if arguments.reuse:
        arguments.keep = True
        arguments.chunks = False
    else:
        shutil.rmtree(arguments.dir, ignore_errors=True)
        os.makedirs(arguments.dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("mutations.py: ended"))  # the cluster ends too
    cluster = Cluster(arguments)
    try:
        cluster.start()
        if arguments.scale:
            scale(arguments, cluster)
        else:
            throughput(arguments, cluster)
    finally:
        cluster.stop()
    if not arguments.keep:
        shutil.rmtree(arguments.dir, ignore_errors=True)


if __name__ == "__main__":
    main()
