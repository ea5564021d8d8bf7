#include "fs/cli/local_cluster.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fmt/core.h>
#include <fstream>
#include <netinet/in.h>
#include <poll.h>
#include <spawn.h>
#include <sstream>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "common/proto/methods.h"
#include "fs/cli/cluster_files.h"
#include "fs/cli/master_group.h"
#include "fs/cli/masters.h"

extern char** environ;

namespace cairn {

namespace {

namespace stdfs = std::filesystem;
constexpr int kVersion = 2;
constexpr Duration kStartLimit = std::chrono::seconds(60);
constexpr Duration kAskLimit = std::chrono::seconds(2);
constexpr Duration kAddLimit = std::chrono::minutes(5);
constexpr int kStopSeconds = 20;
constexpr const char* kLoopback = "127.0.0.1:";
constexpr const char* kUnix = "unix:";

// Waits without a clock or a thread: for what another process will do.
void pause_ms(int ms) {
  ::poll(nullptr, 0, ms);
}

Result<uint16_t> free_port() {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno_error("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bool bound = ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
               ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  Result<uint16_t> port = bound ? Result<uint16_t>(ntohs(address.sin_port)) : Result<uint16_t>(errno_error("bind"));
  ::close(fd);
  return port;
}

Result<void> write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.flush();
  if (!out) return errno_error("writing " + path);
  return {};
}

std::string last_lines(const std::string& path, size_t count) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);)
    lines.push_back(line);
  std::string out;
  for (size_t i = lines.size() > count ? lines.size() - count : 0; i < lines.size(); ++i)
    out += "\n    " + lines[i];
  return out;
}

std::optional<ProcessId> read_pid(const std::string& path) {
  std::ifstream in(path);
  ProcessId process;
  if (!(in >> process.pid >> process.start_time)) return std::nullopt;
  return is_alive(process) ? std::optional(process) : std::nullopt;
}

std::string server_name(size_t i) {
  return "chunkserver-" + std::to_string(i + 1);
}

// A socket in that folder can have an address: it is short enough for the kernel (unix(7)), and lists of addresses and
// the files they are written to know where it ends.
bool fits_a_socket(const std::string& folder) {
  constexpr size_t kLongestName = sizeof("/run/chunkserver-64.sock");  // with the zero at the end
  return folder.size() + kLongestName <= sizeof(sockaddr_un::sun_path) &&
         folder.find_first_of(",\"\\\n\r\t ") == std::string::npos;
}

}  // namespace

std::string default_local_folder() {
  if (::geteuid() == 0) return "/var/lib/cairn/local";
  const char* data = std::getenv("XDG_DATA_HOME");
  if (data != nullptr && data[0] != '\0') return std::string(data) + "/cairn";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : "/tmp") + "/.local/share/cairn";
}

Result<std::string> find_program(const std::string& name) {
  std::error_code failed;
  stdfs::path self = stdfs::read_symlink("/proc/self/exe", failed);
  if (!failed && ::access((self.parent_path() / name).c_str(), X_OK) == 0) return (self.parent_path() / name).string();
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string candidate = folder + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return Error(ErrorCode::kNotFound, name + " is neither beside cairn nor in PATH");
}

Result<LocalCluster> LocalCluster::load(const std::string& folder) {
  std::ifstream in(folder + "/local.conf");
  if (!in) return Error(ErrorCode::kNotFound, folder + ": no local cluster is here; make one with 'cairn local up'");
  LocalCluster cluster;
  cluster.folder_ = folder;
  int version = 0;
  for (std::string line; std::getline(in, line);) {
    size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    std::string key = line.substr(0, equals);
    std::string value = line.substr(equals + 1);
    if (key == "version") version = std::atoi(value.c_str());
    if (key == "master") cluster.masters_.push_back(value);
    if (key == "chunkserver") cluster.servers_.push_back(value);
    // Version 1: all are on loopback.
    if (key == "master_port") cluster.masters_.push_back(kLoopback + value);
    if (key == "chunkserver_port") cluster.servers_.push_back(kLoopback + value);
  }
  if (version < 1 || version > kVersion) {
    return Error(ErrorCode::kNotSupported, folder + "/local.conf: version " + std::to_string(version) +
                                               ", this program knows 1 to " + std::to_string(kVersion));
  }
  if (cluster.masters_.empty() || cluster.servers_.empty())
    return Error(ErrorCode::kCorrupt, folder + "/local.conf: addresses are missing");
  return cluster;
}

