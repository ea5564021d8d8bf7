#include "fs/cli/master_group.h"

#include <algorithm>
#include <fmt/core.h>
#include <utility>

#include "common/rpc/rpc_typed.h"
#include "common/runtime/task_group.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {
constexpr Duration kAnswerLimit = std::chrono::seconds(1);
constexpr uint64_t kLagEntries = 10'000;  // more than the log keeps: what is missing comes as a checkpoint
constexpr uint64_t kSilentMs = 3000;
constexpr uint64_t kNeverHeardMs = uint64_t{365} * 24 * 3600 * 1000;  // by this leader; the one before may have

std::string role_of(const SeenMaster& master) {
  if (!master.member) return master.says && master.says->joining ? "waits to be added" : "";
  switch (master.member->role) {
    case MasterRole::kVoter:
      return "voter";
    case MasterRole::kStandby:
      return "standby";
    case MasterRole::kSpare:
      return "spare";
  }
  return "";
}

uint64_t lag_of(const SeenGroup& group, const SeenMaster& master) {
  const MasterStatusReply* leader = group.leading();
  if (!leader || !master.says || master.says->joining) return 0;
  return leader->committed - std::min(leader->committed, master.says->applied);
}

Task<void> ask(RealWorld& world, Address address, SeenMaster& seen) {
  Result<std::shared_ptr<Credentials>> secured = use_client_tls(world, {address});
  if (!secured) {
    seen.error = secured.error().message();
    co_return;
  }
  RpcClientOptions options;
  options.hello.program = "cairn";
  RpcClient client(world, address, options);
  RpcClient::CallOptions call{.deadline = world.clock().now() + kAnswerLimit};
  auto answer = co_await typed_call(client, MasterStatusRequest{}, call);
  if (answer) {
    seen.says = std::move(answer->reply);
  } else {
    seen.answers_old = answer.error().code == ErrorCode::kNotSupported;
    seen.error = answer.error().message();
  }
  co_await client.stop();
}

// Members at whose address another master answers: it lost its folder, or somebody took its place. They count, and have
// to be seen to be removed.
void add_replaced(SeenGroup& group, const std::vector<MasterMember>& members) {
  for (const MasterMember& member : members) {
    bool seen = std::ranges::any_of(group.masters, [&](const SeenMaster& master) {
      return master.member && master.member->master == member.master;
    });
    if (seen) continue;
    Result<Address> address = parse_address(member.address);
    SeenMaster& lost = group.masters.emplace_back();
    lost.address = address ? to_text({*address}) : member.address;
    lost.error = "another master, or one with an emptied folder, is at this address; cairn master remove " +
                 to_string(member.master) + " if it does not come back";
    lost.member = member;
  }
}
}  // namespace

size_t SeenGroup::voters() const {
  return static_cast<size_t>(std::ranges::count_if(
      masters, [](const SeenMaster& master) { return master.member && master.member->role == MasterRole::kVoter; }));
}

size_t SeenGroup::voters_there() const {
  const MasterStatusReply* leads = leading();
  return static_cast<size_t>(std::ranges::count_if(masters, [leads](const SeenMaster& master) {
    return master.member && master.member->role == MasterRole::kVoter && master.says &&
           (!leads || master.says->term == leads->term);
  }));
}

std::vector<std::string> SeenGroup::warnings() const {
  std::vector<std::string> out;
  for (const SeenMaster& master : masters) {
    if (!master.says && !master.answers_old) {
      out.push_back("master " + master.address + " does not answer: " + master.error);
    } else if (master.says && master.says->joining) {
      out.push_back("master " + master.address + " waits to be added: cairn master add " + master.address);
    } else if (master.member && master.member->role != MasterRole::kVoter) {
      out.push_back("master " + master.address + " has no vote yet: cairn master add " + master.address +
                    " goes on with it");
    } else if (lag_of(*this, master) > kLagEntries) {
      out.push_back(fmt::format("master {} is {} changes behind", master.address, lag_of(*this, master)));
    }
    if (master.says && master.says->disk_low && (!leader || &masters[*leader] != &master))
      out.push_back("the disk of master " + master.address + "'s log is nearly full");
  }
  size_t all = voters();
  size_t there = voters_there();
  size_t needed = all / 2 + 1;
  if (!leader && all > 0) {
    out.push_back(fmt::format("no master leads; {} of {} answer, {} are needed", there, all, needed));
  } else if (all > 1 && there <= needed) {
    out.push_back(fmt::format("ONE MORE FAILURE OF A MASTER STOPS THE CLUSTER: {} of {} are in order, {} are needed",
                              there, all, needed));
  }
  return out;
}

