#include "master/consensus/raft_core.h"

#include <stdlib.h>
#include <string.h>

// Whose memory is whose follows release 0.22.1; later versions of the core copy more.
#include <raft.h>

_Static_assert(CAIRN_RAFT_COMMAND == RAFT_COMMAND && CAIRN_RAFT_BARRIER == RAFT_BARRIER &&
                   CAIRN_RAFT_CHANGE == RAFT_CHANGE,
               "entry types");
_Static_assert(CAIRN_RAFT_FOLLOWER == RAFT_FOLLOWER && CAIRN_RAFT_LEADER == RAFT_LEADER, "states");
_Static_assert(CAIRN_RAFT_STANDBY == RAFT_STANDBY && CAIRN_RAFT_VOTER == RAFT_VOTER && CAIRN_RAFT_SPARE == RAFT_SPARE,
               "roles");
_Static_assert((int)CAIRN_RAFT_NOT_LEADER == RAFT_NOTLEADER && (int)CAIRN_RAFT_NO_SPACE == RAFT_NOSPACE &&
                   (int)CAIRN_RAFT_BAD_ID == RAFT_BADID && (int)CAIRN_RAFT_CANNOT_CHANGE == RAFT_CANTCHANGE,
               "errors");

struct CairnRaft {
  struct raft core;
  uint16_t capacity_kib;
  // The last update's, in our form.
  CairnRaftEntry* entries;
  CairnRaftMessage* messages;
  void* received;  // the batch of the entries that are being received: freed by receive_entries()
  void* barrier;   // content of the entry that a new leader of several voters adds by itself: allocated by the core,
                   // ours to free
};

static void forget_update(CairnRaft* raft) {
  free(raft->entries);
  free(raft->messages);
  raft_free(raft->barrier);
  raft->entries = NULL;
  raft->messages = NULL;
  raft->barrier = NULL;
}

CairnRaft* cairn_raft_new(uint64_t id, const char* address, unsigned seed, unsigned election_ms, unsigned heartbeat_ms,
                          uint16_t capacity_threshold_kib) {
  // raft_init() leaves what belongs to its own I/O backends as it is: start from zeros.
  CairnRaft* raft = calloc(1, sizeof *raft);
  if (raft == NULL) return NULL;
  if (raft_init(&raft->core, NULL, NULL, id, address) != 0) {
    free(raft);
    return NULL;
  }
  raft->core.tracer = NULL;  // it would format a line for each step into a static buffer
  raft_seed(&raft->core, seed);
  raft_set_election_timeout(&raft->core, election_ms);
  raft_set_heartbeat_timeout(&raft->core, heartbeat_ms);
  raft_set_pre_vote(&raft->core, true);
  raft_set_capacity_threshold(&raft->core, capacity_threshold_kib);
  raft->capacity_kib = UINT16_MAX;
  return raft;
}

void cairn_raft_free(CairnRaft* raft) {
  if (raft == NULL) return;
  forget_update(raft);
  raft_close(&raft->core, NULL);
  free(raft);
}

static void convert_message(const struct raft_message* in, CairnRaftMessage* out) {
  memset(out, 0, sizeof *out);
  out->type = (int)in->type;
  out->peer = in->server_id;
  out->peer_address = in->server_address;
  switch (in->type) {
    case RAFT_APPEND_ENTRIES:
      out->term = in->append_entries.term;
      out->index = in->append_entries.prev_log_index;
      out->log_term = in->append_entries.prev_log_term;
      out->commit = in->append_entries.leader_commit;
      out->n_entries = in->append_entries.n_entries;
      break;
    case RAFT_APPEND_ENTRIES_RESULT:
      out->term = in->append_entries_result.term;
      out->rejected = in->append_entries_result.rejected;
      out->index = in->append_entries_result.last_log_index;
      out->features = in->append_entries_result.features;
      out->capacity_kib = in->append_entries_result.capacity;
      break;
    case RAFT_REQUEST_VOTE:
      out->term = in->request_vote.term;
      out->index = in->request_vote.last_log_index;
      out->log_term = in->request_vote.last_log_term;
      out->disrupt_leader = in->request_vote.disrupt_leader;
      out->pre_vote = in->request_vote.pre_vote;
      break;
    case RAFT_REQUEST_VOTE_RESULT:
      out->term = in->request_vote_result.term;
      out->vote_granted = in->request_vote_result.vote_granted;
      out->pre_vote = in->request_vote_result.pre_vote;
      out->features = in->request_vote_result.features;
      out->capacity_kib = in->request_vote_result.capacity;
      break;
    case RAFT_INSTALL_SNAPSHOT:
      out->term = in->install_snapshot.term;
      out->index = in->install_snapshot.last_index;
      out->log_term = in->install_snapshot.last_term;
      break;
    case RAFT_TIMEOUT_NOW:
      out->term = in->timeout_now.term;
      out->index = in->timeout_now.last_log_index;
      out->log_term = in->timeout_now.last_log_term;
      break;
  }
}

