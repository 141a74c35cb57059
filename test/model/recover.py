"""What begins every verb: finishes renames, seals and unlinks that were begun. Copies no data; twice is once."""

from commit import nameless, seal
from disk import Disk, Refused, Violation
from mutants import planted
from tree import chain_names, evidence_of, extension, files_of, stem, top_of
from world import Steps, World


def sync_all(world: World, name: str) -> Steps:
    """What a killed command left in the page cache is made durable first: decisions are made by it."""
    disk = world.disk
    if planted('trust-cache'):
        return
    own = {inode for one, inode in disk.names.items() if stem(one) == name}
    for inode in sorted({write[0] for write in disk.writes} & own):
        disk.sync(inode)
        yield 'step'
    if disk.moves:
        disk.sync_directory()
        yield 'step'


def recover(world: World, name: str) -> Steps:
    yield from sync_all(world, name)
    yield from _rename(world, name)
    yield from _next_top(world, name)
    yield from _folded(world, name)
    yield from _seals(world, name)
    if world.disk.moves:
        world.disk.sync_directory()
        yield 'step'


def _rename(world: World, name: str) -> Steps:
    """A rename of the container that was begun: the top under its new name is the commit."""
    disk = world.disk
    for one, inode in chain_names(disk):
        manifest = disk.manifest(inode)
        if not manifest.formerly or '@' in one or name not in (stem(one), manifest.formerly):
            continue
        if stem(one) == manifest.formerly:
            disk.note(inode, formerly=None, name=stem(one))
            yield 'step'
            disk.sync(inode)
            yield 'step'
        else:
            yield from finish_rename(world, manifest.formerly, stem(one))


def finish_rename(world: World, old: str, new: str) -> Steps:
    """The files beside the top, then the record."""
    disk = world.disk
    for one in [one for one in sorted(disk.names) if one.startswith(f'{old}@')]:
        disk.rename(one, new + one[len(old) :])
        yield 'step'
    disk.sync_directory()
    yield 'step'
    top = top_of(disk, new)[1]
    disk.note(top, formerly=None)
    yield 'step'
    disk.sync(top)
    yield 'step'


def _next_top(world: World, name: str) -> Steps:
    """A prepared top: with a top beside it, it was not to be; without, it is the top."""
    disk, prepared = world.disk, f'{name}.next'
    if prepared not in disk.names:
        return
    file, manifest = disk.files[disk.names[prepared]], disk.manifest(disk.names[prepared])
    tops = [one for one in (f'{name}.img', f'{name}.delta') if one in disk.names]
    ending = {'image': 'img', 'delta': 'delta'}[manifest.kind]
    if not tops:
        disk.rename(prepared, f'{name}.{ending}')
    elif planted('guess') and manifest.parent == disk.manifest(disk.names[tops[0]]).state:
        disk.rename(tops[0], f'{name}@s{disk.draw()}.{extension(tops[0])}')
        yield 'step'
        disk.rename(prepared, f'{name}.{ending}')
    elif manifest.kind == 'delta' and file.bits - {0}:
        raise Violation(f'{prepared} was written to')
    else:
        disk.unlink(prepared)
    yield 'step'


def _folded(world: World, name: str) -> Steps:
    """An image is the whole of its state: it takes the name of a delta of that state (a fold's source, or what was prepared to be kept)."""
    disk = world.disk
    for one, inode in files_of(disk, name):
        manifest = disk.manifest(inode)
        if manifest.kind != 'image' or manifest.fold:
            continue
        twins = [other for other in sorted(disk.names) if stem(other) == name and is_twin(disk, disk.names[other], inode)]
        names = [other for other in twins if extension(other) != 'fold']
        if names or extension(one) == 'fold':
            wanted = (names[0].rpartition('.')[0] if names else f'{name}@{nameless(world)}') + '.img'
            if wanted != one:
                disk.rename(one, wanted)
                yield 'step'
                disk.sync_directory()
                yield 'step'
        for other in twins:
            prove_image(world, inode)
            disk.unlink(other)
            yield 'step'


def is_twin(disk: Disk, delta: int, image: int) -> bool:
    manifest = disk.manifest(delta)
    return manifest.kind == 'delta' and not manifest.fold and manifest.state == disk.manifest(image).state


def prove_image(world: World, inode: int) -> None:
    file = world.disk.files[inode]
    if file.manifest.sealed not in (None, evidence_of(file)):
        raise Refused('an image that should replace a delta was changed')


def _seals(world: World, name: str) -> Steps:
    disk = world.disk
    served = world.servers[name].top if name in world.servers else None
    for one, inode in files_of(disk, name):
        manifest = disk.manifest(inode)
        if '@' in one and manifest.sealed is None and not manifest.fold and extension(one) != 'fold' and inode != served:
            yield from seal(world, inode)
