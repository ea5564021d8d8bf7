#include "fs/fuse/kernel_mount.h"

#include <algorithm>
#include <charconv>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/log.h"

extern char** environ;

namespace cairn {

namespace {

constexpr std::string_view kSourcePrefix = "cairn#";

std::string_view next_field(std::string_view& line) {
  size_t end = std::min(line.find(' '), line.size());
  std::string_view field = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return field;
}

// proc(5): space, tab, newline, backslash and '#' are written as \NNN, in octal.
std::string unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(&text[i + 1], &text[i + 4], value, 8).ptr == &text[i + 4]) {
      out += static_cast<char>(value);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool still_there(uint32_t device_minor, const std::string& mountpoint) {
  std::vector<KernelMount> mounts = kernel_mounts();
  // The last one is what the path leads to.
  auto top = std::ranges::find(mounts.rbegin(), mounts.rend(), mountpoint, &KernelMount::mountpoint);
  return top != mounts.rend() && top->device_minor == device_minor;
}

}  // namespace

std::vector<KernelMount> parse_mountinfo(std::string_view text) {
  std::vector<KernelMount> found;
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    // 36 35 0:45 / /mnt rw,noatime master:1 - fuse.cairn cairn#host:9400 rw,...
    KernelMount mount;
    next_field(line);
    next_field(line);
    std::string_view device = next_field(line);
    next_field(line);
    mount.mountpoint = unescaped(next_field(line));
    std::string_view flags = next_field(line);
    mount.read_only = flags == "ro" || flags.starts_with("ro,");
    size_t separator = line.find("- ");
    if (separator == line.npos) continue;
    line.remove_prefix(separator + 2);
    if (next_field(line) != "fuse.cairn") continue;
    mount.source = unescaped(next_field(line));
    size_t colon = device.find(':');
    if (colon == device.npos) continue;
    std::string_view minor = device.substr(colon + 1);
    std::from_chars(minor.data(), minor.data() + minor.size(), mount.device_minor);
    found.push_back(std::move(mount));
  }
  return found;
}

std::vector<KernelMount> kernel_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_mountinfo(text);
}

std::string masters_of_source(std::string_view source) {
  return source.starts_with(kSourcePrefix) ? std::string(source.substr(kSourcePrefix.size())) : std::string();
}

void abort_connection(uint32_t device_minor, const std::string& mountpoint) {
  std::string path = "/sys/fs/fuse/connections/" + std::to_string(device_minor) + "/abort";
  int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd >= 0) {
    bool written = ::write(fd, "1", 1) == 1;
    ::close(fd);
    if (written) return;
  }
  // umount -f aborts, even where it then cannot unmount.
  if (still_there(device_minor, mountpoint)) ::umount2(mountpoint.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW);
}

void detach_mount(uint32_t device_minor, const std::string& mountpoint) {
  if (!still_there(device_minor, mountpoint)) return;
  if (::umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno != EPERM) return;
  std::string program = "fusermount3";
  std::string flags = "-uz";
  std::string where = mountpoint;
  char* arguments[] = {program.data(), flags.data(), where.data(), nullptr};
  pid_t pid = 0;
  int failed = ::posix_spawnp(&pid, program.c_str(), nullptr, nullptr, arguments, environ);
  if (failed != 0) {
    log_warning("fuse.detach_failed", "mountpoint={} errno={}", quoted(mountpoint), failed);
    return;
  }
  ::waitpid(pid, nullptr, 0);
}

}  // namespace cairn