Task<SeenGroup> look_at_masters(RealWorld& world, std::vector<Address> masters) {
  SeenGroup group;
  std::vector<MasterMember> members;
  // The second round asks those that the first one named.
  for (int round = 0; round < 2; ++round) {
    std::vector<SeenMaster> seen(masters.size());
    {
      TaskGroup tasks(world.executor(), world.clock());
      for (size_t i = 0; i < masters.size(); ++i) {
        seen[i].address = to_text({masters[i]});
        tasks.spawn(ask(world, masters[i], seen[i]));
      }
      co_await tasks.stop();
    }
    masters.clear();
    for (SeenMaster& master : seen) {
      if (master.says && (!group.leading() || master.says->term > group.leading()->term) && master.says->leading)
        group.leader = group.masters.size();
      group.masters.push_back(std::move(master));
    }
    // The leader's list; without one the newest that anybody has.
    const MasterStatusReply* best = group.leading();
    for (const SeenMaster& master : group.masters) {
      if (!group.leader && master.says && !master.says->members.empty() && (!best || master.says->term > best->term))
        best = &*master.says;
    }
    if (!best) break;
    members = best->members;
    for (const MasterMember& member : members) {
      Result<Address> address = parse_address(member.address);
      if (!address) continue;
      bool known = std::ranges::any_of(group.masters, [&](const SeenMaster& master) {
        return master.address == to_text({*address}) || (master.says && master.says->master == member.master);
      });
      if (!known) masters.push_back(std::move(*address));
    }
  }
  for (SeenMaster& master : group.masters) {
    for (const MasterMember& member : members) {
      Result<Address> address = parse_address(member.address);
      bool same = master.says ? master.says->master == member.master : address && to_text({*address}) == master.address;
      if (same) master.member = member;
    }
  }
  add_replaced(group, members);
  co_return group;
}

std::string print_masters(const SeenGroup& group) {
  Table table({"ID", "MASTER", "STATE", "ROLE", "TERM", "BEHIND", "LOG", "PROGRAM"});
  for (size_t i = 0; i < group.masters.size(); ++i) {
    const SeenMaster& master = group.masters[i];
    std::string state = coloured("does not answer", Colour::kBad);
    if (master.answers_old) state = "up";
    if (master.says) state = coloured(group.leader == i ? "leads" : "up", Colour::kGood);
    if (master.says && master.says->joining) state = coloured("waits", Colour::kWarning);
    uint64_t silent_ms = master.member ? master.member->silent_ms : 0;
    if (!master.says && silent_ms > kSilentMs && silent_ms < kNeverHeardMs)
      state = coloured("silent " + human_duration_ms(silent_ms), Colour::kBad);
    MasterId id = master.says ? master.says->master : master.member ? master.member->master : MasterId();
    table.row({id ? to_string(id) : "-", master.address, state, role_of(master),
               master.says ? std::to_string(master.says->term) : "-",
               master.says ? std::to_string(lag_of(group, master)) : "-",
               master.says ? human_bytes(master.says->log_bytes) : "-", master.says ? master.says->program : "-"});
  }
  return table.str();
}

boost::json::array json_of_masters(const SeenGroup& group) {
  boost::json::array out;
  for (size_t i = 0; i < group.masters.size(); ++i) {
    const SeenMaster& master = group.masters[i];
    MasterId id = master.says ? master.says->master : master.member ? master.member->master : MasterId();
    boost::json::object one{{"master", to_string(id)},
                            {"address", master.address},
                            {"answers", master.says.has_value() || master.answers_old},
                            {"leading", group.leader == i},
                            {"role", role_of(master)}};
    if (master.says) {
      const MasterStatusReply& says = *master.says;
      one["joining"] = says.joining;
      one["program"] = says.program;
      one["term"] = says.term;
      one["last"] = says.last;
      one["committed"] = says.committed;
      one["applied"] = says.applied;
      one["first"] = says.first;
      one["checkpoint"] = says.checkpoint;
      one["log_bytes"] = says.log_bytes;
      one["disk_low"] = says.disk_low;
      one["behind"] = lag_of(group, master);
    } else {
      one["error"] = master.error;
    }
    if (master.member) {
      one["match_index"] = master.member->match_index;
      one["silent_ms"] = master.member->silent_ms;
    }
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace cairn
