"""What is run: the sequences of operations, and for each fault a short one that must find it."""

from typing import NamedTuple

import explore
import mutants
from disk import Refused, Violation
from families import clones, copies, core, failures, removals, shapes
from operations import new_world
from strangers import come_and_watch, steps_of
from tampering import put_back, tamper
from world import World, done

families = {'core': core, 'removals': removals, 'clones': clones, 'shapes': shapes, 'copies': copies, 'failures': failures}


class Scenario(NamedTuple):
    family: str
    path: str  # what was done before, step by step under cuts and kills as well
    depth: int = 1
    only: str = ''  # the operations that follow; all of the family unless told
    strangers: bool = False  # look at each of them with strangers instead


def run(scenario: Scenario) -> None:
    """Every sequence of the scenario; raises a Violation that says which one broke what."""
    operations = families[scenario.family]
    chosen = {name: operations[name] for name in scenario.only.split() or operations}
    world, path = new_world(with_template=scenario.family in ('clones', 'copies')), scenario.path.split()
    if scenario.strangers:
        visit(world, walk(world, path, operations), path, chosen, scenario.depth)
    else:
        explore.follow(world, path, operations)
        explore.explore(world, path, chosen, scenario.depth)


def walk(world: World, path: list[str], operations: dict[str, explore.Operation]) -> World:
    """Does the operations; what there was before the last one."""
    earlier = world.clone()
    for number, name in enumerate(path):
        earlier = world.clone()
        done(steps_of(world, operations[name], number))
    return earlier


def visit(world: World, earlier: World, path: list[str], operations: dict[str, explore.Operation], depth: int) -> None:
    for name, operation in operations.items() if depth else ():
        here, after = [*path, name], world.clone()
        try:
            come_and_watch(world, operation, len(path))
            put_back(world, earlier, operation, len(path))
            done(steps_of(after, operation, len(path)))
            tamper(after)
        except (Violation, Refused) as error:
            raise Violation(f'{" ".join(here)}: {error}') from error
        visit(after, world, here, operations, depth - 1)


def finds(fault: str, scenario: Scenario) -> str | None:
    """What the scenario says with this fault in the protocol; nothing if it sees none."""
    mutants.active = fault
    explore.seen.clear()
    try:
        run(scenario)
    except (Violation, Refused) as error:
        return str(error)
    finally:
        mutants.active = None
        explore.seen.clear()
    return None


def with_strangers(family: str, path: str, depth: int = 1) -> Scenario:
    return Scenario(family, path, depth, strangers=True)


SHORT = [
    Scenario('removals', '', 3),
    Scenario('core', 'write snapshot write snapshot', 2),
    Scenario('core', 'write snapshot settle', 2),
    Scenario('clones', '', 2),
    Scenario('clones', 'write snapshot clone-snapshot', 2),
    Scenario('clones', 'clone-template write-clone snapshot-clone', 1),
    Scenario('shapes', '', 2),
    Scenario('shapes', 'snapshot grow settle restore', 1),
    Scenario('copies', '', 3),
    Scenario('failures', '', 2),
    Scenario('failures', 'write snapshot write', 2),
    with_strangers('removals', 'write snapshot write snapshot'),
    with_strangers('removals', 'write snapshot write snapshot snapshot write'),
    with_strangers('removals', 'write snapshot write snapshot snapshot write rm-middle'),
    with_strangers('core', 'write snapshot settle'),
    with_strangers('clones', 'write snapshot clone-snapshot'),
    with_strangers('clones', 'clone-template write-clone snapshot-clone'),
    with_strangers('shapes', 'write snapshot grow'),
    with_strangers('copies', 'write snapshot drop-snapshot'),
]
"""About ten seconds of a processor."""

LONG = [scenario._replace(depth=scenario.depth + 1) for scenario in SHORT]
