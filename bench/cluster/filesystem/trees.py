"""Trees of files, by the tools that people use on them: tar, cp, rm, git."""

import contextlib
import hashlib
import io
import json
import os
import tarfile

from filesystem.measuring import MIB, check, command, remove


def build_tarball(path, max_files, max_mib):
    """A tarball of this machine's own headers, Python modules and documents: sorted, no clocks.

    One already there for the same sizes is used again, since installed packages change."""
    with contextlib.suppress(OSError, ValueError):
        with open(path + ".json") as f:
            known = json.load(f)
        if known["wanted"] == [max_files, max_mib] and os.path.getsize(path) == known["tar_bytes"]:
            return {**known, "path": path}
    files = size = 0
    digest = hashlib.sha256()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        # one directory of each top in turn, so that a small tree has some of each
        tops = ["/usr/include", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/doc"]
        walks = []
        for top in tops:
            if os.path.isdir(top):
                def walk(top=top):
                    for folder, subs, names in os.walk(top):
                        subs.sort()
                        subs[:] = [s for s in subs if s != "__pycache__"]
                        yield folder, sorted(names)
                walks.append(walk())
        while walks and files < max_files:
            for w in list(walks):
                try:
                    folder, names = next(w)
                except StopIteration:
                    walks.remove(w)
                    continue
                for name in names:
                    source = os.path.join(folder, name)
                    try:
                        st = os.lstat(source)
                    except OSError:
                        continue
                    # keep the mean near max_mib / max_files: skip what would overshoot it
                    if not os.path.isfile(source) or os.path.islink(source) or files >= max_files or \
                            size + st.st_size > (files + 200) * (max_mib * MIB // max_files):
                        continue
                    info = tarfile.TarInfo("tree/" + source[5:])
                    info.size, info.mtime, info.mode = st.st_size, 1700000000, 0o644
                    with open(source, "rb") as f:
                        data = f.read()
                    if len(data) != st.st_size:
                        continue
                    digest.update(info.name.encode() + b"\0" + data)
                    tar.addfile(info, io.BytesIO(data))
                    files += 1
                    size += st.st_size
    made = {"files": files, "bytes": size, "sha256": digest.hexdigest(),
            "wanted": [max_files, max_mib], "tar_bytes": os.path.getsize(path)}
    with open(path + ".json", "w") as f:
        json.dump(made, f)
    return {**made, "path": path}


def tree_stats(root):
    files = size = 0
    for folder, _, names in os.walk(root):
        if "/.git" in folder:
            continue
        for n in names:
            files += 1
            size += os.lstat(os.path.join(folder, n)).st_size
    return files, size


def check_tree(run, root):
    files, size = tree_stats(root)
    t = run.opts.tarball
    check((files, size) == (t["files"], t["bytes"]),
          f"{root}: {files} files, {size} bytes; want {t['files']}, {t['bytes']}")


def untar_to(run, name):
    target = run.path("trees", name)
    remove(target)
    os.makedirs(target)
    with open(run.opts.tarball["path"], "rb") as f:  # the tarball itself is warm
        while f.read(MIB):
            pass
    return target, ["tar", "-xf", run.opts.tarball["path"], "-C", target]


def ensure_tree(run, name):
    root = run.path("trees", name)
    if not os.path.exists(os.path.join(root, "tree")):
        _, args = untar_to(run, name)
        command(args)
    return os.path.join(root, "tree")


def untar(run):
    target, args = untar_to(run, f"t{run.rep}")
    with run.timed():
        command(args)
    run.seconds()
    check_tree(run, target)
    if run.rep == 0:  # contents: the tree as tar reads it back
        command(["tar", "-df", run.opts.tarball["path"], "-C", target])


def cp_r_tree(run):
    source = ensure_tree(run, "t0")
    target = run.path("trees", f"cp{run.rep}")
    remove(target)
    os.makedirs(target)
    with run.timed():
        command(["cp", "-r", source, target + "/tree"])
    run.seconds()
    check_tree(run, target)


def rm_rf_tree(run):
    target = os.path.dirname(ensure_tree(run, f"cp{run.rep}"))
    with run.timed():
        command(["rm", "-rf", target])
    run.seconds()
    check(not os.path.exists(target), "still there")


GIT_ENV = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "HOME": "/nonexistent",
           "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0",
           "GIT_AUTHOR_NAME": "b", "GIT_AUTHOR_EMAIL": "b@b", "GIT_COMMITTER_NAME": "b",
           "GIT_COMMITTER_EMAIL": "b@b", "GIT_AUTHOR_DATE": "1700000000 +0000",
           "GIT_COMMITTER_DATE": "1700000000 +0000"}


def git(root, *args):
    return command(["git", "-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "safe.directory=*", *args],
                   cwd=root, env=GIT_ENV)


def git_make(root):
    git(root, "init", "-q")
    git(root, "add", "-f", ".")
    git(root, "commit", "-q", "-m", "tree")


def git_commit(run):
    root = ensure_tree(run, f"t{run.rep}")
    remove(os.path.join(root, ".git"))
    with run.timed():
        git_make(root)
    run.seconds()
    if run.rep == 0:
        git(root, "fsck", "--no-progress")


def git_status(run):
    root = ensure_tree(run, f"t{run.rep}")
    if not os.path.exists(os.path.join(root, ".git", "refs", "heads", "master")):
        remove(os.path.join(root, ".git"))
        git_make(root)
    run.cold()
    with run.timed():
        out = git(root, "status", "--porcelain")
    run.seconds()
    check(out == "", "status is not clean: " + out[:200])
