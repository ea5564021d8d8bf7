"""Who may include whom. The table is docs/design.md's layering in a form that a machine can hold us to."""

from fnmatch import fnmatch

from source_text import CODE_ENDINGS, Finding, files, includes, read

# Plain structs shared by both sides of the wire; they include no Cap'n Proto (checked below: they are pure).
PLAIN_TYPES = "common/proto/*_types.h"

# Folder -> what its files may include besides their own folder: folders, or patterns of single headers.
MAY_INCLUDE = {
    "common/base": [],
    "common/runtime": ["common/base"],
    "common/tls": ["common/base", "common/runtime"],
    "common/kv": ["common/base", "common/runtime"],
    "common/proto": ["common/base"],
    "common/rpc": ["common/base", "common/runtime", "common/proto"],
    "common/http": ["common/base", "common/runtime"],
    "common/dump": ["common/base"],
    "common/locks": ["common/base", PLAIN_TYPES],
    "master/proto": ["common/base", "common/proto"],
    "master/namespace": ["common/base", "common/kv/kv_store.h", "common/locks", PLAIN_TYPES],
    "master/leases": ["common/base", PLAIN_TYPES],
    "master/placement": ["common/base", PLAIN_TYPES],
    "master/consensus": ["common/base", "common/runtime", "common/kv", "common/proto", "common/rpc", "master/proto"],
    "master/service": ["common/*", "master/proto", "master/namespace", "master/leases", "master/placement",
                       "master/consensus"],
    "master/restore": ["common/*", "master/proto", "master/namespace", "master/consensus"],
    "master/web": ["common/*", "master/namespace", "master/placement", "master/service"],
    "master": ["common/*", "master/*"],
    "chunkserver/store": ["common/base", "common/runtime", "common/kv", PLAIN_TYPES],
    "chunkserver/replication": ["common/base", "common/runtime", "common/kv", "common/proto", "common/rpc",
                                "chunkserver/store"],
    "chunkserver/service": ["common/*", "chunkserver/store", "chunkserver/replication"],
    "chunkserver/agent": ["common/*", "chunkserver/store", "chunkserver/replication"],
    "chunkserver": ["common/*", "chunkserver/*"],
    "fs/client": ["common/base", "common/locks", "common/runtime", "common/proto", "common/rpc"],
    "fs/fuse": ["common/*", "fs/client"],
    "fs/cli": ["common/*", "fs/client", "fs/fuse"],  # `cairn mount` is a command of the command line
    "fs": ["common/*", "fs/*"],
    "tests": ["common/*", "master", "master/*", "chunkserver", "chunkserver/*", "fs", "fs/*", "tests/*"],
    "bench": ["common/*", "master", "master/*", "chunkserver", "chunkserver/*", "fs", "fs/*", "tests/support", "bench/*"],
}

# Pure: no I/O, clock, event loop or message library, neither directly nor through a header that they include.
PURE = [
    "common/locks/*",
    "master/namespace/*",
    "master/leases/*",
    "master/placement/*",
    "chunkserver/store/extent_map.*",
    "chunkserver/replication/version_rule.*",
    PLAIN_TYPES,
]
IMPURE_HEADERS = [
    "boost/asio*", "boost/beast*", "capnp/*", "kj/*", "leveldb/*", "fuse*", "raft*", "openssl/*", "liburing*",
    "chrono", "thread", "fstream", "filesystem", "random", "sys/*", "unistd.h", "fcntl.h", "time.h", "ctime",
    "common/runtime/*", "*.capnp.h",
]

# A library that stands behind one folder: header pattern -> who may include it. Tests and benchmarks may include all.
LIBRARY_HOMES = {
    "spdlog/*": ["common/base"],
    "toml++/*": ["common/base"],
    "prometheus/*": ["common/base", "common/http"],
    "leveldb/*": ["common/kv"],
    "openssl/*": ["common/base", "common/tls"],
    "liburing*": ["common/runtime"],
    "boost/beast*": ["common/http"],
    "boost/asio*": ["common/runtime", "common/rpc", "common/http", "fs/fuse"],
    "fuse*": ["fs/fuse"],
    "raft*": ["master/consensus"],
}


def folder_of(path):
    """The name under which MAY_INCLUDE knows the file: the longest folder of it that the table has."""
    parts = path.split("/")[:-1]
    while parts:
        if "/".join(parts) in MAY_INCLUDE:
            return "/".join(parts)
        parts.pop()
    return None


def allowed(target, permissions):
    folder = target.rsplit("/", 1)[0]
    for permission in permissions:
        if permission.endswith(".h"):
            if fnmatch(target, permission):
                return True
        elif fnmatch(folder, permission) or folder.startswith(permission + "/"):
            return True
    return False


def matches(name, patterns):
    return any(fnmatch(name, pattern) for pattern in patterns)


class IncludeGraph:
    def __init__(self, root):
        self.files = files(root, CODE_ENDINGS)
        self.includes = {path: list(includes(read(root, path))) for path in self.files}

    def impure_reach(self, path):
        """The first chain of includes from path to an impure header, or None."""
        seen = {path}
        queue = [(path, [path])]
        while queue:
            current, chain = queue.pop(0)
            for _, name, _ in self.includes.get(current, []):
                if matches(name, IMPURE_HEADERS):
                    return chain + [name]
                if name not in seen:
                    seen.add(name)
                    queue.append((name, chain + [name]))
        return None


def check(root):
    findings = []
    graph = IncludeGraph(root)
    for path in graph.files:
        folder = folder_of(path)
        if folder is None:
            findings.append(Finding(path, 1, "this folder is not in the table of tests/layering/include_rules.py"))
            continue
        for line, name, quoted in graph.includes[path]:
            if quoted:
                if folder == "tests" and path.rsplit("/", 1)[0] + "/" + name in graph.includes:
                    continue  # a test's own header, beside it
                if "/" not in name:
                    findings.append(Finding(path, line, f'"{name}": write includes from the root of the repository'))
                elif not (folder_of(name) == folder or allowed(name, MAY_INCLUDE[folder])):
                    findings.append(Finding(path, line, f'{folder} may not include "{name}"'))
            elif folder not in ("tests", "bench"):
                for pattern, homes in LIBRARY_HOMES.items():
                    if fnmatch(name, pattern) and folder not in homes:
                        findings.append(Finding(path, line, f"<{name}> belongs behind {' or '.join(homes)}"))
        if matches(path, PURE):
            chain = graph.impure_reach(path)
            if chain:
                findings.append(Finding(path, 1, "pure code reaches " + " -> ".join(chain[1:])))
    return findings