static int step(CairnRaft* raft, uint64_t now_ms, struct raft_event* event, CairnRaftUpdate* update) {
  forget_update(raft);
  memset(update, 0, sizeof *update);
  struct raft_update core_update;
  memset(&core_update, 0, sizeof core_update);
  event->time = now_ms;
  event->capacity = raft->capacity_kib;
  int status = raft_step(&raft->core, event, &core_update);
  if (status != 0) return status;

  unsigned flags = core_update.flags;
  update->term_or_vote_changed = (flags & ((RAFT_UPDATE_CURRENT_TERM) | (RAFT_UPDATE_VOTED_FOR))) != 0;
  update->state_changed = (flags & (RAFT_UPDATE_STATE)) != 0;
  update->commit_changed = (flags & (RAFT_UPDATE_COMMIT_INDEX)) != 0;
  if ((flags & (RAFT_UPDATE_ENTRIES)) != 0 && core_update.entries.n > 0) {
    unsigned n = core_update.entries.n;
    raft->entries = calloc(n, sizeof *raft->entries);
    if (raft->entries == NULL) return RAFT_NOMEM;
    for (unsigned i = 0; i < n; i++) {
      const struct raft_entry* entry = &core_update.entries.batch[i];
      raft->entries[i].term = entry->term;
      raft->entries[i].type = (int)entry->type;
      raft->entries[i].data = entry->buf.base;
      raft->entries[i].size = entry->buf.len;
      if (entry->type == RAFT_BARRIER && entry->batch != raft->received) raft->barrier = entry->batch;
    }
    update->entries_index = core_update.entries.index;
    update->entries = raft->entries;
    update->n_entries = n;
  }
  if ((flags & (RAFT_UPDATE_MESSAGES)) != 0 && core_update.messages.n > 0) {
    unsigned n = core_update.messages.n;
    raft->messages = calloc(n, sizeof *raft->messages);
    if (raft->messages == NULL) return RAFT_NOMEM;
    for (unsigned i = 0; i < n; i++)
      convert_message(&core_update.messages.batch[i], &raft->messages[i]);
    update->messages = raft->messages;
    update->n_messages = n;
  }
  return 0;
}

static int receive(CairnRaft* raft, uint64_t now_ms, struct raft_message* message, CairnRaftUpdate* update) {
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_RECEIVE;
  event.receive.message = message;
  return step(raft, now_ms, &event, update);
}

static struct raft_buffer buffer_of(const void* data, size_t size) {
  struct raft_buffer buffer = {(void*)data, size};  // the core only reads it
  return buffer;
}

static int fill_metadata(const CairnRaftSnapshot* in, struct raft_snapshot_metadata* out) {
  memset(out, 0, sizeof *out);
  out->index = in->index;
  out->term = in->term;
  out->configuration_index = in->configuration_index;
  struct raft_buffer encoded = buffer_of(in->configuration, in->configuration_size);
  return raft_configuration_decode(&encoded, &out->configuration);
}

