#include "common/base/config.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fstream>
#include <sstream>

#include <toml++/toml.h>

#include "common/base/check.h"
#include "common/base/quantity.h"

namespace cairn {
namespace {

// A TOML basic string. (toml++ prefers 'literal' ones, which people mistake for another kind of value.)
std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string toml_list(const std::vector<std::string>& values) {
  std::vector<std::string> texts;
  for (const std::string& value : values)
    texts.push_back(toml_text(value));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

std::string_view section_name(std::string_view key) {
  size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}
std::string_view last_part(std::string_view key) {
  size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

// Edits (one character put in, taken out or changed) between two names.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

std::string join_lines(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "\n"));
}

// Long input of a stranger must not flood the terminal.
std::string shortened(std::string_view text) {
  constexpr size_t kShownMax = 60;
  if (text.size() <= kShownMax) return std::string(text);
  return std::string(text.substr(0, kShownMax)) + "...";
}

}  // namespace

ConfigScheme::ConfigScheme(std::string title) : title_(std::move(title)) {}

ConfigScheme::Section& ConfigScheme::section_of(std::string_view name) {
  auto found = sections_.find(name);
  if (found != sections_.end()) return found->second;
  section_order_.emplace_back(name);
  return sections_[std::string(name)];
}

void ConfigScheme::section(std::string name, std::string help) {
  section_of(name).help = std::move(help);
}

void ConfigScheme::add(std::string name, Key key) {
  CHECK(!keys_.contains(name));
  section_of(section_name(name)).keys.push_back(name);
  keys_.emplace(std::move(name), std::move(key));
}

void ConfigScheme::text(std::string key, std::string* value, TextRule rule, std::string help) {
  Key entry;
  entry.help = std::move(help);
  if (!rule.one_of.empty()) {
    entry.allowed = fmt::format("one of {}", toml_list(rule.one_of));
  } else {
    entry.allowed = rule.required ? "a text that is not empty" : "a text";
  }
  entry.default_toml = toml_text(rule.required && value->empty() ? rule.example : *value);
  entry.required = rule.required;
  entry.is_set = [value] { return !value->empty(); };
  entry.store = [value, rule](const Found& found) {
    const std::string* text = std::get_if<std::string>(&found);
    if (auto* plain = std::get_if<PlainText>(&found)) text = &plain->text;
    if (!text || (rule.required && text->empty())) return false;
    if (!rule.one_of.empty() && std::ranges::find(rule.one_of, *text) == rule.one_of.end()) return false;
    *value = *text;
    return true;
  };
  add(std::move(key), std::move(entry));
}

void ConfigScheme::flag(std::string key, bool* value, std::string help) {
  Key entry;
  entry.help = std::move(help);
  entry.allowed = "true or false";
  entry.default_toml = *value ? "true" : "false";
  entry.store = [value](const Found& found) {
    if (auto* plain = std::get_if<PlainText>(&found)) {
      if (plain->text != "true" && plain->text != "false") return false;
      *value = plain->text == "true";
      return true;
    }
    const bool* given = std::get_if<bool>(&found);
    if (given) *value = *given;
    return given != nullptr;
  };
  add(std::move(key), std::move(entry));
}

void ConfigScheme::integer(std::string key, int64_t* value, IntegerRule rule, std::string help) {
  CHECK(rule.min <= *value && *value <= rule.max);
  Key entry;
  entry.help = std::move(help);
  bool open = rule.max == std::numeric_limits<int64_t>::max();
  entry.allowed = open ? fmt::format("a whole number of at least {}", rule.min)
                       : fmt::format("a whole number of {} to {}", rule.min, rule.max);
  entry.default_toml = fmt::format("{}", *value);
  entry.store = [value, rule](const Found& found) {
    int64_t number = 0;
    if (auto* plain = std::get_if<PlainText>(&found)) {
      const char* end = plain->text.data() + plain->text.size();
      auto [stop, error] = std::from_chars(plain->text.data(), end, number);
      if (error != std::errc() || stop != end) return false;
    } else if (auto* given = std::get_if<int64_t>(&found)) {
      number = *given;
    } else {
      return false;
    }
    if (number < rule.min || number > rule.max) return false;
    *value = number;
    return true;
  };
  add(std::move(key), std::move(entry));
}

void ConfigScheme::size(std::string key, uint64_t* value, SizeRule rule, std::string help) {
  CHECK(rule.min <= *value && *value <= rule.max);
  Key entry;
  entry.help = std::move(help);
  bool open = rule.max >= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  std::string range = open ? "of at least " + format_size(rule.min)
                           : fmt::format("of {} to {}", format_size(rule.min), format_size(rule.max));
  entry.allowed = fmt::format("a size {}, such as \"64 MiB\" (B, KiB, MiB, GiB, TiB)", range);
  entry.default_toml = toml_text(format_size(*value));
  entry.store = [value, rule](const Found& found) {
    std::optional<uint64_t> bytes;
    if (auto* number = std::get_if<int64_t>(&found)) {
      if (*number >= 0) bytes = static_cast<uint64_t>(*number);
    } else if (auto* text = std::get_if<std::string>(&found)) {
      bytes = parse_size(*text);
    } else if (auto* plain = std::get_if<PlainText>(&found)) {
      bytes = parse_size(plain->text);
    }
    if (!bytes || *bytes < rule.min || *bytes > rule.max) return false;
    *value = *bytes;
    return true;
  };
  add(std::move(key), std::move(entry));
}

void ConfigScheme::duration(std::string key, std::chrono::nanoseconds* value, DurationRule rule, std::string help) {
  CHECK(rule.min <= *value && *value <= rule.max);
  Key entry;
  entry.help = std::move(help);
  entry.allowed = fmt::format("a duration of {} to {}, such as \"500 ms\" (us, ms, s, min, h, d)",
                              format_duration(rule.min), format_duration(rule.max));
  entry.default_toml = toml_text(format_duration(*value));
  entry.store = [value, rule](const Found& found) {
    std::optional<std::chrono::nanoseconds> parsed;
    if (auto* text = std::get_if<std::string>(&found)) parsed = parse_duration(*text);
    if (auto* plain = std::get_if<PlainText>(&found)) parsed = parse_duration(plain->text);
    if (!parsed || *parsed < rule.min || *parsed > rule.max) return false;
    *value = *parsed;
    return true;
  };
  add(std::move(key), std::move(entry));
}

void ConfigScheme::list(std::string key, std::vector<std::string>* value, ListRule rule, std::string help) {
  Key entry;
  entry.help = std::move(help);
  entry.allowed =
      rule.required ? "a list of at least one text, such as [\"a\", \"b\"]" : "a list of texts, such as [\"a\", \"b\"]";
  entry.default_toml = toml_list(rule.required && value->empty() ? rule.example : *value);
  entry.required = rule.required;
  entry.is_set = [value] { return !value->empty(); };
  entry.store = [value, rule](const Found& found) {
    std::vector<std::string> parts;
    if (auto* plain = std::get_if<PlainText>(&found)) {
      std::string_view rest = plain->text;
      while (!rest.empty()) {
        size_t comma = std::min(rest.find(','), rest.size());
        parts.emplace_back(rest.substr(0, comma));
        rest.remove_prefix(std::min(comma + 1, rest.size()));
      }
    } else if (auto* given = std::get_if<std::vector<std::string>>(&found)) {
      parts = *given;
    } else {
      return false;
    }
    if (rule.required && parts.empty()) return false;
    *value = std::move(parts);
    return true;
  };
  add(std::move(key), std::move(entry));
}

std::string ConfigScheme::describe(const Found& found) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return fmt::format("{}", v); }
    std::string operator()(const std::string& v) const { return toml_text(shortened(v)); }
    std::string operator()(const std::vector<std::string>& v) const { return shortened(toml_list(v)); }
    std::string operator()(const PlainText& v) const { return toml_text(shortened(v.text)); }
    std::string operator()(const OtherType& v) const { return v.name; }
  };
  return std::visit(Visitor{}, found);
}

