#!/usr/bin/env python3
"""Copies ctest's output to standard output and adds to each test's time the budget it has: its TIMEOUT property.

usage: ctest ... | show_budgets.py BUILD_DIRECTORY
"""

import json
import re
import subprocess
import sys


def budgets(build):
    listing = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"],
                             check=True, capture_output=True, text=True).stdout
    found = {}
    for test in json.loads(listing)["tests"]:
        for item in test.get("properties", []):
            if item["name"] == "TIMEOUT":
                found[test["name"]] = item["value"]
    return found


def main():
    found = budgets(sys.argv[1])
    # 3/9 Test #3: result_test ......   Passed    0.02 sec
    result = re.compile(r"^\s*\d+/\d+ Test\s+#\d+: (\S+) .*\d sec\s*$")
    for line in sys.stdin:
        match = result.match(line)
        if match and match.group(1) in found:
            line = f"{line.rstrip()} of {found[match.group(1)]:g}\n"
        sys.stdout.write(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
