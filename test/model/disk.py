"""Files in directories, as a host keeps them: what programs see, what is durable, and what a power cut may leave.

A disk of a container has four blocks. Block 0 holds ext4's superblock: a negative value has ext4's `read-only` feature. A block is `MANIFEST` where
the bytes of an image's manifest would be seen as the disk's. Assumed of the host: the operations of one directory survive in order (ext4, XFS,
btrfs); a manifest is written whole or not at all (two slots); other writes that were not synced survive in any selection.
"""

from itertools import combinations, product
from typing import Any, NamedTuple

BLOCKS = 4
MANIFEST = 10**6
UNCHECKED = 'unchecked'


class Violation(Exception):
    """What the protocol promises does not hold."""


class Refused(Exception):
    """A command that says no (exit 11 or 13) and has changed nothing that counts."""


class Fold(NamedTuple):
    """The record in a file that is merged with the one of state `to`: an image that is folded into, or a delta that is absorbed."""

    to: str
    was: str | None  # its own state before
    keep: str | None = None  # the state of a delta that is turned round, to stand on `to`
    cursor: int = 0


class Manifest(NamedTuple):
    kind: str  # image or delta
    name: str | None  # of the container; a template has none
    state: str | None
    parent: str | None = None
    size: int = BLOCKS - 1
    sealed: Any = None  # the evidence of a sealed file
    fold: Fold | None = None
    formerly: str | None = None


class File(NamedTuple):
    manifest: Manifest | None = None
    data: tuple[int, ...] = (0,) * BLOCKS
    bits: frozenset[int] = frozenset()

    def changed(self, kind: str, where: int, value: Any) -> 'File':
        if kind == 'manifest':
            data = self.data
            if value.kind == 'image' and value.size < BLOCKS:
                data = data[: value.size] + (MANIFEST,) * (BLOCKS - value.size)
            return self._replace(manifest=value, data=data)
        if kind == 'bit':
            return self._replace(bits=self.bits | {where})
        return self._replace(data=self.data[:where] + (value,) + self.data[where + 1 :])


def directory_of(name: str) -> str:
    return name.rpartition('/')[0]


