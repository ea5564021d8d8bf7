// cairn cluster: the cluster's authority and its certificates.
#include <cstdio>
#include <fmt/core.h>
#include <memory>
#include <string>

#include <boost/json.hpp>

#include "common/runtime/boot_clock.h"
#include "fs/cli/cluster_files.h"
#include "fs/cli/commands.h"
#include "fs/cli/exit_status.h"
#include "fs/cli/output.h"

namespace cairn {

namespace {

struct ClusterArguments {
  std::string folder;
  std::string cluster;
  std::string role;
  std::string name;
  std::string out;
  uint32_t days = kCertificateDays;
  bool force = false;
  bool json = false;
};

int init(const ClusterArguments& arguments) {
  ClusterId cluster;
  if (!arguments.cluster.empty()) {
    // An identity with this cluster in it: the one reader of ids that there is.
    Result<PeerIdentity> read = parse_identity("cairn://" + arguments.cluster + "/admin/x");
    if (!read) {
      complain("cluster init: '" + arguments.cluster + "' is no cluster's id: 16 hexadecimal digits, as cairn status says");
      return kExitUsage;
    }
    cluster = read->cluster;
  }
  Result<ClusterId> made = make_authority_folder(arguments.folder, cluster, arguments.force);
  if (!made) return complain("cluster init", made.error());
  fmt::print(
      "cluster {0}: its authority is {1}/ca.crt, and {1}/ca.key, which nobody else may see\n"
      "next: a certificate for each machine, and for each role on it (master, chunkserver, client, admin):\n"
      "  cairn cluster issue {1} --role master --name NAME\n"
      "and what that makes goes to /etc/cairn/tls of that machine\n",
      to_string(*made), arguments.folder);
  return kExitOk;
}

int issue(const ClusterArguments& arguments) {
  Result<PeerRole> role = parse_role(arguments.role);
  if (!role) {
    complain("cluster issue", role.error());
    return kExitUsage;
  }
  Result<std::string> out =
      issue_into_folder(arguments.folder, *role, arguments.name, arguments.days, arguments.out, arguments.force);
  if (!out) return complain("cluster issue", out.error());
  fmt::print("{0}/{1}.crt, {1}.key and ca.crt are for /etc/cairn/tls of {2}\n", *out, arguments.role, arguments.name);
  return kExitOk;
}

std::string state_of(const CertificateInfo& info, WallTime now) {
  if (info.not_after < now) return coloured("expired", Colour::kBad);
  if (info.not_before > now) return coloured("not valid yet", Colour::kBad);
  int64_t days = (info.not_after.ns - now.ns) / (86'400ll * 1'000'000'000ll);
  std::string text = std::to_string(days) + " days left";
  return days < 30 ? coloured(text, Colour::kWarning) : text;
}

int show(const ClusterArguments& arguments) {
  Result<std::vector<CertificateFile>> found = find_certificates(arguments.folder);
  if (!found) return complain("cluster show", found.error());
  WallTime now = wall_time_now();
  if (arguments.json) {
    boost::json::array list;
    for (const CertificateFile& file : *found) {
      const CertificateInfo& info = file.info;
      list.push_back({{"file", file.path},
                      {"cluster", to_string(info.cluster)},
                      {"role", info.identity ? std::string(to_string(info.identity->role)) : "authority"},
                      {"name", info.identity ? info.identity->name : ""},
                      {"expires", date_of(info.not_after)},
                      {"valid", info.not_before <= now && now <= info.not_after},
                      {"serial", info.serial}});
    }
    std::printf("%s\n", boost::json::serialize(list).c_str());
    return kExitOk;
  }
  Table table({"CLUSTER", "ROLE", "NAME", "EXPIRES", "STATE", "FILE"});
  for (const CertificateFile& file : *found) {
    const CertificateInfo& info = file.info;
    table.row({to_string(info.cluster), info.identity ? std::string(to_string(info.identity->role)) : "authority",
               info.identity ? info.identity->name : "-", date_of(info.not_after), state_of(info, now), file.path});
  }
  std::fputs(table.str().c_str(), stdout);
  return kExitOk;
}

}  // namespace

void add_cluster_commands(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ClusterArguments>();
  CLI::App* cluster = app.add_subcommand("cluster", "The cluster's authority and its certificates");
  cluster->require_subcommand(1);
  CLI::App* init_command = cluster->add_subcommand("init", "Make a cluster's authority in a folder");
  init_command->add_option("folder", arguments->folder, "Where; keep it safe, away from the servers")->required();
  init_command->add_option("--cluster", arguments->cluster, "The id of a cluster that exists (default: a new one)");
  init_command->add_flag("--force", arguments->force, "Replace an authority that is there");
  init_command->callback([arguments, &action] { action = [arguments] { return init(*arguments); }; });
  CLI::App* issue_command = cluster->add_subcommand("issue", "Issue a certificate");
  issue_command->add_option("folder", arguments->folder, "The authority's folder")->required();
  issue_command->add_option("--role", arguments->role, "What it is for")
      ->required()
      ->check(CLI::IsMember({"master", "chunkserver", "client", "admin"}));
  issue_command->add_option("--name", arguments->name, "Whose it is: the machine's name, for logs")->required();
  issue_command->add_option("--days", arguments->days, "How long it is valid")
      ->check(CLI::Range(1u, kAuthorityDays))
      ->capture_default_str();
  issue_command->add_option("--out", arguments->out, "Folder for it (default: issued/ROLE-NAME beside the authority)");
  issue_command->add_flag("--force", arguments->force, "Replace a certificate that is there");
  issue_command->callback([arguments, &action] { action = [arguments] { return issue(*arguments); }; });
  CLI::App* show_command = cluster->add_subcommand("show", "What certificates say, and how long they are valid");
  show_command->add_option("path", arguments->folder, "A folder, or one file")->required();
  show_command->add_flag("--json", arguments->json, "For machines");
  show_command->callback([arguments, &action] { action = [arguments] { return show(*arguments); }; });
}

}  // namespace cairn
