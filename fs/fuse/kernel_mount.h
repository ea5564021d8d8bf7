// Mounts as the kernel knows them: the list in /proc, ending a connection, taking a mountpoint out of the namespace.
// Nothing here touches the mounted filesystem itself, which may not answer. Any thread; also before the loop exists.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace cairn {

struct KernelMount {
  std::string mountpoint;
  std::string source;         // "cairn#host:port,host:port"
  uint32_t device_minor = 0;  // N of /sys/fs/fuse/connections/N
  bool read_only = false;
};
// Cairn's only, in the order of mounting.
std::vector<KernelMount> kernel_mounts();
std::vector<KernelMount> parse_mountinfo(std::string_view text);
// "cairn#a,b" -> "a,b"; empty if it is no source of Cairn's.
std::string masters_of_source(std::string_view source);

// Everything that waits for the connection, and whatever asks it later, gets ENOTCONN. Needs no answer from the process
// behind it. Its mountpoint (if it still has one) serves where /sys/fs/fuse is not mounted.
void abort_connection(uint32_t device_minor, const std::string& mountpoint);
// Lazily; by umount(2), or by fusermount3 for who is not root. Fine if another mount, or none, is there by now.
void detach_mount(uint32_t device_minor, const std::string& mountpoint);

}  // namespace cairn