class Disk:
    def __init__(self) -> None:
        self.files: dict[int, File] = {}  # as the kernel shows them
        self.names: dict[str, int] = {}
        self.durable_files: dict[int, File] = {}
        self.durable_names: dict[str, int] = {}
        self.writes: list[tuple[int, str, int, Any]] = []  # not yet synced
        self.moves: list[tuple[str, str, Any]] = []
        self.drawn = 0

    def clone(self) -> 'Disk':
        other = Disk.__new__(Disk)
        other.files, other.durable_files = dict(self.files), dict(self.durable_files)
        other.names, other.durable_names = dict(self.names), dict(self.durable_names)
        other.writes, other.moves, other.drawn = list(self.writes), list(self.moves), self.drawn
        return other

    def draw(self) -> int:
        """A number that was never there."""
        self.drawn += 1
        return self.drawn

    def new_state(self) -> str:
        return f's{self.draw()}'

    # What programs do

    def make(self, manifest: Manifest, data: tuple[int, ...] = (0,) * BLOCKS, bits: frozenset[int] = frozenset()) -> int:
        """A file without a name (O_TMPFILE), written."""
        inode = self.draw()
        self.files[inode] = self.durable_files[inode] = File()
        for block, value in enumerate(data[: manifest.size]):
            if value:
                self.write(inode, block, value)
        for block in sorted(bits):
            self.set_bit(inode, block)
        self._put(inode, 'manifest', 0, manifest)
        return inode

    def write(self, inode: int, block: int, value: int) -> None:
        self._put(inode, 'data', block, value)

    def set_bit(self, inode: int, block: int) -> None:
        self._put(inode, 'bit', block, True)

    def note(self, inode: int, **changes: Any) -> None:
        """Writes the manifest, into the slot that does not count: so never twice without a sync."""
        if any(write[:2] == (inode, 'manifest') for write in self.writes):
            raise Violation('a manifest is written before the last one is durable')
        self._put(inode, 'manifest', 0, self.manifest(inode)._replace(**changes))

    def _put(self, *write: Any) -> None:
        inode, kind, where, value = write
        self.files[inode] = self.files[inode].changed(kind, where, value)
        self.writes.append(write)

    def manifest(self, inode: int) -> Manifest:
        manifest = self.files[inode].manifest
        if manifest is None:
            raise Violation('a file with a name has no manifest')
        return manifest

    def sync(self, inode: int) -> None:
        for write in self.writes:
            if write[0] == inode:
                self.durable_files[inode] = self.durable_files[inode].changed(*write[1:])
        self.writes = [write for write in self.writes if write[0] != inode]

    def fail_sync(self, inode: int, survives: bool) -> None:
        """A sync that fails: the disk has what was written, or has not; the kernel shows it, and has nothing left to write."""
        if survives:
            self.sync(inode)
        self.writes = [write for write in self.writes if write[0] != inode]

    def link(self, name: str, inode: int) -> None:
        self._move('link', name, inode)

    def rename(self, old: str, new: str) -> None:
        """RENAME_NOREPLACE."""
        self._move('rename', old, new)

    def unlink(self, name: str) -> None:
        self._move('unlink', name, None)

    def _move(self, *move: Any) -> None:
        target = {'link': move[1], 'rename': move[2]}.get(move[0])
        if target in self.names:
            raise Violation(f'{move[0]} over {target}')
        apply_move(self.names, move)
        self.moves.append(move)

    def sync_directory(self, directory: str = '') -> None:
        for move in self.moves:
            if directory_of(move[1]) == directory:
                apply_move(self.durable_names, move)
        self.moves = [move for move in self.moves if directory_of(move[1]) != directory]

    # What is there

    def links(self, inode: int) -> int:
        return sum(one == inode for one in self.names.values())

    def name_of(self, inode: int) -> str:
        names = [name for name, one in self.names.items() if one == inode and directory_of(name) != 'backup']
        if not names:
            raise Violation('a file that is needed has no name')
        return names[0]

    # What a power cut leaves

    def cuts(self) -> 'list[Disk]':
        """Each disk that may be found after a power cut at this moment: any first part of each directory's operations, any of the writes."""
        reachable = set(self.durable_names.values()) | set(self.names.values())
        reachable |= {move[2] for move in self.moves if move[0] == 'link'}
        writes = [write for write in self.writes if write[0] in reachable]
        directories = sorted({directory_of(move[1]) for move in self.moves})
        moves = [[move for move in self.moves if directory_of(move[1]) == one] for one in directories]
        kept = list(selections(writes))
        found = []
        for lengths in product(*(range(len(some) + 1) for some in moves)):
            names = dict(self.durable_names)
            for some, length in zip(moves, lengths):
                for move in some[:length]:
                    apply_move(names, move)
            for selection in kept:
                found.append(self._after_cut(names, selection))
        return found

    def last_cut(self, survive: bool) -> 'Disk':
        """The cut that loses all that was not synced, or nothing."""
        names = dict(self.durable_names)
        for move in self.moves if survive else ():
            apply_move(names, move)
        return self._after_cut(names, self.writes if survive else ())

    def _after_cut(self, names: dict[str, int], writes: Any) -> 'Disk':
        other = Disk.__new__(Disk)
        files = {inode: self.durable_files[inode] for inode in names.values()}
        for inode, *change in writes:
            if inode in files:
                files[inode] = files[inode].changed(*change)
        other.files, other.durable_files = files, dict(files)
        other.names, other.durable_names = dict(names), dict(names)
        other.writes, other.moves, other.drawn = [], [], self.drawn
        return other

    def key(self) -> Any:
        """Equal for equal disks of which all is durable."""
        return tuple(sorted((name, inode, self.files[inode]) for name, inode in self.names.items()))


def apply_move(names: dict[str, int], move: tuple[str, str, Any]) -> None:
    kind, name, other = move
    if kind == 'link':
        names[name] = other
    elif name in names:
        inode = names.pop(name)
        if kind == 'rename':
            names[other] = inode


def selections(writes: list[Any]) -> Any:
    """All selections of a few writes; of many: none, all, each alone, all but each."""
    many = len(writes)
    if many <= 3:
        for length in range(many + 1):
            yield from combinations(writes, length)
        return
    yield ()
    yield tuple(writes)
    for one in range(many):
        yield (writes[one],)
        yield tuple(writes[:one] + writes[one + 1 :])
