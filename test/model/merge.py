"""Long work: absorb, fold, reclaim, settle. It may be cut or killed anywhere, is readable throughout, and goes on at the next verb.

A merge first marks the files that it will write, so that no copy of them from before can take their place; it writes over a block only where nobody
but us can see it: in a file called `.fold`, without another link, under a lease. Each function tells whether it did what it was asked for."""

from collections.abc import Generator

from commit import nameless, publish, seal
from disk import BLOCKS, UNCHECKED, Fold, Manifest, Refused
from mutants import planted
from recover import recover, sync_all
from tree import below, children, evidence_of, extension, files_of, is_nameless, merge_of, stem, top_of, verify, view
from world import Steps, World

BATCH = 2
Work = Generator[str, None, bool]


def copy(world: World, source: int, target: int, blocks: list[int], early: bool = False) -> Steps:
    """Data durable, then bits durable (an image has none)."""
    disk = world.disk
    for block in blocks:
        disk.write(target, block, disk.files[source].data[block])
        yield 'step'
    if not early:
        disk.sync(target)
        yield 'step'
    if disk.manifest(target).kind == 'delta':
        for block in blocks:
            disk.set_bit(target, block)
            yield 'step'
    if not early:
        disk.sync(target)
        yield 'step'


def mark_written(world: World, inode: int) -> Work:
    """The evidence of a sealed file that will be written is taken away while nobody reads it; an unsealed one draws a new state."""
    disk = world.disk
    manifest = disk.manifest(inode)
    if manifest.sealed == UNCHECKED or planted('no-marks'):
        return True
    if manifest.sealed is None:
        if not merge_of(disk, stem(disk.name_of(inode)), manifest.state):
            disk.note(inode, state=disk.new_state())
            yield 'step'
            disk.sync(inode)
            yield 'step'
        return True
    verify(disk, inode)
    if not planted('mark-unleased') and not world.lease(inode):
        return False
    disk.note(inode, sealed=UNCHECKED)
    yield 'step'
    disk.sync(inode)
    world.release(inode)
    yield 'step'
    return True


def hide(world: World, inode: int) -> Work:
    """Leases a file and gives it the name that promises nothing. Who linked or opened it by its name meanwhile gets it back as it was."""
    disk, name = world.disk, world.disk.name_of(inode)
    if not planted('no-lease') and not world.lease(inode):
        return False
    alone = world.may_overwrite(inode)
    hidden = name
    if alone and extension(name) != 'fold':
        hidden = f'{stem(name)}@{nameless(world)}.fold'
        yield 'step'
        disk.rename(name, hidden)
        yield 'step'
        disk.sync_directory()
        yield 'step'
        alone = planted('look-early') or world.may_overwrite(inode)
    if alone:
        return True
    if hidden != name:
        disk.rename(hidden, name)
        yield 'step'
        disk.sync_directory()
    world.release(inode)
    yield 'step'
    return False


def punch(world: World, inode: int, blocks: list[int]) -> Steps:
    for block in blocks:
        world.disk.write(inode, block, 0)
        yield 'step'


# absorb: a parent's blocks into its only child


def absorb(world: World, parent: int, child: int) -> Work:
    disk = world.disk
    verify(disk, parent)
    if not (yield from mark_written(world, child)):
        return False
    if disk.manifest(parent).fold or (yield from hide(world, parent)):
        if not disk.manifest(parent).fold and not planted('unmarked-parent'):
            disk.note(parent, state=None, fold=Fold(disk.manifest(child).state, disk.manifest(parent).state))
            yield 'step'
            disk.sync(parent)
            yield 'step'
    world.release(parent)
    yield from absorb_on(world, parent, child)
    return True


