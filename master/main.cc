// cairn-master: reads its configuration, builds a MasterServer on the real world, and ends cleanly on SIGTERM.
#include "master/restore/restore_program.h"
#include "master/service/program.h"

int main(int argc, char** argv) {
  if (cairn::is_restore_command(argc, argv)) return cairn::run_restore_program(argc, argv);
  return cairn::run_master_program(argc, argv);
}
