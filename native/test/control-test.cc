#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <thread>

#include "assert.h"
#include "control-request.h"
#include "control-socket.h"
#include "keeper-link.h"
#include "options.h"
#include "temporary.h"

namespace {

/** One valid request for each verb, with its number of descriptors. */
const std::pair<std::string, size_t> kRequests[] = {
    {"loopbox 1 status\n", 0},
    {"loopbox 1 layers\n", 0},
    {"loopbox 1 switch\nold=db.img\nkept=db@a.img\nnext=db.next\ntop=db.delta\nmap=1048576\ndata=2097152\nowned=1\n",
     2},
    {"loopbox 1 flush\n", 0},
    {"loopbox 1 absorb\nslot=3\nfrom=0\n", 0},
    {"loopbox 1 moved\nslot=3\ninto=0\nto=9223372036854775807\n", 0},
    {"loopbox 1 drop\nslot=3\n", 0},
    {"loopbox 1 grow\nsize=1073741824\n", 0},
    {"loopbox 1 release\n", 0},
    {"loopbox 1 unguard\n", 0},
};

/** The errno of the refusal; 0 where it is a request. */
int Refusal(std::string_view packet, size_t descriptors = 0) {
  const auto parsed = ParseControlRequest(packet, descriptors);
  const auto* refusal = std::get_if<ControlRefusal>(&parsed);
  return refusal ? refusal->error : 0;
}

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator fds("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(fds), end(fds)));
}

void TakesEachVerb() {
  for (const auto& [packet, descriptors] : kRequests) {
    EXPECT(Refusal(packet, descriptors) == 0);
    EXPECT(Refusal(packet, descriptors + 1) == EINVAL);
    EXPECT(Refusal(packet + "more=1\n", descriptors) == EINVAL);
    // Any part of it is none.
    for (size_t length = 0; length < packet.size(); ++length) {
      EXPECT(Refusal(packet.substr(0, length), descriptors) != 0);
    }
  }
  const auto parsed = ParseControlRequest(kRequests[2].first, 2);
  const auto& request = std::get<ControlRequest>(parsed);
  EXPECT(request.verb == ControlVerb::kSwitch && request.old_name == "db.img" && request.kept_name == "db@a.img");
  EXPECT(request.next_name == "db.next" && request.top_name == "db.delta");
  EXPECT(request.map_offset == 1048576 && request.data_offset == 2097152);
}

void RefusesTheRest() {
  EXPECT(Refusal("") == EINVAL);
  EXPECT(Refusal("\n") == EINVAL);
  EXPECT(Refusal("loopbox\n") == EINVAL);
  EXPECT(Refusal("loopbox 1\n") == EINVAL);
  EXPECT(Refusal("loopbox 1 \n") == EOPNOTSUPP);
  EXPECT(Refusal("loopbox 2 status\n") == EPROTONOSUPPORT);
  EXPECT(Refusal("loopbox 0 status\n") == EPROTONOSUPPORT);
  EXPECT(Refusal("loopbox 01 status\n") == EINVAL);
  EXPECT(Refusal("loopbox 1 Status\n") == EOPNOTSUPP);
  EXPECT(Refusal("loopbox 1 status \n") == EOPNOTSUPP);
  EXPECT(Refusal("loopbox 1 drop\nslot=3\nslot=3\n") == EINVAL);
  EXPECT(Refusal("loopbox 1 drop\nslot\n") == EINVAL);
  for (const char* number :
       {"", "-1", "+1", " 1", "1 ", "0x1", "01", "1.0", "9223372036854775808", "99999999999999999999"}) {
    EXPECT(Refusal("loopbox 1 drop\nslot=" + std::string(number) + "\n") == EINVAL);
  }
  for (const std::string& name : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("/"), std::string("a\0b", 3), std::string(256, 'a')}) {
    EXPECT(Refusal("loopbox 1 switch\nold=" + name + "\nkept=k\nnext=n\ntop=t\nmap=1\ndata=2\nowned=1\n", 2) == EINVAL);
  }
  EXPECT(Refusal("loopbox 1 status\n" + std::string(kMaxControlRequest, '\n')) == EINVAL);
}

/** Whatever comes, what is taken for a request is one. */
void BearsJunk() {
  std::minstd_rand random(1);
  for (int round = 0; round < 300'000; ++round) {
    auto [packet, descriptors] = kRequests[random() % std::size(kRequests)];
    for (unsigned changes = random() % 4 + 1; changes; --changes) {
      const size_t at = random() % packet.size();
      if (random() % 3 == 0)
        packet.erase(at, random() % 8);
      else if (random() % 2)
        packet.insert(at, 1, static_cast<char>(random() % 256));
      else
        packet[at] = "\n=0 9/\0\xff"[random() % 8];
      if (packet.empty()) break;
    }
    const auto parsed = ParseControlRequest(packet, descriptors);
    const auto* request = std::get_if<ControlRequest>(&parsed);
    if (!request) continue;
    for (const std::string* name : {&request->old_name, &request->kept_name, &request->next_name, &request->top_name}) {
      EXPECT(name->size() <= 255 && name->find('/') == name->npos && *name != "..");
      EXPECT(name->empty() == (request->verb != ControlVerb::kSwitch));
    }
    for (const uint64_t number : {request->slot, request->into, request->block, request->size_bytes})
      EXPECT(number >> 63 == 0);
  }
}