int cairn_raft_start(CairnRaft* raft, uint64_t now_ms, uint64_t term, uint64_t voted_for,
                     const CairnRaftSnapshot* snapshot, uint64_t start_index, const CairnRaftEntry* entries,
                     unsigned n_entries, CairnRaftUpdate* update) {
  struct raft_snapshot_metadata metadata;
  struct raft_entry* core_entries = calloc(n_entries > 0 ? n_entries : 1, sizeof *core_entries);
  if (core_entries == NULL) return RAFT_NOMEM;
  for (unsigned i = 0; i < n_entries; i++) {
    core_entries[i].term = entries[i].term;
    core_entries[i].type = (enum raft_entry_type)entries[i].type;
    core_entries[i].buf = buffer_of(entries[i].data, entries[i].size);
  }
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_START;
  event.start.term = term;
  event.start.voted_for = voted_for;
  event.start.start_index = start_index;
  event.start.entries = core_entries;
  event.start.n_entries = n_entries;
  int status = 0;
  if (snapshot != NULL) {
    status = fill_metadata(snapshot, &metadata);
    event.start.metadata = &metadata;
  }
  // The core keeps the snapshot's configuration.
  if (status == 0) status = step(raft, now_ms, &event, update);
  // When starting fails (no memory) it has freed the entries.
  if (status == 0) free(core_entries);
  return status;
}

static struct raft_server* find_server(struct raft_configuration* configuration, uint64_t id) {
  for (unsigned i = 0; i < configuration->n; i++) {
    if (configuration->servers[i].id == id) return &configuration->servers[i];
  }
  return NULL;
}

// A follower that is no voter keeps its leader for ever and would never vote again (design.md 3.5, M4).
static void forget_silent_leader(struct raft* core, uint64_t now_ms) {
  if (core->state != RAFT_FOLLOWER || core->follower_state.current_leader.id == 0) return;
  if (now_ms < raft_timeout(core)) return;
  const struct raft_server* self = find_server(&core->configuration, core->id);
  if (self != NULL && self->role == RAFT_VOTER) return;  // becomes a candidate, which forgets it
  core->follower_state.current_leader.id = 0;
  raft_free(core->follower_state.current_leader.address);
  core->follower_state.current_leader.address = NULL;
}

int cairn_raft_timeout(CairnRaft* raft, uint64_t now_ms, CairnRaftUpdate* update) {
  forget_silent_leader(&raft->core, now_ms);
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_TIMEOUT;
  return step(raft, now_ms, &event, update);
}

int cairn_raft_submit(CairnRaft* raft, uint64_t now_ms, const CairnRaftEntry* entry, CairnRaftUpdate* update) {
  struct raft_entry core_entry;
  memset(&core_entry, 0, sizeof core_entry);
  core_entry.term = entry->term;
  core_entry.type = (enum raft_entry_type)entry->type;
  core_entry.buf = buffer_of(entry->data, entry->size);
  // Only looked at to see that there is one: whose memory it is, is our own affair.
  core_entry.batch = core_entry.buf.base;
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_SUBMIT;
  event.submit.entries = &core_entry;
  event.submit.n = 1;
  return step(raft, now_ms, &event, update);
}

int cairn_raft_persisted(CairnRaft* raft, uint64_t now_ms, uint64_t index, CairnRaftUpdate* update) {
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_PERSISTED_ENTRIES;
  event.persisted_entries.index = index;
  return step(raft, now_ms, &event, update);
}

// The core frees the batch of an AppendEntries unless it wants the entries stored: it is given an empty one, the bytes
// are ours.
static int receive_entries(CairnRaft* raft, uint64_t now_ms, struct raft_message* message,
                           const CairnRaftEntry* entries, unsigned n, CairnRaftUpdate* update) {
  struct raft_entry* core_entries = n > 0 ? calloc(n, sizeof *core_entries) : NULL;
  void* batch = n > 0 ? raft_malloc(1) : NULL;
  if (n > 0 && (core_entries == NULL || batch == NULL)) {
    free(core_entries);
    raft_free(batch);
    return RAFT_NOMEM;
  }
  for (unsigned i = 0; i < n; i++) {
    core_entries[i].term = entries[i].term;
    core_entries[i].type = (enum raft_entry_type)entries[i].type;
    core_entries[i].buf = buffer_of(entries[i].data, entries[i].size);
    core_entries[i].batch = batch;
  }
  message->append_entries.entries = core_entries;
  message->append_entries.n_entries = n;
  raft->received = batch;
  int status = receive(raft, now_ms, message, update);
  raft->received = NULL;
  if (status == 0 && update->n_entries > 0) raft_free(batch);
  free(core_entries);
  return status;
}

