#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tshark decrypts a capture of packets that we sealed: every suite, IPv4 and IPv6, transport and tunnel mode."""
import ipaddress
import shutil
import struct
import subprocess
import sys
import tempfile

from esp_cases import SKIPPED, Tool, material, suites

ENCRYPTION = {"null": "NULL", "aes-cbc": "AES-CBC [RFC3602]", "aes-gcm-16": "AES-GCM with 16 octet ICV [RFC4106]"}
AUTHENTICATION = {"-": "NULL", "hmac-sha1": "HMAC-SHA-1-96 [RFC2404]", "hmac-sha256": "HMAC-SHA-256-128 [RFC4868]"}
FIRST_SPI = 0x1000
SIZES = (1, 2, 13, 14, 15, 16, 100, 1300)
FAMILIES = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
UDP, ESP, INNER = 17, 50, {4: 4, 6: 41}


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
                    text = material(f"{spi} {sequence}", size)
                    inner = udp(version, text)
                    next_header = UDP
                    if tunnel:
                        inner, next_header = ip(version, UDP, inner), INNER[version]
                    sealed = tool.seal(suite, spi, sequence, next_header, inner)
                    yield spi, sequence, suite.protected, text, ip(tunnel or version, ESP, sealed)


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


def dissect(path):
    command = ["tshark", "-n", "-r", path, "-o", "esp.enable_encryption_decode:TRUE",
               "-o", "esp.enable_authentication_check:TRUE", "-o", "udp.check_checksum:TRUE"]
    for association in associations():
        command += ["-o", association]
    command += ["-T", "fields", "-E", "separator=;"]
    for field in ("esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "udp.payload", "udp.checksum.status"):
        command += ["-e", field]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split(";") for line in output.splitlines()]


def main():
    if not shutil.which("tshark"):
        print("skipped: no tshark")
        return SKIPPED
    sent = list(packets(Tool()))
    broken = [(spi, sequence, protected, None, wire[:-1] + bytes([wire[-1] ^ 1]))
              for spi, sequence, protected, _, wire in sent if protected and sequence == 1]
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        write_capture(file, [wire for *_, wire in sent + broken])
        seen = dissect(file.name)
    if len(seen) != len(sent) + len(broken):
        print(f"FAILED: {len(sent) + len(broken)} packets written, {len(seen)} read")
        return 1
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
            print(f"FAILED: SPI 0x{spi:x}, number {sequence}: expected {expected}, tshark says {got}")
            return 1
    print(f"tshark decrypted {len(sent)} packets and refused {len(broken)} broken ones")
    return 0


if __name__ == "__main__":
    sys.exit(main())
