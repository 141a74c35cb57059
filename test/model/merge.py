"""What absorb and fold share: long work, which may be cut or killed anywhere, is readable throughout, and goes on at the next verb.

A merge first marks the files that it will write, so that no copy of them from before can take their place; it writes over a block only where nobody
but us can see it: in a file called `.fold`, without another link, under a lease. `Work` tells whether it did what it was asked for.
"""

from collections.abc import Generator

from commit import nameless
from disk import BLOCKS, UNCHECKED
from mutants import planted
from tree import extension, merge_of, stem, verify
from world import Steps, World

BATCH = 2
Work = Generator[str, None, bool]


def copy(world: World, source: int, target: int, blocks: list[int], early: bool = False) -> Steps:
    """Data durable, then bits durable (an image has none, and its block 0 is written with `read-only`)."""
    disk = world.disk
    is_image = disk.manifest(target).kind == 'image'
    for block in blocks:
        data = disk.files[source].data[block]
        disk.write(target, block, -abs(data) if block == 0 and is_image and not planted('fold-writable') else data)
        yield 'step'
    if not early:
        disk.sync(target)
        yield 'step'
    if not is_image:
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


def batches(first: int = 0) -> list[range]:
    return [range(low, min(low + BATCH, BLOCKS)) for low in range(first, BLOCKS, BATCH)]
