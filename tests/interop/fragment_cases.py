# SPDX-License-Identifier: BSD-2-Clause
"""What the fragment scripts share: the fragment_tool process, and payloads."""
import os
import random
import subprocess
import sys

SKIPPED = 77


def material(size, seed=1):
    """Reproducible bytes that differ from place to place."""
    return random.Random(seed).randbytes(size)


class Tool:
    """One fragment_tool process; see fragment_tool.cpp for its requests."""

    def __init__(self):
        path = os.path.join(os.environ.get("LATCHKEY_BUILD", "build"), "bin", "fragment_tool")
        if not os.access(path, os.X_OK):
            sys.exit(f"{path}: not there; set LATCHKEY_BUILD to the build folder")
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *fields):
        print(*fields, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline().rstrip("\n")
        if not line or line == "bad request":
            raise AssertionError(f"fragment_tool answered {line!r} to {fields[0]}")
        return line

    def parse(self, packet):
        return self.ask("parse", bytes(packet).hex()).split()

    def cut(self, packet, mtu, identification=0x01020304):
        line = self.ask("cut", mtu, identification, bytes(packet).hex())
        if line.startswith("drop "):
            raise AssertionError(line)
        return [bytes.fromhex(piece) for piece in line.split()]

    def join(self, packets, provenance=0):
        """The answers; a complete datagram as bytes."""
        answers = [self.ask("join", provenance, bytes(packet).hex()) for packet in packets]
        return [bytes.fromhex(a) if a != "kept" and not a.startswith("drop ") else a for a in answers]

    def joined(self, packets):
        """The datagram that all of them make, and not fewer."""
        answers = self.join(packets)
        if any(a != "kept" for a in answers[:-1]) or not isinstance(answers[-1], bytes):
            raise AssertionError(f"not complete with the last of {len(answers)} fragments: {answers[-1]}")
        return answers[-1]

    def forget(self):
        self.ask("forget")


def expect_equal(what, got, wanted):
    if got != wanted:
        head = 120
        raise AssertionError(f"{what}: {len(got)} bytes {got[:head].hex()}... instead of {len(wanted)} bytes "
                             f"{wanted[:head].hex()}...")