// A node that is no voter in its own, stale configuration votes all the same: the candidate's configuration decides
// whose votes count (Raft dissertation 4.2.2; design.md 3.5, M3). A pre-vote with a term that is too low is answered
// with the real one, else a candidate with the longest log and a stale term would never learn it (M5).
static int receive_vote_request(CairnRaft* raft, uint64_t now_ms, struct raft_message* message,
                                CairnRaftUpdate* update) {
  struct raft* core = &raft->core;
  int role = RAFT_VOTER;
  struct raft_server* self = find_server(&core->configuration, core->id);
  if (self != NULL) {
    role = self->role;
    self->role = RAFT_VOTER;
  }
  int status = receive(raft, now_ms, message, update);
  self = find_server(&core->configuration, core->id);
  if (self != NULL) self->role = role;
  bool stale = message->request_vote.pre_vote && message->request_vote.term < core->current_term;
  if (status != 0 || !stale) return status;
  for (unsigned i = 0; i < update->n_messages; i++) {
    CairnRaftMessage* answer = &raft->messages[i];
    if (answer->type == CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT && !answer->vote_granted)
      answer->term = core->current_term;
  }
  return 0;
}

// A message that begins before what this node still knows of its log (one that was long on its way, when this node has
// begun anew from a checkpoint meanwhile) would be taken as if its entries came behind the last one: the core finds no
// entry at their indexes and reads on beyond the message (design.md 3.5, M8). Everything up to the snapshot is
// committed, so the leader has it, too: the message is as good as one that begins there. Gives how many entries to
// skip.
static unsigned begin_at_snapshot(const CairnRaft* raft, unsigned n, struct raft_append_entries* message) {
  const struct raft_trail* trail = &raft->core.trail;
  if (message->prev_log_index >= trail->offset || trail->snapshot.index == 0) return 0;
  uint64_t known = trail->snapshot.index - message->prev_log_index;
  message->prev_log_index = trail->snapshot.index;
  message->prev_log_term = trail->snapshot.term;
  return known < n ? (unsigned)known : n;
}

// A rejection that was overtaken by a later acceptance. A follower never has less than what it has confirmed in this
// term; but the core, when it probes just behind that, takes the old answer for one to its probe, goes back below what
// is confirmed, and takes no answer to what it sends from there for news: the follower gets nothing more (design.md 3.5,
// M9).
static bool is_late_rejection(CairnRaft* raft, const CairnRaftMessage* result) {
  if (result->rejected == 0 || raft->core.state != RAFT_LEADER || result->term != raft->core.current_term) return false;
  raft_index confirmed = 0;
  return raft_match_index(&raft->core, result->peer, &confirmed) == 0 && result->index < confirmed;
}

