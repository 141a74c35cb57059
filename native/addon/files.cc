#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "arguments.h"
#include "async.h"
#include "sparse.h"

namespace {

Napi::Value Reflink(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [destination = IntArgument(info, 0), source = IntArgument(info, 1)] {
    CheckOn(destination, ioctl(destination, FICLONE, source), "ioctl(FICLONE)");
  });
}

Napi::Value ShareSomeCall(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(),
      [destination = IntArgument(info, 0), source = IntArgument(info, 1), offset = LongArgument(info, 2)] {
        return ShareSome(source, destination, offset);
      },
      [](Napi::Env env, const std::optional<int64_t>& next) -> Napi::Value {
        if (!next) return env.Null();
        return Napi::Number::New(env, static_cast<double>(*next));
      });
}

Napi::Value SharedBytesCall(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(), [fd = IntArgument(info, 0)] { return SharedBytes(fd); },
      [](Napi::Env env, uint64_t bytes) { return Napi::Number::New(env, static_cast<double>(bytes)); });
}

Napi::Value NextDataCall(const Napi::CallbackInfo& info) {
  return RunAsync(
      info.Env(), [fd = IntArgument(info, 0), offset = LongArgument(info, 1)] { return NextData(fd, offset); },
      [](Napi::Env env, const std::optional<DataRange>& range) -> Napi::Value {
        if (!range) return env.Null();
        Napi::Object result = Napi::Object::New(env);
        result.Set("start", static_cast<double>(range->start));
        result.Set("end", static_cast<double>(range->end));
        return result;
      });
}

Napi::Value PunchHole(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(),
                  [fd = IntArgument(info, 0), offset = LongArgument(info, 1), length = LongArgument(info, 2)] {
                    CheckOn(fd, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length), "fallocate");
                  });
}

Napi::Value AllocateSpace(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(),
                  [fd = IntArgument(info, 0), offset = LongArgument(info, 1), length = LongArgument(info, 2)] {
                    CheckOn(fd, fallocate(fd, 0, offset, length), "fallocate");
                  });
}

Napi::Value OpenTemporary(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [directory = StringArgument(info, 0)] {
    return Check(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), "open", directory);
  });
}

Napi::Value LinkTemporary(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [fd = IntArgument(info, 0), path = StringArgument(info, 1)] {
    std::string magic = "/proc/self/fd/" + std::to_string(fd);
    Check(linkat(AT_FDCWD, magic.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW), "linkat", path);
  });
}

Napi::Value RenameNoReplace(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [from = StringArgument(info, 0), to = StringArgument(info, 1)] {
    Check(renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE), "renameat2", to);
  });
}

Napi::Value SyncFileSystem(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [fd = IntArgument(info, 0)] { CheckOn(fd, syncfs(fd), "syncfs"); });
}

}  // namespace

void InitFiles(Napi::Env env, Napi::Object exports) {
  exports.Set("reflink", Napi::Function::New<Reflink>(env));
  exports.Set("shareSome", Napi::Function::New<ShareSomeCall>(env));
  exports.Set("sharedBytes", Napi::Function::New<SharedBytesCall>(env));
  exports.Set("nextData", Napi::Function::New<NextDataCall>(env));
  exports.Set("punchHole", Napi::Function::New<PunchHole>(env));
  exports.Set("allocateSpace", Napi::Function::New<AllocateSpace>(env));
  exports.Set("openTemporary", Napi::Function::New<OpenTemporary>(env));
  exports.Set("linkTemporary", Napi::Function::New<LinkTemporary>(env));
  exports.Set("renameNoReplace", Napi::Function::New<RenameNoReplace>(env));
  exports.Set("syncFileSystem", Napi::Function::New<SyncFileSystem>(env));
}
