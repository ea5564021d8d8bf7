"""The workloads, in the order in which they run: later ones use what earlier ones leave."""

from filesystem.large_files import rand_read_4k_cold, rand_write_4k_4jobs, rand_write_4k_fsync, seq_read, seq_write
from filesystem.small_files import mkdir_tree, readdir_10k, rename_2k, small_create, small_read_cold, small_stat_cold, unlink_all
from filesystem.synchronous import append_log, sqlite
from filesystem.trees import cp_r_tree, git_commit, git_status, rm_rf_tree, untar

# name: (unit, whether higher is better, data it leaves for later workloads, function)
WORKLOADS = {
    "seq_write_1": ("MiB/s", True, "seq1", lambda r: seq_write(r, 1)),
    "seq_read_cold_1": ("MiB/s", True, "seq1", lambda r: seq_read(r, 1, True)),
    "seq_read_warm_1": ("MiB/s", True, "seq1", lambda r: seq_read(r, 1, False)),
    "rand_read_4k_cold": ("IOPS", True, "seq1", rand_read_4k_cold),
    "seq_write_4": ("MiB/s", True, "seq4", lambda r: seq_write(r, 4)),
    "seq_read_cold_4": ("MiB/s", True, "seq4", lambda r: seq_read(r, 4, True)),
    "rand_write_4k_fsync": ("IOPS", True, "rand", rand_write_4k_fsync),
    "rand_write_4k_4jobs": ("IOPS", True, "rand", rand_write_4k_4jobs),
    "append_log": ("appends/s", True, "log", append_log),
    "sqlite": ("txn/s", True, "sqlite", sqlite),
    "small_create": ("files/s", True, "small", lambda r: small_create(r, "a", 4, r.opts.files)),
    "small_create_1": ("files/s", True, "small", lambda r: small_create(r, "b", 1, r.opts.files * 2 // 5)),
    "small_stat_cold": ("files/s", True, "small", small_stat_cold),
    "small_read_cold": ("files/s", True, "small", small_read_cold),
    "rename_2k": ("renames/s", True, "small", rename_2k),
    "unlink_all": ("files/s", True, "small", unlink_all),
    "mkdir_tree": ("dirs/s", True, "dirs", mkdir_tree),
    "readdir_10k_cold": ("entries/s", True, "dir10k", lambda r: readdir_10k(r, True)),
    "readdir_10k_warm": ("entries/s", True, "dir10k", lambda r: readdir_10k(r, False)),
    "untar": ("s", False, "trees", untar),
    "cp_r_tree": ("s", False, "trees", cp_r_tree),
    "rm_rf_tree": ("s", False, "trees", rm_rf_tree),
    "git_commit": ("s", False, "trees", git_commit),
    "git_status_cold": ("s", False, "trees", git_status),
}
TREE = {"untar", "cp_r_tree", "rm_rf_tree", "git_commit", "git_status_cold"}
