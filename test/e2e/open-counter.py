"""Counts how often each file of a directory is opened (inotify(7)). The first line on standard input is answered with the counts, as JSON."""

import collections
import ctypes
import json
import os
import struct
import sys

IN_OPEN, IN_OTHERS, IN_Q_OVERFLOW = 0x20, 0x1 | 0x18, 0x4000
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
# With reads and closings, or several openings of one file in a row would be one event.
if watch < 0 or libc.inotify_add_watch(watch, os.fsencode(sys.argv[1]), IN_OPEN | IN_OTHERS) < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.readline()
opened = collections.Counter()
while True:
    try:
        events = os.read(watch, 1 << 16)
    except BlockingIOError:
        break
    at = 0
    while at < len(events):
        _, mask, _, length = struct.unpack_from("iIII", events, at)
        assert not mask & IN_Q_OVERFLOW
        if mask & IN_OPEN:
            opened[events[at + 16 : at + 16 + length].rstrip(b"\0").decode()] += 1
        at += 16 + length
print(json.dumps(opened), flush=True)
