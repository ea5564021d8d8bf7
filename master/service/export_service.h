// ExportService: hands out the metadata as a dump (common/dump), part by part, as it was at one moment: a view of the
// store's records is held while the cluster goes on. A part is made when it is asked for, on a thread of its own, so
// that memory is bounded; an export that nobody asks about for a while is let go.
//
// Loop thread only. drop() before the state machine is closed; the RpcServer is stopped before it goes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "common/dump/dump_format.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/blocking_pool.h"
#include "common/runtime/task_group.h"
#include "master/service/core.h"

namespace cairn {

inline constexpr size_t kExportsMax = 4;  // each holds old tables of the store
inline constexpr Duration kExportIdleMax = std::chrono::seconds(60);

// One dump being made of a consistent view. Blocking; used by one thread at a time.
class DumpMaker {
 public:
  DumpMaker(std::unique_ptr<KvIterator> records, std::string program, int64_t wall_ns);
  // The next bytes of the file: the header first. Empty after the end.
  Result<std::string> next();
  bool ended() const { return state_ == State::kEnded; }

 private:
  enum class State { kHeader, kPages, kEnd, kEnded };
  Result<std::string> header();
  Result<std::string> page();
  std::unique_ptr<KvIterator> records_;
  std::string program_;
  int64_t wall_ns_;
  DumpWriter writer_;
  State state_ = State::kHeader;
};

class ExportService {
 public:
  ExportService(MasterCore& core, std::string program);
  ~ExportService();
  void add_handlers(RpcServer& server);
  // Lets go of every export: this master leads no longer, or stops.
  void drop();
  Task<void> stop();

 private:
  struct Export {
    std::unique_ptr<DumpMaker> maker;
    uint64_t next = 0;   // part
    std::string last;    // the part before it: it may be asked for again
    TimePoint asked{};
    bool busy = false;
  };
  Task<Result<Answer<ExportReply>>> part(ExportRequest request, RpcRequest rpc);
  Task<Result<std::shared_ptr<Export>>> begin();
  void drop_idle();
  Task<void> watch();

  MasterCore& core_;
  std::string program_;
  std::unique_ptr<BlockingPool> pool_;
  bool watching_ = false;
  TaskGroup tasks_;
  std::map<uint64_t, std::shared_ptr<Export>> exports_;  // shared with the request that is being answered
};

}  // namespace cairn
