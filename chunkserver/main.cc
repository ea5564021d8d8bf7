#include "chunkserver/program.h"

int main(int argc, char** argv) {
  return cairn::run_chunkserver_program(argc, argv);
}
