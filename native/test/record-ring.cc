// What goes through a ring bypasses the C library's calls, but is handed over by those of liburing.

#include <fcntl.h>
#include <liburing.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "hidden-calls.h"
#include "record-log.h"
#include "record-paths.h"

namespace {

/** An entry that was sent to the kernel and whose end is not known yet. */
struct Sent {
  uint64_t user_data;
  /** 0 for one that is not recorded. */
  uint64_t id;
  /** Entries of one chain end in order. */
  uint64_t chain;
  bool is_silent;
  /** Of a write whose end is told of: where its data lies, which nobody may change until then, and what it was. */
  const char* address = nullptr;
  std::string data = {};
  uint64_t inode = 0, offset = 0;
};

/** The one ring of a program, used by one thread. */
struct WatchedRing {
  io_uring* ring = nullptr;
  std::map<unsigned, int> files;
  std::vector<Sent> sent;
  unsigned seen = 0;
  uint64_t last_chain = 0;
};

WatchedRing watched;

/** What was changed on its way may have been written as it is now. */
void TellOfChange(const Sent& sent) {
  std::string_view now(sent.address, sent.data.size());
  if (now == sent.data) return;
  AppendRecord({.record = Record::kWrite, .inode = sent.inode, .offset = sent.offset, .data = now});
}

void Ended(const io_uring_cqe& completed) {
  auto is_it = [&](const Sent& one) {
    return one.user_data == completed.user_data && !(one.is_silent && completed.res >= 0);
  };
  auto found = std::find_if(watched.sent.begin(), watched.sent.end(), is_it);
  // A watch tells of its events again and again.
  if (found == watched.sent.end() || completed.flags & IORING_CQE_F_MORE) return;
  // What comes before it in its chain has ended, too; well, if it has. No test here lets one fail.
  const uint64_t chain = found->chain;
  auto count = std::distance(watched.sent.begin(), found) + 1;
  std::erase_if(watched.sent, [&](const Sent& one) {
    if (count-- <= 0 || one.chain != chain) return false;
    if (one.address && completed.res >= 0) TellOfChange(one);
    if (one.id && completed.res >= 0) AppendRecord({.record = Record::kEnd, .id = one.id});
    return true;
  });
}

int FileOf(const io_uring_sqe& entry) {
  if (!(entry.flags & IOSQE_FIXED_FILE)) return entry.fd;
  auto found = watched.files.find(static_cast<unsigned>(entry.fd));
  return found == watched.files.end() ? -1 : found->second;
}

/** What an entry is in the log; nothing for one that changes no recorded file. */
bool Describe(const io_uring_sqe& entry, RecordEntry& record) {
  switch (entry.opcode) {
    case IORING_OP_WRITE:
    case IORING_OP_WRITE_FIXED:
      record = {.record = Record::kWrite,
                .offset = entry.off,
                .data = {reinterpret_cast<const char*>(entry.addr), entry.len}};
      break;
    case IORING_OP_FALLOCATE:
      // As prepared by liburing: `len` is the mode, `addr` the length.
      if (!(entry.len & FALLOC_FL_PUNCH_HOLE)) return false;
      record = {.record = Record::kPunch, .offset = entry.off, .length = entry.addr};
      break;
    case IORING_OP_FSYNC:
      record = {.record = Record::kSync};
      break;
    default:
      return false;
  }
  record.inode = RecordedInode(FileOf(entry));
  return record.inode != 0;
}

void Send(io_uring* ring) {
  bool is_linked = false;
  uint64_t after = 0;
  for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
    io_uring_sqe& entry = ring->sq.sqes[at & ring->sq.ring_mask];
    if (!is_linked) watched.last_chain++, after = 0;
    is_linked = entry.flags & IOSQE_IO_LINK;
    RecordEntry record{.record = Record::kMark};
    uint64_t id = 0;
    if (Describe(entry, record)) {
      record.id = id = NewRecordId();
      record.after = after;
      AppendRecord(record);
      after = id;
    }
    // Else nobody would tell that its chain has ended. That it has ended well is no news to whoever asked for silence.
    if (after && !is_linked) entry.flags &= ~IOSQE_CQE_SKIP_SUCCESS;
    Sent sent{entry.user_data, id, watched.last_chain, (entry.flags & IOSQE_CQE_SKIP_SUCCESS) != 0};
    // Of a silent one it is not seen whether its end came first.
    if (id && record.record == Record::kWrite && !sent.is_silent) {
      sent.address = record.data.data();
      sent.data = record.data;
      sent.inode = record.inode;
      sent.offset = record.offset;
    }
    watched.sent.push_back(std::move(sent));
  }
}

template <typename Call>
int Watch(io_uring* ring, Call call) {
  if (RecordedDirectory().empty() || ring != watched.ring) return call();
  RecordCompletions();
  Send(ring);
  int result = call();
  RecordCompletions();
  return result;
}

}  // namespace

#define RECORDED extern "C" __attribute__((visibility("default")))

void RecordCompletions() {
  if (!watched.ring) return;
  unsigned end = __atomic_load_n(watched.ring->cq.ktail, __ATOMIC_ACQUIRE);
  for (; watched.seen != end; watched.seen++) Ended(watched.ring->cq.cqes[watched.seen & watched.ring->cq.ring_mask]);
}

RECORDED int io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params* parameters) {
  int result = HIDDEN(io_uring_queue_init_params)(entries, ring, parameters);
  watched = {};
  if (result == 0) watched.ring = ring;
  return result;
}
RECORDED void io_uring_queue_exit(io_uring* ring) {
  if (ring == watched.ring) watched = {};
  HIDDEN(io_uring_queue_exit)(ring);
}
RECORDED int io_uring_register_files_update(io_uring* ring, unsigned index, const int* files, unsigned count) {
  for (unsigned i = 0; i < count; i++) watched.files[index + i] = files[i];
  return HIDDEN(io_uring_register_files_update)(ring, index, files, count);
}
RECORDED int io_uring_submit(io_uring* ring) {
  return Watch(ring, [ring] { return HIDDEN(io_uring_submit)(ring); });
}
RECORDED int io_uring_submit_and_wait(io_uring* ring, unsigned count) {
  return Watch(ring, [ring, count] { return HIDDEN(io_uring_submit_and_wait)(ring, count); });
}
RECORDED int io_uring_get_events(io_uring* ring) {
  int result = HIDDEN(io_uring_get_events)(ring);
  if (ring == watched.ring) RecordCompletions();
  return result;
}
