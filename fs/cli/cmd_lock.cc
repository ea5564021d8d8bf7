// cairn lock ls|break, cairn why: who holds a file up.
#include <cstdio>
#include <fmt/core.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/stat.h>

#include <boost/json.hpp>

#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/masters.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct LockArguments {
  std::string path, masters;
  bool json = false;
};

// Longer than a session lives: one that does not answer is ended.
constexpr Duration kAskLimit = std::chrono::seconds(30);

class Sessions {
 public:
  explicit Sessions(const std::vector<SessionName>& names) {
    for (const SessionName& name : names)
      names_[name.session] = name;
  }
  // "host:/mnt", or its number.
  std::string words(SessionId session) const {
    auto found = names_.find(session);
    if (found == names_.end()) return session ? "session " + to_string(session) : "a command";
    const SessionName& name = found->second;
    return name.host + ":" + (name.mountpoint.empty() ? "(a command)" : name.mountpoint);
  }
  boost::json::object json(SessionId session) const {
    boost::json::object out;
    out["session"] = to_string(session);
    auto found = names_.find(session);
    if (found == names_.end()) return out;
    out["host"] = found->second.host;
    out["mountpoint"] = found->second.mountpoint;
    return out;
  }

 private:
  std::map<SessionId, SessionName> names_;
};

const char* kind_name(LockKind kind) {
  return kind == LockKind::kFlock ? "flock" : "fcntl";
}

std::string range_of(const FileLock& lock) {
  if (lock.start == 0 && lock.end == kLockRangeEnd) return "all";
  return std::to_string(lock.start) + "-" + (lock.end == kLockRangeEnd ? "end" : std::to_string(lock.end));
}

boost::json::array json_of(const std::vector<LockInfo>& locks, const Sessions& sessions) {
  boost::json::array out;
  for (const LockInfo& info : locks) {
    const FileLock& lock = info.lock;
    boost::json::object one = sessions.json(lock.session);
    one["inode"] = info.inode.value;
    one["kind"] = kind_name(lock.kind);
    one["mode"] = lock.mode == LockMode::kExclusive ? "exclusive" : "shared";
    one["start"] = lock.start;
    if (lock.end != kLockRangeEnd) one["end"] = lock.end;
    one["pid"] = lock.pid;
    one["state"] = info.waits ? "waits" : "held";
    out.push_back(std::move(one));
  }
  return out;
}

void print(const std::vector<LockInfo>& locks, const Sessions& sessions) {
  Table table({"INODE", "KIND", "MODE", "BYTES", "STATE", "MOUNT", "PID"});
  for (const LockInfo& info : locks) {
    const FileLock& lock = info.lock;
    table.row({std::to_string(info.inode.value), kind_name(lock.kind),
               lock.mode == LockMode::kExclusive ? "exclusive" : "shared", range_of(lock),
               info.waits ? coloured("waits", Colour::kWarning) : "held", sessions.words(lock.session),
               std::to_string(lock.pid)});
  }
  std::fputs(table.str().c_str(), stdout);
}

// The inode that a path on a mount stands for. None: it complained.
std::optional<InodeId> inode_of(const std::string& what, const std::string& path) {
  struct stat st{};
  if (::lstat(path.c_str(), &st) != 0) {
    complain(what + " " + path, errno_error(path));
    return std::nullopt;
  }
  Result<OnMount> on = mount_of(path);
  if (!on) {
    complain(what + " " + path, on.error());
    return std::nullopt;
  }
  return InodeId(st.st_ino);
}

// ---------------------------------------------------------------- lock ls, lock break

Task<int> list(RealWorld& world, std::vector<Address> masters, InodeId inode, LockArguments arguments) {
  Result<ListLocksReply> reply =
      co_await ask_masters(world, std::move(masters), ListLocksRequest{.inode = inode}, kAskLimit, kAskLimit);
  if (!reply) co_return complain("lock ls " + arguments.path, reply.error());
  Sessions sessions(reply->sessions);
  if (arguments.json) {
    boost::json::object out{{"locks", json_of(reply->locks, sessions)}, {"more", reply->more}};
    std::printf("%s\n", boost::json::serialize(out).c_str());
    co_return kExitOk;
  }
  if (reply->locks.empty()) {
    std::printf("no locks%s\n",
                inode ? "" : " that the masters know of (a mount that uses a file alone keeps its own)");
    co_return kExitOk;
  }
  print(reply->locks, sessions);
  if (reply->more) std::printf("... and more\n");
  co_return kExitOk;
}

