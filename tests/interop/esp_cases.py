# SPDX-License-Identifier: BSD-2-Clause
"""What the ESP interoperability scripts share: the suites, the framings, and the esp_tool process."""
import hashlib
import os
import subprocess
import sys
from typing import NamedTuple

SKIPPED = 77


def material(label, size):
    """Reproducible bytes for keys and payloads."""
    return hashlib.shake_128(label.encode()).digest(size)


class Suite(NamedTuple):
    cipher: str        # our name
    key: bytes         # with the salt
    auth: str          # our name, or "-"
    auth_key: bytes

    @property
    def aead(self):
        return self.cipher == "aes-gcm-16"

    @property
    def protected(self):
        return self.aead or self.auth != "-"

    def __str__(self):
        return f"{self.cipher}/{len(self.key) * 8} {self.auth}"


AUTH_KEY_SIZES = {"-": 0, "hmac-sha1": 20, "hmac-sha256": 32}


def suites():
    for cipher, sizes in (("null", (0,)), ("aes-cbc", (16, 24, 32))):
        for size in sizes:
            for auth, auth_size in AUTH_KEY_SIZES.items():
                yield Suite(cipher, material(cipher, size), auth, material(auth, auth_size))
    for size in (16, 24, 32):
        yield Suite("aes-gcm-16", material("gcm", size + 4), "-", b"")


def to_hex(data):
    return data.hex() or "-"


def from_hex(text):
    return b"" if text == "-" else bytes.fromhex(text)


class Refused(Exception):
    pass


class Tool:
    """One esp_tool process; see esp_tool.cpp for its requests."""

    def __init__(self):
        path = os.path.join(os.environ.get("LATCHKEY_BUILD", "build"), "bin", "esp_tool")
        if not os.access(path, os.X_OK):
            sys.exit(f"{path}: not there; set LATCHKEY_BUILD to the build folder")
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, verb, suite, spi, number, extended, *rest):
        fields = [verb, suite.cipher, to_hex(suite.key), suite.auth, to_hex(suite.auth_key), f"{spi:x}", f"{number:x}",
                  "extended" if extended else "plain", *map(str, rest)]
        print(*fields, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if answer[0] == "drop":
            raise Refused(answer[1])
        if answer[0] == "bad":
            raise ValueError(" ".join(fields))
        return answer

    def seal(self, suite, spi, sequence, next_header, payload, iv=b"", extended=False):
        return from_hex(self.ask("seal", suite, spi, sequence, extended, next_header, to_hex(iv), to_hex(payload))[0])

    def open(self, suite, spi, highest, packet, extended=False):
        next_header, payload = self.ask("open", suite, spi, highest, extended, to_hex(packet))
        return int(next_header), from_hex(payload)
