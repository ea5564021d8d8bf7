// kj_fix.h makes Cap'n Proto 0.9.2 compile with clang in C++20 and later. kj leaves this operator to the rewritten
// candidates of C++20, which the language took back for a class that also has operator!= (P2468), and capnp/blob.h
// uses it. The build includes this header before everything else (-include) wherever Cap'n Proto is linked.
#pragma once

namespace kj {
class StringPtr;
bool operator==(const char* a, const StringPtr& b);
}  // namespace kj
