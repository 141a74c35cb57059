"""Plays the terminal and the shell for test/terminal.ts: runs a program as the foreground job of a new pseudo-terminal.

Usage: terminal.py ROWS COLUMNS PROGRAM [ARGUMENT...]. Standard input is what is typed, standard output what is shown.
Descriptor 3 tells the terminal's device, waits for a line, tells the program's pid, and once it has ended its exit code.
The terminal stays, to be looked at, until standard input ends.
"""
import fcntl
import os
import select
import signal
import struct
import sys
import termios

rows, columns, *command = sys.argv[1:]
control = os.fdopen(3, "r+b", buffering=0)
master, device = os.openpty()
os.setsid()
fcntl.ioctl(device, termios.TIOCSCTTY, 0)
fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))
control.write(f"{os.ttyname(device)}\n".encode())
control.readline()

signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(device, os.getpid())
    # What Python and we ignore, the program shall not.
    for ignored in signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ:
        signal.signal(ignored, signal.SIG_DFL)
    for stream in 0, 1, 2:
        os.dup2(device, stream)
    os.closerange(3, 64)
    os.execvp(command[0], command)
control.write(f"{child}\n".encode())

ended = os.pidfd_open(child)
watched = {0, master, ended}
while True:
    ready = select.select(watched, [], [])[0]
    if master in ready:
        os.write(1, os.read(master, 65536))
    if 0 in ready:
        typed = os.read(0, 65536)
        if not typed:
            break
        while typed:
            typed = typed[os.write(master, typed) :]
    if ended in ready:
        watched.discard(ended)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        control.write(f"{code if code >= 0 else 128 - code}\n".encode())
