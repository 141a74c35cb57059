"""The faults, each with the rule that it leaves out and a scenario that must find it."""

from scenarios import Scenario


def cuts(family: str, path: str, only: str) -> Scenario:
    return Scenario(family, path, 1, only)


def seen(family: str, path: str, only: str) -> Scenario:
    return Scenario(family, path, 1, only, strangers=True)


FAULTS: dict[str, tuple[str, Scenario]] = {
    # The live top
    'live-map': ('bits of writes that ended after the data was synced are written too', cuts('core', 'write write write snapshot', 'write')),
    'one-sync': ('data and map are made durable by one sync', cuts('core', 'write write write snapshot', 'write')),
    'zero-late': ('write-zeroes sets the bit and punches later', cuts('core', 'write snapshot write snapshot write', 'zero')),
    'switch-first': ('switch and thaw, rename afterwards', cuts('core', 'write', 'snapshot')),
    'directory-late': ('a new top takes writes before its name is durable', cuts('core', 'write', 'snapshot')),
    'name-first': ('a file has its name before its content is durable', cuts('core', 'write', 'snapshot')),
    'block0-left-out': ('a new top has no block 0 of its own', cuts('core', 'write snapshot', 'snapshot settle')),
    'back-order': ('a commit that failed is taken back in the order in which it was made', cuts('failures', 'write', 'sync-fails-at-rest')),
    'failed-believed': ('a manifest that could not be made durable is read all the same', cuts('failures', 'write seal-is-lost', 'clone-top')),
    'block0-stale': ('the block 0 of a new top is that from before the freeze', cuts('shapes', 'write', 'busy-snapshot')),
    # Recover
    'guess': ('recover takes a prepared top for the top', cuts('core', 'write', 'snapshot')),
    'trust-cache': ('what a killed command left unsynced is believed', cuts('core', 'write snapshot', 'settle')),
    'no-formerly': ('rename leaves no record', cuts('shapes', 'write snapshot', 'rename')),
    # States and links
    'old-state': ('the state of a top is not drawn anew when it is frozen', Scenario('copies', 'write drop-top write snapshot', 2, 'snapshot-copy clone-copy')),
    'unsealed-parents': ('a clone stands on a top that is not sealed', Scenario('clones', 'write clone-top carry', 2, 'write carry')),
    'write-image': ('a start writes into a file that others stand on', cuts('core', 'write snapshot', 'settle')),
    'write-source': ('a start in the middle of a fold writes to its source', cuts('core', 'write snapshot', 'settle')),
    'start-linked': ('a start writes into a sealed file that has other links', seen('core', 'write snapshot write', 'settle')),
    'rm-used': ('files are removed on which others stand', cuts('clones', 'write snapshot clone-snapshot', 'rm-web')),
    'stray-record': ('the record in a stray copy is believed', seen('removals', 'write snapshot write snapshot', 'rm-all')),
    # Evidence
    'no-evidence': ('evidence is not looked at', seen('clones', 'write snapshot', 'clone-snapshot')),
    'evidence-with-feature': ('evidence takes in the feature that the seal itself sets', seen('core', 'write', 'snapshot')),
    'present-unsealed': ('a settled image on which snapshots stand is not sealed', seen('core', 'write snapshot', 'settle-down')),
    # Merges
    'absorb-ram': ('a parent goes while its child has the blocks in memory only', cuts('core', 'write snapshot write snapshot write', 'rm-newest')),
    'unmarked-parent': ('an absorbed parent is punched while its state can still be asked for', seen('removals', 'write snapshot write snapshot snapshot write', 'rm-middle')),
    'no-marks': ('a file that a merge writes keeps its evidence', seen('removals', 'write snapshot write snapshot snapshot write', 'rm-middle')),
    'copy-believed': ('a copy of the file that a merge writes is taken for it', seen('removals', 'write snapshot write snapshot snapshot write', 'rm-middle')),
    'copy-elsewhere': ('a copy of a fold’s source that stands elsewhere is taken for it', seen('removals', 'write snapshot write snapshot snapshot write rm-middle', 'rm-oldest')),
    'mark-unleased': ('evidence is taken away while somebody reads the file', seen('removals', 'write snapshot write snapshot snapshot write', 'rm-middle')),
    'fold-early': ('fold goes on before what it copied out is durable', cuts('core', 'write snapshot write snapshot', 'settle')),
    'no-cursor': ('fold punches its source without a durable cursor', cuts('removals', 'write snapshot write snapshot write', 'rm-all')),
    'unlink-early': ('the source goes before the image says what it is', cuts('core', 'write snapshot', 'settle')),
    'fold-used': ('fold changes an image on which a clone stands', cuts('clones', 'write snapshot clone-snapshot rm-oldest write', 'settle')),
    'source-unsealed': ('the source of a fold is not sealed', seen('core', 'write snapshot write unsynced write', 'settle')),
    'fold-writable': ('the block 0 that a fold writes into the image lacks the feature read-only', cuts('core', 'write snapshot write snapshot', 'rm-oldest')),
    'hard-links': ('a file with another link is written over', seen('core', 'write snapshot write snapshot', 'rm-oldest settle')),
    'look-early': ('links and readers are looked for before the name is gone only', seen('core', 'write snapshot write snapshot', 'rm-oldest settle')),
    'no-lease': ('a file that somebody reads is written over', seen('core', 'write snapshot write snapshot', 'rm-oldest settle')),
    # Growth
    'fold-long': ('a fold leaves a shorter disk as long as the image was', cuts('shapes', 'snapshot grow settle restore', 'rm-oldest')),
    'grow-unowned': ('a delta does not own what is behind its parent’s end', cuts('shapes', 'snapshot grow settle restore', 'grow')),
    'keep-short': ('what is behind the new parent’s end is not copied out', cuts('shapes', 'snapshot grow settle restore', 'settle')),
    'grow-dirty': ('the old manifest of a grown image becomes part of the disk', cuts('shapes', 'write', 'grow')),
}
