// The cairn-master program: options, configuration, and its life from start to signal.
#pragma once

namespace cairn {

// Exit status: 0 after a clean stop, 1 when it could not start or had to end (one line on standard error says why), 2
// for wrong usage or configuration.
int run_master_program(int argc, char** argv);

}  // namespace cairn
