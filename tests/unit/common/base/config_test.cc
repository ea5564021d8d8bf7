#include "common/base/config.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "common/base/quantity.h"
#include "common/base/random.h"
#include "common/base/units.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

struct Settings {
  std::string data = "/var/lib/x";
  std::string level = "info";
  bool direct = true;
  int64_t in_flight = 64;
  uint64_t cache_bytes = 256 * kMiB;
  std::chrono::nanoseconds interval = 500ms;
  std::vector<std::string> masters = {"a:1", "b:2"};
};

ConfigScheme make_scheme(Settings& s) {
  ConfigScheme scheme("cairn-test: a program.");
  scheme.text("data", &s.data, {}, "Where it keeps its data.");
  scheme.section("log", "What is written about events.");
  scheme.text("log.level", &s.level, {.one_of = {"debug", "info", "warning"}}, "Lines below are left out.");
  scheme.flag("disk.direct", &s.direct, "Use O_DIRECT.");
  scheme.size("disk.cache", &s.cache_bytes, {.min = kMiB, .max = 64 * kGiB}, "Bytes kept in memory.");
  scheme.integer("rpc.server.in_flight", &s.in_flight, {.min = 1, .max = 65536}, "Requests at a time.");
  scheme.duration("rpc.interval", &s.interval, {.min = 10ms, .max = 1min}, "Between two heartbeats.");
  scheme.list("rpc.masters", &s.masters, {}, "Addresses.");
  return scheme;
}

std::string error_of(std::string_view toml) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  Result<void> loaded = scheme.load_text(toml, "m.toml");
  EXPECT_FALSE(loaded.has_value());
  if (loaded) return "";
  EXPECT_EQ(loaded.code(), ErrorCode::kInvalid);
  return loaded.error().context;
}

TEST(Config, ReadsEveryType) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  Result<void> loaded = scheme.load_text(R"(
data = "/d"
[log]
level = "debug"
[disk]
direct = false
cache = "2 GiB"
[rpc]
interval = "2s"
masters = ["x:1"]
server.in_flight = 7
)",
                                         "m.toml");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message();
  EXPECT_EQ(s.data, "/d");
  EXPECT_EQ(s.level, "debug");
  EXPECT_FALSE(s.direct);
  EXPECT_EQ(s.cache_bytes, 2 * kGiB);
  EXPECT_EQ(s.interval, 2s);
  EXPECT_THAT(s.masters, ElementsAre("x:1"));
  EXPECT_EQ(s.in_flight, 7);
}

TEST(Config, SizesMayBeBytes) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  ASSERT_TRUE(scheme.load_text("disk.cache = 2097152", "m.toml").has_value());
  EXPECT_EQ(s.cache_bytes, 2 * kMiB);
}

TEST(Config, WhatIsNotNamedKeepsItsDefault) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  ASSERT_TRUE(scheme.load_text("", "m.toml").has_value());
  EXPECT_EQ(s.level, "info");
  EXPECT_EQ(s.in_flight, 64);
}

TEST(Config, AnUnknownKeyIsRefusedWithItsLineAndTheNearest) {
  EXPECT_EQ(error_of("[log]\n\nlevle = \"info\"\n"), "m.toml:3: log.levle: unknown key; did you mean log.level?");
  EXPECT_EQ(error_of("cache = 5\n"), "m.toml:1: cache: unknown key; did you mean disk.cache?");
  EXPECT_EQ(error_of("[disk]\nfrobnicate = 1\n"),
            "m.toml:2: disk.frobnicate: unknown key; known keys there: disk.direct, disk.cache");
  EXPECT_THAT(error_of("[lgo]\nlevel = \"info\"\n"), StartsWith("m.toml:1: lgo: unknown section; "));
}

