"""Seals, and the commit that snapshot, restore and start share."""

from disk import BLOCKS, UNCHECKED
from mutants import planted
from tree import evidence_of, extension, merge_of, new_manifest, stem, top_of, view
from world import Server, Steps, World


def seal(world: World, inode: int, new_state: bool = False, fails: str | None = None) -> Steps:
    """The feature first, then the record that says so. What a merge writes has no evidence yet."""
    disk = world.disk
    manifest = disk.manifest(inode)
    if manifest.kind == 'image' and disk.files[inode].data[0] > 0:
        disk.write(inode, 0, -disk.files[inode].data[0])
        yield 'step'
        disk.sync(inode)
        yield 'step'
    merged = merge_of(disk, stem(disk.name_of(inode)), manifest.state)
    evidence = UNCHECKED if merged else evidence_of(disk.files[inode])
    state = disk.new_state() if new_state and not merged else manifest.state
    disk.note(inode, sealed=evidence, state=state)
    yield 'step'
    if fails:
        disk.fail_sync(inode, survives=fails == 'seal-kept')
        yield 'step'
        if not planted('failed-believed'):
            disk.note(inode, **manifest._asdict())
            yield 'step'
        return
    disk.sync(inode)
    yield 'step'


def draw_state(world: World, inode: int) -> Steps:
    """A state is drawn when its content is about to be fixed: copies of the file from before do not share it."""
    disk = world.disk
    manifest = disk.manifest(inode)
    if manifest.sealed is None and not merge_of(disk, stem(disk.name_of(inode)), manifest.state) and not planted('old-state'):
        disk.note(inode, state=disk.new_state())
        yield 'step'
        disk.sync(inode)
        yield 'step'


def nameless(world: World) -> str:
    return f'~{world.disk.draw()}'


def make_top(world: World, name: str, parent: int) -> int:
    """A delta on a state, which owns block 0 from the beginning, without the feature `read-only`."""
    disk = world.disk
    content = view(disk, parent)
    manifest = new_manifest(disk, 'delta', name, len(content), disk.manifest(parent).state)
    if planted('block0-left-out'):
        return disk.make(manifest)
    return disk.make(manifest, (abs(content[0]),) + (0,) * (BLOCKS - 1), frozenset({0}))


def publish(world: World, inode: int, name: str) -> Steps:
    """Whole, then durable, then a name, then a durable name."""
    disk = world.disk
    yield 'step'
    if not planted('name-first'):
        disk.sync(inode)
        yield 'step'
    disk.link(name, inode)
    yield 'step'
    disk.sync(inode)
    disk.sync_directory(name.rpartition('/')[0])
    yield 'step'


def commit_top(
    world: World, name: str, keep: str, onto: int | None = None, superblock: int | None = None, fails: str | None = None
) -> Steps:
    """
    The top moves aside as NAME@KEEP; a new one, on it or on the state of the file `onto`, takes its place. Where it `fails` (at the second rename, the
    sync of the directory, or that of the seal, which the disk may have all the same) it is taken back.
    """
    disk = world.disk
    old_name, old = top_of(disk, name)
    yield from draw_state(world, old)
    following = make_top(world, name, old if onto is None else onto)
    yield from publish(world, following, f'{name}.next')
    server = world.servers.get(name)
    if server:
        if superblock is not None:
            world.put(name, 0, superblock)  # by the guest, before it is frozen
        yield from world.flush(name)  # frozen and drained
        last = world.present(name)[0]
        if disk.files[following].data[0] != last and not planted('block0-stale'):
            disk.write(following, 0, last)
            yield 'server'
            disk.sync(following)
            yield 'server'
        if planted('switch-first'):
            world.servers[name] = Server(following)
            yield 'step'
    label = 'server' if server else 'step'
    kept_name = f'{name}@{keep}.{extension(old_name)}'
    disk.rename(old_name, kept_name)
    yield label
    if fails == 'rename':
        yield from take_back(world, name, [(old_name, kept_name)], label)
        return
    renamed = [(old_name, kept_name), (f'{name}.next', f'{name}.delta')]
    disk.rename(f'{name}.next', f'{name}.delta')
    yield label
    if fails == 'directory':
        yield from take_back(world, name, renamed, label)
        return
    if not planted('directory-late'):
        disk.sync_directory()
        yield label
    if server:
        world.servers[name] = Server(following)
    if disk.manifest(old).sealed is None:
        yield from seal(world, old, fails=fails)
    if fails:
        yield from take_back(world, name, renamed, label)


def take_back(world: World, name: str, renamed: list[tuple[str, str]], label: str) -> Steps:
    """The last name first: at no moment are there two tops, and where there is none, recover goes on with the commit."""
    disk = world.disk
    for before, after in renamed if planted('back-order') else reversed(renamed):
        disk.rename(after, before)
        yield label
    if label == 'step':  # a server leaves it to the next verb
        disk.unlink(f'{name}.next')
        yield label
    disk.sync_directory()
    yield label
