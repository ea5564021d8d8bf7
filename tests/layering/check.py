#!/usr/bin/env python3
"""Checks the source tree: check.py includes|build|coroutines|seams --root DIR [--build DIR]. See docs/testing.md."""

import argparse
import sys

import build_rules
import coroutine_rules
import include_rules
import seam_rules


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=["includes", "build", "coroutines", "seams"])
    parser.add_argument("--root", required=True, help="the repository")
    parser.add_argument("--build", help="the build tree, for the check 'build'")
    arguments = parser.parse_args()

    if arguments.check == "includes":
        findings = include_rules.check(arguments.root)
    elif arguments.check == "build":
        if not arguments.build:
            parser.error("'build' needs --build")
        findings = build_rules.check(arguments.root, arguments.build)
    elif arguments.check == "coroutines":
        findings = coroutine_rules.check(arguments.root)
    else:
        findings = seam_rules.check(arguments.root) + seam_rules.check_marks(arguments.root)
        for warning in seam_rules.long_files(arguments.root):
            print(f"warning: {warning}")

    for finding in findings:
        print(finding)
    print(f"{arguments.check}: {len(findings)} finding(s)")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
