// How a session's stored replies are written (docs/formats.md, "Metadata records"): decoding gives the reply that was encoded, field by field.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/proto/meta_types.h"

namespace cairn {

std::string encode_reply(const Result<MutationReply>& reply);
// The outer error: kCorrupt.
Result<Result<MutationReply>> decode_reply(std::string_view bytes);

}  // namespace cairn
