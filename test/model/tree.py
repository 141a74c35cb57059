"""What the files say together: names, the link rule, views, evidence."""

from disk import UNCHECKED, Disk, File, Manifest, Refused, directory_of
from mutants import planted


def stem(name: str) -> str:
    """The container (or template) that a file belongs to by its name."""
    directory, _, base = name.rpartition('/')
    return (directory + '/' if directory else '') + base.split('@')[0].split('.')[0]


def extension(name: str) -> str:
    return name.rpartition('.')[2]


def snapshot_of(name: str) -> str | None:
    """`S` of `NAME@S.img` and `NAME@S.delta`."""
    middle = name.partition('@')[2].rpartition('.')[0]
    return middle if middle and not middle.startswith('~') and extension(name) != 'next' else None


def is_nameless(name: str) -> bool:
    return '@~' in name


def in_store(name: str) -> bool:
    return directory_of(name) in ('', 'templates')


def chain_names(disk: Disk) -> list[tuple[str, int]]:
    """The files that may be part of a chain."""
    return [(name, inode) for name, inode in sorted(disk.names.items()) if in_store(name) and extension(name) != 'next']


def files_of(disk: Disk, container: str) -> list[tuple[str, int]]:
    return [(name, inode) for name, inode in chain_names(disk) if stem(name) == container]


def top_of(disk: Disk, container: str) -> tuple[str, int]:
    tops = [name for name in (f'{container}.img', f'{container}.delta') if name in disk.names]
    if not tops or len({disk.manifest(disk.names[name]).state for name in tops}) > 1:
        raise Refused(f'{container} has not one top, but {len(tops)}')
    return tops[0], disk.names[tops[0]]


# Links


def evidence_of(file: File) -> object:
    """What a seal remembers of a file: ext4's superblock but for its `read-only` feature, or the map."""
    if file.manifest.kind == 'delta':
        return ('map', file.bits)
    return ('superblock', file.data[0] if planted('evidence-with-feature') else abs(file.data[0]))


def verify(disk: Disk, inode: int) -> None:
    file = disk.files[inode]
    if file.manifest.sealed not in (None, UNCHECKED, evidence_of(file)) and not planted('no-evidence'):
        raise Refused(f'{disk.name_of(inode)} was changed since it was sealed')


def merge_of(disk: Disk, container: str, state: str | None) -> int | None:
    """The file of this container whose record names this state: as the one that it is merged with, or as the one that is kept."""
    for name, inode in chain_names(disk):
        fold = disk.manifest(inode).fold
        if fold and state and state in (fold.to, fold.keep):
            if stem(name) == container or planted('stray-record'):
                return inode
    return None


def providers(disk: Disk, state: str | None, container: str) -> list[int]:
    """Sealed files of this state, a whole image first; a file of the own container that is about to be sealed is the last."""
    found = []
    for name, inode in chain_names(disk):
        manifest = disk.manifest(inode)
        if state and manifest.state == state:
            own = stem(name) == container
            if manifest.sealed is not None or own or planted('unsealed-parents'):
                found.append((manifest.sealed is None, manifest.kind != 'image', not own, inode))
    return [inode for *_, inode in sorted(found)]


def below(disk: Disk, inode: int, container: str) -> int:
    """THE link rule: the file that is being merged with this one; else any file of the parent's state."""
    manifest = disk.manifest(inode)
    merged = merge_of(disk, container, manifest.state)
    if merged is not None:
        if not is_merged_with(disk, inode, merged) and not planted('copy-believed'):
            raise Refused(f'{disk.name_of(inode)} is another copy of a file that is being merged')
        if disk.manifest(merged).kind == 'image' or manifest.parent == disk.manifest(merged).fold.was:
            return merged
    found = [one for one in providers(disk, manifest.parent, container) if one != inode]
    if not found:
        raise Refused(f'what {disk.name_of(inode)} stands on is missing')
    verify(disk, found[0])
    return found[0]


def is_merged_with(disk: Disk, inode: int, merged: int) -> bool:
    """Whether a delta is the very file that a record means: it stands where it stood then, and has no evidence if the merge writes it."""
    manifest, record = disk.manifest(inode), disk.manifest(merged)
    unchecked = manifest.sealed in (None, UNCHECKED)
    if record.kind == 'delta':
        return manifest.parent != record.fold.was or unchecked
    if manifest.state == record.fold.to:
        return manifest.parent == record.fold.was or planted('copy-elsewhere')
    return manifest.parent == record.fold.to or (manifest.parent in (None, record.fold.was) and unchecked)


def layers(disk: Disk, inode: int) -> list[int]:
    """A file and all below it, the top first."""
    chain, container = [inode], stem(disk.name_of(inode))
    while disk.manifest(inode).kind == 'delta':
        inode = below(disk, inode, container)
        if inode in chain:
            raise Refused(f'{disk.name_of(inode)} stands on itself')
        chain.append(inode)
        container = stem(disk.name_of(inode))
    return chain


def view(disk: Disk, inode: int) -> tuple[int, ...]:
    """The disk that a file and all below it make up. An image is read up to its size, whatever is behind it."""
    verify(disk, inode)
    chain, size = layers(disk, inode), disk.manifest(inode).size
    return tuple(read(disk, chain, block) for block in range(size))


def read(disk: Disk, chain: list[int], block: int) -> int:
    """Below a fold's cursor its source has no say."""
    for one, under in zip(chain, chain[1:]):
        fold = disk.manifest(under).fold
        moved = fold and fold.to == disk.manifest(one).state and disk.manifest(under).kind == 'image' and block < fold.cursor
        if block in disk.files[one].bits and not moved:
            return disk.files[one].data[block]
    manifest = disk.manifest(chain[-1])
    return disk.files[chain[-1]].data[block] if block < manifest.size else 0


def children(disk: Disk, inode: int) -> list[int]:
    """The files that stand on the state of this one."""
    state = disk.manifest(inode).state
    return [one for _, one in chain_names(disk) if state and disk.manifest(one).parent == state and one != inode]


def is_needed(disk: Disk, inode: int) -> bool:
    """Whether somebody stands on this file, and on no other of the same state."""
    manifest, container = disk.manifest(inode), stem(disk.name_of(inode))
    if merge_of(disk, container, manifest.state):
        return not planted('write-source')
    others = [one for one in providers(disk, manifest.state, container) if one != inode and disk.manifest(one).sealed is not None]
    return bool(children(disk, inode)) and not others and not planted('write-image')


def new_manifest(disk: Disk, kind: str, name: str | None, size: int, parent: str | None = None) -> Manifest:
    return Manifest(kind, name, disk.new_state(), parent, size)