// The nearest known key, or what there is.
std::string ConfigScheme::suggestion(std::string_view unknown) const {
  std::string_view nearest;
  size_t best = std::numeric_limits<size_t>::max();
  for (const auto& [name, key] : keys_) {
    // The right key in the wrong section is nearer than its distance says.
    size_t moved = edit_distance(last_part(unknown), last_part(name)) + 1;
    size_t distance = std::min(edit_distance(unknown, name), moved);
    if (distance < best) {
      best = distance;
      nearest = name;
    }
  }
  if (best <= std::max<size_t>(2, last_part(unknown).size() / 3)) return fmt::format("did you mean {}?", nearest);
  auto section = sections_.find(section_name(unknown));
  if (section != sections_.end() && !section->second.keys.empty()) {
    return fmt::format("known keys there: {}", fmt::join(section->second.keys, ", "));
  }
  return fmt::format("known sections: {}", fmt::join(section_order_, ", "));
}

struct ConfigScheme::Walk {
  const ConfigScheme& scheme;
  std::string_view file;
  std::vector<std::string> problems = {};

  void problem(const toml::node& node, std::string_view key, std::string_view text) {
    problems.push_back(fmt::format("{}:{}: {}: {}", file, node.source().begin.line, shortened(key), text));
  }

  static Found found_in(const toml::node& node) {
    if (auto* flag = node.as_boolean()) return flag->get();
    if (auto* number = node.as_integer()) return number->get();
    if (auto* text = node.as_string()) return text->get();
    if (auto* array = node.as_array()) {
      std::vector<std::string> texts;
      for (const toml::node& element : *array) {
        auto* text = element.as_string();
        if (!text) return OtherType{"a list of other things than texts"};
        texts.push_back(text->get());
      }
      return texts;
    }
    if (node.is_table()) return OtherType{"a section"};
    if (node.is_floating_point()) return OtherType{"a number with a fraction"};
    return OtherType{"a date or time"};
  }

