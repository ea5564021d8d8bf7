// cairn-master: reads its configuration, builds a MasterServer on the real world, and ends cleanly on SIGTERM.
#include "master/service/program.h"

int main(int argc, char** argv) { return cairn::run_master_program(argc, argv); }
