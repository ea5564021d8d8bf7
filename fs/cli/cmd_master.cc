// cairn master: who the masters are, and changing who belongs to their group.
#include <charconv>
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <optional>
#include <string>

#include <boost/json.hpp>

#include "common/runtime/task_group.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/master_group.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct MasterArguments {
  std::string masters, target;
  bool json = false;
};

constexpr Duration kAddLimit = std::chrono::hours(6);       // a large state has to get there first
constexpr Duration kAddAttempt = std::chrono::seconds(30);  // asking again goes on where it stopped
constexpr Duration kChangeLimit = std::chrono::seconds(60);
constexpr Duration kLookEvery = std::chrono::seconds(1);

// ---------------------------------------------------------------- status

Task<int> show(RealWorld& world, std::vector<Address> masters, bool json) {
  SeenGroup group = co_await look_at_masters(world, masters);
  std::vector<std::string> warnings = group.warnings();
  if (json) {
    boost::json::object out{{"leader", group.leader ? group.masters[*group.leader].address : ""},
                            {"term", group.leading() ? group.leading()->term : 0},
                            {"masters", json_of_masters(group)},
                            {"warnings", boost::json::value_from(warnings)}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
  } else {
    std::fputs(print_masters(group).c_str(), stdout);
    for (const std::string& warning : warnings)
      std::printf("%s %s\n", coloured("warning:", Colour::kWarning).c_str(), warning.c_str());
  }
  bool old = std::ranges::any_of(group.masters, [](const SeenMaster& master) { return master.answers_old; });
  if (!group.leader && !old) co_return kExitNotRunning;
  co_return warnings.empty() ? kExitOk : kExitDegraded;
}

// ---------------------------------------------------------------- add

Task<void> ask_to_add(RealWorld& world, std::vector<Address> masters, std::string address,
                      std::optional<Result<AddMasterReply>>& out) {
  Result<AddMasterReply> reply =
      co_await ask_masters(world, std::move(masters), AddMasterRequest{.address = address}, kAddLimit, kAddAttempt);
  out.emplace(std::move(reply));
}

// What can be seen from outside of how far it has come; empty: nothing yet.
std::string progress_of(const SeenGroup& group, const std::string& address) {
  const MasterStatusReply* leader = group.leading();
  if (!leader) return "no master leads at the moment";
  for (const SeenMaster& master : group.masters) {
    if (master.address != address) continue;
    if (!master.says) return "it does not answer: " + master.error;
    if (!master.member) return "it is being made known to the group";
    if (master.member->role == MasterRole::kVoter) return "it has its vote";
    if (master.says->last < leader->first) return "it gets the state from the leader";
    return fmt::format("it catches up: {} of {} changes", master.says->applied, leader->committed);
  }
  return {};
}

Task<int> add(RealWorld& world, std::vector<Address> masters, Address address, bool json) {
  std::string name = to_text({address});
  std::vector<Address> looked_at = masters;
  if (std::ranges::find(looked_at, address) == looked_at.end()) looked_at.push_back(address);
  std::optional<Result<AddMasterReply>> added;
  TaskGroup tasks(world.executor(), world.clock());
  tasks.spawn(ask_to_add(world, masters, to_string(address), added));
  std::string said;
  while (!added) {
    Result<void> slept = co_await tasks.sleep_for(said.empty() ? kLookEvery / 4 : kLookEvery);
    if (!slept || added) break;
    SeenGroup group = co_await look_at_masters(world, looked_at);
    std::string progress = progress_of(group, name);
    if (!json && !progress.empty() && progress != said) {
      std::printf("%s: %s\n", name.c_str(), progress.c_str());
      std::fflush(stdout);
    }
    said = progress;
  }
  co_await tasks.stop();
  if (!*added) co_return complain("master add " + name, added->error());
  if (json) {
    boost::json::object out{{"master", to_string((*added)->master)}, {"address", name}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
  } else {
    std::printf("added: master %s at %s has a vote\n", to_string((*added)->master).c_str(), name.c_str());
  }
  co_return kExitOk;
}

// ---------------------------------------------------------------- remove, transfer

// An id as `cairn master status` shows it, or an address.
Result<MasterId> find_master(const SeenGroup& group, const std::string& text) {
  MasterId id;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), id.value, 16);
  if (failed == std::errc() && end == text.data() + text.size() && id) return id;
  for (const SeenMaster& master : group.masters) {
    if (master.address == text && master.member) return master.member->master;
  }
  return Error(ErrorCode::kInvalid, "'" + text + "' is no master's id or address; cairn master status shows them");
}

