"""Discards and zeroes stretches of block devices: a line `discard|zero PATH OFFSET LENGTH` each, answered by a line."""
import fcntl, os, struct, sys

REQUESTS = {"discard": 0x1277, "zero": 0x127F}  # BLKDISCARD, BLKZEROOUT

for line in sys.stdin:
    what, path, offset, length = line.split()
    device = os.open(path, os.O_RDWR)
    try:
        fcntl.ioctl(device, REQUESTS[what], struct.pack("QQ", int(offset), int(length)))
        print("ok", flush=True)
    except OSError as error:
        print(error, flush=True)
    finally:
        os.close(device)
