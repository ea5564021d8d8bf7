// Commands of the log as bytes: docs/formats.md, "Master's commands". A version byte, the command's number, its fields
// in order. Numbers and orders of fields are never changed; a new field is a new version.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "master/namespace/command.h"

namespace cairn {

std::string encode_command(const Command& command);
// kCorrupt for what cannot be decoded.
Result<Command> decode_command(std::string_view bytes);

}  // namespace cairn
