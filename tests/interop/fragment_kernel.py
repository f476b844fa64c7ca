#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fragments against the kernel, over a TUN device in a network namespace of this script: the kernel delivers what we cut,
we put together what it cuts, and both cut at the same places."""
import fcntl
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import time

from fragment_cases import SKIPPED, Tool, expect_equal, material

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
IP_MTU_DISCOVER, IP_PMTUDISC_DONT = 10, 0
KERNEL = {4: "10.77.0.1", 6: "fd77::1"}
OURS = {4: "10.77.0.2", 6: "fd77::2"}
PORT = 7777
SIZES = (1453, 1473, 2000, 2953, 4000, 9001, 30000, 65000)
MTUS = {4: (68, 576, 1400, 1500), 6: (1280, 1400, 1500)}


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def enter_namespace():
    """Starts this script again in a network namespace of its own."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        skip("needs unshare (util-linux) and ip (iproute2)")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        skip("needs access to /dev/net/tun")
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        skip("may not make a network namespace")
    os.execvp("unshare", [*unshare, sys.executable, "-B", __file__, "--inside"])


class Tun:
    def __init__(self):
        self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH", b"frag0", IFF_TUN | IFF_NO_PI))
        except OSError as error:
            skip(f"no TUN device: {error}")
        for command in ("link set frag0 up", f"addr add {KERNEL[4]}/24 dev frag0", f"addr add {KERNEL[6]}/64 dev frag0 nodad"):
            subprocess.run(["ip", *command.split()], check=True)

    def set_mtu(self, mtu):
        subprocess.run(["ip", "link", "set", "frag0", "mtu", str(mtu)], check=True)
        if mtu >= 1280:   # below, the kernel takes IPv6 off the device
            subprocess.run(["ip", "addr", "replace", f"{KERNEL[6]}/64", "dev", "frag0", "nodad"], check=True)

    def send(self, packet):
        os.write(self.fd, packet)

    def receive(self, seconds=2.0):
        """The next packet to us that carries UDP, whole or as a fragment; None after a while."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], left)[0]:
                return None
            packet = os.read(self.fd, 70000)
            if packet[0] >> 4 == 4 and packet[9] == 17:
                return packet
            if packet[0] >> 4 == 6 and (packet[6] == 17 or packet[6] == 44 and packet[40] == 17):
                return packet
        return None


def open_socket(family):
    s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.settimeout(2)
    if family == 4:
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
    s.bind((KERNEL[family], PORT))
    return s


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def udp_datagram(family, payload, identification):
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    source, destination = socket.inet_pton(kind, OURS[family]), socket.inet_pton(kind, KERNEL[family])
    length = 8 + len(payload)
    udp = struct.pack(">HHHH", 4444, PORT, length, 0) + payload
    pseudo = source + destination + struct.pack(">IHBB", length, 0, 0, 17)
    udp = udp[:6] + struct.pack(">H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
    if family == 6:
        return struct.pack(">IHBB", 0x60000000, length, 17, 64) + source + destination + udp
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + length, identification, 0, 64, 17, 0) + source + destination
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + udp


def kernel_joins_ours(tool, tun):
    count = 0
    for family in (4, 6):
        with open_socket(family) as kernel:
            for mtu in MTUS[family]:
                for size in SIZES:
                    if mtu == 68 and size > 9001:
                        continue
                    count += 1
                    payload = material(size, count)
                    pieces = tool.cut(udp_datagram(family, payload, count), mtu, count)
                    random.Random(count).shuffle(pieces)
                    for piece in pieces:
                        tun.send(piece)
                    got, sender = kernel.recvfrom(70000)
                    expect_equal(f"the kernel's IPv{family} datagram at MTU {mtu}", got, payload)
                    if sender[1] != 4444:
                        raise AssertionError(f"from port {sender[1]}")
    return count


def fragments_of(tun, kernel, family, payload):
    kernel.sendto(payload, (OURS[family], PORT))
    pieces = []
    received = 0
    while received < len(payload) + 8:
        packet = tun.receive()
        if packet is None:
            raise AssertionError(f"the kernel sent {received} of {len(payload) + 8} bytes")
        pieces.append(packet)
        header = (packet[0] & 15) * 4 if family == 4 else 48 if packet[6] == 44 else 40
        received += len(packet) - header
    return pieces


def identification_of(piece, family):
    return struct.unpack(">H", piece[4:6])[0] if family == 4 else struct.unpack(">I", piece[44:48])[0]


def both_cut_alike(tool, tun):
    count = 0
    for family in (4, 6):
        for mtu in MTUS[family]:
            tun.set_mtu(mtu)
            with open_socket(family) as kernel:
                for size in SIZES:
                    if size + 48 < mtu or (mtu == 68 and size > 9001):
                        continue
                    payload = material(size, size + mtu)
                    pieces = fragments_of(tun, kernel, family, payload)
                    shuffled = pieces[:]
                    random.Random(size).shuffle(shuffled)
                    whole = tool.joined(shuffled)
                    expect_equal(f"the kernel's IPv{family} payload at MTU {mtu}", whole[-size:], payload)
                    ours = tool.cut(whole, mtu, identification_of(pieces[0], family) if len(pieces) > 1 else 0)
                    for i, (mine, theirs) in enumerate(zip(ours, pieces, strict=True)):
                        expect_equal(f"IPv{family} fragment {i} of {size} bytes at MTU {mtu}", mine, theirs)
                    count += 1
    tun.set_mtu(1500)
    return count


def options_survive(tool, tun):
    """With record route (first fragment only) and router alert (all): the kernel writes, we join, cut, and it joins."""
    options = bytes.fromhex("0707040000000094040000" "00")
    payload = material(4000)
    with open_socket(4) as kernel:
        kernel.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        whole = tool.joined(fragments_of(tun, kernel, 4, payload))
        if whole[0] != 0x48 or whole[20] != 7 or whole[27:31] != bytes.fromhex("94040000"):
            raise AssertionError(f"header {whole[:32].hex()}")
        expect_equal("payload behind options", whole[-4000:], payload)
        # Back: the same datagram with the addresses exchanged, which leaves the checksums right.
        back = whole[:12] + whole[16:20] + whole[12:16] + whole[20:]
        pieces = tool.cut(back, 576)
        if pieces[0][0] != 0x48 or {piece[0] for piece in pieces[1:]} != {0x46}:
            raise AssertionError("options were not copied as RFC 791 says")
        for piece in pieces:
            tun.send(piece)
        expect_equal("payload that came back", kernel.recv(70000), payload)
    return 1


def main():
    if sys.argv[1:] != ["--inside"]:
        enter_namespace()
    tool, tun = Tool(), Tun()
    for check in (kernel_joins_ours, both_cut_alike, options_survive):
        print(f"{check.__name__.replace('_', ' ')}: {check(tool, tun)} cases")


main()
