"""cairn-master as a program: options, exit statuses, the example configuration, readiness, signals."""

import os
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(os.environ["CAIRN_BIN_DIR"]) / "cairn-master"
SOURCE = Path(os.environ["CAIRN_SOURCE_DIR"])


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)


class CommandLine(unittest.TestCase):
    def test_example_is_the_one_in_deploy(self):
        example = run("--example-config")
        self.assertEqual(example.returncode, 0)
        self.assertEqual(example.stdout, (SOURCE / "deploy/config/master.toml").read_text())

    def test_the_example_is_a_configuration_that_is_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            # Without --init an empty folder ends the program, after the configuration has been read.
            result = run("--config", SOURCE / "deploy/config/master.toml", "--set", f"master.folder={folder}/m")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("--init", result.stderr)


class Process(unittest.TestCase):
    def test_says_that_it_is_ready_and_stops_cleanly(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(f"{folder}/notify")
            ready.settimeout(30)
            log = Path(folder) / "log"
            process = subprocess.Popen(
                [PROGRAM, "--init", "--set", f"log.file={log}", "--set", "master.listen=127.0.0.1:0", "--set",
                 f"master.folder={folder}/master"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"})
            try:
                self.assertEqual(ready.recv(100), b"READY=1")
                # It listens by then, and a signal is caught: it does not end the process by itself.
                line = next(line for line in log.read_text().splitlines() if " master.ready address=" in line)
                port = line.split("address=")[1].split()[0].rsplit(":", 1)[1]
                socket.create_connection(("127.0.0.1", int(port)), timeout=10).close()
                process.send_signal(signal.SIGHUP)
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=30)
                self.assertEqual((process.returncode, out, err), (0, "", ""))
                self.assertIn("master.stopped", log.read_text())
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()


if __name__ == "__main__":
    unittest.main()