Result<LocalCluster> LocalCluster::load_or_make(const std::string& folder, uint32_t chunkservers, bool tcp) {
  Result<LocalCluster> there = load(folder);
  if (there || there.code() != ErrorCode::kNotFound) return there;
  LocalCluster cluster;
  cluster.folder_ = folder;
  tcp = tcp || !fits_a_socket(folder);
  std::error_code failed;
  for (const char* sub : {"config", "log", "run"}) {
    stdfs::create_directories(folder + "/" + sub, failed);
    if (failed) return Error(from_errno(failed.value()), "making " + folder + "/" + sub + ": " + failed.message());
  }
  Result<std::string> master = cluster.new_address(master_name(0), tcp);
  if (!master) return master.error();
  cluster.masters_.push_back(*master);
  while (cluster.servers_.size() < chunkservers) {
    Result<std::string> address = cluster.new_address(server_name(cluster.servers_.size()), tcp);
    if (!address) return address.error();
    cluster.servers_.push_back(*address);
  }
  Result<void> configs = cluster.write_configs();
  if (!configs) return configs.error();
  Result<void> certificates = make_local_certificates(folder + "/tls");
  if (!certificates) return certificates.error();
  Result<void> written = cluster.write_conf();
  if (!written) return written.error();
  return cluster;
}

bool LocalCluster::on_tcp() const {
  return !masters_.front().starts_with(kUnix);
}

// A socket in the folder, or a free port that is not chosen yet.
Result<std::string> LocalCluster::new_address(const std::string& name, bool tcp) const {
  if (!tcp) return kUnix + folder_ + "/run/" + name + ".sock";
  for (;;) {
    Result<uint16_t> port = free_port();
    if (!port) return port.error();
    std::string address = kLoopback + std::to_string(*port);
    if (std::ranges::find(masters_, address) == masters_.end() &&
        std::ranges::find(servers_, address) == servers_.end())
      return address;
  }
}

Result<void> LocalCluster::grow_masters(uint32_t masters) {
  bool grown = false;
  while (masters_.size() < masters) {
    Result<std::string> address = new_address(master_name(masters_.size()), on_tcp());
    if (!address) return address.error();
    masters_.push_back(*address);
    Result<void> config = write_master_config(masters_.size() - 1);
    if (!config) return config;
    grown = true;
  }
  return grown ? write_conf() : Result<void>();
}

Result<void> LocalCluster::write_conf() const {
  std::string text = fmt::format("version={}\n", kVersion);
  for (const std::string& address : masters_)
    text += fmt::format("master={}\n", address);
  for (const std::string& address : servers_)
    text += fmt::format("chunkserver={}\n", address);
  std::string path = folder_ + "/local.conf";
  Result<void> written = write_text(path + ".new", text);
  if (written && std::rename((path + ".new").c_str(), path.c_str()) != 0) return errno_error("writing " + path);
  return written;
}

std::string LocalCluster::masters() const {
  std::string out;
  for (const std::string& address : masters_)
    out += (out.empty() ? "" : ",") + address;
  return out;
}

bool LocalCluster::is_source(const std::string& source) const {
  std::istringstream in(source);
  for (std::string address; std::getline(in, address, ',');) {
    if (std::ranges::find(masters_, address) != masters_.end()) return true;
  }
  return false;
}

Result<void> LocalCluster::write_master_config(size_t i) const {
  std::string text = fmt::format(
      "# A master of the local cluster. All keys: cairn-master --example-config\n"
      "[master]\nfolder = \"{0}/{1}\"\nlisten = \"{2}\"\n\n[cluster]\nexpected_servers = {3}\n\n[log]\nfile = "
      "\"{0}/log/{1}.log\"\n",
      folder_, master_name(i), masters_[i], servers_.size());
  return write_text(fmt::format("{}/config/{}.toml", folder_, master_name(i)), text);
}