TEST(Config, AWrongTypeIsRefusedWithWhatIsAllowed) {
  EXPECT_EQ(error_of("[log]\nlevel = 3\n"),
            "m.toml:2: log.level: must be one of [\"debug\", \"info\", \"warning\"]; found 3");
  EXPECT_EQ(error_of("disk.direct = \"yes\""), "m.toml:1: disk.direct: must be true or false; found \"yes\"");
  EXPECT_EQ(error_of("log = 1"), "m.toml:1: log: is a section: write [log]");
  EXPECT_EQ(error_of("[data]\nx = 1"), "m.toml:1: data: must be a text; found a section");
  EXPECT_THAT(error_of("rpc.masters = [1, 2]"), HasSubstr("must be a list of texts"));
  EXPECT_THAT(error_of("rpc.server.in_flight = 1.5"), HasSubstr("found a number with a fraction"));
}

TEST(Config, AValueOutOfRangeIsRefusedWithTheRange) {
  EXPECT_EQ(error_of("[rpc]\ninterval = \"2 min\""),
            "m.toml:2: rpc.interval: must be a duration of 10 ms to 1 min, such as \"500 ms\" (us, ms, s, min, h, d); "
            "found \"2 min\"");
  EXPECT_THAT(error_of("disk.cache = \"1 KiB\""), HasSubstr("must be a size of 1 MiB to 64 GiB"));
  EXPECT_THAT(error_of("disk.cache = \"64 MB\""), HasSubstr("must be a size of"));
  EXPECT_THAT(error_of("disk.cache = -1"), HasSubstr("must be a size of"));
  EXPECT_EQ(error_of("rpc.server.in_flight = 0"),
            "m.toml:1: rpc.server.in_flight: must be a whole number of 1 to 65536; found 0");
}

TEST(Config, AllProblemsAreToldAtOnce) {
  EXPECT_EQ(error_of("dta = 1\n[log]\nlevel = \"loud\"\n"),
            "m.toml:1: dta: unknown key; did you mean data?\n"
            "m.toml:3: log.level: must be one of [\"debug\", \"info\", \"warning\"]; found \"loud\"");
}

TEST(Config, BrokenTomlIsRefusedWithItsLine) {
  EXPECT_THAT(error_of("data = \"a\"\nlog = [\n"), StartsWith("m.toml:"));
  EXPECT_THAT(error_of("a = 1\na = 2\n"), StartsWith("m.toml:2: "));
}

TEST(Config, AssignmentsOverrideTheFile) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  ASSERT_TRUE(scheme.load_text("disk.cache = \"2 GiB\"\n", "m.toml").has_value());
  for (auto* text : {"disk.cache=4 MiB", "log.level=warning", "disk.direct=false", "rpc.server.in_flight=9",
                     "rpc.interval=1s", "rpc.masters=x:1,y:2", "data=/a=b"}) {
    Result<void> stored = scheme.set(text);
    ASSERT_TRUE(stored.has_value()) << stored.error().message();
  }
  EXPECT_EQ(s.cache_bytes, 4 * kMiB);
  EXPECT_EQ(s.level, "warning");
  EXPECT_FALSE(s.direct);
  EXPECT_EQ(s.in_flight, 9);
  EXPECT_EQ(s.interval, 1s);
  EXPECT_THAT(s.masters, ElementsAre("x:1", "y:2"));
  EXPECT_EQ(s.data, "/a=b");
}

TEST(Config, BadAssignmentsAreRefused) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  EXPECT_EQ(scheme.set("log.level").error().context, "--set log.level: must be section.key=value");
  EXPECT_EQ(scheme.set("log.leve=info").error().context, "--set log.leve: unknown key; did you mean log.level?");
  EXPECT_THAT(scheme.set("rpc.server.in_flight=1x").error().context, HasSubstr("found \"1x\""));
  EXPECT_FALSE(scheme.set("disk.direct=1").has_value());
  EXPECT_FALSE(scheme.set("disk.cache=").has_value());
  EXPECT_EQ(s.in_flight, 64);
}

