// libraft's pure core (raft_step(): an event in, what is to be done out; no I/O, no threads) behind a few C functions,
// because raft.h is not valid C++. Used by engine.cc only. Not thread-safe.
//
// The core keeps of the log only which index has which term; entries' bytes are the caller's. Memory that a struct
// below points at is the caller's when the caller filled it in, and the core's, good until the next call, when the core
// did.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct CairnRaft CairnRaft;

enum { CAIRN_RAFT_COMMAND = 1, CAIRN_RAFT_BARRIER = 2, CAIRN_RAFT_CHANGE = 3 };  // types of entries
enum { CAIRN_RAFT_FOLLOWER = 1, CAIRN_RAFT_CANDIDATE = 2, CAIRN_RAFT_LEADER = 3 };
enum { CAIRN_RAFT_STANDBY = 0, CAIRN_RAFT_VOTER = 1, CAIRN_RAFT_SPARE = 2 };  // roles of members

// What raft_step() may answer beside 0 and is not our own bug. CANNOT_CHANGE: another change is under way.
enum { CAIRN_RAFT_BAD_ID = 2, CAIRN_RAFT_NOT_LEADER = 7, CAIRN_RAFT_CANNOT_CHANGE = 11, CAIRN_RAFT_NO_SPACE = 22 };

// How far a member that is to become a voter has come (cairn_raft_catch_up_status).
enum { CAIRN_RAFT_CATCH_UP_NONE, CAIRN_RAFT_CATCH_UP_RUNNING, CAIRN_RAFT_CATCH_UP_ABORTED, CAIRN_RAFT_CATCH_UP_FINISHED };

typedef struct CairnRaftEntry {
  uint64_t term;
  int type;
  const void* data;  // of CAIRN_RAFT_CHANGE: the encoded configuration; else unused by the core
  size_t size;
} CairnRaftEntry;

typedef struct CairnRaftMember {
  uint64_t id;
  const char* address;
  int role;
} CairnRaftMember;

typedef struct CairnRaftSnapshot {
  uint64_t index;
  uint64_t term;
  const void* configuration;  // encoded
  size_t configuration_size;
  uint64_t configuration_index;
} CairnRaftSnapshot;

enum {
  CAIRN_RAFT_MESSAGE_APPEND_ENTRIES = 1,
  CAIRN_RAFT_MESSAGE_APPEND_ENTRIES_RESULT,
  CAIRN_RAFT_MESSAGE_REQUEST_VOTE,
  CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT,
  CAIRN_RAFT_MESSAGE_INSTALL_SNAPSHOT,
  CAIRN_RAFT_MESSAGE_TIMEOUT_NOW,
};

// A message that the core wants sent, or that has come for it. Which fields count depends on the type. The entries of
// an AppendEntries to be sent are [index + 1, + n_entries) of the log and are read from there; of one that has come they
// are beside it.
typedef struct CairnRaftMessage {
  int type;
  uint64_t peer;             // whom to send it to, or who has sent it
  const char* peer_address;  // likewise
  uint64_t term;
  uint64_t index;      // prev_log_index, last_log_index, or the snapshot's
  uint64_t log_term;   // prev_log_term, last_log_term, or the snapshot's
  uint64_t commit;     // AppendEntries
  uint32_t n_entries;  // AppendEntries
  uint64_t rejected;   // AppendEntriesResult
  bool vote_granted;
  bool pre_vote;
  bool disrupt_leader;
  uint16_t features;
  uint16_t capacity_kib;
} CairnRaftMessage;

// What a step asks for; the order in which it must be done is in engine.cc.
typedef struct CairnRaftUpdate {
  bool term_or_vote_changed;
  bool state_changed;
  bool commit_changed;
  uint64_t entries_index;  // 0: none
  const CairnRaftEntry* entries;
  unsigned n_entries;
  const CairnRaftMessage* messages;
  unsigned n_messages;
} CairnRaftUpdate;

// `seed` for the randomised election timeout. Null when there is no memory.
CairnRaft* cairn_raft_new(uint64_t id, const char* address, unsigned seed, unsigned election_ms, unsigned heartbeat_ms,
                          uint16_t capacity_threshold_kib);
void cairn_raft_free(CairnRaft* raft);

