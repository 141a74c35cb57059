#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <time.h>

#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include "arguments.h"
#include "async.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(30);
/** udev makes a node within milliseconds; where there is no udev, none ever comes. */
constexpr auto kNodePatience = std::chrono::seconds(2);
/** Attempts before the thread is given back to the pool, each followed by a pause of at most kPause. */
constexpr int kAttemptsPerTurn = 8;
constexpr auto kPause = std::chrono::microseconds(1000);

std::string DevicePath(int index) {
  return "/dev/loop" + std::to_string(index);
}

struct AttachedLoop {
  int fd;
  int index;
};

/** One attach: asks for a free device and configures it; again where somebody else was faster. Never clears a device.
 */
class LoopAttach {
 public:
  LoopAttach(loop_config config, bool read_only) : config_(config), read_only_(read_only) {}

  AttachedLoop operator()() {
    std::minstd_rand random(std::random_device{}());
    std::uniform_int_distribution<long> pause_ns(0, std::chrono::nanoseconds(kPause).count());
    for (int attempt = 0; attempt < kAttemptsPerTurn; attempt++) {
      if (std::optional<AttachedLoop> attached = Try()) return *attached;
      if (Clock::now() - began_ > (failure_.error == ENOENT ? kNodePatience : kPatience)) throw failure_;
      // All who lost the same race would meet again at the next device.
      timespec pause{0, pause_ns(random)};
      nanosleep(&pause, nullptr);
    }
    throw TryAgain{};
  }

 private:
  /** Nothing where another attach or a device that is just going away was in the way. */
  std::optional<AttachedLoop> Try() {
    Fd control(Check(open("/dev/loop-control", O_RDWR | O_CLOEXEC), "open", "/dev/loop-control"));
    int index = Check(ioctl(control.get(), LOOP_CTL_GET_FREE), "ioctl(LOOP_CTL_GET_FREE)", "/dev/loop-control");
    std::string path = DevicePath(index);
    Fd device(open(path.c_str(), (read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    // ENXIO: it is being removed. ENOENT: udev has not made the node of a new device yet.
    if (!device) return Lost("open", path, {ENXIO, ENOENT});
    if (ioctl(device.get(), LOOP_CONFIGURE, &config_) < 0) return Lost("ioctl(LOOP_CONFIGURE)", path, {EBUSY, ENXIO});
    return AttachedLoop{device.release(), index};
  }

  std::optional<AttachedLoop> Lost(const char* call, const std::string& path, std::initializer_list<int> expected) {
    failure_ = {errno, call, path};
    for (int error : expected) {
      if (error == failure_.error) return std::nullopt;
    }
    throw failure_;
  }

  loop_config config_;
  bool read_only_;
  Clock::time_point began_ = Clock::now();
  SystemFailure failure_{EBUSY, "ioctl(LOOP_CONFIGURE)"};
};

Napi::Value LoopAttachCall(const Napi::CallbackInfo& info) {
  auto options = info[0].As<Napi::Object>();
  bool read_only = options.Get("readOnly").As<Napi::Boolean>();
  std::string name = options.Get("name").As<Napi::String>();
  loop_config config{};
  config.fd = static_cast<uint32_t>(options.Get("backingFd").As<Napi::Number>().Int32Value());
  config.block_size = options.Get("blockSize").As<Napi::Number>();
  config.info.lo_sizelimit = static_cast<uint64_t>(options.Get("sizeLimitBytes").As<Napi::Number>().Int64Value());
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  if (options.Get("directIo").As<Napi::Boolean>()) config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  if (read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  std::memcpy(config.info.lo_file_name, name.data(), std::min<size_t>(name.size(), LO_NAME_SIZE - 1));
  return RunAsync(info.Env(), LoopAttach(config, read_only), [](Napi::Env env, const AttachedLoop& attached) {
    Napi::Object result = Napi::Object::New(env);
    result.Set("fd", attached.fd);
    result.Set("index", attached.index);
    return result;
  });
}

struct Backing {
  uint64_t device = 0, inode = 0;
};

/** Zeroes, too, for a device that is cleared or removed meanwhile, or that has no node here. */
Backing BackingOf(int index) {
  std::string path = DevicePath(index);
  // Closed at once: an open device is not cleared before its last close.
  Fd loop(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  loop_info64 status;
  if (loop && ioctl(loop.get(), LOOP_GET_STATUS64, &status) == 0) return {status.lo_device, status.lo_inode};
  if (errno == ENOENT || errno == ENXIO || errno == ENODEV) return {};
  // What it holds is a file of a storage server that has died, and no file of the host.
  if (errno == ENOTCONN || errno == ECONNABORTED) return {};
  throw SystemFailure{errno, loop ? "ioctl(LOOP_GET_STATUS64)" : "open", path};
}

Napi::Value LoopBackings(const Napi::CallbackInfo& info) {
  auto list = info[0].As<Napi::Array>();
  std::vector<int> indexes(list.Length());
  for (uint32_t i = 0; i < list.Length(); i++) indexes[i] = list.Get(i).As<Napi::Number>();
  return RunAsync(
      info.Env(),
      [indexes = std::move(indexes)] {
        std::vector<Backing> backings;
        for (int index : indexes) backings.push_back(BackingOf(index));
        return backings;
      },
      [](Napi::Env env, const std::vector<Backing>& backings) {
        auto result = Napi::BigUint64Array::New(env, 2 * backings.size());
        for (size_t i = 0; i < backings.size(); i++) {
          result[2 * i] = backings[i].device;
          result[2 * i + 1] = backings[i].inode;
        }
        return result;
      });
}

Napi::Value LoopResize(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [fd = IntArgument(info, 0), size = LongArgument(info, 1)] {
    loop_info64 status;
    CheckOn(fd, ioctl(fd, LOOP_GET_STATUS64, &status), "ioctl(LOOP_GET_STATUS64)");
    status.lo_sizelimit = static_cast<uint64_t>(size);
    CheckOn(fd, ioctl(fd, LOOP_SET_STATUS64, &status), "ioctl(LOOP_SET_STATUS64)");
  });
}

}  // namespace

void InitLoop(Napi::Env env, Napi::Object exports) {
  exports.Set("loopAttach", Napi::Function::New<LoopAttachCall>(env));
  exports.Set("loopBackings", Napi::Function::New<LoopBackings>(env));
  exports.Set("loopResize", Napi::Function::New<LoopResize>(env));
}
