"""A host with its store, the servers that run, and what the protocol owes to whom."""

from collections.abc import Iterator
from typing import NamedTuple

from disk import Disk, Refused, Violation
from mutants import planted
from tree import chain_names, extension, files_of, is_nameless, snapshot_of, stem, top_of, view

Steps = Iterator[str]
"""An operation: each `yield` is a moment at which the power may go. At 'step' its command may be killed too; 'server' is the server's own work."""


class Server:
    """What serves a running container: its top, and the map bits of it that are not durable yet."""

    def __init__(self, top: int, fresh: frozenset[int] = frozenset(), late: frozenset[int] = frozenset()) -> None:
        self.top, self.fresh, self.late = top, fresh, late

    def clone(self) -> 'Server':
        return Server(self.top, self.fresh, self.late)


class Owed(NamedTuple):
    """What a container is owed: for each block the values that may be found, and its snapshots."""

    present: tuple[frozenset[int], ...] | None  # None: as the world's own record says
    snapshots: dict[str, tuple[int, ...]]


class Record:
    """What a container wrote: the last value of each block, and those that may be found after a cut."""

    def __init__(self, content: tuple[int, ...], snapshots: dict[str, tuple[int, ...]]) -> None:
        self.current = list(plain(content))
        self.allowed = [{value} for value in self.current]
        self.snapshots = dict(snapshots)

    def clone(self) -> 'Record':
        other = Record(tuple(self.current), self.snapshots)
        other.allowed = [set(some) for some in self.allowed]
        return other

    def grow(self) -> None:
        self.current.append(0)
        self.allowed.append({0})

    def owed(self) -> Owed:
        return Owed(None, self.snapshots)


def plain(content: tuple[int, ...]) -> tuple[int, ...]:
    """A disk's content, whatever its `read-only` feature says."""
    return tuple(abs(value) for value in content)


def exactly(content: tuple[int, ...]) -> tuple[frozenset[int], ...]:
    return tuple(frozenset({value}) for value in plain(content))


Outcome = dict[str, Owed]


