#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <csignal>
#include <utility>
#include <vector>

#include "aligned-buffer.h"
#include "arguments.h"
#include "async.h"
#include "backend.h"
#include "merge.h"

namespace {

uint64_t NumberOf(const Napi::Object& object, const char* key) {
  return static_cast<uint64_t>(object.Get(key).As<Napi::Number>().Int64Value());
}

/** StackLayer of src/native.ts. */
Layer LayerOf(const Napi::Value& value) {
  auto object = value.As<Napi::Object>();
  Layer layer;
  layer.fd = object.Get("fd").As<Napi::Number>();
  layer.is_image = object.Get("kind").As<Napi::String>().Utf8Value() == "image";
  layer.size = NumberOf(object, "sizeBytes");
  if (!layer.is_image) {
    layer.map_offset = NumberOf(object, "mapOffset");
    layer.data_offset = NumberOf(object, "dataOffset");
  }
  return layer;
}

std::vector<std::byte> BytesOf(const Napi::Value& value) {
  const auto buffer = value.As<Napi::Buffer<std::byte>>();
  return {buffer.Data(), buffer.Data() + buffer.Length()};
}

BatchLimits LimitsOf(const Napi::Object& options) {
  return {NumberOf(options, "fromBlock"), NumberOf(options, "maxBytes")};
}

Napi::Value ToNapi(Napi::Env env, const MergeBatch& batch) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("nextBlock",
             batch.next_block ? Napi::Number::New(env, static_cast<double>(*batch.next_block)) : env.Null());
  result.Set("copiedBytes", static_cast<double>(batch.copied_bytes));
  return result;
}

template <typename Work>
Napi::Value RunBatch(Napi::Env env, Work work) {
  return RunAsync(env, std::move(work), [](Napi::Env e, const MergeBatch& batch) { return ToNapi(e, batch); });
}

Napi::Value StackCopyMissing(const Napi::CallbackInfo& info) {
  auto options = info[0].As<Napi::Object>();
  return RunBatch(info.Env(),
                  [source = LayerOf(options.Get("source")), destination = LayerOf(options.Get("destination")),
                   limits = LimitsOf(options)] { return CopyMissing(SystemBackend(), source, destination, limits); });
}

Napi::Value StackFoldBatch(const Napi::CallbackInfo& info) {
  auto options = info[0].As<Napi::Object>();
  std::optional<Layer> keep;
  if (options.Get("keep").IsObject()) keep = LayerOf(options.Get("keep"));
  std::vector<std::byte> block0;
  if (options.Get("block0").IsBuffer()) block0 = BytesOf(options.Get("block0"));
  return RunBatch(info.Env(), [image = LayerOf(options.Get("image")), source = LayerOf(options.Get("source")), keep,
                               limits = LimitsOf(options), block0 = std::move(block0)] {
    return FoldBatch(SystemBackend(), image, source, keep, limits, block0);
  });
}

Napi::Value UseBufferedIo(const Napi::CallbackInfo& info) {
  int fd = IntArgument(info, 0);
  return RunNow(info.Env(), [&] {
    int flags = CheckOn(fd, fcntl(fd, F_GETFL), "fcntl(F_GETFL)");
    if (flags & O_DIRECT) {
      posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
      CheckOn(fd, fcntl(fd, F_SETFL, flags & ~O_DIRECT), "fcntl(F_SETFL)");
    }
    return info.Env().Undefined();
  });
}

Napi::Value TryWriteLease(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd = IntArgument(info, 0);
  return RunNow(env, [&] {
    // A lease that is being broken tells so by a signal, SIGIO unless told otherwise, which would end the process.
    // Nobody minds SIGURG; who holds the lease asks.
    CheckOn(fd, fcntl(fd, F_SETSIG, SIGURG), "fcntl(F_SETSIG)");
    int result = fcntl(fd, F_SETLEASE, F_WRLCK);
    if (result < 0 && errno == EAGAIN) return Napi::Boolean::New(env, false);
    CheckOn(fd, result, "fcntl(F_SETLEASE)");
    return Napi::Boolean::New(env, true);
  });
}

Napi::Value DropLease(const Napi::CallbackInfo& info) {
  int fd = IntArgument(info, 0);
  return RunNow(info.Env(), [&] {
    const int result = fcntl(fd, F_SETLEASE, F_UNLCK);
    // There is none, or not any more: who waited for too long has broken it.
    if (result < 0 && errno != EAGAIN) CheckOn(fd, result, "fcntl(F_SETLEASE)");
    return info.Env().Undefined();
  });
}

Napi::Value HasWriteLease(const Napi::CallbackInfo& info) {
  int fd = IntArgument(info, 0);
  return RunNow(info.Env(), [&] {
    // While it is being broken, what it is to become.
    return Napi::Boolean::New(info.Env(), CheckOn(fd, fcntl(fd, F_GETLEASE), "fcntl(F_GETLEASE)") == F_WRLCK);
  });
}

Napi::Value SetExtentSizeHint(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(),
      [fd = IntArgument(info, 0), bytes = LongArgument(info, 1)] {
        fsxattr attributes;
        if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) < 0) return false;
        attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
        attributes.fsx_extsize = static_cast<uint32_t>(bytes);
        return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0;
      },
      [](Napi::Env env, bool done) { return Napi::Boolean::New(env, done); });
}

}  // namespace

void InitStack(Napi::Env env, Napi::Object exports) {
  exports.Set("stackCopyMissing", Napi::Function::New<StackCopyMissing>(env));
  exports.Set("stackFoldBatch", Napi::Function::New<StackFoldBatch>(env));
  exports.Set("useBufferedIo", Napi::Function::New<UseBufferedIo>(env));
  exports.Set("tryWriteLease", Napi::Function::New<TryWriteLease>(env));
  exports.Set("dropLease", Napi::Function::New<DropLease>(env));
  exports.Set("hasWriteLease", Napi::Function::New<HasWriteLease>(env));
  exports.Set("setExtentSizeHint", Napi::Function::New<SetExtentSizeHint>(env));
}
