#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <array>
#include <cstring>

#include "arguments.h"
#include "async.h"

namespace {

// linux/ext4.h has them only since 6.8.
struct Ext4Uuid {
  uint32_t length;
  uint32_t flags;
  uint8_t bytes[16];
};
constexpr unsigned long kSetUuid = _IOC(_IOC_WRITE, 'f', 44, 8);

Fd Mount(const std::string& device) {
  Fd context(Check(fsopen("ext4", FSOPEN_CLOEXEC), "fsopen", "ext4"));
  auto configure = [&](unsigned command, const char* key, const char* value) {
    Check(fsconfig(context.get(), command, key, value, 0), "fsconfig", device);
  };
  configure(FSCONFIG_SET_STRING, "source", device.c_str());
  configure(FSCONFIG_SET_STRING, "errors", "remount-ro");
  configure(FSCONFIG_CMD_CREATE, nullptr, nullptr);
  unsigned attributes = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME;
  return Fd(Check(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes), "fsmount", device));
}

Napi::Value MountExt4(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [device = StringArgument(info, 0)] { return Mount(device).release(); });
}

Napi::Value SetFileSystemUuid(const Napi::CallbackInfo& info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  Ext4Uuid uuid{sizeof uuid.bytes, 0, {}};
  if (bytes.ByteLength() != sizeof uuid.bytes) throw Napi::RangeError::New(info.Env(), "A uuid has 16 bytes");
  std::memcpy(uuid.bytes, bytes.Data(), sizeof uuid.bytes);
  return RunAsync(info.Env(), [fd = IntArgument(info, 0), uuid]() mutable {
    CheckOn(fd, ioctl(fd, kSetUuid, &uuid), "ioctl(EXT4_IOC_SETFSUUID)");
  });
}

Napi::Value ThawFileSystem(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [fd = IntArgument(info, 0)] { CheckOn(fd, ioctl(fd, FITHAW, 0), "ioctl(FITHAW)"); });
}

}  // namespace

void InitMounts(Napi::Env env, Napi::Object exports) {
  exports.Set("mountExt4", Napi::Function::New<MountExt4>(env));
  exports.Set("setFileSystemUuid", Napi::Function::New<SetFileSystemUuid>(env));
  exports.Set("thawFileSystem", Napi::Function::New<ThawFileSystem>(env));
}
