#include "fs/cli/mount_words.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "fs/cli/exit_status.h"

namespace cairn {

namespace {

// mount(8), "filesystem-independent mount options": for mount(8) itself, or true of a Cairn mount whatever is said.
// Names are always durable when a change returns, so dirsync is true; atime never moves. Not here, and so refused:
// sync, mand, remount, nosymfollow, which would promise something that is not done.
constexpr std::array kWithoutEffect = {
    "defaults", "rw",         "auto",          "noauto",   "_netdev",  "nofail",     "nouser",
    "async",    "dirsync",    "atime",         "diratime", "relatime", "norelatime", "nodiratime",
    "lazytime", "nolazytime", "nostrictatime", "silent",   "loud",     "nomand",     "noiversion",
};

bool is_without_effect(std::string_view option) {
  return option.empty() || option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment=") ||
         std::ranges::find(kWithoutEffect, option) != kWithoutEffect.end();
}

}  // namespace

Result<void> take_mount_option(MountOptions& mount, std::string_view option) {
  if (option == "rw") {
    mount.client.read_only = false;
  } else if (option == "ro") {
    mount.client.read_only = true;
  } else if (option == "nosuid" || option == "suid") {
    mount.no_suid = option == "nosuid";
  } else if (option == "nodev" || option == "dev") {
    mount.no_dev = option == "nodev";
  } else if (option == "noexec" || option == "exec") {
    mount.no_exec = option == "noexec";
  } else if (option == "user" || option == "users") {
    mount.no_suid = mount.no_dev = mount.no_exec = true;  // mount(8): implied, unless a later word says otherwise
  } else if (option == "owner" || option == "group") {
    mount.no_suid = mount.no_dev = true;
  } else if (option == "noatime") {
    mount.no_atime = true;
  } else if (option == "allow_other" || option == "no_allow_other") {
    mount.allow_other = option == "allow_other";
  } else if (option.starts_with("master_timeout=")) {
    std::string_view text = option.substr(option.find('=') + 1);
    uint32_t seconds = 0;
    auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    bool sound = failed == std::errc() && end == text.data() + text.size() && seconds >= 1 && seconds <= 86'400;
    if (!sound) return Error(ErrorCode::kInvalid, "mount option '" + std::string(option) + "': 1 to 86400 seconds");
    mount.client.request_timeout = std::chrono::seconds(seconds);
  } else if (option == "kernel=6.1") {
    mount.kernel.epoch = mount.kernel.direct_mmap = false;  // they came with 6.16 and 6.6
  } else if (option == "tls=auto" || option == "tls=on" || option == "tls=off") {
    mount.tls.mode = option.substr(4);
  } else if (option == "tls_data=encrypted" || option == "tls_data=authenticated") {
    mount.tls.data = option.substr(9);
  } else if (option.starts_with("tls_dir=")) {
    mount.tls_folders.insert(mount.tls_folders.begin(), std::string(option.substr(8)));
  } else if (!is_without_effect(option)) {
    return Error(ErrorCode::kInvalid, "unknown mount option '" + std::string(option) + "'");
  }
  return {};
}

std::vector<std::string> mount_helper_arguments(const std::vector<std::string>& arguments) {
  std::vector<std::string> out = {"mount"};
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    bool flags =
        argument.size() > 1 && argument[0] == '-' && argument.find_first_not_of("sfnv", 1) == std::string::npos;
    if (argument == "-o" && i + 1 < arguments.size()) {
      out.push_back(argument);
      out.push_back(arguments[++i]);  // not a flag, whatever it looks like
    } else if (flags) {
      if (argument.find('s') != std::string::npos) out.emplace_back("--sloppy");
      if (argument.find('f') != std::string::npos) out.emplace_back("--fake");
    } else {
      out.push_back(argument);
    }
  }
  return out;
}

int mount_helper_status(int status) {
  constexpr int kIncorrectInvocation = 1;  // mount(8), "exit status"
  constexpr int kMountFailure = 32;
  if (status == kExitOk) return 0;
  return status == kExitUsage ? kIncorrectInvocation : kMountFailure;
}

}  // namespace cairn
