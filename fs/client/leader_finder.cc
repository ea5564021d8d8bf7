#include "fs/client/leader_finder.h"

#include <algorithm>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kWatchPeriod = std::chrono::milliseconds(250);
constexpr Duration kStatusDeadline = std::chrono::milliseconds(500);
constexpr Duration kLongSeek = std::chrono::seconds(10);
}  // namespace

bool is_masters_trouble(ErrorCode code) {
  switch (code) {
    case ErrorCode::kTimeout:
    case ErrorCode::kUnavailable:
    case ErrorCode::kNotLeader:
    case ErrorCode::kOverload:
      return true;
    default:
      return false;
  }
}

LeaderFinder::LeaderFinder(World& world, const std::vector<Address>& masters, std::string program)
    : world_(world), changed_(world.executor()), tasks_(world.executor(), world.clock()) {
  options_.hello.program = std::move(program);
  options_.reconnect_pause_max = kSeekPause;
  for (const Address& address : masters)
    (void)master_at(address);
  // Nobody knows better yet; whoever it is says who leads.
  if (!masters_.empty()) leader_ = last_leader_ = masters_.front().get();
}

LeaderFinder::~LeaderFinder() = default;

void LeaderFinder::start() {
  tasks_.on_stop([this] { changed_.notify_all(); });
  tasks_.spawn(watch());
}

Task<void> LeaderFinder::stop() {
  tasks_.ask_to_stop();  // nothing is learnt any more: the list would grow beside the loop
  for (size_t i = 0; i < masters_.size(); ++i)
    co_await masters_[i]->client.stop();
  co_await tasks_.stop();
}

void LeaderFinder::set_cluster(ClusterId cluster) {
  cluster_ = cluster;
  options_.hello.cluster = cluster;
  for (auto& master : masters_)
    master->client.set_cluster(cluster);
}

std::vector<Address> LeaderFinder::addresses() const {
  std::vector<Address> out;
  for (const auto& master : masters_)
    out.push_back(master->client.address());
  return out;
}

LeaderFinder::Master& LeaderFinder::master_at(const Address& address) {
  auto known = std::ranges::find_if(masters_, [&](const auto& master) { return master->client.address() == address; });
  if (known != masters_.end()) return **known;
  masters_.push_back(std::make_unique<Master>(world_, address, options_));
  Master& master = *masters_.back();
  master.client.on_disconnect([this, &master] {
    if (leader_ == &master) lost(master);
  });
  return master;
}

// ---------------------------------------------------------------- who leads

Task<Result<LeaderFinder::Master*>> LeaderFinder::wait_leader(TimePoint deadline) {
  while (!leader_ && !tasks_.stop_requested()) {
    Result<void> waited = co_await changed_.wait_until(world_.clock(), deadline);
    if (waited || leader_) continue;
    std::string names;
    for (const auto& master : masters_)
      names += (names.empty() ? "" : ", ") + to_string(master->client.address());
    co_return Error(ErrorCode::kUnavailable,
                    names.empty() ? "no master's address is given" : "no master leads at " + names);
  }
  if (tasks_.stop_requested()) co_return Error(ErrorCode::kCancelled);
  co_return leader_;
}

Task<Result<void>> LeaderFinder::wait_found(TimePoint deadline) {
  Result<Master*> found = co_await wait_leader(deadline);
  co_return found ? Result<void>() : Result<void>(found.error());
}

Task<void> LeaderFinder::failed(Master& master, Error error, TimePoint began, uint64_t moves, TimePoint deadline) {
  // It may wait there for others; it is asked again. Whoever looks for what held a program up finds it here.
  if (error.code == ErrorCode::kTimeout) log_warning("client.attempt_timed_out", "error={}", quoted(error.message()));
  if (moves == moves_) {
    if (error.code == ErrorCode::kTimeout) doubt();
    if (error.code == ErrorCode::kNotLeader || error.code == ErrorCode::kUnavailable) master.silent_term = term_;
    if (error.code == ErrorCode::kNotLeader) follow(master, parse_leader_hint(error.context));
    if (error.code == ErrorCode::kUnavailable) {
      // It may refuse what comes over this connection because another one, under another name of it, is newer.
      master.client.drop("it answered that it cannot");
      lost(master);
    }
  }
  // Another one than before is asked at once.
  if (moves != moves_ && leader_ != &master) co_return;
  TimePoint next = std::min(deadline, began + kSeekPause);
  if (next > world_.clock().now()) (void)co_await tasks_.sleep_until(next);
}

