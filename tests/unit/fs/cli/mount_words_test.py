"""mount.cairn, as mount(8) calls it. --fake reaches everything but the mount itself, so no cluster is needed."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = Path(os.environ["CAIRN_BIN_DIR"]) / "cairn"
MOUNT_OPTIONS = ("rw", "ro", "defaults", "_netdev", "nofail", "noauto", "x-systemd.automount", "X-mount.mkdir", "comment=x",
                 "user,exec,suid,dev", "nosuid,nodev,noexec", "noatime", "relatime", "dirsync", "async", "owner", "users",
                 "nostrictatime", "allow_other", "kernel=6.1", "")


class Helper(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.helper = f"{folder.name}/mount.cairn"
        os.symlink(PROGRAM, self.helper)
        self.directory = folder.name

    def call(self, *arguments):
        return subprocess.run([self.helper, "127.0.0.1:1", self.directory, *arguments], capture_output=True, text=True, timeout=30)

    def test_flags_of_mount_are_taken(self):
        for flags in (["-f"], ["-f", "-n", "-s", "-v"], ["-sfnv"], ["-nf"], ["-f", "-o", "rw,_netdev"], ["-o", "rw", "-vf"]):
            result = self.call(*flags)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""), flags)

    def test_general_options_are_taken(self):
        for options in MOUNT_OPTIONS:
            result = self.call("-f", "-o", options)
            self.assertEqual((result.returncode, result.stderr), (0, ""), options)

    def test_unknown_options_are_named_unless_sloppy(self):
        for option in ("fastplease", "sync", "remount"):
            result = self.call("-f", "-o", f"rw,{option}")
            self.assertEqual(result.returncode, 1)  # mount(8): incorrect invocation
            self.assertIn(f"'{option}'", result.stderr)
        self.assertEqual(self.call("-f", "-s", "-o", "rw,fastplease").returncode, 0)

    def test_a_value_that_looks_like_a_flag_is_an_option(self):
        result = self.call("-f", "-o", "-s")
        self.assertEqual(result.returncode, 1, result.stderr)

    def test_without_a_master_it_is_a_failed_mount(self):
        result = self.call("-o", "rw")
        self.assertEqual(result.returncode, 32)  # mount(8): mount failure
        self.assertIn("127.0.0.1:1", result.stderr)


if __name__ == "__main__":
    unittest.main()
