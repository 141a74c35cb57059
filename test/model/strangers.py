"""Who knows nothing of loopbox and copies, links or changes files while it works.

Each comes at every step of an operation, and is looked after at every later step, also while all is reclaimed and settled afterwards. What he has
must be what the name said when he came; or he waited; or the name was gone."""

from collections.abc import Iterator

from disk import Disk, File, Refused, Violation, directory_of
from explore import Operation, containers, counts, recover_all
from reclaim import reclaim, settle
from tree import chain_names, extension, is_nameless, snapshot_of, view
from world import World, done, plain


def directory_alone(disk: Disk, directory: str) -> Disk:
    """A copy of a directory's files, somewhere else. What is called `.fold` or `.next` promises nothing, and a merge's record is not believed."""
    other = disk.clone()
    inside = {name: inode for name, inode in disk.names.items() if directory_of(name) == directory}
    other.names = {name.rpartition('/')[2]: inode for name, inode in inside.items() if extension(name) not in ('fold', 'next')}
    return other


def promised(world: World) -> Iterator[tuple[str, int]]:
    """The names that say that a file does not change."""
    for name, inode in chain_names(world.disk):
        if extension(name) != 'fold' and not is_nameless(name) and (snapshot_of(name) or '/' in name):
            yield name, inode


def readable(world: World, files: Iterator[tuple[str, int]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names with what can be read under them just now."""
    for name, inode in files:
        try:
            yield name, plain(view(world.disk, inode))
        except Refused:
            pass


class Copier:
    """Opens one file, reads a part of it at once and the rest later, as cp does: from the first byte to the last."""

    def __init__(self, world: World, name: str, inode: int) -> None:
        self.name, self.inode, self.waits = name, inode, False
        self.first: Disk | None = None
        if inode in world.leased:
            world.asked.add(inode)
            self.waits = True
        else:
            self.open(world)

    def open(self, world: World) -> None:
        world.opened.add(self.inode)
        alone = directory_alone(world.disk, directory_of(self.name))
        alone.names[self.name.rpartition('/')[2]] = self.inode
        try:
            self.content = plain(view(alone, self.inode))
            self.first = alone
        except Refused:
            self.first = None  # what it stands on has no name just now

    def look(self, world: World) -> None:
        if self.waits and self.inode not in world.leased:
            self.waits = False
            if self.name in world.disk.names:
                world.asked.discard(self.inode)
                self.open(world)
        if not self.first:
            return
        for copy in torn(self.first.files[self.inode], world.disk.files[self.inode]):
            other = self.first.clone()
            other.files[self.inode] = copy
            try:
                found = plain(view(other, self.inode))
            except Refused as error:
                raise Violation(f'a copy of {self.name} made meanwhile is refused: {error}') from error
            if found != self.content:
                raise Violation(f'a copy of {self.name} made meanwhile is {found}, want {self.content}')

    def leave(self, world: World) -> None:
        world.opened.discard(self.inode)
        self.first, self.waits = None, False


def torn(early: File, late: File) -> Iterator[File]:
    """What a reader gets that begins at one moment and ends at another. An image's manifest is at its end, a delta's at its beginning."""
    for split in range(len(early.data) + 1):
        data = early.data[:split] + late.data[split:]
        if early.manifest.kind == 'image':
            yield File(late.manifest, data, frozenset())
        else:
            yield File(early.manifest, data, early.bits)
    if early.manifest.kind == 'delta':
        yield File(early.manifest, late.data, late.bits)


class Dropper:
    """Copies a file in the middle of a merge to a name of its own in the store. Nobody takes it for a part of his chain."""

    def __init__(self, world: World) -> None:
        disk = world.disk
        self.owed = dict(readable(world, promised(world)))
        for name, inode in chain_names(disk):
            if disk.manifest(inode).fold and 'stray.img' not in disk.names:
                copy = disk.draw()
                disk.files[copy] = disk.durable_files[copy] = disk.files[inode]
                disk.names = {'stray.img': copy, **disk.names}
                world.refusable.add('stray')

    def look(self, world: World) -> None:
        for name, content in readable(world, promised(world)):
            if content != self.owed.get(name, content):
                raise Violation(f'{name} is {content}, want {self.owed[name]}')
        for name in world.servers:
            if list(plain(world.present(name))) != world.records[name].current:
                raise Violation(f'{name} is {world.present(name)}, want {world.records[name].current}')

    def leave(self, world: World) -> None:
        world.disk.names.pop('stray.img', None)


class Linker:
    """`cp -al` of the whole directory. What is sealed there, by its name, must stay what it is."""

    def __init__(self, world: World) -> None:
        self.owed: dict[int, tuple[int, ...]] = {}
        for name, inode in chain_names(world.disk):
            if '/' not in name and extension(name) != 'fold' and world.disk.manifest(inode).sealed is not None:
                world.disk.names[f'backup/{name}'] = world.disk.durable_names[f'backup/{name}'] = inode
        alone = directory_alone(world.disk, 'backup')
        for name, inode in alone.names.items():
            try:
                self.owed[inode] = plain(view(alone, inode))
            except Refused:
                pass

    def look(self, world: World) -> None:
        alone = directory_alone(world.disk, 'backup')
        for inode, content in self.owed.items():
            if plain(view(alone, inode)) != content:
                raise Violation(f'backup/{alone.name_of(inode)} became {plain(view(alone, inode))}, want {content}')

    def leave(self, world: World) -> None:
        pass


Stranger = Copier | Linker | Dropper


def come_and_watch(world: World, operation: Operation, number: int) -> None:
    """A stranger of each kind at each step of an operation."""
    length = sum(1 for _ in steps_of(world.clone(), operation, number))
    for moment in range(length + 1):
        for kind in ('link', 'drop', *[f'copy {name}' for name in sorted({name for name, _ in names_at(world, operation, number, moment)})]):
            counts.watched += 1
            watch(world.clone(), operation, number, moment, kind)


def names_at(world: World, operation: Operation, number: int, moment: int) -> list[tuple[str, int]]:
    other = world.clone()
    for step, _ in enumerate(steps_of(other, operation, number)):
        if step == moment:
            break
    return list(promised(other))


def watch(world: World, operation: Operation, number: int, moment: int, kind: str) -> None:
    stranger: Stranger | None = None
    try:
        for step, _ in enumerate(steps_of(world, operation, number)):
            if stranger:
                stranger.look(world)
            elif step == moment:
                stranger = come(world, kind)
        stranger = stranger or come(world, kind)
        for stays in (True, False):
            for _ in rest_of_all(world):
                stranger.look(world)
            for name in world.servers if stays else ():
                world.put(name, 1)
                done(world.flush(name))
                stranger.look(world)
            if stays:
                stranger.leave(world)
        world.judge()
    except Violation as error:
        raise Violation(f'{kind} at step {moment}: {error}') from error


def come(world: World, kind: str) -> Stranger:
    if kind in ('link', 'drop'):
        return Linker(world) if kind == 'link' else Dropper(world)
    name = kind.removeprefix('copy ')
    return Copier(world, name, dict(promised(world))[name])


def steps_of(world: World, operation: Operation, number: int) -> Iterator[str]:
    for phase in operation(world, number):
        if phase is None:
            return
        world.outcomes = [world.as_recorded()] + ([phase.after] if phase.after is not None else [])
        yield from phase.steps
        world.outcomes = []
        if phase.after is not None:
            world.adopt(phase.after)


def rest_of_all(world: World) -> Iterator[str]:
    """Everything that is pending is done, as far as it can be."""
    yield from recover_all(world)
    for name in containers(world):
        for work in (reclaim, settle):
            try:
                if work is reclaim or name not in world.servers:
                    yield from work(world, name)
            except Refused:
                if name not in world.refusable:
                    raise
