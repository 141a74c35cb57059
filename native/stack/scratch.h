#pragma once

#include <cstddef>
#include <vector>

/** Page-aligned memory for the data path, reserved at the start; it is resident only while it is used. */
class Scratch {
 public:
  static constexpr size_t kMapPages = 256;
  static constexpr size_t kAsides = 8;

  /** Throws a SystemFailure. */
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;

  /** kMapPages map pages that a flush round writes from. */
  char* map_pages() const { return base_; }
  /** kMaxTransfer bytes for the one change that is under way. */
  char* transfer() const;

  /** kMaxTransfer bytes, or nullptr where all are taken. */
  char* TakeAside();
  void ReturnAside(char* aside);

  /** Gives the memory back to the system. For when nobody uses it. */
  void Trim();

 private:
  char* base_;
  std::vector<char*> asides_;
};
