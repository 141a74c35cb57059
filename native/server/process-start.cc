#include "process-start.h"

#include <fstream>
#include <sstream>
#include <string>

std::optional<uint64_t> ProcessStart(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string stat;
  std::getline(file, stat, '\0');
  // The second field, the program's name, may hold anything: the others count from its last parenthesis.
  const size_t name_end = stat.rfind(')');
  if (name_end == stat.npos) return std::nullopt;
  std::istringstream fields(stat.substr(name_end + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) fields >> field;
  return fields ? std::optional<uint64_t>(std::stoull(field)) : std::nullopt;
}