void CarriesPackets() {
  const size_t before = OpenDescriptors();
  {
    int ends[2];
    EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd one(ends[0]);
    Fd other(ends[1]);
    EXPECT(!ReceivePacket(one.get(), kControlLimits));
    const std::vector<int> three(3, one.get());
    EXPECT(SendPacket(other.get(), "text", three));
    const auto packet = ReceivePacket(one.get(), kControlLimits);
    EXPECT(packet && packet->text == "text" && packet->descriptors.size() == 3 && !packet->is_cut);
    EXPECT(fcntl(packet->descriptors[0].get(), F_GETFD) & FD_CLOEXEC);
    EXPECT(SendPacket(other.get(), std::string(kMaxControlRequest + 1, 'x'), {}));
    EXPECT(ReceivePacket(one.get(), kControlLimits)->is_cut);
    EXPECT(SendPacket(other.get(), "many", std::vector<int>(100, one.get())));
    EXPECT(ReceivePacket(one.get(), kControlLimits)->is_cut);
    // A peer that takes nothing does not hold us.
    while (SendPacket(one.get(), std::string(4096, 'x'), {})) {
    }
    other = Fd();
    EXPECT(ErrorOf([&] { ReceivePacket(one.get(), kControlLimits); }) != 0);
    EXPECT(!SendPacket(one.get(), "gone", {}));
  }
  EXPECT(OpenDescriptors() == before);
}

void HandsDescriptorsToTheKeeper() {
  int ends[2];
  EXPECT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  Fd keepers(ends[0]);
  std::thread keeper([&] {
    for (int request = 0; request < 3;) {
      try {
        const ReceivedRequest received = ReceiveKeeperRequest(keepers.get());
        ++request;
        if (received.request.verb == KeeperVerb::kAdopt) {
          struct stat status;
          EXPECT(received.fd && fstat(received.fd.get(), &status) == 0 && S_ISDIR(status.st_mode));
          AnswerKeeperRequest(keepers.get(), 300);
        } else {
          EXPECT(!received.fd);
          AnswerKeeperRequest(keepers.get(), received.request.verb == KeeperVerb::kRelease ? 0 : -EBADF);
        }
      } catch (const SystemFailure& failure) {
        EXPECT(failure.error == EAGAIN);
      }
    }
  });
  {
    const KeeperLink link{Fd(ends[1])};
    const int number = link.Adopt(Fd(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
    EXPECT(number == 300 && (fcntl(300, F_GETFD) & FD_CLOEXEC));
    link.Release(300);
    EXPECT(fcntl(300, F_GETFD) < 0);
    EXPECT(ErrorOf([&] { link.Unguard(); }) == EBADF);
  }
  keeper.join();
  EXPECT(ErrorOf([&] { ReceiveKeeperRequest(keepers.get()); }) == ECONNRESET);
}

void ListensAtLongPaths() {
  const TemporaryDirectory directory;
  std::string parent = directory / ".";
  for (int level = 0; level < 5; ++level) EXPECT(mkdir((parent += "/" + std::string(60, 'd')).c_str(), 0700) == 0);
  const std::string path = parent + "/control";
  for (int round = 0; round < 2; ++round) {
    const Fd listener = ListenForControl(path);
    struct stat status;
    EXPECT(stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode) && (status.st_mode & 0777) == 0600);
  }
  EXPECT(ErrorOf([&] { ListenForControl(parent + "/none/control"); }) == ENOENT);
  EXPECT(ErrorOf([&] { ListenForControl(parent + "/" + std::string(200, 'n')); }) == ENAMETOOLONG);
}

void ChecksOptions() {
  const std::vector<std::string> good = {"--name",    "db",
                                         "--size",    "1048576",
                                         "--control", "/c",
                                         "--log",     "/l",
                                         "--layer",   "image:5:1048576:0:0:0",
                                         "--layer",   "delta:6:1048576:1048576:2097152:0"};
  const ServerOptions options = ParseServerOptions(good);
  EXPECT(options.name == "db" && options.layers.size() == 2 && options.layers[1].data_offset == 2097152);
  EXPECT(options.layers[0].is_image && options.layers[0].fd == 5 && options.guard_fd == -1);
  const auto is_refused = [&](const std::vector<std::string>& more, size_t count = 12) {
    std::vector<std::string> arguments(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(count));
    arguments.insert(arguments.end(), more.begin(), more.end());
    try {
      ParseServerOptions(arguments);
      return false;
    } catch (const std::invalid_argument&) {
      return true;
    }
  };
  EXPECT(!is_refused({}));
  EXPECT(is_refused({"--unknown", "1"}));
  EXPECT(options.transport == TransportKind::kFuse);
  EXPECT(is_refused({"--transport", "ublk"}));
  EXPECT(is_refused({"--spin"}));
  EXPECT(is_refused({"--spin", "-1"}));
  EXPECT(is_refused({"--name", "a/b"}));
  EXPECT(is_refused({"--size", "1048577"}));
  EXPECT(is_refused({"--layer", "image:7:1048576:0:0:0"}));
  EXPECT(is_refused({"--layer", "delta:7:1048576:0"}));
  EXPECT(is_refused({"--layer", "delta:7:2097152:0:0:0"}));
  EXPECT(is_refused({}, 8));
  EXPECT(is_refused({}, 2));
}

}  // namespace

int main() {
  TakesEachVerb();
  RefusesTheRest();
  BearsJunk();
  CarriesPackets();
  HandsDescriptorsToTheKeeper();
  ListensAtLongPaths();
  ChecksOptions();
}
