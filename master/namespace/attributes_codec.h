// How Attributes are written inside records (an inode's, a stored reply's). Formats: docs/formats.md, "Metadata records".
#pragma once

#include "common/base/bytes.h"
#include "common/proto/meta_types.h"

namespace cairn {

// Without the inode's number.
void write_attributes(ByteWriter& w, const Attributes& a);
void read_attributes(ByteReader& r, Attributes& a);

}  // namespace cairn
