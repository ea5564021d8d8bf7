// Inside of the codec: locks, which mutations and other messages share.
#pragma once

#include "common/proto/codec_wire.h"
#include "common/proto/meta.capnp.h"

namespace cairn {

void write(wire::FileLock::Builder out, const FileLock& in);
void read(wire::FileLock::Reader in, FileLock& out);

}  // namespace cairn
