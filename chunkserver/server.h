// ChunkServer: one chunkserver, put together: its stores, the chunk protocol, the link to its masters, and what people
// see over HTTP. The real program and the simulator build the same.
//
// Loop thread only. start() once; stop() is awaited before it goes, also after a start() that failed. Destroying it
// without is a crash, as the simulator makes it. The World outlives it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/scrubber.h"
#include "common/base/units.h"
#include "common/runtime/world.h"

namespace cairn {

struct ChunkServerSettings {
  std::vector<std::string> folders;  // data directories
  std::string listen = "127.0.0.1:9410";
  std::string advertise;             // how others reach it; empty: as it listens
  std::string http_listen;           // empty: none
  std::vector<std::string> masters;  // addresses
  std::string domain;                // failure domain; empty: none said
  StoreOptions store;                // for each directory; its folder is not used
  ScrubberOptions scrubber;
  uint64_t connection_memory_bytes = 64 * kMiB;
  std::string program;  // "cairn-chunkserver 0.1.0"
  // It cannot go on (it belongs to another cluster than its masters). Once; called on the loop.
  std::function<void(const Error&)> on_fatal;
};

// kInvalid if an address cannot be read, if none is given where one is needed, or if there is no data directory.
Result<void> check_settings(const ChunkServerSettings& settings);

class ChunkServer {
 public:
  // The settings must pass check_settings().
  ChunkServer(World& world, ChunkServerSettings settings);
  ~ChunkServer();

  // When it returns it listens; it serves once a master has answered. kBusy: the address or a directory is in use;
  // kWrongCluster: a directory belongs to another cluster or server (both are named).
  Task<Result<void>> start();
  // Ends every connection, then makes everything durable.
  Task<void> stop();

  // After start().
  Address address() const;
  Address http_address() const;
  ServerId server() const;
  uint64_t incarnation() const;
  ChunkStore& store();
  // kOverload until a master has answered; kIo if a data directory has failed.
  Result<void> health() const;
  // How many masters know this start of the server and what is on it.
  size_t reported_to() const;

 private:
  struct Parts;
  Task<Result<void>> open_store();
  Result<void> listen();
  void export_gauges();

  World& world_;
  ChunkServerSettings settings_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace cairn
