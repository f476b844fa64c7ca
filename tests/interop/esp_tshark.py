#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tshark decrypts a capture of packets that we sealed: every suite that it knows, IPv4 and IPv6, transport and tunnel
mode. It also takes apart what we signed with AH and compressed with IPComp."""
import ipaddress
import shutil
import struct
import subprocess
import sys
import tempfile

from esp_cases import SKIPPED, Tool, ah_suites, material
from esp_cases import suites as all_suites

ENCRYPTION = {"null": "NULL", "aes-cbc": "AES-CBC [RFC3602]", "aes-ctr": "AES-CTR [RFC3686]",
              "des-cbc": "DES-CBC [RFC2405]", "3des-cbc": "TripleDES-CBC [RFC2451]",
              "cast128-cbc": "CAST5-CBC [RFC2144]", "blowfish-cbc": "BLOWFISH-CBC [RFC2451]",
              "aes-gcm-8": "AES-GCM with 8 octet ICV [RFC4106]", "aes-gcm-12": "AES-GCM with 12 octet ICV [RFC4106]",
              "aes-gcm-16": "AES-GCM with 16 octet ICV [RFC4106]"}
AUTHENTICATION = {"-": "NULL", "hmac-md5": "HMAC-MD5-96 [RFC2403]", "hmac-sha1": "HMAC-SHA-1-96 [RFC2404]",
                  "hmac-sha256": "HMAC-SHA-256-128 [RFC4868]", "hmac-sha384": "HMAC-SHA-384-192 [RFC4868]",
                  "hmac-sha512": "HMAC-SHA-512-256 [RFC4868]", "hmac-ripemd160": "MAC-RIPEMD-160-96 [RFC2857]"}
FIRST_SPI = 0x1000
SIZES = (1, 2, 13, 14, 15, 16, 100, 1300)
FAMILIES = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
UDP, ESP, AH, IPCOMP, INNER = 17, 50, 51, 108, {4: 4, 6: 41}


def suites():
    """Those that tshark knows; of CAST and Blowfish it takes 128-bit keys only."""
    for suite in all_suites():
        size_known = suite.cipher not in ("cast128-cbc", "blowfish-cbc") or len(suite.key) == 16
        if suite.cipher in ENCRYPTION and suite.auth in AUTHENTICATION and size_known:
            yield suite


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(version, protocol, payload):
    source, destination = (ipaddress.ip_address(a).packed for a in FAMILIES[version])
    if version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + destination + payload
    head = struct.pack("!BBHIBB", 0x45, 0, 20 + len(payload), 0, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + source + destination)) + source + destination + payload


def udp(version, payload):
    source, destination = (ipaddress.ip_address(a).packed for a in FAMILIES[version])
    length = 8 + len(payload)
    head = struct.pack("!HHH", 40000, 40001, length)
    pseudo = source + destination + struct.pack("!II", length, UDP)
    return head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + payload) or 0xFFFF) + payload


def packets(tool):
    """Yields (SPI, sequence, protected, UDP payload, packet on the wire)."""
    for spi, suite in enumerate(suites(), start=FIRST_SPI):
        sequence = 0
        for version in FAMILIES:
            for tunnel in (None, *FAMILIES):
                for size in SIZES:
                    sequence += 1
                    text = b"\0" + material(f"{spi} {sequence}", size - 1)   # not to be taken for RTP
                    inner = udp(version, text)
                    next_header = UDP
                    if tunnel:
                        inner, next_header = ip(version, UDP, inner), INNER[version]
                    sealed = tool.seal(suite, spi, sequence, next_header, inner)
                    yield spi, sequence, suite.protected, text, ip(tunnel or version, ESP, sealed)


def ah_packets(tool):
    """Yields (headers that tshark has to show, UDP payload, packet on the wire) of what AH signed."""
    for number, suite in enumerate(ah_suites(), start=1):
        for version in FAMILIES:
            text = b"\0" + material(f"ah {number}", 60)
            payload = udp(version, text)
            unit = 4 if version == 4 else 8
            size = (12 + suite.icv + unit - 1) // unit * unit
            headers = ip(version, AH, bytes(size) + payload)[:20 if version == 4 else 40]
            sent = tool.seal_ah(suite, number, number, UDP, headers, payload)
            yield [f"0x{number:08x}", str(number), str(size // 4 - 2)], text, sent


def ipcomp_packets(tool):
    """Likewise of what IPComp compressed."""
    for version in FAMILIES:
        for size in (100, 1000, 1400):
            text = b"\0" + (b"the quick brown fox jumps over the lazy dog " * 40)[:size - 1]
            stream = tool.compress(udp(version, text))
            assert 0 < len(stream) < len(text) - 4, "not compressed"
            yield ["0x0002"], text, ip(version, IPCOMP, struct.pack("!BBH", UDP, 0, 2) + stream)


def write_capture(file, frames):
    raw_ip = 101
    file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, raw_ip))
    for number, frame in enumerate(frames):
        file.write(struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame)
    file.flush()


def associations():
    """The security associations in tshark's words."""
    for spi, suite in enumerate(suites(), start=FIRST_SPI):
        keys = [f"0x{key.hex()}" if key else "" for key in (suite.key, suite.auth_key)]
        for family in FAMILIES:
            fields = [f"IPv{family}", "*", "*", f"0x{spi:08x}", ENCRYPTION[suite.cipher], keys[0],
                      AUTHENTICATION[suite.auth], keys[1]]
            yield "uat:esp_sa:" + ",".join(f'"{field}"' for field in fields)