// What a master that does not lead says of who does.
void LeaderFinder::follow(Master& refused, const std::optional<LeaderHint>& hint) {
  if (hint && hint->term >= term_ && hint->address != refused.client.address() && masters_.size() < kMastersKnownMax) {
    Master& named = master_at(hint->address);
    if (named.silent_term == 0 || named.silent_term < hint->term) return lead(named, hint->term);
  }
  lost(refused);
}

void LeaderFinder::lost(Master& master) {
  if (leader_ != &master) return;
  leader_ = nullptr;
  if (seeking_ || tasks_.stop_requested()) return;
  seeking_ = true;
  log_info("client.no_leader", "master={} term={}", to_string(master.client.address()), term_);
  tasks_.spawn(seek());
}

void LeaderFinder::lead(Master& master, uint64_t term) {
  bool news = last_leader_ != &master || term > term_;
  if (leader_ == &master && !news) return;
  Master* before = std::exchange(last_leader_, &master);
  leader_ = &master;
  term_ = std::max(term_, term);
  ++moves_;
  if (news) log_info("client.leader", "master={} term={}", to_string(master.client.address()), term_);
  // Its answers would be of the past.
  if (before && before != &master) before->client.drop("another master leads");
  changed_.notify_all();
  if (found_) found_();
}

void LeaderFinder::heard(Master& master, const MasterStatusReply& status) {
  if (status.joining || (cluster_ && status.cluster != cluster_)) {
    if (leader_ == &master) lost(master);
    return;
  }
  for (const MasterMember& member : status.members) {
    Result<Address> address = parse_address(member.address);
    if (address && masters_.size() < kMastersKnownMax) (void)master_at(*address);
  }
  bool newer = status.term > term_ || (!leader_ && status.term == term_);
  if (status.leading && (newer || leader_ == &master)) return lead(master, status.term);
  if (!status.leading && leader_ == &master) {
    Result<Address> address = parse_address(status.leader_address);
    std::optional<LeaderHint> hint;
    if (status.leader && address) hint = LeaderHint{status.leader, *address, status.term};
    follow(master, hint);
  }
}

Task<void> LeaderFinder::ask_status(Master& master) {
  if (master.asking) co_return;
  master.asking = true;
  RpcClient::CallOptions options{.deadline = world_.clock().now() + kStatusDeadline};
  auto answer = co_await typed_call(master.client, MasterStatusRequest{}, options);
  master.asking = false;
  if (tasks_.stop_requested()) co_return;
  if (answer) {
    heard(master, answer->reply);
  } else if (answer.error().code == ErrorCode::kNotSupported) {
    if (!leader_) lead(master, term_);  // a master of before there were groups
  } else if (leader_ == &master) {
    answer.error().code == ErrorCode::kTimeout ? doubt() : lost(master);
  }
}

Task<void> LeaderFinder::seek() {
  TimePoint began = world_.clock().now();
  while (!leader_ && !tasks_.stop_requested()) {
    // What is learnt on the way may make the list longer.
    for (size_t i = 0; i < masters_.size() && !leader_; ++i)
      tasks_.spawn(ask_status(*masters_[i]));
    Duration pause = world_.clock().now() - began < kLongSeek ? kSeekPause : kSeekPauseLong;
    // Clients that lost their leader together do not ask together for ever.
    pause = pause * 3 / 4 + Duration(world_.random().below(static_cast<uint64_t>(pause.count()) / 2));
    TimePoint next = world_.clock().now() + pause;
    while (!leader_ && !tasks_.stop_requested() && world_.clock().now() < next)
      (void)co_await changed_.wait_until(world_.clock(), next);
  }
  seeking_ = false;
}

// The leader is slow, or hangs: if there is another one by now, the others know it.
void LeaderFinder::doubt() {
  TimePoint now = world_.clock().now();
  if (now < next_doubt_ || tasks_.stop_requested()) return;
  next_doubt_ = now + kLeaderDoubt;
  for (size_t i = 0; i < masters_.size(); ++i) {
    if (masters_[i].get() != leader_) tasks_.spawn(ask_status(*masters_[i]));
  }
}

Task<void> LeaderFinder::watch() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kWatchPeriod);
    if (!slept) co_return;
    if (!leader_) continue;
    TimePoint now = world_.clock().now();
    if (!waiting_.empty() && now - waiting_.front() > kLeaderDoubt) doubt();
    if (now < next_probe_) continue;
    next_probe_ = now + kLeaderProbe;
    tasks_.spawn(ask_status(*leader_));
  }
}

}  // namespace cairn