// Written once: what the user changes in them stays.
Result<void> LocalCluster::write_configs() const {
  Result<void> written = write_master_config(0);
  for (size_t i = 0; written && i < servers_.size(); ++i) {
    // Each counts as a failure domain of its own: on one machine there is nothing else to spread over.
    std::string server = fmt::format(
        "# Chunkserver {1} of the local cluster. All keys: cairn-chunkserver --example-config\n"
        "[chunkserver]\nlisten = \"{2}\"\nmasters = [\"{3}\"]\ndomain = \"chunkserver-{1}\"\n\n"
        "[store]\ndirectories = [\"{0}/chunks-{1}\"]\n\n[log]\nfile = \"{0}/log/chunkserver-{1}.log\"\n",
        folder_, i + 1, servers_[i], masters_[0]);
    written = write_text(fmt::format("{}/config/chunkserver-{}.toml", folder_, i + 1), server);
  }
  return written;
}

std::vector<LocalCluster::Program> LocalCluster::programs() const {
  std::vector<Program> out;
  for (size_t i = 0; i < masters_.size(); ++i) {
    out.push_back({.name = master_name(i),
                   .binary = "cairn-master",
                   .address = masters_[i],
                   .log_file = fmt::format("{}/log/{}.log", folder_, master_name(i)),
                   .process = {}});
  }
  for (size_t i = 0; i < servers_.size(); ++i) {
    std::string name = server_name(i);
    out.push_back({.name = name,
                   .binary = "cairn-chunkserver",
                   .address = servers_[i],
                   .log_file = folder_ + "/log/" + name + ".log",
                   .process = {}});
  }
  for (Program& program : out)
    program.process = read_pid(pid_file(program.name));
  return out;
}

