"""Prints all that a tree of files is, as JSON: a path, and what it is. Bytes of names and values are shown as Latin-1."""

import hashlib, json, os, stat, sys

TYPES = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "character", stat.S_IFBLK: "block", stat.S_IFSOCK: "socket",
}  # fmt: skip
tree, inodes = {}, {}


def content(parent, name):
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME, dir_fd=parent)
    with open(fd, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(parent, name, path):
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    place = b"/proc/self/fd/%d/%s" % (parent, name)
    what = {
        "type": TYPES[kind],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": "%d:%d" % (status.st_uid, status.st_gid),
        "mtimeNs": str(status.st_mtime_ns),
    }
    if kind == stat.S_IFREG:
        what["size"], what["sha256"] = status.st_size, content(parent, name)
    if kind == stat.S_IFLNK:
        what["target"] = os.readlink(name, dir_fd=parent).decode("latin1")
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        what["device"] = "%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
    attributes = os.listxattr(place, follow_symlinks=False)
    if attributes:
        what["attributes"] = {key: os.getxattr(place, key, follow_symlinks=False).hex() for key in sorted(attributes)}
    if kind != stat.S_IFDIR and status.st_nlink > 1:
        what["linked"] = inodes.setdefault(status.st_ino, path.decode("latin1"))
    tree[path.decode("latin1")] = what
    return kind == stat.S_IFDIR


def walk(fd, path):
    for name in sorted(os.listdir(b"/proc/self/fd/%d" % fd)):
        below = path + b"/" + name if path else name
        if describe(fd, name, below):
            child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            walk(child, below)
            os.close(child)


root = os.open(os.fsencode(sys.argv[1]), os.O_RDONLY | os.O_DIRECTORY)
describe(root, b".", b".")
walk(root, b"")
json.dump(tree, sys.stdout)
