// What a MemoryDisk is made of. Internal to it; everything here is under its lock.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/runtime/memory_content.h"
#include "common/runtime/memory_disk.h"

namespace cairn {

struct MemoryDisk::Node {
  uint64_t id = 0;
  bool folder = false;
  std::map<std::string, NodePtr> names;          // of a folder
  std::map<std::string, NodePtr> durable_names;  // of a folder
  MemoryContent content;                         // of a file
  uint64_t links = 0;                            // names, as they are now
  uint64_t open_files = 0;
  uint64_t counted_bytes = 0;  // its part of used_bytes_
  uint64_t crashes = 0;        // the last crash it has seen
  bool locked = false;
};

// One operation on names: wholly durable or not at all. No node: the name goes.
struct MemoryDisk::NameChange {
  struct Entry {
    NodePtr folder;
    std::string name;
    NodePtr node;
  };
  std::vector<Entry> entries;
};

struct MemoryDisk::Place {
  NodePtr folder;
  std::string name;
  NodePtr node;  // what has that name, if anything
};

}  // namespace cairn