Task<int> break_all(RealWorld& world, std::vector<Address> masters, InodeId inode, LockArguments arguments) {
  Result<BreakLocksReply> reply =
      co_await ask_masters(world, std::move(masters), BreakLocksRequest{.inode = inode}, kAskLimit, kAskLimit);
  if (!reply) co_return complain("lock break " + arguments.path, reply.error());
  Sessions sessions(reply->sessions);
  if (arguments.json) {
    boost::json::object out;
    out["broken"] = json_of(reply->locks, sessions);
    std::printf("%s\n", boost::json::serialize(out).c_str());
    co_return kExitOk;
  }
  if (reply->locks.empty()) {
    std::printf("no locks\n");
    co_return kExitOk;
  }
  std::printf("taken away:\n");
  print(reply->locks, sessions);
  co_return kExitOk;
}

int list_locks(const LockArguments& arguments) {
  InodeId inode;
  if (!arguments.path.empty()) {
    std::optional<InodeId> found = inode_of("lock ls", arguments.path);
    if (!found) return kExitFailed;
    inode = *found;
  }
  Result<std::vector<Address>> masters = find_masters(arguments.masters, arguments.path);
  if (!masters) return complain("lock ls", masters.error());
  return run_on_loop([&](RealWorld& world) { return list(world, *masters, inode, arguments); });
}

int break_locks(const LockArguments& arguments) {
  std::optional<InodeId> inode = inode_of("lock break", arguments.path);
  if (!inode) return kExitFailed;
  Result<std::vector<Address>> masters = find_masters(arguments.masters, arguments.path);
  if (!masters) return complain("lock break", masters.error());
  return run_on_loop([&](RealWorld& world) { return break_all(world, *masters, *inode, arguments); });
}

// ---------------------------------------------------------------- why

const char* change_words(RecallKind kind) {
  switch (kind) {
    case RecallKind::kName:
      return "a name in it";
    case RecallKind::kAttributes:
      return "its attributes";
    case RecallKind::kWriter:
      return "wants to write it";
    default:
      return "its content";
  }
}

const char* change_name(RecallKind kind) {
  switch (kind) {
    case RecallKind::kName:
      return "name";
    case RecallKind::kAttributes:
      return "attributes";
    case RecallKind::kWriter:
      return "writer";
    default:
      return "content";
  }
}

boost::json::object json_of(const std::string& path, const WhyReply& why) {
  Sessions sessions(why.sessions);
  boost::json::array leases, changes, open, writing;
  for (const LeaseInfo& lease : why.leases) {
    boost::json::object one = sessions.json(lease.session);
    one["lease"] = lease.exclusive ? "exclusive" : "shared";
    one["recalled"] = lease.recalled;
    one["recalled_ms"] = lease.recalled_ms;
    leases.push_back(std::move(one));
  }
  for (const ChangeInfo& change : why.changes) {
    boost::json::object one = sessions.json(change.session);
    one["changes"] = change_name(change.kind);
    one["name"] = change.name;
    one["unanswered"] = change.unanswered;
    changes.push_back(std::move(one));
  }
  for (SessionId session : why.open)
    open.push_back(sessions.json(session));
  for (ChunkId chunk : why.writing)
    writing.push_back(boost::json::value(to_string(chunk)));
  return {{"path", path},
          {"inode", why.attributes.inode.value},
          {"leases", std::move(leases)},
          {"changes", std::move(changes)},
          {"locks", json_of(why.locks, sessions)},
          {"locks_are_local", why.locks_are_local},
          {"open", std::move(open)},
          {"chunks_open_for_writing", std::move(writing)}};
}

