"""Runs a command in a terminal of its own: own_terminal.py COLUMNS ROWS COMMAND...

What is written to the standard input are keys. The standard output has a line of JSON for whatever happens:
{"pid"}, {"out"} (text that the command wrote), {"mode"} (raw or cooked, when it changes), {"exit"}.
"""
import codecs
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios

LOCAL_FLAGS = 3


def tell(**what):
    print(json.dumps(what), flush=True)


def main():
    columns, rows, *command = sys.argv[1:]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))

    def own_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_terminal)
    tell(pid=child.pid)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    mode = None
    inputs = [master, sys.stdin.fileno()]
    while True:
        is_over = child.poll() is not None
        flags = termios.tcgetattr(slave)[LOCAL_FLAGS]
        seen = "cooked" if flags & termios.ICANON and flags & termios.ECHO else "raw"
        if seen != mode:
            mode = seen
            tell(mode=mode)
        ready = select.select(inputs, [], [], 0 if is_over else 0.05)[0]
        if master in ready:
            tell(out=decoder.decode(os.read(master, 65536)))
        elif is_over:
            break
        if sys.stdin.fileno() in ready:
            keys = os.read(sys.stdin.fileno(), 1024)
            if keys:
                os.write(master, keys)
            else:
                # Whoever started this is gone.
                inputs.remove(sys.stdin.fileno())
                child.kill()
    tell(exit=child.returncode, mode=mode)


main()