def dissect(frames, fields, options=()):
    """What tshark says of each frame, field by field."""
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        write_capture(file, frames)
        command = ["tshark", "-n", "-r", file.name, "-o", "udp.check_checksum:TRUE"]
        for option in options:
            command += ["-o", option]
        command += ["-T", "fields", "-E", "separator=;"]
        for field in fields:
            command += ["-e", field]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line.split(";") for line in output.splitlines()]
    if len(lines) != len(frames):
        sys.exit(f"FAILED: {len(frames)} packets written, {len(lines)} read")
    return lines


def check_esp(tool):
    sent = list(packets(tool))
    broken = [(spi, sequence, protected, None, wire[:-1] + bytes([wire[-1] ^ 1]))
              for spi, sequence, protected, _, wire in sent if protected and sequence == 1]
    seen = dissect([wire for *_, wire in sent + broken],
                   ("esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "udp.payload", "udp.checksum.status"),
                   ["esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE", *associations()])
    for (spi, sequence, protected, text, _), fields in zip(sent + broken, seen):
        got_spi, got_sequence, good, bad, payload, udp_ok = fields
        expected = [f"0x{spi:08x}", str(sequence)]
        got = [got_spi, got_sequence]
        if text is not None:
            expected += [text.hex(), "1", "1" if protected else good]
            got += [payload, udp_ok, good]
        else:
            expected.append("1")
            got.append(bad)
        if got != expected:
            sys.exit(f"FAILED: SPI 0x{spi:x}, number {sequence}: expected {expected}, tshark says {got}")
    print(f"tshark decrypted {len(sent)} packets and refused {len(broken)} broken ones")


def check_others(what, sent, fields):
    seen = dissect([wire for *_, wire in sent], (*fields, "udp.payload", "udp.checksum.status"))
    for (headers, text, _), got in zip(sent, seen):
        expected = [*headers, text.hex(), "1"]
        if got != expected:
            sys.exit(f"FAILED: {what}: expected {expected}, tshark says {got}")
    print(f"tshark took apart {len(sent)} packets with {what}")


def main():
    if not shutil.which("tshark"):
        print("skipped: no tshark")
        return SKIPPED
    tool = Tool()
    check_esp(tool)
    check_others("AH", list(ah_packets(tool)), ("ah.spi", "ah.sequence", "ah.length"))
    check_others("IPComp", list(ipcomp_packets(tool)), ("ipcomp.cpi",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
