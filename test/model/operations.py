"""What users do, each with what is owed once it is done. `web` is a container that runs, `new` a clone, `copy` a file that was dropped in."""

from collections.abc import Iterator

from commit import commit_top
from disk import Manifest, Refused
from explore import Phase
from reclaim import reclaim, settle
from recover import recover
from start import start, stop
from tree import extension, files_of, view
from verbs import clone_full, clone_linked, export, file_of, grow, remove, rename, restore, restore_direct, snapshot_direct, snapshot_rm
from world import Outcome, Owed, Record, Steps, World, done, exactly, plain

Phases = Iterator[Phase | None]
NOTHING: Steps = iter(())
TEMPLATE = 'templates/base'


def new_world(with_template: bool = False) -> World:
    """A container of one image, which runs; and a template, if wanted."""
    world = World()
    disk = world.disk
    names = {'web.img': Manifest('image', 'web', 's-web')}
    if with_template:
        names[f'{TEMPLATE}.img'] = Manifest('image', None, 's-base', sealed=('superblock', 90))
    for name, manifest in names.items():
        inode = disk.make(manifest, (-90, 91, 92) if manifest.sealed else (70, 0, 0))
        disk.sync(inode)
        disk.link(name, inode)
        disk.sync_directory()
        disk.sync_directory('templates')
    disk.drawn = 100
    world.records['web'] = Record((70, 0, 0), {})
    done(start(world, 'web'))
    return world


def owed_with(world: World, **changed: Owed | None) -> Outcome:
    outcome = world.as_recorded() | changed
    return {name: owed for name, owed in outcome.items() if owed}


def snapshots(world: World, name: str) -> list[str]:
    return sorted(world.records[name].snapshots)


def with_snapshot(world: World, name: str, snapshot: str) -> Owed:
    record = world.records[name]
    return Owed(None, {**record.snapshots, snapshot: tuple(record.current)})


def begin(world: World, name: str) -> Steps:
    """A start, where it does not run."""
    return start(world, name) if name not in world.servers else iter(())


def end(world: World, name: str) -> Steps:
    return stop(world, name) if name in world.servers else iter(())


# The guest


def write(world: World, number: int, name: str = 'web', block: int | None = None, zero: bool = False) -> Phases:
    if name not in world.records:
        yield None
        return
    yield Phase(begin(world, name))
    size = len(world.records[name].current)
    world.put(name, (number if block is None else block) % size, 0 if zero else None)
    yield Phase(world.flush(name, race=(number + 1) % size if not zero else None))


def write_unsynced(world: World, number: int) -> Phases:
    yield Phase(begin(world, 'web'))
    world.put('web', (number + 2) % len(world.records['web'].current))
    yield Phase(NOTHING)


def zero(world: World, number: int) -> Phases:
    return write(world, number, block=1 + number % 2, zero=True)


# Snapshots


def snapshot(world: World, number: int, name: str = 'web') -> Phases:
    if name not in world.records:
        yield None
        return
    label = f's{number}'
    yield Phase(commit_top(world, name, label), owed_with(world, **{name: with_snapshot(world, name, label)}))


def snapshot_amid_writes(world: World, number: int) -> Phases:
    """The guest writes its superblock after the new top was prepared, before it is frozen."""
    record, label, value = world.records['web'], f's{number}', world.disk.draw()
    taken = {**record.snapshots, label: (value, *record.current[1:])}
    yield Phase(commit_top(world, 'web', label, superblock=value), owed_with(world, web=Owed(None, taken)))


def snapshot_fails(world: World, number: int, at: str, rests: bool = False) -> Phases:
    """The host's disk fails in the middle; the command says so, and the next verb comes."""
    yield Phase(end(world, 'web') if rests else begin(world, 'web'))
    label = f'f{number}'
    yield from fails(world, commit_top(world, 'web', label, fails=at), owed_with(world, web=with_snapshot(world, 'web', label)))


def restore_fails(world: World, number: int, at: str) -> Phases:
    labels = snapshots(world, 'web')
    if not labels:
        yield None
        return
    yield Phase(end(world, 'web'))
    keep, content = f'before-{number}', world.records['web'].snapshots[labels[0]]
    after = owed_with(world, web=Owed(exactly(content), with_snapshot(world, 'web', keep).snapshots))
    yield from fails(world, commit_top(world, 'web', keep, file_of(world, 'web', labels[0]), fails=at), after)


def fails(world: World, steps: Steps, after: Outcome) -> Phases:
    def tried() -> Steps:
        yield from steps
        yield from recover(world, 'web')

    yield Phase(tried(), after, fails=True)


def remove_snapshots(world: World, number: int, which: slice) -> Phases:
    """Each at once; then what they held is reclaimed."""
    chosen = snapshots(world, 'web')[which] if 'web' in world.records else []
    if not chosen:
        yield None
        return
    for label in chosen:
        left = {one: content for one, content in world.records['web'].snapshots.items() if one != label}
        yield Phase(snapshot_rm(world, 'web', label), owed_with(world, web=Owed(None, left)))
    yield Phase(reclaim(world, 'web'))


