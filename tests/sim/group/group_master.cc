#include "tests/sim/group/group_master.h"

#include <utility>

#include "common/base/check.h"
#include "common/base/random.h"

namespace cairn {

// ---------------------------------------------------------------- the way between masters

class GroupMaster::LossyPeers final : public Peers {
 public:
  explicit LossyPeers(GroupMaster& master) : master_(master) {}

  void send(MasterId to, const std::string& address, std::string message) override {
    Random& random = master_.world_.random();
    const GroupMasterSettings& settings = master_.settings_;
    if (settings.on_send && !settings.on_send(message)) return;
    if (random.chance(settings.lost, 1000)) return;
    if (random.chance(settings.twice, 1000)) master_.peers_->send(to, address, message);
    if (random.chance(settings.late, 1000)) {
      master_.tasks_.spawn(master_.send_later(to, address, std::move(message)));
      return;
    }
    master_.peers_->send(to, address, std::move(message));
  }
  Task<Result<std::string>> ask(MasterId to, std::string address, std::string question, TimePoint deadline) override {
    return master_.peers_->ask(to, std::move(address), std::move(question), deadline);
  }

 private:
  GroupMaster& master_;
};

// It may have closed its log since, and opened it again.
Task<void> GroupMaster::send_later(MasterId to, std::string address, std::string message) {
  Result<void> slept = co_await tasks_.sleep_for(std::chrono::milliseconds(1 + world_.random().below(400)));
  if (slept && peers_) peers_->send(to, address, std::move(message));
}

// ---------------------------------------------------------------- the program

GroupMaster::GroupMaster(World& world, Simulator& simulator, GroupHistory& history, GroupMasterSettings settings,
                         const bool& working)
    : world_(world),
      simulator_(simulator),
      history_(history),
      settings_(std::move(settings)),
      working_(working),
      machine_(world.disk(), TestMachine::kWhole),
      tasks_(world.executor(), world.clock()) {
  settings_.log.on_fatal = [this](const Error& error) { error_ = error; };
  settings_.log.on_leadership = [this](bool leading, Term term) {
    if (leading) history_.leads(settings_.address, term);
  };
  settings_.log.on_reopen = [this] { tasks_.spawn(open_again()); };
  machine_.after_apply = [this](const EntryContext& entry) {
    history_.applied(settings_.address, entry.index, machine_.hash());
  };
  settings_.log.ticks_wanted = [] { return true; };
  tasks_.spawn(open());
  for (int i = 0; i < 3; ++i)
    tasks_.spawn(work());
}

GroupMaster::~GroupMaster() = default;

Task<void> GroupMaster::open() {
  Hello hello;
  hello.cluster = settings_.log.cluster;
  hello.program = "group-master";
  peers_ = std::make_unique<RaftPeers>(world_, hello);
  lossy_ = std::make_unique<LossyPeers>(*this);
  Result<std::unique_ptr<ReplicatedLog>> opened =
      co_await ReplicatedLog::open(world_, settings_.log, machine_, lossy_.get());
  if (!opened) {
    error_ = opened.error();
    co_return;
  }
  log_ = std::move(*opened);
  history_.opened(settings_.address, log_->status().last);
  server_ = std::make_unique<RpcServer>(world_, RpcServerOptions{.hello = hello});
  RaftPeers::add_handlers(*server_, [this] { return log_.get(); });
  Result<Address> address = parse_address(settings_.address);
  CHECK(address);
  Result<Address> listening = server_->listen(*address);
  if (!listening) error_ = listening.error();
}

Task<void> GroupMaster::close() {
  co_await server_->stop();
  co_await log_->stop();
  co_await peers_->stop();
  server_.reset();
  log_.reset();
  lossy_.reset();
  peers_.reset();
}

Task<void> GroupMaster::open_again() {
  co_await close();
  co_await open();
}

Task<void> GroupMaster::work() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(std::chrono::milliseconds(1 + world_.random().below(40)));
    if (!slept) co_return;
    if (!working_ || !log_ || !log_->leading()) continue;
    if (world_.random().chance(1, 3)) {
      co_await read_one();
    } else {
      co_await propose_one();
    }
  }
}

Task<void> GroupMaster::propose_one() {
  uint64_t command = history_.begin_command(simulator_.now());
  Result<Committed> result = co_await log_->propose({.bytes = GroupHistory::text_of(command), .decoded = {}});
  using Outcome = GroupHistory::Outcome;
  if (result) {
    uint64_t position = static_cast<TestReply*>(result->reply.get())->position;
    history_.end_command(command, simulator_.now(), Outcome::kDone, position);
    co_return;
  }
  bool refused = result.code() == ErrorCode::kNotLeader || result.code() == ErrorCode::kNoSpace ||
                 result.code() == ErrorCode::kOverload;
  history_.end_command(command, simulator_.now(), refused ? Outcome::kRefused : Outcome::kUnknown, 0);
}

Task<void> GroupMaster::read_one() {
  uint64_t read = history_.begin_read(simulator_.now());
  Result<void> passed = co_await log_->read_barrier();
  if (passed) history_.end_read(read, simulator_.now(), machine_.count());
}

Task<void> GroupMaster::change(Task<Result<void>> task, std::function<void(Result<void>)> done) {
  Result<void> result = co_await std::move(task);
  done(std::move(result));
}

void GroupMaster::add(MasterId master, std::string address, std::function<void(Result<void>)> done) {
  tasks_.spawn(change(log_->add_member(master, std::move(address), world_.clock().now() + 20s), std::move(done)));
}

void GroupMaster::remove(MasterId master, std::function<void(Result<void>)> done) {
  tasks_.spawn(change(log_->remove_member(master, world_.clock().now() + 20s), std::move(done)));
}

void GroupMaster::transfer(MasterId to) {
  tasks_.spawn(change(log_->transfer_leadership(to, world_.clock().now() + 2s), [](Result<void>) {}));
}

void GroupMaster::checkpoint() {
  tasks_.spawn(make_checkpoint());
}

Task<void> GroupMaster::make_checkpoint() {
  if (!log_) co_return;
  [[maybe_unused]] Result<LogIndex> made = co_await log_->checkpoint();
}

}  // namespace cairn
