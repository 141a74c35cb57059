/**
 * A fuzz target without a fuzzer: runs each file of a corpus, then so many changes of them, always the same ones unless
 * LOOPBOX_SEED says otherwise: `fuzz-X CORPUS COUNT`. An input that ends the program is printed.
 */
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz-input.h"

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

const Bytes* current = nullptr;

void PrintCurrent() {
  if (!current) return;
  std::fprintf(stderr, "the input was:");
  for (const uint8_t byte : *current) std::fprintf(stderr, " %02x", byte);
  std::fprintf(stderr, "\n");
  current = nullptr;
}

void Run(const Bytes& input) {
  current = &input;
  LLVMFuzzerTestOneInput(input.data(), input.size());
  current = nullptr;
}

std::vector<Bytes> ReadCorpus(const std::string& directory) {
  std::vector<std::filesystem::path> paths;
  for (const auto& file : std::filesystem::directory_iterator(directory)) paths.push_back(file.path());
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> corpus;
  for (const auto& path : paths) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return corpus;
}

class Changer {
 public:
  Changer(const std::vector<Bytes>& corpus, unsigned seed) : corpus_(corpus), random_(seed) {}

  Bytes Next() {
    Bytes bytes = Pick();
    for (size_t changes = 1 + Below(6); changes > 0; --changes) Change(bytes);
    return bytes;
  }

 private:
  static constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xff, '\n', '/', '.', '0', '9'};

  size_t Below(size_t limit) { return random_() % limit; }
  const Bytes& Pick() { return corpus_[Below(corpus_.size())]; }
  uint8_t Edge() { return kEdges[Below(std::size(kEdges))]; }

  void Change(Bytes& bytes) {
    const size_t at = Below(bytes.size() + 1), length = std::min(Below(16) + 1, bytes.size() - at);
    const auto place = bytes.begin() + static_cast<std::ptrdiff_t>(at);
    const auto end = place + static_cast<std::ptrdiff_t>(length);
    switch (Below(6)) {
      case 0:
        bytes.insert(place, static_cast<uint8_t>(Below(256)));
        break;
      case 1:
        std::fill(place, end, Edge());
        break;
      case 2:
        if (length > 0) *place ^= static_cast<uint8_t>(1 << Below(8));
        break;
      case 3:
        bytes.erase(place, end);
        break;
      case 4:
        bytes.insert(place, length, Edge());
        break;
      default: {
        const Bytes& other = Pick();
        const auto from = other.begin() + static_cast<std::ptrdiff_t>(Below(other.size() + 1));
        bytes.insert(place, from, other.end());
      }
    }
  }

  const std::vector<Bytes>& corpus_;
  std::minstd_rand random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::atexit(PrintCurrent);
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(PrintCurrent);
  const std::vector<Bytes> corpus = ReadCorpus(argv[1]);
  if (corpus.empty()) return 2;
  for (const Bytes& input : corpus) Run(input);
  const char* seed = std::getenv("LOOPBOX_SEED");
  Changer changer(corpus, seed ? static_cast<unsigned>(std::strtoul(seed, nullptr, 10)) : 1);
  for (long count = std::strtol(argv[2], nullptr, 10); count > 0; --count) Run(changer.Next());
}
