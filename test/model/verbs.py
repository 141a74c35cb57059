"""The verbs that make, name and remove files."""

from commit import commit_top, nameless, publish, seal
from disk import BLOCKS, Refused, Violation
from mutants import planted
from reclaim import reclaim
from recover import finish_rename, recover
from start import resize
from tree import children, extension, files_of, layers, new_manifest, providers, read, snapshot_of, stem, top_of, view
from world import Steps, World


def file_of(world: World, name: str, snapshot: str | None = None) -> int:
    if snapshot is None:
        return top_of(world.disk, name)[1]
    return next(inode for one, inode in files_of(world.disk, name) if snapshot_of(one) == snapshot)


def snapshot_rm(world: World, name: str, snapshot: str) -> Steps:
    """Done with one rename; the rest is reclaim."""
    yield from recover(world, name)
    old = world.disk.name_of(file_of(world, name, snapshot))
    world.disk.rename(old, f'{name}@{nameless(world)}.{extension(old)}')
    yield 'step'
    world.disk.sync_directory()
    yield 'step'


def restore(world: World, name: str, snapshot: str, keep: str) -> Steps:
    yield from recover(world, name)
    yield from commit_top(world, name, keep, file_of(world, name, snapshot))


def clone_linked(world: World, source: int, new: str, identity: int) -> Steps:
    """A delta on a sealed file; block 0 carries the new identity. A stopped top is sealed first."""
    disk = world.disk
    container = stem(disk.name_of(source))
    if '/' not in container:
        yield from recover(world, container)
    if disk.manifest(source).sealed is None:
        if container in world.servers:
            raise Refused(f'{container} runs')
        if not planted('unsealed-parents'):
            yield from seal(world, source, new_state=True)
    content = view(disk, source)
    manifest = new_manifest(disk, 'delta', new, len(content), disk.manifest(source).state)
    clone = disk.make(manifest, (identity,) + (0,) * (BLOCKS - 1), frozenset({0}))
    yield from publish(world, clone, f'{new}.delta')


def clone_full(world: World, source: int, new: str, identity: int) -> Steps:
    disk = world.disk
    content = view(disk, source)
    clone = disk.make(new_manifest(disk, 'image', new, len(content)), (identity, *content[1:]))
    yield from publish(world, clone, f'{new}.img')


def snapshot_direct(world: World, name: str, snapshot: str) -> Steps:
    """A reflink of a top that is an image, made while frozen: a whole image, with a state of its own."""
    disk = world.disk
    yield from recover(world, name)
    if name in world.servers:
        yield from world.flush(name)
    top = top_of(disk, name)[1]
    content = view(disk, top)
    manifest = new_manifest(disk, 'image', name, len(content))._replace(sealed=('superblock', abs(content[0])))
    copy = disk.make(manifest, (-abs(content[0]), *content[1:]))
    yield from publish(world, copy, f'{name}@{snapshot}.img')


def restore_direct(world: World, name: str, snapshot: str, keep: str) -> Steps:
    disk = world.disk
    yield from recover(world, name)
    content = view(disk, file_of(world, name, snapshot))
    copy = disk.make(new_manifest(disk, 'image', name, len(content)), (abs(content[0]), *content[1:]))
    yield from publish(world, copy, f'{name}.next')
    old_name, old = top_of(disk, name)
    disk.rename(old_name, f'{name}@{keep}.{extension(old_name)}')
    yield 'step'
    disk.rename(f'{name}.next', f'{name}.img')
    yield 'step'
    disk.sync_directory()
    yield 'step'
    if disk.manifest(old).sealed is None:
        yield from seal(world, old, new_state=True)


def rename(world: World, old: str, new: str) -> Steps:
    """The rename of the top is the commit."""
    disk = world.disk
    yield from recover(world, old)
    top_name, top = top_of(disk, old)
    if not planted('no-formerly'):
        disk.note(top, formerly=old, name=new)
        yield 'step'
        disk.sync(top)
        yield 'step'
    disk.rename(top_name, f'{new}.{extension(top_name)}')
    yield 'step'
    disk.sync_directory()
    yield 'step'
    yield from finish_rename(world, old, new)


def remove(world: World, name: str) -> Steps:
    """A container or a template with all its files, the top first; refused where others need one of them."""
    disk = world.disk
    own = [inode for _, inode in files_of(disk, name)]
    for inode in own:
        others = [one for one in children(disk, inode) if one not in own]
        elsewhere = [one for one in providers(disk, disk.manifest(inode).state, name) if one not in own]
        if others and not elsewhere and not planted('rm-used'):
            raise Refused(f'others stand on {disk.name_of(inode)}')
    newest_first = sorted(own, reverse=True)
    tops = [inode for inode in own if '@' not in disk.name_of(inode)]
    for inode in tops + [inode for inode in newest_first if inode not in tops]:
        disk.unlink(disk.name_of(inode))
        yield 'step'
    disk.sync_directory(name.rpartition('/')[0])
    yield 'step'


def grow(world: World, name: str) -> Steps:
    """A running container grows by one block. A delta owns what is behind its parent's end, before it says that it is longer."""
    disk, server = world.disk, world.servers[name]
    top, size = server.top, disk.manifest(server.top).size
    if disk.manifest(top).kind == 'delta' and not planted('grow-unowned'):
        disk.set_bit(top, size)
        yield 'step'
        disk.sync(top)
        yield 'step'
    disk.note(top, size=size + 1)
    yield 'step'
    disk.sync(top)
    yield 'step'
    yield from resize(world, name, top)


def export(world: World, name: str) -> Steps:
    """Of a running container: a state without a name, read through descriptors that its owner's death closes."""
    disk = world.disk
    yield from recover(world, name)
    source = top_of(disk, name)[1]
    yield from commit_top(world, name, nameless(world))
    chain, content = layers(disk, source), view(disk, source)
    world.ours |= set(chain)
    for label in reclaim(world, name):  # another command
        if tuple(read(disk, chain, block) for block in range(len(content))) != content:
            raise Violation('an export reads what another command does')
        yield label
    world.ours -= set(chain)
    yield from reclaim(world, name)
