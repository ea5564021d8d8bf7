#include "common/proto/kj_fix.h"

#include <kj/string.h>

namespace kj {

// The member is named: `b == a` would find this function again.
bool operator==(const char* a, const StringPtr& b) {
  return b.operator==(StringPtr(a));
}

}  // namespace kj
