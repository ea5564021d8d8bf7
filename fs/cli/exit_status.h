// Exit statuses of `cairn`, for scripts: docs/operations.md.
#pragma once

namespace cairn {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;      // it could not be done; one line on standard error says why
inline constexpr int kExitUsage = 2;       // wrong options or arguments
inline constexpr int kExitDegraded = 3;    // `cairn status`: it works, and something needs attention
inline constexpr int kExitNotRunning = 4;  // `cairn local status`, `cairn status`: nobody is there

}  // namespace cairn
