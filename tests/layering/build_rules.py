"""No source file is left out of the build, and no test out of CTest."""

import json
from pathlib import Path

from source_text import CODE_FOLDERS, Finding, files, read

# Built only under an option: these count as built when a CMake file names them.
NAMED_IS_ENOUGH = {
    "bench/cluster/": "bench/cluster/CMakeLists.txt",
    "bench/micro/": "bench/micro/CMakeLists.txt",
    "tests/fuzz/replay_main.cc": "cmake/CairnTargets.cmake",
}


def compiled_files(root, build):
    """Relative paths of what the build compiles; generated files as their path in the build tree's generated/."""
    root, build = Path(root).resolve(), Path(build).resolve()
    compiled = set()
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = (Path(entry["directory"]) / entry["file"]).resolve()
        for base in (build / "generated", root):
            if path.is_relative_to(base):
                compiled.add(path.relative_to(base).as_posix())
                break
    return compiled


def check(root, build):
    findings = []
    compiled = compiled_files(root, build)
    for path in files(root, (".cc", ".c", ".cpp", ".cxx")):
        if path in compiled:
            continue
        listing = next((value for key, value in NAMED_IS_ENOUGH.items() if path.startswith(key)), None)
        if listing and (Path(root) / listing).exists() and Path(path).name in read(root, listing):
            continue
        findings.append(Finding(path, 1, "is not compiled: list it in its folder's CMakeLists.txt or delete it"))
    for path in files(root, (".capnp",)):
        if path + ".c++" not in compiled:
            findings.append(Finding(path, 1, "is not compiled: list it in a cairn_capnp()"))
    for path in files(root, ("_test.py", "_test.sh"), CODE_FOLDERS + ("deploy",)):
        listing = Path(root) / Path(path).parent / "CMakeLists.txt"
        if not listing.exists() or Path(path).name not in listing.read_text():
            findings.append(Finding(path, 1, "is not registered with CTest: name it in its folder's CMakeLists.txt"))
    return findings