TEST(Config, RequiredKeysMustBeGivenSomewhere) {
  std::string name;
  std::vector<std::string> masters;
  ConfigScheme scheme("x");
  scheme.text("name", &name, {.required = true, .example = "server-1"}, "Its name.");
  scheme.list("masters", &masters, {.required = true, .example = {"m:1"}}, "Where the masters are.");
  Result<void> loaded = scheme.load("", {});
  ASSERT_FALSE(loaded.has_value());
  EXPECT_THAT(loaded.error().context, HasSubstr("name: must be set to a text that is not empty (Its name.)"));
  EXPECT_THAT(loaded.error().context, HasSubstr("masters: must be set"));
  EXPECT_FALSE(scheme.load_text("name = \"\"", "f").has_value());
  EXPECT_TRUE(scheme.load("", {"name=a", "masters=b:1"}).has_value());
}

TEST(Config, TheExampleShowsEveryKeyWithItsDefault) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  std::string example = scheme.example();
  EXPECT_THAT(example, StartsWith("# cairn-test: a program.\n"));
  EXPECT_THAT(example, HasSubstr("# Where it keeps its data.\n# Allowed: a text.\n#data = \"/var/lib/x\"\n"));
  EXPECT_THAT(example, HasSubstr("# What is written about events.\n[log]\n# Lines below are left out.\n"
                                 "# Allowed: one of [\"debug\", \"info\", \"warning\"].\n#level = \"info\"\n"));
  EXPECT_THAT(example, HasSubstr("[disk]\n"));
  EXPECT_THAT(example, HasSubstr("#cache = \"256 MiB\"\n"));
  EXPECT_THAT(example, HasSubstr("[rpc.server]\n"));
  EXPECT_THAT(example, HasSubstr("#masters = [\"a:1\", \"b:2\"]\n"));
}

TEST(Config, TheExampleLoadsAsItIsAndWithItsDefaultsUncommented) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  std::string example = scheme.example();
  ASSERT_TRUE(scheme.load_text(example, "example").has_value());
  std::string active;
  std::istringstream lines(example);
  int keys = 0;
  for (std::string line; std::getline(lines, line);) {
    bool is_default = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    keys += is_default;
    active += (is_default ? line.substr(1) : line) + "\n";
  }
  EXPECT_EQ(keys, 7);
  s.cache_bytes = 0;
  s.masters.clear();
  Result<void> loaded = scheme.load_text(active, "active");
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message();
  EXPECT_EQ(s.cache_bytes, 256 * kMiB);
  EXPECT_THAT(s.masters, ElementsAre("a:1", "b:2"));
}

TEST(Config, RequiredKeysStandInTheExample) {
  std::string name;
  ConfigScheme scheme("x");
  scheme.text("name", &name, {.required = true, .example = "server-1"}, "Its name.");
  ASSERT_TRUE(scheme.load_text(scheme.example(), "example").has_value());
  EXPECT_EQ(name, "server-1");
}