// Each returns 0, or libraft's error code; cairn_raft_error() has the text. `now_ms` never goes back.
int cairn_raft_start(CairnRaft* raft, uint64_t now_ms, uint64_t term, uint64_t voted_for,
                     const CairnRaftSnapshot* snapshot, uint64_t start_index, const CairnRaftEntry* entries,
                     unsigned n_entries, CairnRaftUpdate* update);
int cairn_raft_timeout(CairnRaft* raft, uint64_t now_ms, CairnRaftUpdate* update);
int cairn_raft_submit(CairnRaft* raft, uint64_t now_ms, const CairnRaftEntry* entry, CairnRaftUpdate* update);
int cairn_raft_persisted(CairnRaft* raft, uint64_t now_ms, uint64_t index, CairnRaftUpdate* update);
// `entries`: of an AppendEntries; their data is only looked at during the call. An InstallSnapshot is not for the core.
int cairn_raft_receive(CairnRaft* raft, uint64_t now_ms, const CairnRaftMessage* message, const CairnRaftEntry* entries,
                       CairnRaftUpdate* update);
// A leader begins to send the log to a member that is no voter yet; BAD_ID if it is none.
int cairn_raft_catch_up(CairnRaft* raft, uint64_t now_ms, uint64_t id, CairnRaftUpdate* update);
// A leader lets go in favour of a voter (0: whoever is furthest).
int cairn_raft_transfer(CairnRaft* raft, uint64_t now_ms, uint64_t id, CairnRaftUpdate* update);
// A committed configuration has been reached by apply.
int cairn_raft_configured(CairnRaft* raft, uint64_t now_ms, uint64_t index, const void* configuration, size_t size,
                          CairnRaftUpdate* update);
int cairn_raft_snapshot_taken(CairnRaft* raft, uint64_t now_ms, const CairnRaftSnapshot* snapshot, unsigned trailing,
                              CairnRaftUpdate* update);

// Room for entries that this disk surely has; below the threshold (for a majority) submitting answers
// CAIRN_RAFT_NO_SPACE.
void cairn_raft_set_capacity(CairnRaft* raft, uint16_t capacity_kib);

int cairn_raft_state(const CairnRaft* raft);
uint64_t cairn_raft_term(const CairnRaft* raft);
uint64_t cairn_raft_voted_for(const CairnRaft* raft);
uint64_t cairn_raft_commit_index(const CairnRaft* raft);
uint64_t cairn_raft_last_index(const CairnRaft* raft);
// The oldest entry whose term the core still knows: what it can send. Later than the log's own first, which goes by
// whole segments.
uint64_t cairn_raft_first_index(const CairnRaft* raft);
uint64_t cairn_raft_next_timeout_ms(const CairnRaft* raft);
// 0 and "" while no leader is known. The address is good until the next call.
uint64_t cairn_raft_leader(const CairnRaft* raft, const char** address);
// True if `id` is the only voter of the configuration in force.
bool cairn_raft_is_sole_voter(const CairnRaft* raft, uint64_t id);
// The configuration in force, committed or not.
unsigned cairn_raft_member_count(const CairnRaft* raft);
CairnRaftMember cairn_raft_member(const CairnRaft* raft, unsigned i);
// Whether a change of the configuration is not known to be committed yet.
bool cairn_raft_is_changing(const CairnRaft* raft);
// While leading: what member i is known to have stored.
uint64_t cairn_raft_match_index(const CairnRaft* raft, unsigned i);
// While following: up to which index the log is known to be the leader's of this term.
uint64_t cairn_raft_follower_match(const CairnRaft* raft);
int cairn_raft_catch_up_status(const CairnRaft* raft, uint64_t id);
// Whom leadership is being handed to; 0: nobody.
uint64_t cairn_raft_transferee(const CairnRaft* raft);
const char* cairn_raft_error(CairnRaft* raft, int code);

// Encodes a configuration as entries and snapshots hold it; the caller frees *data with free(). 0, or libraft's error
// code.
int cairn_raft_encode_configuration(const CairnRaftMember* members, unsigned n_members, void** data, size_t* size);
// How many voters an encoded configuration has and whether `id` is one of them. 0, or libraft's error code (malformed).
int cairn_raft_inspect_configuration(const void* data, size_t size, uint64_t id, unsigned* n_voters, bool* is_voter);

#ifdef __cplusplus
}
#endif
