"""Files that a stock tool wrote into, or that somebody put back from a backup: who needs them is exact, or refused; never silently other."""

from collections.abc import Iterator

from disk import UNCHECKED, Refused, Violation
from explore import Operation, containers, counts, unless_refused
from reclaim import reclaim, settle
from recover import recover
from start import start
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
        presents = [(*(abs(value) for value in data[: manifest.size]),)] if '@' not in name else []  # of an image: what the tool made of it
        expect_exact_or_refused(other, name, presents, ['reclaim', 'settle', 'start', 'reclaim'])


def put_back(world: World, earlier: World, operation: Operation, number: int) -> None:
    """The power goes at each step of an operation; then one of the files is put back as it was before, or still earlier."""
    length = sum(1 for _ in steps_of(world.clone(), operation, number))
    for moment in range(length):
        other = world.clone()
        for step, _ in enumerate(steps_of(other, operation, number)):
            if step == moment:
                break
        other = other.after_cut(other.disk.last_cut(survive=True))
        for backup in (earlier.disk, world.disk):
            for name, inode in chain_names(backup):
                if name in other.disk.names and other.disk.files[other.disk.names[name]] != backup.files[inode]:
                    third, copy = other.clone(), other.disk.draw()
                    third.disk.files[copy] = third.disk.durable_files[copy] = backup.files[inode]
                    third.disk.names[name] = third.disk.durable_names[name] = copy
                    presents = [plain(view(backup, inode))] if '@' not in name else []
                    presents += coming(other, stem(name))
                    expect_exact_or_refused(third, name, presents, ['recover', 'reclaim', 'start', 'reclaim', 'settle'])


def coming(world: World, container: str) -> list[tuple[int, ...]]:
    """The presents that the operation under way is to bring."""
    presents = [outcome[container].present for outcome in world.outcomes if container in outcome]
    return [tuple(min(values) for values in present) for present in presents if present]


def expect_exact_or_refused(world: World, name: str, presents: list[tuple[int, ...]], verbs: list[str]) -> None:
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
                judge(world, container, record, presents if container == stem(name) else [])
    except Violation as error:
        raise Violation(f'{name} was changed or put back: {error}') from error


def judge(world: World, container: str, record: Record, presents: list[tuple[int, ...]]) -> None:
    for snapshot, content in contents(world, container):
        if snapshot:
            right = content == record.snapshots.get(snapshot, content)
        else:
            right = content in [present[: len(content)] for present in presents] or all(value in allowed for value, allowed in zip(content, record.allowed))
        if not right:
            raise Violation(f'{container}@{snapshot or ""} is silently {content}, want {record.snapshots.get(snapshot) or record.allowed}')


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
