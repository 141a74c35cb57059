"""The operations by families: each is explored with its own kind, so that sequences stay short."""

from explore import Operation
from operations import (
    TEMPLATE,
    carried_away,
    cloned,
    crash,
    dropped_in,
    exported,
    grown,
    remove_snapshots,
    removed,
    renamed,
    rest,
    restore_fails,
    restore_oldest,
    settled,
    snapshot,
    snapshot_amid_writes,
    snapshot_fails,
    snapshot_reflinked,
    write,
    write_unsynced,
    zero,
)

core: dict[str, Operation] = {
    'write': write,
    'unsynced': write_unsynced,
    'zero': zero,
    'snapshot': snapshot,
    'rm-oldest': lambda world, number: remove_snapshots(world, number, slice(0, 1)),
    'rm-newest': lambda world, number: remove_snapshots(world, number, slice(-1, None)),
    'restore': restore_oldest,
    'rest': rest,
    'settle': settled,
    'settle-down': lambda world, number: settled(world, number, stays=True),
    'crash': crash,
}

removals: dict[str, Operation] = {
    **core,
    'rm-middle': lambda world, number: remove_snapshots(world, number, slice(1, 2)),
    'rm-all': lambda world, number: remove_snapshots(world, number, slice(None)),
}

clones: dict[str, Operation] = {
    'write': write,
    'snapshot': snapshot,
    'rm-oldest': core['rm-oldest'],
    'settle': settled,
    'clone-template': lambda world, number: cloned(world, number, 'template'),
    'clone-snapshot': lambda world, number: cloned(world, number, 'snapshot'),
    'clone-top': lambda world, number: cloned(world, number, 'top'),
    'clone-full': lambda world, number: cloned(world, number, 'full'),
    'write-clone': lambda world, number: write(world, number, 'new'),
    'snapshot-clone': lambda world, number: snapshot(world, number, 'new'),
    'settle-clone': lambda world, number: settled(world, number, 'new'),
    'rm-clone': lambda world, number: removed(world, number, 'new'),
    'rm-web': lambda world, number: removed(world, number, 'web'),
    'rm-template': lambda world, number: removed(world, number, TEMPLATE),
    'carry': carried_away,
}

shapes: dict[str, Operation] = {
    'write': write,
    'snapshot': snapshot,
    'busy-snapshot': snapshot_amid_writes,
    'reflink': snapshot_reflinked,
    'restore': restore_oldest,
    'restore-reflink': lambda world, number: restore_oldest(world, number, direct=True),
    'rm-oldest': core['rm-oldest'],
    'rest': rest,
    'settle': settled,
    'grow': grown,
    'rename': renamed,
    'export': exported,
}

failures: dict[str, Operation] = {
    'write': write,
    'snapshot': snapshot,
    'settle-down': core['settle-down'],
    'clone-top': clones['clone-top'],
    'rename-fails': lambda world, number: snapshot_fails(world, number, 'rename'),
    'sync-fails': lambda world, number: snapshot_fails(world, number, 'directory'),
    'rename-fails-at-rest': lambda world, number: snapshot_fails(world, number, 'rename', rests=True),
    'sync-fails-at-rest': lambda world, number: snapshot_fails(world, number, 'directory', rests=True),
    'seal-is-lost': lambda world, number: snapshot_fails(world, number, 'seal-lost', rests=True),
    'seal-is-kept': lambda world, number: snapshot_fails(world, number, 'seal-kept', rests=True),
    'restore-fails': lambda world, number: restore_fails(world, number, 'directory'),
    'restored-seal-is-lost': lambda world, number: restore_fails(world, number, 'seal-lost'),
}

copies: dict[str, Operation] = {
    'write': write,
    'snapshot': snapshot,
    'rm-oldest': core['rm-oldest'],
    'settle': settled,
    'rest': rest,
    'drop-top': lambda world, number: dropped_in(world, number, 'top'),
    'drop-snapshot': lambda world, number: dropped_in(world, number, 'snapshot'),
    'write-copy': lambda world, number: write(world, number, 'copy'),
    'snapshot-copy': lambda world, number: snapshot(world, number, 'copy'),
    'settle-copy': lambda world, number: settled(world, number, 'copy'),
    'clone-copy': lambda world, number: cloned(world, number, 'copy'),
    'write-clone': lambda world, number: write(world, number, 'new'),
}
