"""Counts the changes of a mount table (proc(5): poll says POLLPRI). Each line on standard input is answered with the count."""

import select
import sys

mounts = open(sys.argv[1])
watch = select.poll()
watch.register(mounts, select.POLLPRI)
watch.register(sys.stdin, select.POLLIN)
changes = 0


def see_changes(timeout):
    global changes
    events = dict(watch.poll(timeout))
    if mounts.fileno() in events:
        changes += 1
    return sys.stdin.fileno() in events


print("ready", flush=True)
while True:
    if see_changes(None):
        see_changes(0)
        if not sys.stdin.readline():
            break
        print(changes, flush=True)