def absorb_on(world: World, parent: int, child: int) -> Steps:
    disk = world.disk
    container = stem(disk.name_of(child))
    server = world.servers.get(container)
    record = disk.manifest(parent).fold
    live = server if server and server.top == child else None
    for low in range(0, BLOCKS, BATCH):
        batch = [block for block in range(low, min(low + BATCH, BLOCKS)) if block in disk.files[parent].bits]
        fresh = live.fresh if live else frozenset()
        yield from copy(world, parent, child, [block for block in batch if block not in disk.files[child].bits | fresh])
        if live and not planted('absorb-ram'):
            yield from world.flush(container)
        hidden = extension(disk.name_of(parent)) == 'fold'
        if hidden and (record or planted('unmarked-parent')) and world.may_overwrite(parent):
            yield from punch(world, parent, batch)
    sealed = disk.manifest(child).sealed
    if disk.manifest(child).parent != disk.manifest(parent).parent:
        disk.note(child, parent=disk.manifest(parent).parent, sealed=sealed and evidence_of(disk.files[child]))
        yield 'step'
        disk.sync(child)
        yield 'step'
    disk.unlink(disk.name_of(parent))
    yield 'step'
    disk.sync_directory()
    yield 'step'


# fold: a child's blocks into the root image


def fold(world: World, image: int, source: int, keep: int | None = None) -> Work:
    """`keep`: the delta that will hold the image's old state, if that is wanted; it has its name, or ends in `.next`."""
    disk = world.disk
    container = stem(disk.name_of(image))
    verify(disk, image)
    if disk.manifest(source).sealed is None and not planted('source-unsealed'):
        yield from seal(world, source, new_state=True)
    if keep and not (yield from mark_written(world, keep)):
        return False
    if not (yield from hide(world, image)):
        yield from recover(world, container)
        return False
    if keep and extension(disk.name_of(keep)) == 'next':
        prepared = disk.name_of(keep)
        disk.rename(prepared, prepared[: -len('next')] + 'delta')
        yield 'step'
        disk.sync_directory()
        yield 'step'
    manifest = disk.manifest(image)
    size = max(manifest.size, disk.manifest(source).size)
    record = Fold(disk.manifest(source).state, manifest.state, disk.manifest(keep).state if keep else None)
    disk.note(image, state=None, sealed=None, size=size, fold=record)
    yield 'step'
    disk.sync(image)
    yield 'step'
    return (yield from fold_on(world, image))


def named(world: World, container: str, state: str | None) -> int | None:
    found = [inode for _, inode in files_of(world.disk, container) if state and world.disk.manifest(inode).state == state]
    return found[0] if found else None


def fold_on(world: World, image: int) -> Work:
    disk = world.disk
    container = stem(disk.name_of(image))
    record = disk.manifest(image).fold
    source, keep = named(world, container, record.to), named(world, container, record.keep)
    if source is None or (record.keep and not keep):
        raise Refused(f'{disk.name_of(image)} was being merged with a file that is not here')
    for one in (source, keep) if keep else (source,):
        view(disk, one)  # refuses what is not the file that this merge began with
    if not (yield from hide(world, image)):
        return False
    for low in range(record.cursor, BLOCKS, BATCH):
        blocks = range(low, min(low + BATCH, BLOCKS))
        batch = [block for block in blocks if block in disk.files[source].bits]
        if keep:
            end = BLOCKS if planted('keep-short') else disk.manifest(source).size  # behind it there will be no parent
            needed = [block for block in blocks if block in batch or end <= block < disk.manifest(keep).size]
            lacking = [block for block in needed if block not in disk.files[keep].bits and block < disk.manifest(keep).size]
            yield from copy(world, image, keep, lacking, planted('fold-early'))
        yield from copy(world, source, image, batch)
        if not planted('no-cursor'):
            disk.note(image, fold=disk.manifest(image).fold._replace(cursor=low + BATCH))
            yield 'step'
            disk.sync(image)
            yield 'step'
        if is_nameless(disk.name_of(source)) and (yield from hide(world, source)):
            yield from punch(world, source, batch)
            world.release(source)
    yield from fold_end(world, image, source, keep)
    world.release(image)
    return True


