#include <map>

#include "arguments.h"
#include "async.h"
#include "extract.h"
#include "open-in-root.h"

namespace {

Napi::Value OpenInRootCall(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(), [root = IntArgument(info, 0), path = StringArgument(info, 1),
                               flags = IntArgument(info, 2), mode = IntArgument(info, 3)] {
    return OpenInRoot(root, path, flags, static_cast<unsigned>(mode)).release();
  });
}

Napi::Value RemoveInRootCall(const Napi::CallbackInfo& info) {
  return RunAsync(info.Env(),
                  [root = IntArgument(info, 0), path = StringArgument(info, 1)] { RemoveInRoot(root, path); });
}

EntryType ParseType(Napi::Env env, const std::string& type) {
  if (type == "file") return EntryType::kFile;
  if (type == "directory") return EntryType::kDirectory;
  if (type == "symlink") return EntryType::kSymlink;
  if (type == "hardlink") return EntryType::kHardlink;
  if (type == "character") return EntryType::kCharacter;
  if (type == "block") return EntryType::kBlock;
  if (type == "fifo") return EntryType::kFifo;
  throw Napi::TypeError::New(env, "Unknown entry type: " + type);
}

/**
 * Reads NativeEntry objects. The keys are made once for all entries (a key made per read costs more than the read),
 * and all bytes stay where they are: `keep()` is what holds them.
 */
class EntryReader {
 public:
  explicit EntryReader(Napi::Env env) : env_(env), kept_(Napi::Array::New(env)) {}

  Entry Read(Napi::Object object) {
    Entry entry;
    entry.path = Get(object, path_).As<Napi::String>();
    entry.type = ParseType(env_, Get(object, type_).As<Napi::String>());
    entry.mode = Get(object, mode_).As<Napi::Number>();
    entry.uid = Get(object, uid_).As<Napi::Number>();
    entry.gid = Get(object, gid_).As<Napi::Number>();
    bool lossless;
    entry.mtime_ns = Get(object, mtime_ns_).As<Napi::BigInt>().Int64Value(&lossless);
    switch (entry.type) {
      case EntryType::kFile:
        if (Napi::Value content = Get(object, content_); !content.IsUndefined()) entry.content = Bytes(content);
        [[fallthrough]];
      case EntryType::kDirectory:
        entry.append = Get(object, append_).ToBoolean();
        break;
      case EntryType::kSymlink:
      case EntryType::kHardlink:
        entry.target = Get(object, target_).As<Napi::String>();
        break;
      case EntryType::kCharacter:
      case EntryType::kBlock:
        entry.major = Get(object, major_).As<Napi::Number>();
        entry.minor = Get(object, minor_).As<Napi::Number>();
        break;
      case EntryType::kFifo:
        break;
    }
    if (Napi::Value attributes = Get(object, xattrs_); !attributes.IsUndefined()) {
      auto list = attributes.As<Napi::Array>();
      for (uint32_t i = 0; i < list.Length(); i++) {
        Napi::HandleScope scope(env_);
        auto attribute = list.Get(i).As<Napi::Object>();
        entry.attributes.push_back({attribute.Get("name").As<Napi::String>(), Bytes(attribute.Get("value"))});
      }
    }
    return entry;
  }

  Napi::ObjectReference Keep() { return Napi::Persistent(kept_.As<Napi::Object>()); }

 private:
  Napi::Value Get(Napi::Object object, napi_value key) { return object.Get(key); }

  napi_value Key(const char* name) { return Napi::String::New(env_, name); }

  std::span<const std::byte> Bytes(Napi::Value value) {
    auto array = value.As<Napi::Uint8Array>();
    kept_.Set(kept_count_++, array);
    return std::as_bytes(std::span(array.Data(), array.ByteLength()));
  }

  Napi::Env env_;
  Napi::Array kept_;
  uint32_t kept_count_ = 0;
  napi_value path_ = Key("path"), type_ = Key("type"), mode_ = Key("mode"), uid_ = Key("uid"), gid_ = Key("gid"),
             mtime_ns_ = Key("mtimeNs"), target_ = Key("target"), major_ = Key("major"), minor_ = Key("minor"),
             content_ = Key("content"), append_ = Key("append"), xattrs_ = Key("xattrs");
};

Napi::Value ExtractEntriesCall(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto list = info[1].As<Napi::Array>();
  EntryReader reader(env);
  std::vector<Entry> entries;
  entries.reserve(list.Length());
  for (uint32_t i = 0; i < list.Length(); i++) {
    Napi::HandleScope scope(env);
    entries.push_back(reader.Read(list.Get(i).As<Napi::Object>()));
  }
  return RunAsync(
      env, [root = IntArgument(info, 0), entries = std::move(entries)] { ExtractEntries(root, entries); },
      [](Napi::Env, int) {}, reader.Keep());
}

}  // namespace

void InitTree(Napi::Env env, Napi::Object exports) {
  exports.Set("openInRoot", Napi::Function::New<OpenInRootCall>(env));
  exports.Set("removeInRoot", Napi::Function::New<RemoveInRootCall>(env));
  exports.Set("extractEntries", Napi::Function::New<ExtractEntriesCall>(env));
}
