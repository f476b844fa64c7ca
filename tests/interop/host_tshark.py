#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tshark reads the capture that latchkeyd writes of what two hosts said to each other through ESP: with the keys it
sees every ping and datagram, with good check values; without them nothing."""
import subprocess
import sys

from peers import IN_SPI, OUT_SPI, SUITES, Ends, expect, main, material, need_programs, setkey_script, wait_until

ENCRYPTION = {"null": "NULL", "aes-cbc": "AES-CBC [RFC3602]", "aes-gcm-16": "AES-GCM with 16 octet ICV [RFC4106]"}
AUTHENTICATION = {"": "NULL", "hmac-sha1": "HMAC-SHA-1-96 [RFC2404]", "hmac-sha256": "HMAC-SHA-256-128 [RFC4868]"}
ENDS = (
    Ends("transport, IPv4", "10.7.0.1", "10.7.0.2"),
    Ends("transport, IPv6", "fd07::1", "fd07::2"),
    Ends("tunnel, IPv4 in IPv6", "10.7.0.1", "10.7.0.2", "fd07::1", "fd07::2"),
    Ends("tunnel, IPv6 in IPv4", "fd07::1", "fd07::2", "10.7.0.1", "10.7.0.2"),
)
UDP_ECHO = 7001
PINGS = 3
FIELDS = ("esp.spi", "esp.sequence", "esp.icv_good", "esp.icv_bad", "icmp.type", "icmpv6.type", "udp.payload")


def mirrored(script):
    """The peer's script: the same associations, policies the other way round."""
    return script.replace("-P out", "-P swap").replace("-P in", "-P out").replace("-P swap", "-P in")


def addresses(last):
    return "--address", f"10.7.0.{last}/24", "--address", f"fd07::{last}/64"


def associations(suite):
    for spi, label in ((OUT_SPI, "out"), (IN_SPI, "in")):
        key, auth_key = (f"0x{key.hex()}" if key else "" for key in suite.keys(label))
        for family in ("IPv4", "IPv6"):
            fields = [family, "*", "*", f"{spi:#010x}", ENCRYPTION[suite.cipher], key, AUTHENTICATION[suite.auth],
                      auth_key]
            yield "uat:esp_sa:" + ",".join(f'"{field}"' for field in fields)


def dissect(path, suite):
    command = ["tshark", "-n", "-r", path]
    if suite:
        command += ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
        for association in associations(suite):
            command += ["-o", association]
    command += ["-T", "fields", "-E", "separator=;"]
    for field in FIELDS:
        command += ["-e", field]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [dict(zip(FIELDS, line.split(";"))) for line in output.splitlines()]


def exchange(lab, name, suite, ends):
    """Two hosts on a segment; returns the capture, and the texts that went through UDP."""
    wire, capture = lab.path(name), lab.path(f"{name}.pcap")
    ours = lab.host(f"{name}-ours", "--wire", f"unix:{wire}", "--pcap", capture, *addresses(1))
    peer = lab.host(f"{name}-peer", "--wire", f"unix:{wire}", *addresses(2))
    script = setkey_script(suite, ends)
    ours.setkey(script)
    peer.setkey(mirrored(script))
    server = peer.start("udp_echo", "serve", str(UDP_ECHO), stderr=subprocess.DEVNULL)
    ours.ping(ends.peers, count=PINGS)
    texts = [material(f"{name} {size}", size).hex() for size in (1, 7, 500)]

    def serves():
        return ours.run("udp_echo", "send", ends.peers, str(UDP_ECHO), "there?").returncode == 0
    wait_until(serves, "udp_echo serves")
    for text in texts:
        done = ours.run("udp_echo", "send", ends.peers, str(UDP_ECHO), text)
        expect(done.returncode == 0 and done.stdout == text + "\n", f"{name}: UDP: {done.stdout!r}")
    ours.stop()
    server.kill()
    peer.stop()
    return capture, texts


def body(lab):
    for number, suite in enumerate(SUITES):
        for ends in ENDS:
            name = f"{suite.name}, {ends.name}"
            capture, texts = exchange(lab, f"lan{number}-{ENDS.index(ends)}", suite, ends)
            frames = [frame for frame in dissect(capture, suite) if frame["esp.spi"]]
            expect(frames, f"{name}: no ESP in the capture")
            bad = [frame for frame in frames if frame["esp.icv_good"] != "1" or frame["esp.icv_bad"] not in ("", "0")]
            expect(not bad, f"{name}: tshark finds wrong check values: {bad[:3]}")
            seen = [bytes.fromhex(frame["udp.payload"]).decode() for frame in frames if frame["udp.payload"]]
            for text in texts:
                times = seen.count(text)
                expect(times == 2, f"{name}: tshark saw {text[:20]} {times} times instead of there and back")
            request, reply = ("128", "129") if ":" in ends.ours else ("8", "0")
            kinds = [frame["icmpv6.type" if ":" in ends.ours else "icmp.type"] for frame in frames]
            expect((kinds.count(request), kinds.count(reply)) == (PINGS, PINGS), f"{name}: tshark saw pings {kinds}")
            for spi in (OUT_SPI, IN_SPI):
                numbers = [int(frame["esp.sequence"]) for frame in frames if int(frame["esp.spi"], 16) == spi]
                expect(numbers == list(range(1, len(numbers) + 1)), f"{name}: sequence numbers {numbers}")
            blind = dissect(capture, None)
            leaks = [frame for frame in blind if frame["udp.payload"] or frame["icmp.type"] or
                     frame["icmpv6.type"] in ("128", "129")]
            expect(not leaks or suite.cipher == "null", f"{name}: readable without keys: {leaks[:3]}")
            print(f"{name}: tshark read {len(frames)} ESP packets")


if __name__ == "__main__":
    need_programs(tshark="tshark")
    sys.exit(main(body))
