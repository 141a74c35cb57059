"""fold: a child's blocks into the root image, which changes its state."""

from commit import seal
from disk import BLOCKS, Fold, Refused
from merge import Work, batches, copy, hide, mark_written, punch
from mutants import planted
from recover import recover
from tree import children, evidence_of, extension, files_of, is_nameless, stem, verify, view
from world import Steps, World


def fold(world: World, image: int, source: int, keep: int | None = None) -> Work:
    """`keep`: the delta that will hold the image's old state, if that is wanted; it has its name, or ends in `.next`."""
    disk = world.disk
    container = stem(disk.name_of(image))
    verify(disk, image)
    if disk.manifest(source).sealed is None and not planted('source-unsealed'):
        yield from seal(world, source, new_state=True)
    if not (yield from hide(world, image)):
        yield from recover(world, container)
        return False
    if keep and extension(disk.name_of(keep)) == 'next':
        prepared = disk.name_of(keep)
        disk.rename(prepared, prepared[: -len('next')] + 'delta')
        yield 'step'
        disk.sync_directory()
        yield 'step'
    if keep and not (yield from mark_written(world, keep)):
        world.release(image)
        yield from recover(world, container)
        return False
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
    for blocks in batches(record.cursor):
        batch = [block for block in blocks if block in disk.files[source].bits]
        if keep:
            end = BLOCKS if planted('keep-short') else disk.manifest(source).size  # behind it there will be no parent
            needed = [block for block in blocks if block in batch or end <= block < disk.manifest(keep).size]
            lacking = [block for block in needed if block not in disk.files[keep].bits and block < disk.manifest(keep).size]
            yield from copy(world, image, keep, lacking, planted('fold-early'))
        yield from copy(world, source, image, batch)
        if not planted('no-cursor'):
            disk.note(image, fold=disk.manifest(image).fold._replace(cursor=blocks.stop))
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
    superblock = disk.files[image].data[0]
    if superblock < 0 and not sealed:
        disk.write(image, 0, -superblock)
        yield 'step'
        disk.sync(image)
        yield 'step'
    yield from recover(world, container)