class World:
    def __init__(self) -> None:
        self.disk = Disk()
        self.servers: dict[str, Server] = {}
        self.records: dict[str, Record] = {}
        self.outcomes: list[Outcome] = []  # while an operation runs: those of before and after
        self.away: Record | None = None  # of a clone whose files are elsewhere
        self.refusable: set[str] = set()  # containers of which a stranger touched what they need: exact or refused
        self.opened: set[int] = set()  # by strangers
        self.ours: set[int] = set()  # by a command that reads; its end closes them
        self.leased: set[int] = set()  # who opens one of them waits
        self.asked: set[int] = set()  # somebody waits for the end of this lease

    def clone(self, disk: Disk | None = None) -> 'World':
        other = World.__new__(World)
        other.disk = disk or self.disk.clone()
        other.servers = {name: server.clone() for name, server in self.servers.items()}
        other.records = {name: record.clone() for name, record in self.records.items()}
        other.outcomes = list(self.outcomes)
        other.away = self.away and self.away.clone()
        other.refusable, other.opened, other.ours = set(self.refusable), set(self.opened), set(self.ours)
        other.leased, other.asked = set(self.leased), set(self.asked)
        return other

    def after_cut(self, disk: Disk) -> 'World':
        other = self.clone(disk)
        other.servers, other.opened = {}, set()
        other.end_command()
        return other

    def end_command(self) -> None:
        """What the kernel closes with a command."""
        self.ours, self.leased, self.asked = set(), set(), set()

    # The guest's side

    def put(self, name: str, block: int, value: int | None = None) -> None:
        """The guest writes a block, or zeroes it: its data first, then its bit in memory."""
        server, record = self.servers[name], self.records[name]
        value = self.disk.draw() if value is None else value
        if not value and planted('zero-late'):
            server.late |= {block}
        else:
            self.disk.write(server.top, block, value)
        server.fresh |= {block}
        record.current[block] = value
        record.allowed[block].add(value)

    def flush(self, name: str, race: int | None = None) -> Steps:
        """Data durable, then map durable, then the answer. `race`: a block whose write ends after the data's sync."""
        server, disk, record = self.servers[name], self.disk, self.records[name]
        fresh, content = server.fresh, list(record.current)
        if planted('one-sync'):
            yield from self._write_bits(server, fresh)
        disk.sync(server.top)
        yield 'server'
        if race is not None:
            self.put(name, race)
            yield 'server'
        yield from self._write_bits(server, server.fresh if planted('live-map') else fresh)
        disk.sync(server.top)
        yield 'server'
        server.fresh -= fresh
        record.allowed = [{value, record.current[block]} for block, value in enumerate(content)]
        for block in server.late:
            disk.write(server.top, block, 0)
        server.late = frozenset()
        yield 'server'

    def _write_bits(self, server: Server, bits: frozenset[int]) -> Steps:
        if self.disk.manifest(server.top).kind == 'delta':
            for block in sorted(bits - self.disk.files[server.top].bits):
                self.disk.set_bit(server.top, block)
                yield 'server'

    def present(self, name: str, size: int | None = None) -> tuple[int, ...]:
        """The disk of a container, as its server or its next start sees it, as far as ext4 goes."""
        server = self.servers.get(name)
        top = server.top if server else top_of(self.disk, name)[1]
        if size is None and name in self.records:
            size = len(self.records[name].current)
        content = view(self.disk, top)[:size]
        fresh = server.fresh if server else frozenset()
        return tuple(self.disk.files[top].data[block] if block in fresh else value for block, value in enumerate(content))

    # Leases

    def lease(self, inode: int) -> bool:
        """A write lease: refused where somebody else has the file open. Our own readers and the server share one description with us."""
        if inode in self.opened | self.ours:
            return False
        self.leased.add(inode)
        return True

    def release(self, *inodes: int) -> None:
        self.leased -= set(inodes)

    def may_overwrite(self, inode: int) -> bool:
        """Whether nobody but us can see what is written into this file: no other link, no other reader. Under its name that promises nothing."""
        alone = self.disk.links(inode) == 1 or planted('hard-links')
        return alone and (planted('no-lease') or inode not in self.opened | self.ours | self.asked)

    # What is owed

    def judge(self) -> Outcome:
        """After a recover: one of the outcomes, whole; which it is."""
        said = []
        for outcome in self.outcomes or [self.as_recorded()]:
            try:
                self._judge_outcome(outcome)
                self._judge_files()
                return outcome
            except (Violation, Refused) as error:
                said.append(str(error))
        raise Violation(' | '.join(dict.fromkeys(said)))

    def adopt(self, outcome: Outcome) -> None:
        """An operation is done: from now on this is what is owed."""
        for name in set(self.records) - set(outcome):
            del self.records[name]
        for name, owed in outcome.items():
            if name not in self.records or owed.present is not None:
                self.records[name] = Record(tuple(next(iter(values)) for values in owed.present), owed.snapshots)
            self.records[name].snapshots = dict(owed.snapshots)

    def as_recorded(self) -> Outcome:
        return {name: record.owed() for name, record in self.records.items()}

    def _judge_outcome(self, outcome: Outcome) -> None:
        tops = {stem(name) for name, _ in chain_names(self.disk) if '@' not in name and '/' not in name}
        if tops != set(outcome):
            raise Violation(f'containers {sorted(tops)}, want {sorted(outcome)}')
        for name, owed in outcome.items():
            try:
                self._judge_container(name, owed)
            except Refused:
                if name not in self.refusable:
                    raise

    def _judge_container(self, name: str, owed: Owed) -> None:
        content = self.present(name, owed.present and len(owed.present))
        allowed = owed.present or self.records[name].allowed
        if any(abs(value) not in allowed[block] for block, value in enumerate(content)):
            raise Violation(f'{name} is {content}, want {[sorted(some) for some in allowed]}')
        if content[0] < 0 and name in self.servers:
            raise Violation(f'{name} runs on a read-only file system')
        found = {snapshot: inode for one, inode in files_of(self.disk, name) if (snapshot := snapshot_of(one))}
        if set(found) != set(owed.snapshots):
            raise Violation(f'snapshots of {name} are {sorted(found)}, want {sorted(owed.snapshots)}')
        for snapshot, inode in found.items():
            content = plain(view(self.disk, inode))
            if content != owed.snapshots[snapshot]:
                raise Violation(f'{name}@{snapshot} is {content}, want {owed.snapshots[snapshot]}')

    def _judge_files(self) -> None:
        """Nothing half-made; sealed images say so to stock tools; one content for each state."""
        contents: dict[str, tuple[int, ...]] = {}
        half_made = [name for name in self.disk.names if extension(name) == 'next']
        if half_made:
            raise Violation(f'half-made files: {half_made}')
        for name, inode in chain_names(self.disk):
            manifest = self.disk.manifest(inode)
            if manifest.kind == 'image' and manifest.sealed and not self.disk.files[inode].data[0] < 0:
                raise Violation(f'{name} is sealed and not read-only for stock tools')
            if manifest.formerly:
                raise Violation(f'{name} is still being renamed')
            if manifest.sealed is not None and manifest.state and not manifest.fold:
                try:
                    content = plain(view(self.disk, inode))
                except Refused:
                    continue
                if contents.setdefault(manifest.state, content) != content:
                    raise Violation(f'{name} is not the only content of its state')

    def judge_names(self) -> None:
        """At every moment, before any recover: a name that says `the whole` is that for stock tools, or is not there. What others read is not for them to write."""
        outcomes = self.outcomes or [self.as_recorded()]
        for name, inode in chain_names(self.disk):
            if self.disk.manifest(inode).kind == 'image' and self.disk.manifest(inode).fold and self.disk.files[inode].data[0] > 0:
                raise Violation(f'{name} can be mounted for writing')
            snapshot, container = snapshot_of(name), stem(name)
            if extension(name) != 'img' or is_nameless(name) or '/' in name:
                continue
            file = self.disk.files[inode]
            content = plain(file.data[: file.manifest.size])
            if snapshot:
                wanted = [outcome[container].snapshots.get(snapshot) for outcome in outcomes if container in outcome]
                true = content in wanted
            else:
                owed = [outcome[container].present or self.records[container].allowed for outcome in outcomes if container in outcome]
                true = any(all(value in found for value, found in zip(content, allowed)) for allowed in owed)
            if not true:
                raise Violation(f'{name} lies: {content}')
        for name, server in self.servers.items():
            record = self.records[name]
            if not planted('zero-late') and list(plain(self.present(name))) != record.current[: self.disk.manifest(server.top).size]:
                raise Violation(f'{name} reads {self.present(name)} while it runs, want {record.current}')


def done(steps: Steps) -> None:
    for _ in steps:
        pass
