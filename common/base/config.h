// ConfigScheme: what a program may be told in its TOML file and with --set, declared once. It checks the file, fills in
// the program's variables and prints the commented example file, so that the three cannot disagree.
//
//   struct Settings { uint64_t cache_bytes = 256 * kMiB; std::string level = "info"; };
//   Settings settings;
//   ConfigScheme scheme("cairn-master: the namespace, its log and the chunkservers.");
//   scheme.section("cache", "What is kept in memory.");
//   scheme.size("cache.inodes", &settings.cache_bytes, {.min = kMiB}, "Decoded inodes and entries.");
//   scheme.text("log.level", &settings.level, {.one_of = {"debug", "info"}}, "Lines below this level are left out.");
//
// A key's default is what its variable holds when it is declared. Values are checked one by one and stored at once;
// after an error the variables are a mixture, and the program should say the error and end. Not thread-safe. The
// variables must outlive the scheme.
//
// Errors are kInvalid; the context has a line for each problem: "FILE:LINE: key: what is allowed". toml++ is behind it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/result.h"

namespace cairn {

struct TextRule {
  std::vector<std::string> one_of = {};  // empty: any text
  bool required = false;                 // must be set and not be empty
  std::string example = {};              // for a required key, in the example file
};
struct IntegerRule {
  int64_t min = 0;
  int64_t max = std::numeric_limits<int64_t>::max();
};
struct SizeRule {
  uint64_t min = 0;
  uint64_t max = std::numeric_limits<int64_t>::max();
};
struct DurationRule {
  std::chrono::nanoseconds min = std::chrono::nanoseconds(0);
  std::chrono::nanoseconds max = std::chrono::hours(24 * 365);
};
struct ListRule {
  bool required = false;                  // at least one element
  std::vector<std::string> example = {};  // for a required key, in the example file
};

class ConfigScheme {
 public:
  // `title` opens the example file.
  explicit ConfigScheme(std::string title);

  // Help for a [section] of the example file. Names may be nested: "rpc.server".
  void section(std::string name, std::string help);

  // A key is "section.key", or just "key". Help is one line, without the default and the allowed values.
  void text(std::string key, std::string* value, TextRule rule, std::string help);
  void flag(std::string key, bool* value, std::string help);
  void integer(std::string key, int64_t* value, IntegerRule rule, std::string help);
  void size(std::string key, uint64_t* value, SizeRule rule, std::string help);  // "64 MiB", or bytes
  void duration(std::string key, std::chrono::nanoseconds* value, DurationRule rule, std::string help);  // "500 ms"
  void list(std::string key, std::vector<std::string>* value, ListRule rule, std::string help);          // of texts

  // kNotFound, kAccess, ... if the file cannot be read.
  Result<void> load_file(const std::string& path);
  // `name` stands for the file in errors.
  Result<void> load_text(std::string_view toml, std::string_view name);
  // "section.key=value" from --set; a list's elements are separated by commas.
  Result<void> set(std::string_view assignment);
  // After everything was loaded and set: are all required keys there?
  Result<void> check_required() const;
  // The three in their order; an empty path means no file.
  Result<void> load(const std::string& path, const std::vector<std::string>& assignments);

  // Each key with its help, what is allowed and its default, commented out; required keys with their example.
  std::string example() const;

 private:
  // A value as it was found: in TOML, or (on the command line) as plain text of any type.
  struct PlainText {
    std::string text;
  };
  struct OtherType {
    std::string name;
  };
  using Found = std::variant<bool, int64_t, std::string, std::vector<std::string>, PlainText, OtherType>;
  struct Key {
    std::string help;
    std::string allowed;       // "a size of 1 MiB to 2 GiB, such as \"64 MiB\""
    std::string default_toml;  // as it is written in the file
    bool required = false;
    std::function<bool(const Found&)> store;  // false: not allowed
    std::function<bool()> is_set;             // for required keys
  };
  struct Section {
    std::string help;
    std::vector<std::string> keys;  // whole names, in the order of declaration
  };
  struct Walk;  // over a parsed file

  void add(std::string name, Key key);
  Section& section_of(std::string_view name);
  std::string suggestion(std::string_view unknown) const;
  static std::string describe(const Found& found);

  std::string title_;
  std::vector<std::string> section_order_;
  std::map<std::string, Section, std::less<>> sections_;
  std::map<std::string, Key, std::less<>> keys_;
};

}  // namespace cairn
