"""start and stop."""

from commit import commit_top, nameless
from disk import Refused
from mutants import planted
from recover import recover
from tree import is_needed, top_of, verify, view
from world import Server, Steps, World


def start(world: World, name: str) -> Steps:
    yield from recover(world, name)
    disk = world.disk
    top = top_of(disk, name)[1]
    verify(disk, top)
    sealed, own = disk.manifest(top).sealed is not None, disk.manifest(top).name == name
    linked = sealed and disk.links(top) > 1 and not planted('start-linked')
    if linked and not own:
        raise Refused(f'{name} has other hard links')
    if is_needed(disk, top) or linked:
        view(disk, top)
        yield from commit_top(world, name, nameless(world))
        top = top_of(disk, name)[1]
    elif sealed:
        disk.note(top, sealed=None, name=name, state=disk.new_state())
        yield 'step'
        disk.sync(top)
        yield 'step'
    superblock = disk.files[top].data[0]
    if superblock < 0:
        disk.write(top, 0, -superblock)
        yield 'step'
        disk.sync(top)
        yield 'step'
    view(disk, top)
    yield from resize(world, name, top)
    world.servers[name] = Server(top)


def resize(world: World, name: str, top: int) -> Steps:
    """ext4 grows to the size of the disk; where an image's manifest was must be empty before."""
    disk = world.disk
    sizes = world.records[name].current
    for block in range(len(sizes), disk.manifest(top).size):
        if disk.manifest(top).kind == 'image' and not planted('grow-dirty'):
            disk.write(top, block, 0)
            yield 'step'
            disk.sync(top)
            yield 'step'
        world.records[name].grow()


def stop(world: World, name: str) -> Steps:
    yield from world.flush(name)
    del world.servers[name]
