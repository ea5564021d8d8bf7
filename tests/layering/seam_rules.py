"""The world comes in through the seams of common/runtime: clocks, timers, threads and randomness. Elsewhere raw ones
would make the simulator lie. Also: marks of unfinished work, and files that have grown long."""

import re
from fnmatch import fnmatch

from source_text import CODE_ENDINGS, Finding, blanked, files, line_of, read

RUNTIME = ["common/runtime/*", "tests/unit/common/runtime/*"]
# Tests of what is thread-safe need threads.
THREADS = ["common/runtime/*", "tests/unit/common/*", "bench/*"]
RANDOMNESS = ["common/runtime/*", "common/base/random.cc"]

# What, as a pattern over code without comments and literals -> why not, and the files that may.
RAW_SEAMS = [
    (r"\basio\s*::\s*(?:steady|system|high_resolution|deadline|basic_waitable)_timer\b",
     "a raw timer: use the Clock of common/runtime", RUNTIME),
    (r"\b(?:steady|system|high_resolution|utc|file)_clock\b",
     "a raw clock: use the Clock of common/runtime", RUNTIME + ["bench/*"]),
    (r"\b(?:clock_gettime|gettimeofday|std\s*::\s*time|timerfd_create)\s*\(",
     "a raw clock: use the Clock of common/runtime", RUNTIME + ["bench/*"]),
    (r"\bstd\s*::\s*(?:jthread|thread|async)\b(?!\s*::\s*(?:id|hardware_concurrency))|\bpthread_create\b",
     "a raw thread: use the pools of common/runtime", THREADS),
    (r"\b(?:random_device|getrandom|getentropy|RAND_bytes|arc4random)\b|\bs?rand\s*\(",
     "raw randomness: use the Random that is passed in", RANDOMNESS),
    (r"\bthis_thread\s*::\s*sleep_\w+|\b(?:usleep|nanosleep|clock_nanosleep)\s*\(|(?<!\w)::\s*sleep\s*\(",
     "a sleep: if code or a test wants to sleep, a seam is missing", ["common/runtime/*"]),
]

UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")

LONG_FILE_LINES = 600


def check_text(path, text):
    code = blanked(text)
    findings = []
    for pattern, reason, homes in RAW_SEAMS:
        if any(fnmatch(path, home) for home in homes):
            continue
        for match in re.finditer(pattern, code):
            findings.append(Finding(path, line_of(code, match.start()), f"'{match.group().strip()}': {reason}"))
    return findings


def check(root):
    findings = []
    for path in files(root, CODE_ENDINGS):
        findings.extend(check_text(path, read(root, path)))
    return findings


def check_marks(root):
    findings = []
    for path in files(root, CODE_ENDINGS + (".capnp", ".sh"), ("common", "master", "chunkserver", "fs", "deploy")):
        text = read(root, path)
        for match in UNFINISHED.finditer(text):
            findings.append(Finding(path, line_of(text, match.start()), f"'{match.group()}': a mark of unfinished work"))
    return findings


def long_files(root):
    """Warnings only: is there a second idea in the file?"""
    warnings = []
    for path in files(root, CODE_ENDINGS + (".py", ".sh", ".js")):
        lines = read(root, path).count("\n")
        if lines > LONG_FILE_LINES:
            warnings.append(Finding(path, lines, f"{lines} lines: is there a second idea in it?"))
    return warnings