TEST(Config, FilesThatCannotBeReadAreErrors) {
  Settings s;
  ConfigScheme scheme = make_scheme(s);
  EXPECT_TRUE(scheme.load_file("/nowhere/at/all.toml").failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(scheme.load_file("/").failed_with(ErrorCode::kIsDirectory));
  auto path = std::filesystem::temp_directory_path() / ("cairn_config_" + std::to_string(::getpid()) + ".toml");
  std::ofstream(path) << "[log]\nlevel = \"debug\"\n";
  EXPECT_TRUE(scheme.load_file(path.string()).has_value());
  EXPECT_EQ(s.level, "debug");
  std::ofstream(path).close();
  EXPECT_TRUE(scheme.load_file(path.string()).has_value());  // an empty file is a good one
  std::filesystem::remove(path);
}

// Whatever the file holds: either it is taken, or each line of the error names the file. Values stay within their
// rules.
TEST(Config, RandomDamageIsTakenOrRefusedButNeverHalfUnderstood) {
  const std::string good =
      "data = \"/d\"\n[log]\nlevel = \"debug\"\n[disk]\ndirect = false\ncache = \"2 GiB\"\n"
      "[rpc]\ninterval = \"2s\"\nmasters = [\"x:1\", \"y\"]\n[rpc.server]\nin_flight = 7\n";
  const std::string_view bits[] = {"[",       "]",    "\"",    "\n",  "=",          ".",
                                   "# ",      "'''",  "{}",    "-1",  "1e9",        "true",
                                   "\\u0000", "\xff", "[[a]]", "inf", "1979-05-27", "9223372036854775808",
                                   "\"\"\""};
  auto random = make_seeded_random(11);
  int taken = 0;
  for (int round = 0; round < 4000; round++) {
    std::string text = good;
    for (uint64_t edits = 1 + random->below(4); edits > 0; edits--) {
      size_t at = random->below(text.size());
      switch (random->below(4)) {
        case 0:
          text[at] = static_cast<char>(random->next_u64());
          break;
        case 1:
          text.erase(at, 1 + random->below(5));
          break;
        case 2:
          text.insert(at, bits[random->below(std::size(bits))]);
          break;
        default:
          text.insert(at, text.substr(random->below(text.size()), random->below(20)));
          break;
      }
    }
    Settings s;
    ConfigScheme scheme = make_scheme(s);
    Result<void> loaded = scheme.load_text(text, "m.toml");
    if (loaded) {
      taken++;
    } else {
      std::istringstream lines(loaded.error().context);
      std::string line;
      ASSERT_TRUE(std::getline(lines, line) && line.starts_with("m.toml:")) << text;
    }
    EXPECT_TRUE(s.in_flight >= 1 && s.in_flight <= 65536);
    EXPECT_TRUE(s.cache_bytes >= kMiB && s.cache_bytes <= 64 * kGiB);
    EXPECT_TRUE(s.interval >= 10ms && s.interval <= 1min);
    EXPECT_TRUE(s.level == "debug" || s.level == "info" || s.level == "warning");
  }
  EXPECT_GT(taken, 20);
  EXPECT_LT(taken, 3900);
}

TEST(Quantity, SizesAreReadWithTheirUnit) {
  EXPECT_EQ(parse_size("64MiB"), 64 * kMiB);
  EXPECT_EQ(parse_size("64 MiB"), 64 * kMiB);
  EXPECT_EQ(parse_size("3 TiB"), 3072 * kGiB);
  EXPECT_EQ(parse_size("12"), 12u);
  EXPECT_EQ(parse_size("0 B"), 0u);
  for (auto* bad : {"", "MiB", "-1 MiB", "1.5 GiB", "1 MB", "1 mib", "1 MiB ", " 1 MiB", "1 ", "99999999999 TiB"}) {
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
  }
}

TEST(Quantity, DurationsNeedAUnit) {
  EXPECT_EQ(parse_duration("500 ms"), 500ms);
  EXPECT_EQ(parse_duration("2min"), 2min);
  EXPECT_EQ(parse_duration("1d"), 24h);
  EXPECT_EQ(parse_duration("0"), 0ns);
  for (auto* bad : {"", "5", "5 m", "-5 s", "ms", "1e3 s", "99999999999 d"}) {
    EXPECT_EQ(parse_duration(bad), std::nullopt) << bad;
  }
}

TEST(Quantity, FormattedSizesAndDurationsReadBackAsTheSame) {
  EXPECT_EQ(format_size(256 * kMiB), "256 MiB");
  EXPECT_EQ(format_size(1025), "1025 B");
  EXPECT_EQ(format_size(0), "0");
  EXPECT_EQ(format_duration(90s), "90 s");
  EXPECT_EQ(format_duration(1500us), "1500 us");
  auto random = make_seeded_random(4);
  for (int i = 0; i < 2000; i++) {
    uint64_t n = random->next_u64() >> random->below(64);
    EXPECT_EQ(parse_size(format_size(n)), n);
    std::chrono::nanoseconds duration(static_cast<int64_t>(n >> 1));
    EXPECT_EQ(parse_duration(format_duration(duration)), duration);
  }
}

}  // namespace
}  // namespace cairn
