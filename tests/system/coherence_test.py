"""What one mount did, the other sees with its next operation: each kind of change on two real mounts, in both directions, with no pause
between the change and the look. Before the change the one that looks has seen everything and keeps it, and the file is dirty on the
one that changes, on the one that looks, or on a third."""

import contextlib
import errno
import mmap
import os
import stat
import struct
import sys

from local_cluster import main

PAGE = 4096


def put(path, data, mode="wb"):
    with open(path, mode, buffering=0) as f:
        assert f.write(data) == len(data)


def get(path):
    with open(path, "rb", buffering=0) as f:
        return f.read()


def absent(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    return False


def look(folder):
    """Has the mount and its kernel know all that can be known of the folder; twice, so that the second look is from what is kept."""
    for _ in range(2):
        os.stat(folder)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.listxattr(path)
                get(path)
            elif stat.S_ISLNK(mode):
                os.readlink(path)
            elif stat.S_ISDIR(mode):
                os.listdir(path)
        assert absent(f"{folder}/new") and absent(f"{folder}/sub/new")


class Scene:
    """One folder as the mount that changes (w), the one that looks (r), and the one that has made what is there (m) see it."""

    def __init__(self, w, r, m, name):
        self.w, self.r, self.m = (os.path.join(mnt, name) for mnt in (w, r, m))
        os.mkdir(self.m)
        put(f"{self.m}/f", b"first\n")
        put(f"{self.m}/g", b"the other one\n")
        os.mkdir(f"{self.m}/sub")
        put(f"{self.m}/sub/inner", b"inner\n")
        os.mkdir(f"{self.m}/empty")
        os.symlink("f", f"{self.m}/s")
        os.link(f"{self.m}/f", f"{self.m}/f2")
        os.setxattr(f"{self.m}/f", "user.a", b"1")
        put(f"{self.m}/pages", bytes(range(256)) * 256)  # 16 pages
        look(self.r)

    def names(self):
        return sorted(os.listdir(self.r))


FIRST = ["empty", "f", "f2", "g", "pages", "s", "sub"]

# ---------------------------------------------------------------- names


def create(s):
    before = os.stat(s.r).st_mtime_ns
    put(f"{s.w}/new", b"text")
    assert get(f"{s.r}/new") == b"text"
    assert s.names() == sorted([*FIRST, "new"])
    assert os.stat(s.r).st_mtime_ns > before


def create_while_it_is_open(s):
    with open(f"{s.w}/new", "wb", buffering=0) as f:
        assert os.stat(f"{s.r}/new").st_size == 0
        f.write(b"text")
        assert os.stat(f"{s.r}/new").st_size == 4
        assert get(f"{s.r}/new") == b"text"
        f.write(b" more")
        assert get(f"{s.r}/new") == b"text more"


def create_where_the_other_would(s):
    os.close(os.open(f"{s.w}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        os.close(os.open(f"{s.r}/new", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    raise AssertionError("made twice")


def unlink(s):
    os.unlink(f"{s.w}/g")
    assert absent(f"{s.r}/g")
    assert s.names() == ["empty", "f", "f2", "pages", "s", "sub"]
    try:
        get(f"{s.r}/g")
    except FileNotFoundError:
        return
    raise AssertionError("a file without a name was opened")


def rename(s):
    inode = os.stat(f"{s.r}/g").st_ino
    os.rename(f"{s.w}/g", f"{s.w}/new")
    assert absent(f"{s.r}/g") and os.stat(f"{s.r}/new").st_ino == inode and get(f"{s.r}/new") == b"the other one\n"
    assert s.names() == ["empty", "f", "f2", "new", "pages", "s", "sub"]


def rename_over(s):
    inode = os.stat(f"{s.r}/g").st_ino
    os.rename(f"{s.w}/g", f"{s.w}/f")
    assert absent(f"{s.r}/g") and get(f"{s.r}/f") == b"the other one\n" and os.stat(f"{s.r}/f").st_ino == inode
    assert os.stat(f"{s.r}/f2").st_nlink == 1 and get(f"{s.r}/f2") == b"first\n"


def rename_over_as_editors_do(s):
    for i in range(5):
        put(f"{s.w}/.f.tmp", b"version %d" % i)
        os.rename(f"{s.w}/.f.tmp", f"{s.w}/f")
        assert get(f"{s.r}/f") == b"version %d" % i


def rename_into_another_directory(s):
    os.rename(f"{s.w}/g", f"{s.w}/sub/new")
    assert absent(f"{s.r}/g") and get(f"{s.r}/sub/new") == b"the other one\n"
    assert sorted(os.listdir(f"{s.r}/sub")) == ["inner", "new"]


def rename_a_directory(s):
    os.rename(f"{s.w}/sub", f"{s.w}/empty/new")
    assert absent(f"{s.r}/sub") and absent(f"{s.r}/sub/inner") and get(f"{s.r}/empty/new/inner") == b"inner\n"
    assert os.stat(s.r).st_nlink == 3 and os.stat(f"{s.r}/empty").st_nlink == 3
    assert os.stat(f"{s.r}/empty/new/..").st_ino == os.stat(f"{s.r}/empty").st_ino


def rename_over_a_directory(s):
    os.rename(f"{s.w}/sub", f"{s.w}/empty")
    assert absent(f"{s.r}/sub") and get(f"{s.r}/empty/inner") == b"inner\n" and os.stat(s.r).st_nlink == 3


def mkdir(s):
    os.mkdir(f"{s.w}/new")
    assert os.listdir(f"{s.r}/new") == [] and os.stat(s.r).st_nlink == 5
    put(f"{s.w}/new/x", b"x")
    assert os.listdir(f"{s.r}/new") == ["x"] and get(f"{s.r}/new/x") == b"x"


def rmdir(s):
    os.rmdir(f"{s.w}/empty")
    assert absent(f"{s.r}/empty") and os.stat(s.r).st_nlink == 3 and "empty" not in s.names()


def rmdir_refused_by_what_the_other_made(s):
    put(f"{s.w}/empty/x", b"x")
    try:
        os.rmdir(f"{s.r}/empty")
    except OSError:
        return
    raise AssertionError("a directory with a file in it was removed")


def link(s):
    os.link(f"{s.w}/g", f"{s.w}/new")
    assert os.stat(f"{s.r}/g").st_nlink == 2 and os.stat(f"{s.r}/new").st_ino == os.stat(f"{s.r}/g").st_ino
    os.unlink(f"{s.w}/g")
    assert os.stat(f"{s.r}/new").st_nlink == 1


def link_to_a_file_that_is_open(s):
    with open(f"{s.r}/g", "rb") as held:
        os.link(f"{s.w}/g", f"{s.w}/new")
        assert os.fstat(held.fileno()).st_nlink == 2


def symlink(s):
    os.symlink("g", f"{s.w}/new")
    assert os.readlink(f"{s.r}/new") == "g" and get(f"{s.r}/new") == b"the other one\n"


def symlink_that_points_elsewhere(s):
    assert get(f"{s.r}/s") == b"first\n"
    os.symlink("g", f"{s.w}/s2")
    os.rename(f"{s.w}/s2", f"{s.w}/s")
    assert os.readlink(f"{s.r}/s") == "g" and get(f"{s.r}/s") == b"the other one\n"


def make_fifo(s):
    os.mkfifo(f"{s.w}/new", 0o640)
    assert stat.S_ISFIFO(os.lstat(f"{s.r}/new").st_mode)


def listing_that_is_read_again(s):
    fd = os.open(s.r, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sorted(os.listdir(fd)) == FIRST
        put(f"{s.w}/new", b"")
        os.unlink(f"{s.w}/g")
        assert sorted(os.listdir(fd)) == ["empty", "f", "f2", "new", "pages", "s", "sub"]
    finally:
        os.close(fd)


def no_directory_goes_below_who_is_in_it(s):
    here = os.open(".", os.O_RDONLY)
    os.chdir(f"{s.r}/sub")
    try:
        put(f"{s.w}/new", b"")  # beside it
        put(f"{s.w}/sub/new", b"")  # in it
        assert os.path.basename(os.getcwd()) == "sub" and sorted(os.listdir(".")) == ["inner", "new"]
        os.rename(f"{s.w}/sub", f"{s.w}/moved")
        assert sorted(os.listdir(f"{s.r}/moved")) == ["inner", "new"]
        assert sorted(os.listdir(".")) == ["inner", "new"]
    finally:
        os.fchdir(here)
        os.close(here)


# ---------------------------------------------------------------- attributes


def chmod(s):
    os.chmod(f"{s.w}/f", 0o4750)
    assert stat.S_IMODE(os.stat(f"{s.r}/f").st_mode) == stat.S_IMODE(os.stat(f"{s.r}/f2").st_mode) == 0o4750
    os.chmod(f"{s.w}/sub", 0o700)
    assert stat.S_IMODE(os.stat(f"{s.r}/sub").st_mode) == 0o700


def chown(s):
    os.chown(f"{s.w}/f", 1234, 5678)
    assert (os.stat(f"{s.r}/f").st_uid, os.stat(f"{s.r}/f").st_gid) == (1234, 5678)
    os.chown(f"{s.w}/s", 12, 34, follow_symlinks=False)
    assert (os.lstat(f"{s.r}/s").st_uid, os.lstat(f"{s.r}/s").st_gid) == (12, 34)


def as_user(uid, folder, call, *args):
    """What the call gives when that user makes it in the folder: 0 or an errno."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            call(*args)
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def who_owned_it_before_changes_it_no_more(s):
    """The kernel goes by the owner that it knew, and does not ask again."""
    for call, *args in [(os.chmod, 0o640), (os.utime, (1, 2)), (os.chown, -1, 1234)]:
        os.chown(f"{s.w}/f", 1234, 1234)
        assert os.stat(f"{s.r}/f").st_uid == 1234
        assert as_user(1234, s.r, call, "f", *args) == 0, call
        os.chown(f"{s.w}/f", 4321, 4321)
        assert as_user(1234, s.r, call, "f", *args) == errno.EPERM, call


def utimes(s):
    os.utime(f"{s.w}/f", ns=(1_000_000_001, 2_000_000_002))
    assert (os.stat(f"{s.r}/f").st_atime_ns, os.stat(f"{s.r}/f").st_mtime_ns) == (1_000_000_001, 2_000_000_002)


def times_of_what_is_written(s):
    before = os.stat(f"{s.r}/f").st_mtime_ns
    put(f"{s.w}/f", b"FIRST", "r+b")
    after = os.stat(f"{s.r}/f").st_mtime_ns
    assert after > before and after == os.stat(f"{s.w}/f").st_mtime_ns


def xattrs(s):
    os.setxattr(f"{s.w}/f", "user.a", b"22")
    assert os.getxattr(f"{s.r}/f", "user.a") == b"22"
    os.setxattr(f"{s.w}/f", "user.b", b"b")
    assert sorted(os.listxattr(f"{s.r}/f")) == ["user.a", "user.b"] and os.getxattr(f"{s.r}/f2", "user.b") == b"b"
    os.removexattr(f"{s.w}/f", "user.a")
    assert os.listxattr(f"{s.r}/f") == ["user.b"]
    os.setxattr(f"{s.w}/sub", "user.c", b"c")
    assert os.getxattr(f"{s.r}/sub", "user.c") == b"c"


# ---------------------------------------------------------------- content


def truncate_up_and_down(s):
    with open(f"{s.r}/pages", "rb", buffering=0) as held:
        for size in (0, 100, PAGE, 3 * PAGE + 7, 10, 20):
            os.truncate(f"{s.w}/pages", size)
            assert os.stat(f"{s.r}/pages").st_size == os.fstat(held.fileno()).st_size == size
            data = os.pread(held.fileno(), 1 << 20, 0)
            assert data == bytes(size), f"{size}: {data[:40]}"


def truncate_of_what_is_there(s):
    os.truncate(f"{s.w}/pages", 300)
    os.truncate(f"{s.w}/pages", PAGE)
    assert get(f"{s.r}/pages") == bytes(range(256)) + bytes(range(44)) + bytes(PAGE - 300)


def open_with_o_trunc(s):
    put(f"{s.w}/f", b"anew")
    assert get(f"{s.r}/f") == get(f"{s.r}/f2") == b"anew"


def write_inside(s):
    with open(f"{s.r}/pages", "rb", buffering=0) as held, open(f"{s.w}/pages", "r+b", buffering=0) as f:
        for at in (0, 5, PAGE - 3, 2 * PAGE, 9 * PAGE + 100, 16 * PAGE - 8):
            text = b"here%04d" % (at % 10_000)
            os.pwrite(f.fileno(), text, at)
            assert os.pread(held.fileno(), 8, at) == text
            assert get(f"{s.r}/pages")[at : at + 8] == text
        assert len(get(f"{s.r}/pages")) == 16 * PAGE


def write_and_extend(s):
    with open(f"{s.r}/f", "rb", buffering=0) as held, open(f"{s.w}/f", "r+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"-and more", 5)
        assert os.fstat(held.fileno()).st_size == 14 and os.pread(held.fileno(), 100, 0) == b"first-and more"
        os.pwrite(f.fileno(), b"far", 10_000)
        assert os.stat(f"{s.r}/f").st_size == 10_003 and get(f"{s.r}/f")[-6:] == b"\0\0\0far"


def append(s):
    with open(f"{s.r}/f", "rb", buffering=0) as held:
        for i in range(20):
            put(f"{s.w}/f", b"line %d\n" % i, "ab")
            assert held.read() == (b"first\n" if i == 0 else b"") + b"line %d\n" % i


def append_in_turn(s):
    want = b"first\n"
    with open(f"{s.w}/f", "ab", buffering=0) as one, open(f"{s.r}/f", "ab", buffering=0) as other:
        for i in range(10):
            for f in (one, other):
                f.write(b"line %d\n" % i)
                want += b"line %d\n" % i
    assert get(f"{s.r}/f") == get(f"{s.w}/f") == want


def write_in_turn(s):
    want = bytearray(get(f"{s.r}/pages"))
    with open(f"{s.w}/pages", "r+b", buffering=0) as one, open(f"{s.r}/pages", "r+b", buffering=0) as other:
        for i in range(12):
            for f, seen_by in ((one, other), (other, one)):
                at = i * 1111
                text = struct.pack(">Q", at) * 50
                os.pwrite(f.fileno(), text, at)
                want[at : at + 400] = text
                assert os.pread(seen_by.fileno(), 1 << 20, 0) == want


def pages_that_are_mapped(s):
    with open(f"{s.r}/pages", "rb") as held:
        with contextlib.closing(mmap.mmap(held.fileno(), 16 * PAGE, mmap.MAP_SHARED, mmap.PROT_READ)) as mapped:
            assert mapped[:] == bytes(range(256)) * 256
            with open(f"{s.w}/pages", "r+b", buffering=0) as f:
                for at in (0, 3 * PAGE + 17, 16 * PAGE - 4):
                    os.pwrite(f.fileno(), b"seen", at)
                    assert mapped[at : at + 4] == b"seen"


def stores_in_a_mapping(s):
    with open(f"{s.w}/pages", "r+b") as f, open(f"{s.r}/pages", "rb", buffering=0) as held:
        with contextlib.closing(mmap.mmap(f.fileno(), 16 * PAGE)) as mapped:
            for at in (0, 3 * PAGE + 17, 16 * PAGE - 4):
                mapped[at : at + 4] = b"seen"
                mapped.flush()
                assert os.pread(held.fileno(), 4, at) == b"seen" and get(f"{s.r}/pages")[at : at + 4] == b"seen"


def unlinked_while_the_other_has_it_open(s):
    with open(f"{s.r}/g", "r+b", buffering=0) as held:
        os.unlink(f"{s.w}/g")
        assert os.fstat(held.fileno()).st_nlink == 0 and held.read() == b"the other one\n"
        held.write(b"more")
        assert os.pread(held.fileno(), 100, 0) == b"the other one\nmore"


def replaced_while_the_other_has_it_open(s):
    with open(f"{s.r}/f", "rb", buffering=0) as held:
        os.rename(f"{s.w}/g", f"{s.w}/f")
        assert held.read() == b"first\n" and get(f"{s.r}/f") == b"the other one\n"


KINDS = [create, create_while_it_is_open, create_where_the_other_would, unlink, rename, rename_over, rename_over_as_editors_do,
         rename_into_another_directory, rename_a_directory, rename_over_a_directory, mkdir, rmdir, rmdir_refused_by_what_the_other_made,
         link, link_to_a_file_that_is_open, symlink, symlink_that_points_elsewhere, make_fifo, listing_that_is_read_again,
         no_directory_goes_below_who_is_in_it, chmod, chown,
         who_owned_it_before_changes_it_no_more, utimes, times_of_what_is_written, xattrs, truncate_up_and_down,
         truncate_of_what_is_there, open_with_o_trunc, write_inside, write_and_extend, append, append_in_turn, write_in_turn,
         pages_that_are_mapped, stores_in_a_mapping, unlinked_while_the_other_has_it_open, replaced_while_the_other_has_it_open]


def each_kind(cluster, options):
    cluster.up()
    one, two, three = (cluster.mount(name, options=options) for name in ("one", "two", "three"))
    failed = []
    for kind in KINDS:
        for w, r in ((one, two), (two, one)):
            for m, whose in ((w, "the writer's"), (r, "the reader's"), (three, "a third's")):
                name = f"{kind.__name__}-{os.path.basename(w)}-{os.path.basename(m)}"
                try:
                    kind(Scene(w, r, m, name))
                except Exception as error:  # the others are tried too
                    at = error.__traceback__
                    while at.tb_next:
                        at = at.tb_next
                    failed.append(f"{kind.__name__} ({os.path.basename(w)} to {os.path.basename(r)}, {whose} file): "
                                  f"line {at.tb_lineno}: {type(error).__name__} {error}")
    assert not failed, f"{len(failed)} of {6 * len(KINDS)}:\n" + "\n".join(failed)


def each_kind_of_change_is_seen_at_once(cluster):
    each_kind(cluster, "")


def likewise_with_what_linux_6_1_has(cluster):
    each_kind(cluster, "kernel=6.1")


if __name__ == "__main__":
    assert sys.platform == "linux"
    main([each_kind_of_change_is_seen_at_once, likewise_with_what_linux_6_1_has])
