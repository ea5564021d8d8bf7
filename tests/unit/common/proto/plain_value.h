// What tests do with any message of common/proto without naming its fields: fill it with random contents, compare two
// of them. A field that is added to a plain type is covered as soon as it is there. Fields are found by Boost.PFR:
// plain aggregates without base classes.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <boost/pfr.hpp>

#include "common/base/ids.h"
#include "common/base/random.h"
#include "common/proto/chunk_types.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"

namespace cairn::testing {

// Numbers at the ends of their range are as frequent as all others together.
template <std::integral T>
void randomize(T& value, Random& random) {
  switch (random.below(4)) {
    case 0:
      value = std::numeric_limits<T>::min();
      break;
    case 1:
      value = std::numeric_limits<T>::max();
      break;
    default:
      value = static_cast<T>(random.next_u64());
  }
}

inline void randomize(bool& value, Random& random) {
  value = random.chance(1, 2);
}
inline void randomize(FileType& value, Random& random) {
  value = static_cast<FileType>(1 + random.below(7));
}
inline void randomize(ChunkState& value, Random& random) {
  value = static_cast<ChunkState>(1 + random.below(2));
}
inline void randomize(RecallKind& value, Random& random) {
  value = static_cast<RecallKind>(1 + random.below(7));
}
inline void randomize(LockKind& value, Random& random) {
  value = static_cast<LockKind>(1 + random.below(2));
}
inline void randomize(LockMode& value, Random& random) {
  value = static_cast<LockMode>(1 + random.below(3));
}
inline void randomize(MasterRole& value, Random& random) {
  value = static_cast<MasterRole>(1 + random.below(3));
}
inline void randomize(WriteKind& value, Random& random) {
  value = static_cast<WriteKind>(1 + random.below(3));
}

template <class Tag>
void randomize(Id<Tag>& value, Random& random) {
  randomize(value.value, random);
}

// Any bytes, NUL included.
inline void randomize(std::string& value, Random& random) {
  value.resize(random.below(4) == 0 ? 0 : random.below(40));
  for (char& c : value)
    c = static_cast<char>(random.next_u64());
}

// Declared before they are defined: they call one another.
template <class T>
void randomize(std::vector<T>& value, Random& random);
template <class T>
void randomize(std::optional<T>& value, Random& random);
template <class A, class B>
void randomize(std::pair<A, B>& value, Random& random);
template <class... Ts>
void randomize(std::variant<Ts...>& value, Random& random);
template <class T>
  requires std::is_aggregate_v<T>
void randomize(T& value, Random& random);

template <class T>
void randomize(std::vector<T>& value, Random& random) {
  value.resize(random.below(4));
  for (T& item : value)
    randomize(item, random);
}

template <class T>
void randomize(std::optional<T>& value, Random& random) {
  value.reset();
  if (random.chance(1, 2)) randomize(value.emplace(), random);
}

template <class A, class B>
void randomize(std::pair<A, B>& value, Random& random) {
  randomize(value.first, random);
  randomize(value.second, random);
}

template <class... Ts>
void randomize(std::variant<Ts...>& value, Random& random) {
  using Setter = void (*)(std::variant<Ts...>&, Random&);
  static constexpr Setter setters[] = {
      [](std::variant<Ts...>& out, Random& source) { randomize(out.template emplace<Ts>(), source); }...};
  setters[random.below(sizeof...(Ts))](value, random);
}

template <class T>
  requires std::is_aggregate_v<T>
void randomize(T& value, Random& random) {
  boost::pfr::for_each_field(value, [&random](auto& field) { randomize(field, random); });
}

template <class T>
T random_value(Random& random) {
  T value;
  randomize(value, random);
  if constexpr (requires { value.repeated; }) value.repeated = false;  // it is not on the wire
  return value;
}

template <class T>
bool same(const T& a, const T& b);

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  bool equal = a.size() == b.size();
  for (size_t i = 0; equal && i < a.size(); i++)
    equal = same(a[i], b[i]);
  return equal;
}

template <class T>
bool same(const std::optional<T>& a, const std::optional<T>& b) {
  return a.has_value() == b.has_value() && (!a || same(*a, *b));
}

template <class... Ts>
bool same(const std::variant<Ts...>& a, const std::variant<Ts...>& b) {
  return a.index() == b.index() &&
         std::visit([&b](const auto& member) { return same(member, std::get<std::decay_t<decltype(member)>>(b)); }, a);
}

template <class T>
bool same(const T& a, const T& b) {
  if constexpr (std::equality_comparable<T>) {
    return a == b;
  } else {
    bool equal = true;
    auto left = boost::pfr::structure_tie(a);
    auto right = boost::pfr::structure_tie(b);
    [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      equal = (same(std::get<kIndex>(left), std::get<kIndex>(right)) && ...);
    }(std::make_index_sequence<boost::pfr::tuple_size_v<T>>());
    return equal;
  }
}

}  // namespace cairn::testing