int cairn_raft_receive(CairnRaft* raft, uint64_t now_ms, const CairnRaftMessage* in, const CairnRaftEntry* entries,
                       CairnRaftUpdate* update) {
  struct raft_message message;
  memset(&message, 0, sizeof message);
  message.type = (enum raft_message_type)in->type;
  message.server_id = in->peer;
  message.server_address = in->peer_address;
  switch (in->type) {
    case CAIRN_RAFT_MESSAGE_APPEND_ENTRIES: {
      message.append_entries.version = 0;
      message.append_entries.term = in->term;
      message.append_entries.prev_log_index = in->index;
      message.append_entries.prev_log_term = in->log_term;
      message.append_entries.leader_commit = in->commit;
      unsigned skipped = begin_at_snapshot(raft, in->n_entries, &message.append_entries);
      unsigned left = in->n_entries - skipped;
      return receive_entries(raft, now_ms, &message, left > 0 ? entries + skipped : NULL, left, update);
    }
    case CAIRN_RAFT_MESSAGE_APPEND_ENTRIES_RESULT:
      message.append_entries_result.version = 2;
      message.append_entries_result.term = in->term;
      message.append_entries_result.rejected = is_late_rejection(raft, in) ? 0 : in->rejected;
      message.append_entries_result.last_log_index = in->index;
      message.append_entries_result.features = in->features;
      message.append_entries_result.capacity = in->capacity_kib;
      return receive(raft, now_ms, &message, update);
    case CAIRN_RAFT_MESSAGE_REQUEST_VOTE:
      message.request_vote.version = 2;
      message.request_vote.term = in->term;
      message.request_vote.candidate_id = in->peer;
      message.request_vote.last_log_index = in->index;
      message.request_vote.last_log_term = in->log_term;
      message.request_vote.disrupt_leader = in->disrupt_leader;
      message.request_vote.pre_vote = in->pre_vote;
      return receive_vote_request(raft, now_ms, &message, update);
    case CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT:
      message.request_vote_result.version = 2;  // from 2 on it tells a pre-vote
      message.request_vote_result.term = in->term;
      message.request_vote_result.vote_granted = in->vote_granted;
      message.request_vote_result.pre_vote = in->pre_vote;
      message.request_vote_result.features = in->features;
      message.request_vote_result.capacity = in->capacity_kib;
      return receive(raft, now_ms, &message, update);
    case CAIRN_RAFT_MESSAGE_TIMEOUT_NOW:
      message.timeout_now.version = 0;
      message.timeout_now.term = in->term;
      message.timeout_now.last_log_index = in->index;
      message.timeout_now.last_log_term = in->log_term;
      return receive(raft, now_ms, &message, update);
    default:
      return RAFT_INVALID;
  }
}

int cairn_raft_catch_up(CairnRaft* raft, uint64_t now_ms, uint64_t id, CairnRaftUpdate* update) {
  struct raft* core = &raft->core;
  // What the core only asserts.
  if (core->state != RAFT_LEADER) return RAFT_NOTLEADER;
  const struct raft_server* server = find_server(&core->configuration, id);
  if (server == NULL || server->id == core->id || server->role == RAFT_VOTER) return RAFT_BADID;
  if (core->leader_state.promotee_id != 0) return RAFT_CANTCHANGE;
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_CATCH_UP;
  event.catch_up.server_id = id;
  return step(raft, now_ms, &event, update);
}

int cairn_raft_transfer(CairnRaft* raft, uint64_t now_ms, uint64_t id, CairnRaftUpdate* update) {
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_TRANSFER;
  event.transfer.server_id = id;
  return step(raft, now_ms, &event, update);
}

int cairn_raft_configured(CairnRaft* raft, uint64_t now_ms, uint64_t index, const void* configuration, size_t size,
                          CairnRaftUpdate* update) {
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_CONFIGURATION;
  event.configuration.index = index;
  struct raft_buffer encoded = buffer_of(configuration, size);
  int status = raft_configuration_decode(&encoded, &event.configuration.conf);
  if (status != 0) return status;
  return step(raft, now_ms, &event, update);  // keeps or frees the configuration
}

int cairn_raft_snapshot_taken(CairnRaft* raft, uint64_t now_ms, const CairnRaftSnapshot* snapshot, unsigned trailing,
                              CairnRaftUpdate* update) {
  struct raft_event event;
  memset(&event, 0, sizeof event);
  event.type = RAFT_SNAPSHOT;
  event.snapshot.trailing = trailing;
  int status = fill_metadata(snapshot, &event.snapshot.metadata);
  if (status != 0) return status;
  return step(raft, now_ms, &event, update);  // keeps or frees the configuration
}

void cairn_raft_set_capacity(CairnRaft* raft, uint16_t capacity_kib) {
  raft->capacity_kib = capacity_kib;
}

int cairn_raft_state(const CairnRaft* raft) {
  return raft->core.state;
}
uint64_t cairn_raft_term(const CairnRaft* raft) {
  return raft_current_term(&raft->core);
}
uint64_t cairn_raft_voted_for(const CairnRaft* raft) {
  return raft_voted_for(&raft->core);
}
uint64_t cairn_raft_commit_index(const CairnRaft* raft) {
  return raft_commit_index(&raft->core);
}

uint64_t cairn_raft_last_index(const CairnRaft* raft) {
  return raft_last_index((struct raft*)&raft->core);  // reads only
}