def restore_oldest(world: World, number: int, direct: bool = False) -> Phases:
    labels = snapshots(world, 'web')
    if not labels or (direct and world.disk.manifest(file_of(world, 'web', labels[0])).kind != 'image'):
        yield None
        return
    yield Phase(end(world, 'web'))
    keep = f'before-{number}'
    content = world.records['web'].snapshots[labels[0]]
    after = owed_with(world, web=Owed(exactly(content), with_snapshot(world, 'web', keep).snapshots))
    yield Phase((restore_direct if direct else restore)(world, 'web', labels[0], keep), after)
    yield Phase(begin(world, 'web'))


def rest(world: World, number: int) -> Phases:
    """Stop, reclaim, start."""
    yield Phase(end(world, 'web'))
    yield Phase(reclaim(world, 'web'))
    yield Phase(start(world, 'web'))


def settled(world: World, number: int, name: str = 'web', stays: bool = False) -> Phases:
    """Stop, settle; and start again, unless it stays so."""
    if name not in world.records:
        yield None
        return
    yield Phase(end(world, name))
    yield Phase(settle(world, name))
    yield Phase(NOTHING if stays else start(world, name))


def crash(world: World, number: int) -> Phases:
    """The power goes; what was not synced is lost as far as it may be. All starts again."""
    disk = world.disk.last_cut(survive=True)
    running = sorted(world.servers)
    world.disk, world.servers = disk, {}
    for name in running:
        done(start(world, name))
        world.records[name] = Record(world.present(name), world.records[name].snapshots)
    yield Phase(NOTHING)


def exported(world: World, number: int) -> Phases:
    yield Phase(export(world, 'web'))


def grown(world: World, number: int) -> Phases:
    if world.disk.manifest(world.servers['web'].top).size > 3:
        yield None
        return
    yield Phase(grow(world, 'web'))
    yield from write(world, number, block=3)


def snapshot_reflinked(world: World, number: int) -> Phases:
    if world.disk.manifest(world.servers['web'].top).kind != 'image':
        yield None
        return
    label = f'd{number}'
    yield Phase(snapshot_direct(world, 'web', label), owed_with(world, web=with_snapshot(world, 'web', label)))


def renamed(world: World, number: int) -> Phases:
    """To another name, and back."""
    yield Phase(end(world, 'web'))
    for old, new in (('web', 'site'), ('site', 'web')):
        record = world.records[old]
        owed = Owed(tuple(map(frozenset, record.allowed)), record.snapshots)
        yield Phase(rename(world, old, new), owed_with(world, **{old: None, new: owed}))
    yield Phase(start(world, 'web'))


# Clones


def cloned(world: World, number: int, of: str) -> Phases:
    if 'web' not in world.records or 'new' in world.records or world.away or (of == 'snapshot' and not snapshots(world, 'web')):
        yield None
        return
    if of == 'template':
        names = dict(files_of(world.disk, TEMPLATE))
        if not names:
            yield None
            return
        source = names[f'{TEMPLATE}.img']
    elif of == 'snapshot':
        source = file_of(world, 'web', snapshots(world, 'web')[0])
    elif of == 'copy':
        if 'copy' not in world.records:
            yield None
            return
        yield Phase(end(world, 'copy'))
        source = file_of(world, 'copy')
    else:
        yield Phase(end(world, 'web'))
        source = file_of(world, 'web')
    identity = world.disk.draw()
    content = (identity, *plain(view(world.disk, source))[1:])
    make = clone_full if of == 'full' else clone_linked
    yield Phase(make(world, source, 'new', identity), owed_with(world, new=Owed(exactly(content), {})))


def removed(world: World, number: int, name: str) -> Phases:
    """Removal, or the refusal that is due."""
    if not files_of(world.disk, name):
        yield None
        return
    yield Phase(end(world, name))
    try:
        done(remove(world.clone(), name))
    except Refused:
        yield Phase(begin(world, name) if name in world.records else NOTHING)
        return
    yield Phase(remove(world, name), owed_with(world, **{name: None}))


def carried_away(world: World, number: int) -> Phases:
    """A stranger takes the clone's file out of the store, and brings it back the next time."""
    disk = world.disk
    if world.away:
        for name in [name for name in disk.names if name.startswith('away/')]:
            disk.rename(name, name[len('away/') :])
        world.records['new'], world.away = world.away, None
        world.refusable.add('new')
    elif 'new' in world.records and 'new' not in world.servers and not world.refusable:
        for name, _ in files_of(disk, 'new'):
            disk.rename(name, f'away/{name}')
        world.away = world.records.pop('new')
    else:
        yield None
        return
    disk.sync_directory('away')
    disk.sync_directory()
    yield Phase(NOTHING)


# Copies by a stranger


def dropped_in(world: World, number: int, of: str) -> Phases:
    """`cp` of a file of web to the name of a container of its own."""
    disk = world.disk
    if 'copy' in world.records or (of == 'snapshot' and not snapshots(world, 'web')):
        yield None
        return
    source = file_of(world, 'web', snapshots(world, 'web')[0] if of == 'snapshot' else None)
    content = plain(view(disk, source)) if of == 'snapshot' else tuple(abs(value) for value in world.present('web'))
    file = disk.files[source]
    if of == 'top' and file.manifest.kind == 'delta':
        yield None  # the map of a running top is in memory
        return
    inode = disk.make(file.manifest, file.data, file.bits)
    disk.sync(inode)
    disk.link(f'copy.{extension(disk.name_of(source))}', inode)
    disk.sync_directory()
    world.records['copy'] = Record(content, {})
    yield Phase(NOTHING)