Result<void> LocalCluster::start(const Program& program) const {
  Result<std::string> binary = find_program(program.binary);
  if (!binary) return binary.error();
  std::string config = folder_ + "/config/" + program.name + ".toml";
  std::vector<std::string> arguments = {*binary, "--config", config};
  if (program.binary == "cairn-master") {
    // An empty folder begins a cluster only if there can be no other: with several masters the others have it, and a
    // first one whose folder was lost waits to be added like any other.
    bool first = program.name == "master" && masters_.size() == 1;
    std::error_code ignored;
    bool alone = program.name == "master" && !stdfs::exists(folder_ + "/" + master_name(1), ignored);
    arguments.push_back(first || alone ? "--init" : "--join");
  } else if (masters_.size() > 1) {
    // The file names the first master only: it is older than the others, and the user's.
    arguments.insert(arguments.end(), {"--set", "chunkserver.masters=" + masters()});
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments)
    argv.push_back(argument.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  std::string errors = folder_ + "/log/" + program.name + ".err";
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ::posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  int failed = ::posix_spawn(&pid, binary->c_str(), &files, &attributes, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) return Error(from_errno(failed), "starting " + *binary);
  std::optional<ProcessId> process = find_process(pid);
  if (!process) return Error(ErrorCode::kUnavailable, program.name + " ended at once:" + last_lines(errors, 3));
  return write_text(pid_file(program.name), fmt::format("{} {}\n", process->pid, process->start_time));
}

Result<void> LocalCluster::up(const Say& say) {
  // One that was made before there was a certificate for its administrator gets it now.
  if (stdfs::exists(folder_ + "/tls/ca.key")) {
    Result<void> certificates = make_local_certificates(folder_ + "/tls");
    if (!certificates) return certificates;
  }
  for (const Program& program : programs()) {
    if (program.binary == "cairn-master") remember_certificates(program.address, folder_ + "/tls");
  }
  for (const Program& program : programs()) {
    if (program.process) continue;
    say("starting " + program.name + " on " + program.address);
    Result<void> started = start(program);
    if (!started) return started;
  }
  Result<void> there = wait_for_servers(say);
  if (!there || masters_.size() == 1) return there;
  return add_masters(say);
}

namespace {

Task<int> ask_status(RealWorld& world, std::vector<Address> masters, Result<StatusReply>& out) {
  Result<StatusReply> status = co_await ask_masters(world, std::move(masters), StatusRequest{}, kAskLimit);
  out = std::move(status);
  co_return 0;
}

template <class Request>
Task<int> ask_for_change(RealWorld& world, std::vector<Address> masters, Request request, Result<void>& out) {
  auto changed = co_await ask_masters(world, std::move(masters), std::move(request), kAddLimit, kAddLimit);
  if (!changed) out = changed.error();
  co_return 0;
}

template <class Request>
Result<void> change_group(const std::vector<Address>& masters, const Request& request) {
  Result<void> changed;
  run_on_loop([&](RealWorld& world) { return ask_for_change(world, masters, request, changed); });
  return changed;
}

Task<int> look(RealWorld& world, std::vector<Address> masters, SeenGroup& out) {
  SeenGroup group = co_await look_at_masters(world, std::move(masters));
  out = std::move(group);
  co_return 0;
}

}  // namespace

Result<void> LocalCluster::wait_for_servers(const Say& say) const {
  int64_t waited_ms = 0;
  int64_t limit_ms = kStartLimit / std::chrono::milliseconds(1);
  size_t alive = 0;
  std::string why;  // the last question had no answer
  Result<std::vector<Address>> addresses = parse_masters(masters());
  if (!addresses) return addresses.error();
  for (;;) {
    Result<StatusReply> status(ErrorCode::kUnavailable);
    run_on_loop([&](RealWorld& world) { return ask_status(world, *addresses, status); });
    alive = 0;
    why = status ? "" : status.error().message();
    if (status)
      alive =
          static_cast<size_t>(std::ranges::count_if(status->servers, [](const ServerStatus& s) { return s.alive; }));
    if (alive >= servers_.size()) return {};
    for (const Program& program : programs()) {
      ::waitpid(-1, nullptr, WNOHANG);  // those that have ended are children of ours
      if (program.process && !is_zombie(program.process->pid)) continue;
      return Error(ErrorCode::kUnavailable, program.name +
                                                " ended:" + last_lines(folder_ + "/log/" + program.name + ".err", 3) +
                                                "\n  see " + program.log_file);
    }
    if (waited_ms >= limit_ms) break;
    if (waited_ms > 0 && waited_ms % 5000 == 0)
      say(fmt::format("waiting for the chunkservers: {} of {} are there", alive, servers_.size()));
    pause_ms(100);
    waited_ms += 100;
  }
  return Error(ErrorCode::kTimeout,
               fmt::format("{} of {} chunkservers came up within {} s; see {}/log{}", alive, servers_.size(),
                           limit_ms / 1000, folder_, why.empty() ? "" : ". The master was asked, and: " + why));
}

// One after the other: each is a voter before the next one comes.
Result<void> LocalCluster::add_masters(const Say& say) const {
  Result<std::vector<Address>> addresses = parse_masters(masters());
  if (!addresses) return addresses.error();
  SeenGroup group;
  run_on_loop([&](RealWorld& world) { return look(world, *addresses, group); });
  for (const Address& address : *addresses) {
    std::string name = to_text({address});
    auto voter = std::ranges::find_if(group.masters, [&](const SeenMaster& master) {
      return master.address == name && master.member && master.member->role == MasterRole::kVoter;
    });
    // Its folder was lost: at its address another one waits to be added, and it will not come back.
    bool emptied = std::ranges::any_of(group.masters, [&](const SeenMaster& master) {
      return master.address == name && master.says && !master.member;
    });
    if (voter != group.masters.end() && !(emptied && !voter->says)) continue;
    if (voter != group.masters.end()) {
      say("the master on " + name + " has an empty folder: removing the one that was there");
      Result<void> removed = change_group(*addresses, RemoveMasterRequest{.master = voter->member->master});
      if (!removed) return removed.error().in("removing the master that was on " + name);
    }
    say("adding the master on " + name);
    Result<void> added = change_group(*addresses, AddMasterRequest{.address = to_string(address)});
    if (!added) return added.error().in("adding the master on " + name);
  }
  return {};
}

Result<void> LocalCluster::down(const Say& say) {
  std::vector<Program> running;
  for (Program& program : programs()) {
    if (program.process) running.push_back(std::move(program));
  }
  // Chunkservers first: they tell the masters nothing that they would have to act upon.
  std::ranges::reverse(running);
  for (const Program& program : running) {
    say("stopping " + program.name);
    ::kill(program.process->pid, SIGTERM);
  }
  for (const Program& program : running) {
    for (int waited_ms = 0; is_alive(*program.process) && waited_ms < kStopSeconds * 1000; waited_ms += 50)
      pause_ms(50);
    if (is_alive(*program.process)) {
      say(fmt::format("{} did not stop within {} s: killing it", program.name, kStopSeconds));
      ::kill(program.process->pid, SIGKILL);
      for (int waited_ms = 0; is_alive(*program.process) && waited_ms < 5000; waited_ms += 50)
        pause_ms(50);
    }
    std::error_code ignored;
    stdfs::remove(pid_file(program.name), ignored);
  }
  return {};
}

}  // namespace cairn
