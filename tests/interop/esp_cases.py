# SPDX-License-Identifier: BSD-2-Clause
"""What the interoperability scripts for ESP, AH and IPComp share: the suites, the signatures in Python, and the
esp_tool process."""
import hashlib
import hmac
import os
import subprocess
import sys
from typing import NamedTuple

SKIPPED = 77


def material(label, size):
    """Reproducible bytes for keys and payloads."""
    return hashlib.shake_128(label.encode()).digest(size)


class Suite(NamedTuple):
    cipher: str        # our name, "-" for AH
    key: bytes         # with the salt
    auth: str          # our name, or "-"
    auth_key: bytes

    @property
    def aead(self):
        return self.cipher in AEADS

    @property
    def icv(self):
        return AEADS[self.cipher] if self.aead else AUTHS[self.auth].icv

    @property
    def protected(self):
        return self.icv != 0

    @property
    def iv(self):
        """Bytes of IV, and whether it is the sequence number."""
        if self.aead or self.cipher == "aes-ctr":
            return 8, True
        return {"null": 0, "aes-cbc": 16, "camellia-cbc": 16}.get(self.cipher, 8), False

    def __str__(self):
        return f"{self.cipher}/{len(self.key) * 8} {self.auth}"


# Key sizes in bytes, salt included.
CIPHERS = {
    "null": (0,),
    "des-cbc": (8,), "3des-cbc": (24,), "cast128-cbc": (5, 10, 16), "blowfish-cbc": (5, 16, 56),
    "aes-cbc": (16, 24, 32), "camellia-cbc": (16, 24, 32), "aes-ctr": (20, 28, 36),
    "aes-gcm-8": (20,), "aes-gcm-12": (28,), "aes-gcm-16": (20, 28, 36),
    "aes-ccm-8": (19,), "aes-ccm-12": (27,), "aes-ccm-16": (19, 27, 35),
    "aes-gmac": (20, 28, 36), "chacha20-poly1305": (36,),
}
AEADS = {"aes-gcm-8": 8, "aes-gcm-12": 12, "aes-gcm-16": 16, "aes-ccm-8": 8, "aes-ccm-12": 12, "aes-ccm-16": 16,
         "aes-gmac": 16, "chacha20-poly1305": 16}


# ---- signatures -----------------------------------------------------------------------------------------------------

def hmac_with(digest):
    return lambda key, data: hmac.new(key, data, digest).digest()


def keyed_with(digest, order):
    """RFC 1828, RFC 1852: the key is padded as the digest pads, then data and key again."""
    def compute(key, data):
        fill = b"\x80" + bytes(64 - len(key) - 9) + (8 * len(key)).to_bytes(8, order)
        return hashlib.new(digest, key + fill + data + key).digest()
    return compute


def xcbc(key, data):
    """RFC 3566, on the AES of python3-cryptography."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    def aes(with_key, block):
        return Cipher(algorithms.AES(with_key), modes.ECB()).encryptor().update(block)

    def xor(a, b):
        return bytes(x ^ y for x, y in zip(a, b))
    chain_key, full, padded = (aes(key, bytes([n]) * 16) for n in (1, 2, 3))
    blocks = [data[i:i + 16] for i in range(0, len(data), 16)] or [b""]
    state = bytes(16)
    for block in blocks[:-1]:
        state = aes(chain_key, xor(state, block))
    last = blocks[-1]
    mask, last = (full, last) if len(last) == 16 else (padded, (last + b"\x80").ljust(16, b"\0"))
    return aes(chain_key, xor(xor(state, last), mask))


class Auth(NamedTuple):
    key: int
    icv: int
    compute: object = None


AUTHS = {
    "-": Auth(0, 0),
    "hmac-md5": Auth(16, 12, hmac_with("md5")),
    "hmac-sha1": Auth(20, 12, hmac_with("sha1")),
    "hmac-sha256": Auth(32, 16, hmac_with("sha256")),
    "hmac-sha384": Auth(48, 24, hmac_with("sha384")),
    "hmac-sha512": Auth(64, 32, hmac_with("sha512")),
    "hmac-ripemd160": Auth(20, 12, hmac_with("ripemd160")),
    "aes-xcbc-mac": Auth(16, 12, xcbc),
    "keyed-md5": Auth(16, 12, keyed_with("md5", "little")),
    "keyed-sha1": Auth(20, 12, keyed_with("sha1", "big")),
}


def sign(suite, data):
    return AUTHS[suite.auth].compute(suite.auth_key, data)[:suite.icv]


def suite_of(cipher, size, auth):
    return Suite(cipher, material(cipher, size), auth, material(auth, AUTHS[auth].key))


def suites():
    """Every cipher with every key size, alone and with an ICV; every ICV with the null cipher and with AES-CBC."""
    for cipher, sizes in CIPHERS.items():
        for size in sizes:
            yield suite_of(cipher, size, "-")
            if cipher not in AEADS and cipher not in ("null", "aes-cbc"):
                yield suite_of(cipher, size, "hmac-sha256")
    for auth in AUTHS:
        if auth != "-":
            yield suite_of("null", 0, auth)
            yield suite_of("aes-cbc", 16, auth)


def ah_suites():
    for auth in AUTHS:
        if auth != "-":
            yield suite_of("-", 0, auth)


# ---- the process ----------------------------------------------------------------------------------------------------

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

    def say(self, *fields):
        print(*fields, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if answer[0] == "drop":
            raise Refused(answer[1])
        if answer[0] == "bad":
            raise ValueError(" ".join(map(str, fields)))
        return answer

    def ask(self, verb, suite, spi, number, extended, *rest):
        return self.say(verb, suite.cipher, to_hex(suite.key), suite.auth, to_hex(suite.auth_key), f"{spi:x}",
                        f"{number:x}", "extended" if extended else "plain", *rest)

    def seal(self, suite, spi, sequence, next_header, payload, iv=b"", extended=False):
        return from_hex(self.ask("seal", suite, spi, sequence, extended, next_header, to_hex(iv), to_hex(payload))[0])

    def open(self, suite, spi, highest, packet, extended=False):
        next_header, payload = self.ask("open", suite, spi, highest, extended, to_hex(packet))
        return int(next_header), from_hex(payload)

    def seal_ah(self, suite, spi, sequence, next_header, headers, payload, extended=False):
        """The whole datagram; the headers are as they go out, with the lengths they will need."""
        return from_hex(self.ask("ah-seal", suite, spi, sequence, extended, next_header, to_hex(headers),
                                 to_hex(payload))[0])

    def open_ah(self, suite, spi, highest, at, datagram, extended=False):
        next_header, size = self.ask("ah-open", suite, spi, highest, extended, at, to_hex(datagram))
        return int(next_header), int(size)

    def compress(self, payload):
        return from_hex(self.say("compress", to_hex(payload))[0])

    def decompress(self, stream):
        return from_hex(self.say("decompress", to_hex(stream))[0])
