#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

/** What the log tells of, in the order in which calls ended and entries of a ring were sent. */
enum class Record : uint32_t {
  kWrite = 1,
  kPunch,
  /** The file is `length` bytes long now. */
  kSetLength,
  /** The file is `length` bytes long at least. */
  kExtend,
  /** An fsync or fdatasync begins: of what has ended until now, and of what it comes after. */
  kSync,
  /** What has this `id` has ended well. */
  kEnd,
  /** The file has the name `path`, as its first one. */
  kCreate,
  /** The file has the name `path`, too. */
  kLink,
  /** `path` is called `other`. */
  kRename,
  kUnlink,
  /** Something that whoever is recorded has to say. */
  kMark,
};

/** Before each entry of the log; behind it the two paths, relative to the directory, and the data. */
struct RecordHeader {
  /** Of the whole entry. */
  uint32_t bytes;
  Record record;
  uint32_t path_bytes, other_bytes, data_bytes, reserved;
  /** Of the file, or of the directory that is synced. */
  uint64_t inode;
  uint64_t offset, length;
  /** 0 for what has ended already. */
  uint64_t id;
  /** What must end before this begins: the entry that it is linked to; or 0. */
  uint64_t after;
};

struct RecordEntry {
  Record record;
  uint64_t inode = 0, offset = 0, length = 0, id = 0, after = 0;
  std::string path = {}, other = {};
  std::string_view data = {};
};

/** Appends to the log, at once. Keeps errno. */
void AppendRecord(const RecordEntry& entry);

/** A number that no other entry of the log has. */
uint64_t NewRecordId();

/** The inode of what is open below the recorded directory, or of that itself; 0 of anything else. */
uint64_t RecordedInode(int fd);

/** Appends what has ended on the ring meanwhile. */
void RecordCompletions();
