// The program cairn-chunkserver: its command line and configuration, around ChunkServer (server.h).
//
// Exit statuses: 0 after a clean stop (SIGTERM, SIGINT), 1 when it could not start or go on (one line on standard
// error says why), 2 for a wrong command line or configuration. SIGHUP reopens the log file.
#pragma once

namespace cairn {

int run_chunkserver_program(int argc, char** argv);

}  // namespace cairn
