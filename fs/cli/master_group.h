// What a command sees of the masters: each is asked for itself, whether it leads or not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "common/proto/control_types.h"
#include "common/runtime/real_world.h"

namespace cairn {

struct SeenMaster {
  std::string address;                    // "10.0.0.1:9400"
  std::optional<MasterStatusReply> says;  // none: it did not answer
  std::string error;                      // then: why
  std::optional<MasterMember> member;     // as the group knows it
  bool answers_old = false;               // it is there, but of a version without groups
};

struct SeenGroup {
  std::vector<SeenMaster> masters;
  std::optional<size_t> leader;  // index: of the highest term among those that say they lead

  const MasterStatusReply* leading() const { return leader ? &*masters[*leader].says : nullptr; }
  size_t voters() const;
  size_t voters_there() const;  // that answer, and know the leader
  // Whole sentences, for people: who is silent, and whether one more failure would stop the cluster.
  std::vector<std::string> warnings() const;
};

// Asks those masters, and those that they name; each has a second to answer.
Task<SeenGroup> look_at_masters(RealWorld& world, std::vector<Address> masters);

std::string print_masters(const SeenGroup& group);  // a table
boost::json::array json_of_masters(const SeenGroup& group);

}  // namespace cairn
