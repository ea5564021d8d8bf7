"""The program cairn-chunkserver as a person or systemd meets it: its command line, its exit statuses, its readiness."""

import os
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(os.environ["CAIRN_BIN_DIR"]) / "cairn-chunkserver"
SOURCE = Path(os.environ["CAIRN_SOURCE_DIR"])


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)


class Server:
    """A process that has said that it is ready; killed at the end if it is still there."""

    def __init__(self, folder, **settings):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"{folder}/notify")
        self.socket.settimeout(30)
        self.log = Path(folder) / "log"
        arguments = [PROGRAM, "--set", f"log.file={self.log}"]
        for key, value in settings.items():
            arguments += ["--set", f"{key.replace('__', '.')}={value}"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"})
        self.ready = self.socket.recv(100)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.socket.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err

    def address(self):
        line = next(line for line in self.log.read_text().splitlines() if " ready address=" in line)
        return line.split("address=")[1].split()[0]


class CommandLine(unittest.TestCase):
    def test_version_and_help(self):
        version = run("--version")
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r"^cairn-chunkserver \d+\.\d+\.\d+\n$")
        usage = run("--help")
        self.assertEqual(usage.returncode, 0)
        for option in ("--config", "--set", "--example-config", "--version"):
            self.assertIn(option, usage.stdout)

    def test_wrong_usage_is_status_2(self):
        for arguments in (["--nonsense"], ["--set", "store.reserv=1"], ["--set", "store.reserve=much"], [],
                          ["--config", "/does/not/exist"],
                          ["--set", "chunkserver.masters=m", "--set", "store.directories=/d"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
            self.assertNotEqual(result.stderr, "")

    def test_wrong_configuration_names_file_and_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chunkserver.toml"
            path.write_text('[store]\ndirectories = ["/d"]\nreserve = "many"\n')
            result = run("--config", path)
            self.assertEqual(result.returncode, 2)
            self.assertIn(f"{path}:3", result.stderr)

    def test_example_is_the_one_in_deploy(self):
        example = run("--example-config")
        self.assertEqual(example.returncode, 0)
        self.assertEqual(example.stdout, (SOURCE / "deploy/config/chunkserver.toml").read_text())


class Process(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.settings = {"chunkserver__listen": "127.0.0.1:0", "chunkserver__masters": "127.0.0.1:1",
                         "store__directories": f"{self.folder}/data"}

    def arguments(self, **changed):
        out = []
        for key, value in {**self.settings, **changed}.items():
            out += ["--set", f"{key.replace('__', '.')}={value}"]
        return out

    def test_says_that_it_is_ready_and_stops_cleanly(self):
        with Server(self.folder, **self.settings) as server:
            self.assertEqual(server.ready, b"READY=1")
            self.assertRegex(server.address(), r"^tcp:127\.0\.0\.1:\d+$")
            self.assertEqual(server.stop(), (0, "", ""))

    def test_directory_in_use_is_named(self):
        with Server(self.folder, **self.settings):
            second = run(*self.arguments(log__file=f"{self.folder}/second"))
            self.assertEqual(second.returncode, 1)
            self.assertIn(f"{self.folder}/data", second.stderr)
            self.assertEqual(len(second.stderr.splitlines()), 1)

    def test_address_in_use_is_named(self):
        with Server(self.folder, **self.settings) as server:
            address = server.address()
            second = run(*self.arguments(log__file=f"{self.folder}/second", chunkserver__listen=address,
                                         store__directories=f"{self.folder}/other"))
            self.assertEqual(second.returncode, 1)
            self.assertIn(address.removeprefix("tcp:"), second.stderr)
            self.assertEqual(len(second.stderr.splitlines()), 1)

    def test_folder_of_somebody_else_is_refused(self):
        (Path(self.folder) / "data").mkdir()
        (Path(self.folder) / "data" / "letter.txt").write_text("dear")
        result = run(*self.arguments(log__file=f"{self.folder}/second"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("letter.txt", result.stderr)
        self.assertEqual(os.listdir(f"{self.folder}/data"), ["letter.txt"])


if __name__ == "__main__":
    unittest.main()