  bool is_section(std::string_view name) const {
    std::string start = std::string(name) + ".";
    auto next = scheme.keys_.lower_bound(start);
    return next != scheme.keys_.end() && next->first.starts_with(start);
  }

  // Recursion is as deep as the scheme's sections are nested: unknown sections are not entered.
  void table(const toml::table& table, const std::string& prefix) {
    for (auto&& [name, node] : table) {
      std::string whole = prefix + std::string(name.str());
      if (auto known = scheme.keys_.find(whole); known != scheme.keys_.end()) {
        Found found = found_in(node);
        if (!known->second.store(found)) {
          problem(node, whole, fmt::format("must be {}; found {}", known->second.allowed, describe(found)));
        }
      } else if (is_section(whole)) {
        if (node.is_table()) {
          this->table(*node.as_table(), whole + ".");
        } else {
          problem(node, whole, fmt::format("is a section: write [{}]", whole));
        }
      } else {
        problem(node, whole,
                fmt::format("unknown {}; {}", node.is_table() ? "section" : "key", scheme.suggestion(whole)));
      }
    }
  }
};

Result<void> ConfigScheme::load_text(std::string_view toml, std::string_view name) {
  toml::table parsed;
  try {
    parsed = toml::parse(toml);
  } catch (const toml::parse_error& error) {
    return Error(ErrorCode::kInvalid, fmt::format("{}:{}: {}", name, error.source().begin.line, error.description()));
  }
  Walk walk{*this, name};
  walk.table(parsed, "");
  if (!walk.problems.empty()) return Error(ErrorCode::kInvalid, join_lines(walk.problems));
  return {};
}

Result<void> ConfigScheme::load_file(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  if (!file) return errno_error(path);
  std::string content;
  char part[4096];
  while (size_t got = std::fread(part, 1, sizeof part, file.get()))
    content.append(part, got);
  if (std::ferror(file.get())) return errno_error(path);
  return load_text(content, path);
}

Result<void> ConfigScheme::set(std::string_view assignment) {
  size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    return Error(ErrorCode::kInvalid, fmt::format("--set {}: must be section.key=value", shortened(assignment)));
  }
  std::string_view name = assignment.substr(0, equals);
  auto known = keys_.find(name);
  if (known == keys_.end()) {
    return Error(ErrorCode::kInvalid, fmt::format("--set {}: unknown key; {}", shortened(name), suggestion(name)));
  }
  Found found = PlainText{std::string(assignment.substr(equals + 1))};
  if (!known->second.store(found)) {
    std::string text = fmt::format("--set {}: must be {}; found {}", name, known->second.allowed, describe(found));
    return Error(ErrorCode::kInvalid, std::move(text));
  }
  return {};
}

Result<void> ConfigScheme::check_required() const {
  std::vector<std::string> problems;
  for (const auto& [name, key] : keys_) {
    if (key.required && !key.is_set()) {
      problems.push_back(fmt::format("{}: must be set to {} ({})", name, key.allowed, key.help));
    }
  }
  if (!problems.empty()) return Error(ErrorCode::kInvalid, join_lines(problems));
  return {};
}

Result<void> ConfigScheme::load(const std::string& path, const std::vector<std::string>& assignments) {
  if (!path.empty()) {
    Result<void> loaded = load_file(path);
    if (!loaded) return loaded;
  }
  for (const std::string& assignment : assignments) {
    Result<void> stored = set(assignment);
    if (!stored) return stored;
  }
  return check_required();
}

std::string ConfigScheme::example() const {
  std::string out = fmt::format(
      "# {}\n# Each key is shown with its default. Unknown keys and values out of range are refused.\n", title_);
  auto print = [&](const std::string& section_name, const Section& section) {
    if (section.keys.empty()) return;
    out += '\n';
    if (!section.help.empty()) out += fmt::format("# {}\n", section.help);
    if (!section_name.empty()) out += fmt::format("[{}]\n", section_name);
    bool first = true;
    for (const std::string& name : section.keys) {
      const Key& key = keys_.at(name);
      if (!first) out += '\n';
      first = false;
      // A required key must be filled in: it stands there for that.
      out += fmt::format("# {}\n# {}: {}.\n{}{} = {}\n", key.help, key.required ? "Required" : "Allowed", key.allowed,
                         key.required ? "" : "#", last_part(name), key.default_toml);
    }
  };
  // Keys without a section must stand before the first one.
  if (auto top = sections_.find(""); top != sections_.end()) print(top->first, top->second);
  for (const std::string& name : section_order_) {
    if (!name.empty()) print(name, sections_.at(name));
  }
  return out;
}

}  // namespace cairn