template <class Reply>
int finish(const std::string& what, const Result<Reply>& reply, bool json, boost::json::object out,
           const std::string& said) {
  if (!reply) return complain(what, reply.error());
  std::printf("%s\n", json ? boost::json::serialize(out).c_str() : said.c_str());
  return kExitOk;
}

Task<int> remove(RealWorld& world, std::vector<Address> masters, std::string target, bool json) {
  SeenGroup group = co_await look_at_masters(world, masters);
  Result<MasterId> id = find_master(group, target);
  if (!id) {
    complain("master remove", id.error());
    co_return kExitUsage;
  }
  RemoveMasterRequest request{.master = *id};
  auto reply = co_await ask_masters(world, std::move(masters), request, kChangeLimit, kChangeLimit);
  co_return finish("master remove " + target, reply, json, {{"master", to_string(*id)}},
                   "removed; stop its process, and give its folder to no other master");
}

Task<int> transfer(RealWorld& world, std::vector<Address> masters, std::string target, bool json) {
  TransferLeadershipRequest request;
  if (!target.empty()) {
    SeenGroup group = co_await look_at_masters(world, masters);
    Result<MasterId> id = find_master(group, target);
    if (!id) {
      complain("master transfer", id.error());
      co_return kExitUsage;
    }
    request.to = *id;
  }
  auto reply = co_await ask_masters(world, std::move(masters), request, kChangeLimit, kChangeLimit);
  MasterId leader = reply ? reply->leader : MasterId();
  co_return finish("master transfer", reply, json, {{"leader", to_string(leader)}},
                   "master " + to_string(leader) + " leads");
}

}  // namespace

void add_master_commands(CLI::App& app, Action& action) {
  CLI::App* master = app.add_subcommand("master", "Masters of the cluster: one, three or five");
  master->require_subcommand(1);
  auto arguments = std::make_shared<MasterArguments>();
  auto common = [arguments](CLI::App* command) {
    command->add_option("--master", arguments->masters, "Addresses of the masters: HOST:PORT[,HOST:PORT]");
    command->add_flag("--json", arguments->json, "For machines");
  };
  auto run = [arguments, &action](const char* name, std::function<Task<int>(RealWorld&, std::vector<Address>)> body) {
    action = [arguments, name, body = std::move(body)] {
      Result<std::vector<Address>> masters = find_masters(arguments->masters);
      if (!masters) return complain(std::string("master ") + name, masters.error());
      return run_on_loop([&](RealWorld& world) { return body(world, *masters); });
    };
  };
  CLI::App* status = master->add_subcommand(
      "status", "Who leads, and how far each is (exit status 3 if something needs attention, 4 if nobody leads)");
  common(status);
  status->callback([arguments, run] {
    run("status", [arguments](RealWorld& world, std::vector<Address> masters) {
      return show(world, std::move(masters), arguments->json);
    });
  });
  CLI::App* add_command = master->add_subcommand("add", "Take a master that was started with --join into the group");
  common(add_command);
  add_command->add_option("address", arguments->target, "Where it listens: HOST:PORT")->required();
  add_command->callback([arguments, run, &action] {
    Result<Address> address = parse_address(arguments->target);
    if (!address) {
      action = [error = address.error()] {
        complain("master add", error);
        return kExitUsage;
      };
      return;
    }
    run("add", [arguments, address = *address](RealWorld& world, std::vector<Address> masters) {
      return add(world, std::move(masters), address, arguments->json);
    });
  });
  CLI::App* remove_command = master->add_subcommand("remove", "Take a master out of the group, for good");
  common(remove_command);
  remove_command->add_option("id", arguments->target, "Its id or address, as cairn master status shows it")->required();
  remove_command->callback([arguments, run] {
    run("remove", [arguments](RealWorld& world, std::vector<Address> masters) {
      return remove(world, std::move(masters), arguments->target, arguments->json);
    });
  });
  CLI::App* transfer_command = master->add_subcommand("transfer", "Let another master lead");
  common(transfer_command);
  transfer_command->add_option("id", arguments->target, "Its id or address; none: any that is up to date");
  transfer_command->callback([arguments, run] {
    run("transfer", [arguments](RealWorld& world, std::vector<Address> masters) {
      return transfer(world, std::move(masters), arguments->target, arguments->json);
    });
  });
}

}  // namespace cairn
