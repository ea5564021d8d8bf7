// Result<T>: a value or an Error. Functions that can fail because of the world return it; our own bugs are
// CHECKs (check.h). It is std::expected with [[nodiscard]] and with a plain `return Error{...}`.
#pragma once

#include <expected>
#include <utility>

#include "common/base/error.h"

namespace cairn {

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
  using Base = std::expected<T, Error>;

 public:
  using value_type = T;
  using Base::Base;
  Result(Error error) : Base(std::unexpected(std::move(error))) {}
  Result(ErrorCode code) : Base(std::unexpected(Error(code))) {}

  ErrorCode code() const { return this->error().code; }
  // True if this is an error with that code.
  bool failed_with(ErrorCode code) const { return !this->has_value() && this->error().code == code; }
};

template <>
class [[nodiscard]] Result<void> : public std::expected<void, Error> {
  using Base = std::expected<void, Error>;

 public:
  using value_type = void;
  using Base::Base;
  Result(Error error) : Base(std::unexpected(std::move(error))) {}
  Result(ErrorCode code) : Base(std::unexpected(Error(code))) {}

  ErrorCode code() const { return this->error().code; }
  bool failed_with(ErrorCode code) const { return !this->has_value() && this->error().code == code; }
};

}  // namespace cairn
