#include "master/service/core.h"

#include "master/service/command_codec.h"
#include "master/service/machine_adapter.h"

namespace cairn {

MasterCore::MasterCore(World& world, Machine& machine, ReplicatedLog& log)
    : world_(world), machine_(machine), log_(log), pool_(world.make_pool("read", 2)) {}

Error MasterCore::not_leader() const {
  LogStatus status = log_.status();
  if (!status.leader || (status.leader == status.master && !leading())) return ErrorCode::kNotLeader;
  return Error(ErrorCode::kNotLeader,
               to_string(status.leader) + " " + status.leader_address + " " + std::to_string(status.term));
}

Task<Result<ReplyBody>> MasterCore::propose(Command command, bool may_use_reserve) {
  Result<void> loaded = machine_.prefetch(command, ReadMode::kMemoryOnly);
  if (loaded.failed_with(ErrorCode::kNotCached)) {
    // apply() must not wait for the disk: what it will need is fetched before.
    Machine* machine = &machine_;
    auto shared = std::make_shared<Command>(command);
    Result<void> fetched =
        co_await pool_->run([machine, shared]() { return machine->prefetch(*shared, ReadMode::kMayBlock); });
    if (!fetched) co_return fetched.error();
  }
  Proposal proposal;
  proposal.bytes = encode_command(command);
  proposal.decoded = std::make_unique<DecodedMachineCommand>(std::move(command));
  proposal.may_use_reserve = may_use_reserve;
  Result<Committed> committed = co_await log_.propose(std::move(proposal));
  if (!committed) co_return committed.error();
  auto* reply = static_cast<MachineReply*>(committed->reply.get());
  CHECK(reply);
  Reply answer = std::move(reply->reply);
  if (!answer) co_return answer.error();
  co_return std::move(*answer);
}

}  // namespace cairn
