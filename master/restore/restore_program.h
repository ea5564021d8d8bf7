// `cairn-master import` and `cairn-master rescue`: what `cairn metadata import` and `cairn rescue` run.
#pragma once

namespace cairn {

// True if the arguments ask for one of them.
bool is_restore_command(int argc, char** argv);
// 0, or 1 and a line on standard error, or 2 for wrong arguments.
int run_restore_program(int argc, char** argv);

}  // namespace cairn
