#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ESP against scapy: it opens what we seal and we open what it seals, for every suite, in transport and tunnel mode,
IPv4 and IPv6 in each other. With --record FILE: writes scapy's packets for tests/stack/esp_test.cpp instead."""
import sys

from esp_cases import SKIPPED, Refused, Suite, Tool, material, sign, suites, to_hex

try:
    from scapy_algorithms import AUTHS, CIPHERS
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation
    from scapy.packet import Raw
except ImportError as error:
    print(f"skipped: {error} (Debian: python3-scapy, python3-cryptography)")
    sys.exit(SKIPPED)

SPI = 0xC0FFEE01
SIZES = (0, 1, 2, 3, 5, 6, 13, 14, 22, 30, 31, 64, 200, 999, 1372)
FEWER_SIZES = (0, 13, 30, 1372)   # once every size was seen in one framing


def inner4(): return IP(src="10.1.0.1", dst="10.2.0.2")
def inner6(): return IPv6(src="fd01::1", dst="fd02::2")
def outer4(): return IP(src="192.0.2.1", dst="192.0.2.2")
def outer6(): return IPv6(src="2001:db8::1", dst="2001:db8::2")


# name: the packet's own header, the tunnel's header or None
FRAMINGS = {
    "transport, IPv4": (inner4, None),
    "transport, IPv6": (inner6, None),
    "tunnel, IPv4 in IPv4": (inner4, outer4),
    "tunnel, IPv6 in IPv6": (inner6, outer6),
    "tunnel, IPv4 in IPv6": (inner4, outer6),
    "tunnel, IPv6 in IPv4": (inner6, outer4),
}


def association(suite, tunnel=None, **more):
    return SecurityAssociation(ESP, spi=SPI, crypt_algo=CIPHERS[suite.cipher], crypt_key=suite.key or None,
                               crypt_icv_size=suite.icv if suite.cipher.startswith("aes-ccm") else None,
                               auth_algo=AUTHS[suite.auth], auth_key=suite.auth_key or None,
                               tunnel_header=tunnel() if tunnel else None, **more)


def header_class(packet):
    return IP if packet[0] >> 4 == 4 else IPv6


def ours_to_scapy(tool, suite, plain, tunnel, sequence):
    """Frames our ESP bytes by hand, has scapy take them apart, expects the packet back."""
    header = plain.copy()
    header.remove_payload()
    if tunnel:
        payload, next_header, outer = bytes(plain), 4 if plain.version == 4 else 41, tunnel()
    else:
        payload, next_header, outer = bytes(plain.payload), 17, header
    sealed = tool.seal(suite, SPI, sequence, next_header, payload)
    if outer.version == 4:
        outer.proto = 50
        del outer.len, outer.chksum   # scapy fills them in
    else:
        outer.nh = 50
        del outer.plen
    wire = bytes(outer / Raw(sealed))
    opened = association(suite, tunnel).decrypt(header_class(wire)(wire))
    if bytes(opened) != bytes(plain):
        raise AssertionError(f"scapy read {bytes(opened).hex()} instead of {bytes(plain).hex()}")
    if suite.protected:
        refused_by_scapy(suite, tunnel, wire)


def refused_by_scapy(suite, tunnel, wire):
    broken = wire[:-1] + bytes([wire[-1] ^ 1])
    try:
        association(suite, tunnel).decrypt(header_class(broken)(broken))
    except IPSecIntegrityError:
        return
    raise AssertionError("scapy took a packet with a broken ICV: this comparison proves nothing")


def scapy_to_ours(tool, suite, plain, tunnel, sequence):
    sealed = bytes(association(suite, tunnel).encrypt(plain.copy(), seq_num=sequence)[ESP])
    expected = (4 if plain.version == 4 else 41, bytes(plain)) if tunnel else (17, bytes(plain.payload))
    opened = tool.open(suite, SPI, sequence - 1, sealed)
    if opened != expected:
        raise AssertionError(f"we read {opened} instead of {expected}")
    if suite.protected:
        try:
            tool.open(suite, SPI, sequence - 1, sealed[:-1] + bytes([sealed[-1] ^ 1]))
        except Refused as refusal:
            assert str(refusal) == "in_integrity", refusal
        else:
            raise AssertionError("we took a packet with a broken ICV")


def compare():
    tool = Tool()
    checks = 0
    for suite in suites():
        for framing, (header, tunnel) in FRAMINGS.items():
            sizes = SIZES if framing == "transport, IPv4" else FEWER_SIZES
            for sequence, size in enumerate(sizes, start=0x7FFFFFFE):   # crosses the sign bit
                plain = header() / UDP(sport=4000, dport=5000) / Raw(material(framing, size))
                plain = plain.__class__(bytes(plain))
                try:
                    ours_to_scapy(tool, suite, plain, tunnel, sequence)
                    scapy_to_ours(tool, suite, plain, tunnel, sequence)
                except Exception as error:
                    print(f"FAILED: {suite}, {framing}, {size} bytes: {error!r}")
                    return 1
                checks += 2
    print(f"{checks} packets, each way half of them, agree with scapy")
    return 0


# ---- recording -------------------------------------------------------------------------------------------------------

def scapy_packet(suite, sequence, extended, iv, payload):
    """scapy's ESP bytes around a payload of protocol 253 (RFC 3692, for experiments)."""
    plain = IP(src="192.0.2.1", dst="192.0.2.2", proto=253) / Raw(payload)
    high, low = sequence >> 32, sequence & 0xFFFFFFFF
    if not extended:
        return bytes(association(suite).encrypt(plain, seq_num=low, iv=iv)[ESP])
    if suite.aead:
        return bytes(association(suite, esn_en=True, esn=high).encrypt(plain, seq_num=low, iv=iv)[ESP])
    # scapy knows extended numbers with AEAD only: sign its unsigned packet (RFC 4303, 2.2.1: the high half comes last).
    unsigned = bytes(association(Suite(suite.cipher, suite.key, "-", b"")).encrypt(plain, seq_num=low, iv=iv)[ESP])
    return unsigned + sign(suite, unsigned + high.to_bytes(4, "big"))


def record(path):
    with open(path, "w", encoding="ascii") as file:
        print("# ESP packets made by scapy; written by tests/interop/esp_scapy.py --record", file=file)
        print("# cipher key auth key spi sequence kind next-header iv payload packet", file=file)
        for suite in suites():
            numbers = [(n, False, size) for n, size in enumerate((0, 1, 2, 13, 14, 15, 16, 30, 64, 100), start=1)]
            numbers.append((0xFFFFFFFF, False, 40))
            if suite.protected:
                numbers += [(7, True, 40), (0x0123456780000001, True, 41)]
            for sequence, extended, size in numbers:
                length, counted = suite.iv
                iv = sequence.to_bytes(8, "big") if counted else material(f"iv {sequence}", length)
                payload = material(f"payload {size}", size)
                packet = scapy_packet(suite, sequence, extended, iv, payload)
                print(suite.cipher, to_hex(suite.key), suite.auth, to_hex(suite.auth_key), f"{SPI:x}", f"{sequence:x}",
                      "extended" if extended else "plain", 253, to_hex(iv), to_hex(payload), packet.hex(), sep="\t",
                      file=file)
    return 0


if __name__ == "__main__":
    sys.exit(record(sys.argv[2]) if sys.argv[1:2] == ["--record"] else compare())