void print(const std::string& path, const WhyReply& why) {
  Sessions sessions(why.sessions);
  std::printf("%s: inode %llu\n", path.c_str(), static_cast<unsigned long long>(why.attributes.inode.value));
  for (const LeaseInfo& lease : why.leases) {
    std::string asked;
    if (lease.recalled)
      asked = coloured(
          fmt::format("; was asked to let go {} ago, and has not answered", human_duration_ms(lease.recalled_ms)),
          Colour::kWarning);
    std::printf("  %s lease: %s%s\n", lease.exclusive ? "exclusive" : "shared", sessions.words(lease.session).c_str(),
                asked.c_str());
  }
  for (const ChangeInfo& change : why.changes) {
    std::string name = change.kind == RecallKind::kName ? " (" + change.name + ")" : "";
    std::printf("  under way: %s: %s%s; waits for %llu answers\n", sessions.words(change.session).c_str(),
                change_words(change.kind), name.c_str(), static_cast<unsigned long long>(change.unanswered));
  }
  for (SessionId session : why.open)
    std::printf("  open: %s\n", sessions.words(session).c_str());
  if (!why.writing.empty()) std::printf("  %zu chunks are open for writing\n", why.writing.size());
  if (why.locks_are_local) std::printf("  whoever has the exclusive lease may have locks that only it knows\n");
  if (!why.locks.empty()) print(why.locks, sessions);
  bool nothing = why.leases.empty() && why.changes.empty() && why.open.empty() && why.writing.empty();
  if (nothing && why.locks.empty()) std::printf("  nobody holds it, and nothing is under way\n");
}

Task<int> explain(RealWorld& world, std::vector<Address> masters, InodeId inode, LockArguments arguments) {
  Result<WhyReply> reply = co_await ask_masters(world, std::move(masters), WhyRequest{.inode = inode}, kAskLimit);
  if (!reply) co_return complain("why " + arguments.path, reply.error());
  if (arguments.json) {
    std::printf("%s\n", boost::json::serialize(json_of(arguments.path, *reply)).c_str());
  } else {
    print(arguments.path, *reply);
  }
  co_return kExitOk;
}

int why(const LockArguments& arguments) {
  std::optional<InodeId> inode = inode_of("why", arguments.path);
  if (!inode) return kExitFailed;
  Result<std::vector<Address>> masters = find_masters(arguments.masters, arguments.path);
  if (!masters) return complain("why", masters.error());
  return run_on_loop([&](RealWorld& world) { return explain(world, *masters, *inode, arguments); });
}

void add_common(CLI::App& command, LockArguments& arguments) {
  command.add_option("--master", arguments.masters, "Addresses of the masters, if not the mount's");
  command.add_flag("--json", arguments.json, "For machines");
}

}  // namespace

void add_lock_commands(CLI::App& app, Action& action) {
  CLI::App* lock = app.add_subcommand("lock", "Locks of files, on all mounts");
  lock->require_subcommand(1);
  auto listing = std::make_shared<LockArguments>();
  CLI::App* ls = lock->add_subcommand("ls", "Who has locks, and who waits");
  ls->add_option("path", listing->path, "A file on a Cairn mount; without it, all that the masters know of");
  add_common(*ls, *listing);
  ls->callback([listing, &action] { action = [listing] { return list_locks(*listing); }; });

  auto breaking = std::make_shared<LockArguments>();
  CLI::App* away = lock->add_subcommand("break", "Take all locks of a file away; whoever had them gets an error (EIO)");
  away->add_option("path", breaking->path, "A file on a Cairn mount")->required();
  add_common(*away, *breaking);
  away->callback([breaking, &action] { action = [breaking] { return break_locks(*breaking); }; });

  auto asking = std::make_shared<LockArguments>();
  CLI::App* reason = app.add_subcommand("why", "Who holds a file up: leases, locks, and what is under way");
  reason->add_option("path", asking->path, "A file or directory on a Cairn mount")->required();
  add_common(*reason, *asking);
  reason->callback([asking, &action] { action = [asking] { return why(*asking); }; });
}

}  // namespace cairn
