"""Runs operations one after the other; at every step of each the power goes, or the command is killed, and what is owed is looked for."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from disk import Refused, Violation, directory_of
from mutants import planted
from reclaim import reclaim
from recover import recover
from start import start
from tree import stem
from verbs import remove
from world import Outcome, Owed, Record, Steps, World, done


class Phase(NamedTuple):
    """A part of an operation: what it does, and what is owed once it is done (None: the same as before). One that `fails` leaves all as it was."""

    steps: Steps
    after: Outcome | None = None
    fails: bool = False


Operation = Callable[[World, int], Iterator[Phase | None]]
"""What a user or the host does, in phases; the number makes its names differ. None: it does not apply."""


class Counts:
    operations = cuts = kills = watched = 0


counts = Counts()
seen: set[Any] = set()


def containers(world: World) -> list[str]:
    return sorted({stem(name) for name in world.disk.names if '/' not in name})


def recover_all(world: World) -> Steps:
    """The next verb of each container, and of one that is gone."""
    for directory in ('', 'templates') if not planted('trust-cache') else ():
        if any(directory_of(move[1]) == directory for move in world.disk.moves):
            world.disk.sync_directory(directory)
            yield 'step'
    for name in containers(world):
        if name in containers(world):
            yield from recover(world, name)


def outcomes_key(world: World) -> Any:
    return tuple(
        tuple(
            (name, owed.present or tuple(map(frozenset, world.records[name].allowed)), tuple(sorted(owed.snapshots.items())))
            for name, owed in sorted(outcome.items())
        )
        for outcome in world.outcomes or [world.as_recorded()]
    )


def cut(world: World, within_recover: bool = True) -> None:
    """The power goes now: whatever the disk may have kept, recover makes it one of the outcomes, also when it is cut itself."""
    owed = outcomes_key(world)
    for disk in world.disk.cuts():
        counts.cuts += 1
        key = (disk.key(), owed)
        if key in seen:
            continue
        other = world.after_cut(disk)
        for _ in recover_all(other):
            for survive in (False, True) if within_recover else ():
                counts.cuts += 1
                again = other.after_cut(other.disk.last_cut(survive))
                if (again.disk.key(), owed) not in seen:
                    done(recover_all(again))
                    again.judge()
        other.judge()
        if list(recover_all(other)):
            raise Violation('a second recover finds something to do')
        seen.add(key)


def kill(world: World) -> None:
    """The command is killed now. Its container goes on, or is started: it writes, the power goes, what was pending is done, and it goes again."""
    counts.kills += 1
    other = world.clone()
    other.end_command()
    other.judge_names()
    done(recover_all(other))
    accept(other, other.judge())
    for name in containers(other):
        if name not in other.records:
            done(remove(other, name))  # the rest of one that was being removed
        elif name not in other.servers:
            unless_refused(other, name, start(other, name))
    other.judge()
    for name in sorted(other.servers):
        other.put(name, 0)
        done(other.flush(name))
    other.judge_names()
    other.judge()
    cut(other, within_recover=False)
    for name in containers(other):
        unless_refused(other, name, reclaim(other, name))
    other.judge()
    cut(other, within_recover=False)


def unless_refused(world: World, name: str, steps: Steps) -> None:
    try:
        done(steps)
    except Refused:
        if name not in world.refusable:
            raise


def accept(world: World, outcome: Outcome) -> None:
    """From now on the present is what it is, and the snapshots are those of this outcome."""
    world.outcomes = []
    for name, owed in outcome.items():
        if name not in world.refusable:
            world.records[name] = Record(world.present(name, owed.present and len(owed.present)), owed.snapshots)
    world.adopt({name: Owed(None, owed.snapshots) for name, owed in outcome.items()})


def perform(world: World, operation: Operation, number: int) -> bool:
    """One operation with all that may happen meanwhile. False: it does not apply here."""
    for phase in operation(world, number):
        if phase is None:
            return False
        before = world.as_recorded()
        world.outcomes = [before] + ([phase.after] if phase.after is not None else [])
        for label in phase.steps:
            world.judge_names()
            cut(world)
            if label == 'step':
                kill(world)
        world.outcomes = []
        if phase.after is not None and not phase.fails:
            world.adopt(phase.after)
        world.judge()
    cut(world)
    counts.operations += 1
    return True


def explore(world: World, path: list[str], operations: dict[str, Operation], depth: int) -> None:
    """Every sequence of operations of this length."""
    for name, operation in operations.items() if depth else ():
        other = world.clone()
        try:
            applies = perform(other, operation, len(path))
        except (Violation, Refused) as error:
            raise Violation(f'{" ".join([*path, name])}: {error}') from error
        if applies:
            explore(other, [*path, name], operations, depth - 1)


def follow(world: World, path: Iterable[str], operations: dict[str, Operation]) -> list[str]:
    """One sequence of operations."""
    done_so_far: list[str] = []
    for name in path:
        done_so_far.append(name)
        try:
            if not perform(world, operations[name], len(done_so_far) - 1):
                raise Violation('does not apply')
        except (Violation, Refused) as error:
            raise Violation(f'{" ".join(done_so_far)}: {error}') from error
    return done_so_far
