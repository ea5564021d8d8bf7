#include "chunkserver/store/identity.h"

#include <charconv>
#include <fmt/format.h>

#include "common/base/crc32c.h"

namespace cairn {
namespace {

constexpr std::string_view kFile = "/IDENTITY";
constexpr std::string_view kMagic = "cairn chunk store";

// One line of "key value"; the last line is the checksum of all before it.
std::string text_of(const StoreIdentity& identity) {
  std::string text = fmt::format("{}\nformat {}\ncluster {:016x}\nserver {:016x}\nstore {:016x}\n", kMagic,
                                 kStoreFormat, identity.cluster.value, identity.server.value, identity.store_id);
  text += fmt::format("crc32c {:08x}\n", crc32c(text));
  return text;
}

std::optional<std::string_view> take_line(std::string_view& text) {
  size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

std::optional<uint64_t> take_number(std::string_view& text, std::string_view key, int base) {
  std::optional<std::string_view> line = take_line(text);
  if (!line || !line->starts_with(key) || line->size() <= key.size() + 1 || (*line)[key.size()] != ' ') return {};
  std::string_view digits = line->substr(key.size() + 1);
  uint64_t number = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (error != std::errc() || end != digits.data() + digits.size()) return {};
  return number;
}

}  // namespace

Result<std::optional<StoreIdentity>> read_identity(Disk& disk, const std::string& folder) {
  std::string path = folder + std::string(kFile);
  Result<bool> there = disk.exists(path);
  if (!there) return there.error();
  if (!*there) return std::optional<StoreIdentity>();
  Result<std::string> content = read_file(disk, path);
  if (!content) return content.error();
  Error damaged(ErrorCode::kCorrupt, path + " is damaged");
  size_t last = content->rfind("crc32c ");
  if (last == std::string::npos) return damaged;
  std::string_view sum_line = std::string_view(*content).substr(last);
  std::optional<uint64_t> sum = take_number(sum_line, "crc32c", 16);
  if (!sum || *sum != crc32c(std::string_view(*content).substr(0, last))) return damaged;
  std::string_view text = *content;
  if (take_line(text) != kMagic) return damaged;
  std::optional<uint64_t> format = take_number(text, "format", 10);
  if (!format) return damaged;
  if (*format > kStoreFormat) {
    return Error(ErrorCode::kNotSupported,
                 fmt::format("{} has format {}, this program knows {}", folder, *format, kStoreFormat));
  }
  std::optional<uint64_t> cluster = take_number(text, "cluster", 16);
  std::optional<uint64_t> server = take_number(text, "server", 16);
  std::optional<uint64_t> store = take_number(text, "store", 16);
  if (!cluster || !server || !store) return damaged;
  return std::optional(StoreIdentity{ClusterId(*cluster), ServerId(*server), *store});
}

Result<void> write_identity(Disk& disk, const std::string& folder, const StoreIdentity& identity) {
  return write_file(disk, folder + std::string(kFile), text_of(identity));
}

Result<StoreIdentity> reconcile_identity(const std::string& folder, const StoreIdentity& found,
                                         const StoreIdentity& expected) {
  StoreIdentity out = found;
  if (found.cluster && expected.cluster && found.cluster != expected.cluster) {
    return Error(ErrorCode::kWrongCluster, fmt::format("{} belongs to cluster {}, not to {}", folder,
                                                       to_string(found.cluster), to_string(expected.cluster)));
  }
  if (found.server && expected.server && found.server != expected.server) {
    return Error(ErrorCode::kWrongCluster, fmt::format("{} belongs to server {}, not to {}", folder,
                                                       to_string(found.server), to_string(expected.server)));
  }
  if (!out.cluster) out.cluster = expected.cluster;
  if (!out.server) out.server = expected.server;
  return out;
}

}  // namespace cairn
