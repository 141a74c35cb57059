#include "extract.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "assert.h"
#include "open-in-root.h"
#include "temporary.h"

namespace fs = std::filesystem;

namespace {

// Whoever runs the tests owns what they make, so that they need no root.
Entry Make(EntryType type, std::string path, uint32_t mode = 0644) {
  Entry entry;
  entry.path = std::move(path);
  entry.type = type;
  entry.mode = mode;
  entry.uid = getuid();
  entry.gid = getgid();
  entry.mtime_ns = 1'700'000'000'123'456'789;
  return entry;
}

Entry File(std::string path, const std::string& content, uint32_t mode = 0644) {
  Entry entry = Make(EntryType::kFile, std::move(path), mode);
  entry.content = std::as_bytes(std::span(content));
  return entry;
}

Entry Directory(std::string path, uint32_t mode = 0755) {
  return Make(EntryType::kDirectory, std::move(path), mode);
}

Entry Link(EntryType type, std::string path, std::string target) {
  Entry entry = Make(type, std::move(path));
  entry.target = std::move(target);
  return entry;
}

Entry Symlink(std::string path, std::string target) {
  return Link(EntryType::kSymlink, std::move(path), std::move(target));
}

Entry Hardlink(std::string path, std::string target) {
  return Link(EntryType::kHardlink, std::move(path), std::move(target));
}

struct stat Status(const std::string& path) {
  struct stat status;
  Check(lstat(path.c_str(), &status), "lstat", path);
  return status;
}

std::string Read(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void TestMetadata() {
  TemporaryDirectory root;
  const std::string hello = "hello";
  ExtractEntries(root.fd(), {Directory("./", 0750), Directory("./bin/", 01777), File("bin/su", hello, 04755),
                             Symlink("bin/link", "su"), Make(EntryType::kFifo, "bin/fifo", 0622)});
  EXPECT((Status(root / "").st_mode & 07777) == 0750);
  EXPECT((Status(root / "bin").st_mode & 07777) == 01777);
  auto su = Status(root / "bin/su");
  EXPECT((su.st_mode & 07777) == 04755);
  EXPECT(su.st_mtim.tv_sec == 1'700'000'000 && su.st_mtim.tv_nsec == 123'456'789);
  EXPECT(Read(root / "bin/su") == hello);
  EXPECT(fs::read_symlink(root / "bin/link") == "su");
  EXPECT(Status(root / "bin/link").st_mtim.tv_sec == 1'700'000'000);
  EXPECT(S_ISFIFO(Status(root / "bin/fifo").st_mode) && (Status(root / "bin/fifo").st_mode & 0777) == 0622);
}

void TestTimeBeforeTheEpoch() {
  TemporaryDirectory root;
  Entry file = File("old", "");
  file.mtime_ns = -1'500'000'000;
  ExtractEntries(root.fd(), {file});
  EXPECT(Status(root / "old").st_mtim.tv_sec == -2 && Status(root / "old").st_mtim.tv_nsec == 500'000'000);
}

void TestDirectoryTimesComeLast() {
  TemporaryDirectory root;
  Entry times = Directory("a");
  times.append = true;
  ExtractEntries(root.fd(), {Directory("a"), File("a/b", "")});
  EXPECT(Status(root / "a").st_mtim.tv_sec != 1'700'000'000);
  ExtractEntries(root.fd(), {times});
  EXPECT(Status(root / "a").st_mtim.tv_sec == 1'700'000'000);
}

/** What is no directory any more must neither become one again nor get its time. */
void TestDirectoryTimesOfWhatIsGone() {
  TemporaryDirectory root;
  std::vector<Entry> entries = {Directory("gone"), Directory("link"), Directory("gone/below")};
  for (Entry& entry : entries) entry.append = true;
  ExtractEntries(root.fd(), {Directory("target"), Symlink("link", "target")});
  auto before = Status(root / "target").st_mtim.tv_sec;
  ExtractEntries(root.fd(), entries);
  EXPECT(!fs::exists(root / "gone"));
  EXPECT(fs::is_symlink(root / "link") && Status(root / "target").st_mtim.tv_sec == before);
}

void TestAppend() {
  TemporaryDirectory root;
  const std::string first = "first ", second = "second";
  Entry more = File("file", second, 02755);
  more.append = true;
  ExtractEntries(root.fd(), {File("file", first, 02755)});
  ExtractEntries(root.fd(), {more});
  EXPECT(Read(root / "file") == "first second");
  EXPECT((Status(root / "file").st_mode & 07777) == 02755);
  more.path = "none";
  EXPECT(ErrorOf([&] { ExtractEntries(root.fd(), {more}); }) == ENOENT);
}

void TestMissingParents() {
  TemporaryDirectory root;
  if (getuid() != 0) return;  // implied parents belong to root
  mode_t old = umask(077);
  ExtractEntries(root.fd(), {File("a/b/c", "")});
  umask(old);
  EXPECT((Status(root / "a").st_mode & 07777) == 0755);
  EXPECT((Status(root / "a/b").st_mode & 07777) == 0755);
}

void TestReplacing() {
  TemporaryDirectory root;
  const std::string one = "one", two = "two";
  ExtractEntries(root.fd(), {File("x", one), Directory("target"), Symlink("link", "target"), File("plain", one)});
  ExtractEntries(root.fd(), {File("x", two), Directory("link"), Symlink("plain", "x")});
  EXPECT(Read(root / "x") == "two");
  EXPECT(fs::is_directory(fs::symlink_status(root / "link")));
  EXPECT(fs::read_symlink(root / "plain") == "x");
  // A directory stays unless it is empty.
  ExtractEntries(root.fd(), {File("link/child", one)});
  EXPECT(ErrorOf([&] { ExtractEntries(root.fd(), {File("link", two)}); }) == ENOTEMPTY);
  EXPECT(Read(root / "link/child") == "one");
}

/** The remembered parent must not outlive the symlink that led to it. */
void TestReplacedParent() {
  TemporaryDirectory root;
  const std::string text = "text";
  ExtractEntries(root.fd(),
                 {Directory("old"), Symlink("way", "old"), File("way/1", text), Directory("way"), File("way/2", text)});
  EXPECT(fs::exists(root / "old/1") && !fs::exists(root / "old/2") && fs::exists(root / "way/2"));
}

void TestHardlinks() {
  TemporaryDirectory root;
  const std::string text = "text", other = "other";
  ExtractEntries(root.fd(),
                 {File("dir/file", text), Hardlink("same", "/dir/file"), Hardlink("dir/near", "./dir/file"),
                  Hardlink("same", "dir/file"), Hardlink("dir/file", "dir/file"), Symlink("link", "dir/file"),
                  Hardlink("link2", "link"), File("taken", other), Hardlink("taken", "dir/file")});
  EXPECT(Status(root / "dir/file").st_nlink == 4);
  EXPECT(Read(root / "taken") == "text");
  EXPECT(fs::is_symlink(root / "link2"));
  EXPECT(ErrorOf([&] { ExtractEntries(root.fd(), {Hardlink("taken", "nowhere")}); }) == ENOENT);
  EXPECT(Read(root / "taken") == "text");
}

void TestAttributes() {
  TemporaryDirectory root;
  const std::string value = std::string("va\0lue", 6);
  Entry file = File("file", "");
  file.attributes.push_back({"user.test", std::as_bytes(std::span(value))});
  if (int error = ErrorOf([&] { ExtractEntries(root.fd(), {file}); }); error == EOPNOTSUPP) return;
  char read[16];
  EXPECT(getxattr((root / "file").c_str(), "user.test", read, sizeof read) == 6);
  EXPECT(std::string(read, 6) == value);
  if (getuid() != 0) return;
  Entry link = Symlink("link", "/nowhere");
  link.attributes.push_back({"trusted.test", std::as_bytes(std::span(value))});
  ExtractEntries(root.fd(), {link});
  EXPECT(lgetxattr((root / "link").c_str(), "trusted.test", read, sizeof read) == 6);
}

/** Everything that points out of the root lands inside it. */
void TestHostilePaths() {
  TemporaryDirectory outside;
  fs::create_directory(outside / "victim");
  fs::create_directory(outside / "root");
  Fd root(Check(open((outside / "root").c_str(), O_PATH | O_CLOEXEC), "open"));
  const std::string text = "text";
  std::string victim = outside / "victim";
  ExtractEntries(root.get(),
                 {Symlink("up", "../victim"), Symlink("absolute", victim), Symlink("file", victim + "/new")});
  EXPECT(ErrorOf([&] { ExtractEntries(root.get(), {File("up/a", text)}); }) == ENOENT);
  EXPECT(ErrorOf([&] { ExtractEntries(root.get(), {File("absolute/a", text)}); }) == ENOENT);
  EXPECT(ErrorOf([&] { ExtractEntries(root.get(), {File("..", text)}); }) == EINVAL);
  EXPECT(ErrorOf([&] { ExtractEntries(root.get(), {File(std::string("a\0b", 3), text)}); }) == EINVAL);
  EXPECT(ErrorOf([&] { ExtractEntries(root.get(), {Hardlink("stolen", "up/secret")}); }) == ENOENT);
  ExtractEntries(root.get(), {File("../a", text), File("/b", text), File("file", text)});
  EXPECT(fs::is_empty(outside / "victim"));
  EXPECT(Read(outside / "root/a") == "text" && Read(outside / "root/b") == "text" &&
         Read(outside / "root/file") == "text");
}

void TestFailureNamesItsEntry() {
  TemporaryDirectory root;
  try {
    ExtractEntries(root.fd(), {File("fine", ""), Hardlink("bad", "nowhere"), File("never", "")});
    EXPECT(false);
  } catch (const SystemFailure& failure) {
    EXPECT(failure.entry == 1 && failure.path == "bad" && failure.error == ENOENT);
  }
  EXPECT(fs::exists(root / "fine") && !fs::exists(root / "never"));
}

void TestRemoveInRoot() {
  TemporaryDirectory root;
  ExtractEntries(root.fd(), {File("dir/file", ""), Symlink("link", "dir/file")});
  RemoveInRoot(root.fd(), "/link");
  EXPECT(!fs::is_symlink(root / "link") && fs::exists(root / "dir/file"));
  EXPECT(ErrorOf([&] { RemoveInRoot(root.fd(), "dir"); }) == EISDIR);
  RemoveInRoot(root.fd(), "dir/file");
  EXPECT(!fs::exists(root / "dir/file"));
}

}  // namespace

int main() {
  TestMetadata();
  TestTimeBeforeTheEpoch();
  TestDirectoryTimesComeLast();
  TestDirectoryTimesOfWhatIsGone();
  TestAppend();
  TestMissingParents();
  TestReplacing();
  TestReplacedParent();
  TestHardlinks();
  TestAttributes();
  TestHostilePaths();
  TestFailureNamesItsEntry();
  TestRemoveInRoot();
}
