"""What is to be merged follows from the tree: reclaim, settle."""

from collections.abc import Generator

from absorb import absorb, absorb_on
from commit import publish
from disk import UNCHECKED, Manifest, Refused
from fold import fold, fold_on, named
from merge import Work
from mutants import planted
from recover import sync_all
from tree import below, children, files_of, is_nameless, merge_of, stem, top_of, view
from world import Steps, World


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