uint64_t cairn_raft_first_index(const CairnRaft* raft) {
  return raft->core.trail.offset + 1;
}

uint64_t cairn_raft_next_timeout_ms(const CairnRaft* raft) {
  return raft_timeout(&raft->core);
}

uint64_t cairn_raft_leader(const CairnRaft* raft, const char** address) {
  raft_id id = 0;
  raft_leader((struct raft*)&raft->core, &id, address);  // reads only
  if (id == 0 || *address == NULL) *address = "";
  return id;
}

static void count_voters(const struct raft_configuration* configuration, uint64_t id, unsigned* n_voters,
                         bool* is_voter) {
  *n_voters = 0;
  *is_voter = false;
  for (unsigned i = 0; i < configuration->n; i++) {
    if (configuration->servers[i].role != RAFT_VOTER) continue;
    *n_voters += 1;
    if (configuration->servers[i].id == id) *is_voter = true;
  }
}

bool cairn_raft_is_sole_voter(const CairnRaft* raft, uint64_t id) {
  unsigned n_voters;
  bool is_voter;
  count_voters(&raft->core.configuration, id, &n_voters, &is_voter);
  return n_voters == 1 && is_voter;
}

unsigned cairn_raft_member_count(const CairnRaft* raft) {
  return raft->core.configuration.n;
}

CairnRaftMember cairn_raft_member(const CairnRaft* raft, unsigned i) {
  const struct raft_server* server = &raft->core.configuration.servers[i];
  CairnRaftMember member = {server->id, server->address, server->role};
  return member;
}

bool cairn_raft_is_changing(const CairnRaft* raft) {
  return raft->core.configuration_uncommitted_index != 0 ||
         (raft->core.state == RAFT_LEADER && raft->core.leader_state.promotee_id != 0);
}

uint64_t cairn_raft_match_index(const CairnRaft* raft, unsigned i) {
  raft_index index = 0;
  if (raft_match_index(&raft->core, raft->core.configuration.servers[i].id, &index) != 0) return 0;
  return index;
}

uint64_t cairn_raft_follower_match(const CairnRaft* raft) {
  return raft->core.state == RAFT_FOLLOWER ? raft->core.follower_state.match : 0;
}

int cairn_raft_catch_up_status(const CairnRaft* raft, uint64_t id) {
  int status = RAFT_CATCH_UP_NONE;
  if (raft_catch_up(&raft->core, id, &status) != 0) return CAIRN_RAFT_CATCH_UP_NONE;
  return status;
}

uint64_t cairn_raft_transferee(const CairnRaft* raft) {
  return raft_transferee(&raft->core);
}

const char* cairn_raft_error(CairnRaft* raft, int code) {
  const char* text = raft_errmsg(&raft->core);
  return text[0] != '\0' ? text : raft_strerror(code);
}

int cairn_raft_encode_configuration(const CairnRaftMember* members, unsigned n_members, void** data, size_t* size) {
  struct raft_configuration configuration;
  raft_configuration_init(&configuration);
  int status = 0;
  for (unsigned i = 0; i < n_members && status == 0; i++) {
    status = raft_configuration_add(&configuration, members[i].id, members[i].address, members[i].role);
  }
  struct raft_buffer encoded = {NULL, 0};
  if (status == 0) status = raft_configuration_encode(&configuration, &encoded);
  raft_configuration_close(&configuration);
  if (status != 0) return status;
  *data = malloc(encoded.len);
  if (*data == NULL) status = RAFT_NOMEM;
  if (status == 0) memcpy(*data, encoded.base, encoded.len);
  *size = encoded.len;
  raft_free(encoded.base);
  return status;
}

int cairn_raft_inspect_configuration(const void* data, size_t size, uint64_t id, unsigned* n_voters, bool* is_voter) {
  struct raft_configuration configuration;
  struct raft_buffer encoded = buffer_of(data, size);
  int status = raft_configuration_decode(&encoded, &configuration);
  if (status != 0) return status;
  count_voters(&configuration, id, n_voters, is_voter);
  raft_configuration_close(&configuration);
  return 0;
}
