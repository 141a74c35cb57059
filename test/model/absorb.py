"""absorb: a parent's blocks into its only child. No view changes at any moment."""

from disk import Fold
from merge import Work, batches, copy, hide, mark_written, punch
from mutants import planted
from tree import evidence_of, extension, stem, verify
from world import Steps, World


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
    for blocks in batches():
        batch = [block for block in blocks if block in disk.files[parent].bits]
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