def fold_end(world: World, image: int, source: int, keep: int | None) -> Steps:
    disk = world.disk
    container, state = stem(disk.name_of(image)), disk.manifest(source).state
    is_top = '@' not in disk.name_of(source)
    stood_on = bool([one for one in children(disk, source)]) or keep is not None
    sealed = not is_top or (stood_on and not planted('present-unsealed'))
    superblock = abs(disk.files[image].data[0])
    if superblock and not planted('fold-writable'):
        disk.write(image, 0, -superblock if sealed else superblock)
        yield 'step'
        disk.sync(image)
        yield 'step'
    if keep:
        disk.note(keep, parent=state, sealed=evidence_of(disk.files[keep]))
        yield 'step'
        disk.sync(keep)
        yield 'step'
    if planted('unlink-early'):
        disk.unlink(disk.name_of(source))
        yield 'step'
        disk.sync_directory()
        yield 'step'
    size = disk.manifest(image if planted('fold-long') else source).size
    disk.note(image, state=state, size=size, fold=None, sealed=evidence_of(disk.files[image]) if sealed else None)
    yield 'step'
    disk.sync(image)
    yield 'step'
    yield from recover(world, container)


# What is to be merged follows from the tree


def reclaim(world: World, name: str) -> Steps:
    """A state without a name goes if nobody needs it, and is merged if one file does. What can't be done now waits."""
    yield from sync_all(world, name)
    while (yield from reclaim_one(world, name)):
        pass


def reclaim_one(world: World, name: str) -> Work:
    disk = world.disk
    for _, inode in files_of(disk, name):
        record = disk.manifest(inode).fold
        if record and disk.manifest(inode).kind == 'image':
            if (yield from fold_on(world, inode)):
                return True
        elif record:
            child = named(world, name, record.to)
            if child is None:
                raise Refused(f'{disk.name_of(inode)} was being merged with a file that is not here')
            view(disk, child)
            yield from absorb_on(world, inode, child)
            return True
    for one, inode in files_of(disk, name):
        stand_here = children(disk, inode)
        if not is_nameless(one) or len(stand_here) > 1 or disk.manifest(inode).fold or merge_of(disk, name, disk.manifest(inode).state):
            continue
        if not stand_here:
            disk.unlink(one)
            yield 'step'
            disk.sync_directory()
            yield 'step'
            return True
        child = stand_here[0]
        if stem(disk.name_of(child)) != name:
            continue
        view(disk, child)
        served = name in world.servers and world.servers[name].top == child
        if disk.manifest(inode).kind == 'delta':
            merged = yield from absorb(world, inode, child)
        else:
            merged = not served and (yield from fold(world, inode, child))
        if merged:
            return True
    return False


def settle(world: World, name: str) -> Work:
    """Walks the own root image up to the present, edge by edge; each named state that it leaves becomes a delta on the newer one."""
    yield from reclaim(world, name)
    disk = world.disk
    while (top := top_of(disk, name)[1]) and disk.manifest(top).kind == 'delta':
        view(disk, top)
        source = top
        while disk.manifest(image := below(disk, source, name)).kind == 'delta':
            source = image
        if stem(disk.name_of(image)) != name or disk.manifest(image).fold:
            return False
        others = [one for one in children(disk, image) if one != source]
        if any(stem(disk.name_of(one)) != name for one in others) and not planted('fold-used'):
            return False
        image_name = disk.name_of(image)
        keep = others[0] if is_nameless(image_name) and len(others) == 1 else None
        if not is_nameless(image_name) or len(others) > 1:
            keep = yield from make_keep(world, image)
        if not (yield from fold(world, image, source, keep)):
            return False
        yield from reclaim(world, name)
    return True


def make_keep(world: World, image: int) -> Generator[str, None, int]:
    """An empty delta that will hold the image's state, under the image's name once the fold has begun."""
    disk = world.disk
    old = disk.manifest(image)
    prepared = disk.name_of(image).rpartition('.')[0] + '.next'
    manifest = Manifest('delta', old.name, old.state, None, old.size, UNCHECKED)
    keep = disk.make(manifest)
    yield from publish(world, keep, prepared)
    return keep

