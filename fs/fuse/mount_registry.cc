#include "fs/fuse/mount_registry.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <limits.h>
#include <map>
#include <string_view>
#include <unistd.h>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {

constexpr std::string_view kEnding = ".mount";
constexpr size_t kReadableBytes = 24;  // of the mountpoint, in a file's name; a socket's path has 107 bytes in all

// FNV-1a: two mountpoints with the same last name have different files.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : text)
    hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

std::string key_of(std::string_view mountpoint) {
  std::string readable;
  for (char c : mountpoint.substr(mountpoint.rfind('/') + 1)) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    readable += plain ? c : '-';
  }
  return fmt::format("{}-{:016x}", readable.substr(0, kReadableBytes), hash_of(mountpoint));
}

std::string to_text(const MountRecord& record) {
  return fmt::format(
      "mountpoint={}\nmasters={}\npid={}\nstart_time={}\nguardian_pid={}\nguardian_start_time={}\nsocket={}\nlog_file={"
      "}"
      "\n",
      record.mountpoint, record.masters, record.process.pid, record.process.start_time, record.guardian.pid,
      record.guardian.start_time, record.socket, record.log_file);
}

template <class T>
T number(const std::string& text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

MountRecord from_text(std::string_view text, std::string path) {
  std::map<std::string, std::string, std::less<>> values;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    size_t equals = line.find('=');
    if (equals != line.npos) values.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return {.mountpoint = values["mountpoint"],
          .masters = values["masters"],
          .process = {number<pid_t>(values["pid"]), number<uint64_t>(values["start_time"])},
          .guardian = {number<pid_t>(values["guardian_pid"]), number<uint64_t>(values["guardian_start_time"])},
          .socket = values["socket"],
          .log_file = values["log_file"],
          .path = std::move(path)};
}

// Without touching what is mounted there: the last name is not followed.
std::string absolute_path(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path plain = std::filesystem::absolute(path, ignored).lexically_normal();
  if (!plain.has_filename()) plain = plain.parent_path();
  std::filesystem::path parent = std::filesystem::weakly_canonical(plain.parent_path(), ignored);
  return (parent / plain.filename()).string();
}

}  // namespace

std::string mount_run_folder() {
  const char* given = std::getenv("CAIRN_RUN_DIR");
  if (given && *given) return given;
  if (::geteuid() == 0) return "/run/cairn/mounts";
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime && *runtime) return std::string(runtime) + "/cairn";
  // Not in /tmp, where somebody else could have made the folder before us.
  const char* home = std::getenv("HOME");
  return (home && *home ? std::string(home) : std::string()) + "/.cache/cairn/mounts";
}

Result<std::vector<MountRecord>> list_mounts(Disk& disk) {
  std::vector<MountRecord> mounts;
  std::string folder = mount_run_folder();
  Result<std::vector<std::string>> names = disk.list(folder);
  if (names.failed_with(ErrorCode::kNotFound)) return mounts;
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (!name.ends_with(kEnding)) continue;
    std::string path = folder + "/" + name;
    Result<std::string> text = read_file(disk, path);
    if (text.failed_with(ErrorCode::kNotFound)) continue;  // it has just ended
    if (!text) return text.error();
    MountRecord record = from_text(*text, path);
    if (is_alive(record.process)) {
      mounts.push_back(std::move(record));
    } else {
      remove_mount_record(disk, record);
    }
  }
  return mounts;
}

Result<MountRecord> find_mount(Disk& disk, const std::string& mountpoint) {
  Result<std::vector<MountRecord>> mounts = list_mounts(disk);
  if (!mounts) return mounts.error();
  std::string wanted = absolute_path(mountpoint);
  for (MountRecord& record : *mounts) {
    if (record.mountpoint == wanted) return std::move(record);
  }
  std::error_code failed;
  std::string followed = std::filesystem::canonical(mountpoint, failed).string();  // a link to the mountpoint
  for (MountRecord& record : *mounts) {
    if (!failed && record.mountpoint == followed) return std::move(record);
  }
  return Error(ErrorCode::kNotFound, wanted + " is not a Cairn mount with a running process");
}

MountRecord new_mount_record(const std::string& mountpoint, const std::string& masters) {
  std::string base = mount_run_folder() + "/" + key_of(mountpoint);
  return {.mountpoint = mountpoint,
          .masters = masters,
          .process = find_process(::getpid()).value_or(ProcessId{}),
          .guardian = find_process(::getppid()).value_or(ProcessId{}),
          .socket = base + ".sock",
          .log_file = base + ".log",
          .path = base + std::string(kEnding)};
}

Result<void> write_mount_record(Disk& disk, const MountRecord& record) {
  Result<void> made = disk.make_folder(std::filesystem::path(record.path).parent_path().string());
  if (!made) return made;
  return write_file(disk, record.path, to_text(record));
}

void remove_mount_record(Disk& disk, const MountRecord& record) {
  for (const std::string& path : {record.path, record.socket}) {
    if (path.empty()) continue;
    Result<void> removed = disk.remove(path);
    if (!removed && removed.code() != ErrorCode::kNotFound) {
      log_warning("mount.stale_file", "path={} error={}", cairn::quoted(path),
                  cairn::quoted(removed.error().message()));
    }
  }
}

}  // namespace cairn
