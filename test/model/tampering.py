"""Files that a stock tool wrote into, or that somebody put back from a backup: who needs them is exact, or refused; never silently other."""

from collections.abc import Iterator

from commit import start
from disk import UNCHECKED, Refused, Violation
from explore import Operation, containers, counts, unless_refused
from merge import reclaim, settle
from recover import recover
from strangers import steps_of
from tree import chain_names, children, extension, snapshot_of, stem, view
from world import Record, World, plain


def tamper(world: World) -> None:
    """A stock tool writes into each file that others stand on, in turn."""
    for name, inode in chain_names(world.disk):
        file = world.disk.files[inode]
        manifest = file.manifest
        checked = manifest.sealed not in (None, UNCHECKED) or children(world.disk, inode)
        if manifest.fold or manifest.sealed == UNCHECKED or not checked:
            continue
        bits = file.bits | {1, 2} if manifest.kind == 'delta' else file.bits
        if manifest.kind == 'delta' and bits == file.bits:
            continue  # its map does not tell
        other = world.clone()
        data = (other.disk.draw(), other.disk.draw(), *file.data[2:])
        other.disk.files[inode] = other.disk.durable_files[inode] = file._replace(data=data, bits=bits)
        expect_exact_or_refused(other, name, ['reclaim', 'settle', 'start', 'reclaim'])


def put_back(world: World, operation: Operation, number: int) -> None:
    """The power goes at each step of an operation; then one of the files is put back as it was before the operation."""
    before = dict(chain_names(world.disk))
    length = sum(1 for _ in steps_of(world.clone(), operation, number))
    for moment in range(length):
        other = world.clone()
        for step, _ in enumerate(steps_of(other, operation, number)):
            if step == moment:
                break
        other = other.after_cut(other.disk.last_cut(survive=True))
        for name, inode in before.items():
            file = world.disk.files[inode]
            there = other.disk.names.get(name)
            if there is None or other.disk.files[there] == file or stem(name) in world.servers and '@' not in name:
                continue
            third = other.clone()
            copy = third.disk.draw()
            third.disk.files[copy] = third.disk.durable_files[copy] = file
            third.disk.names[name] = third.disk.durable_names[name] = copy
            expect_exact_or_refused(third, name, ['recover', 'reclaim', 'start', 'reclaim', 'settle'])


def expect_exact_or_refused(world: World, name: str, verbs: list[str]) -> None:
    counts.watched += 1
    world.refusable = set(world.records)
    steps = {'recover': recover, 'reclaim': reclaim, 'settle': settle, 'start': start}
    try:
        for verb in ['recover', *verbs]:
            for container in containers(world):
                running = container in world.servers
                if container in world.records and not (running and verb in ('settle', 'start')):
                    unless_refused(world, container, steps[verb](world, container))
            for container, record in world.records.items():
                judge(world, container, record, without_present=container == stem(name) and '@' not in name)
    except Violation as error:
        raise Violation(f'{name} was changed or put back: {error}') from error


def judge(world: World, container: str, record: Record, without_present: bool) -> None:
    for name, content in contents(world, container):
        wanted = record.snapshots.get(name) if name else tuple(record.current)
        if content != wanted and wanted and (name or not without_present):
            raise Violation(f'{container}@{name} is silently {content}, want {wanted}')


def contents(world: World, container: str) -> Iterator[tuple[str | None, tuple[int, ...]]]:
    """What can be read of a container: each snapshot, and the present."""
    for name, inode in chain_names(world.disk):
        snapshot = snapshot_of(name)
        if stem(name) != container or extension(name) == 'fold' or ('@' in name and not snapshot):
            continue
        try:
            content = view(world.disk, inode) if snapshot else world.present(container)
        except Refused:
            continue
        yield snapshot, plain(content)
