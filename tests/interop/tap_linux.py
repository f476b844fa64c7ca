#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The kernel of this machine and our host on a TAP, in clear: ping, UDP and TCP both ways, IPv4 and IPv6, small and big
packets; the TAP made by the daemon or before it."""
import contextlib
import socket
import subprocess
import sys
import threading

from peers import (PATIENCE, enter_private_network, expect, ip, kernel_address, main, material, need_programs, run,
                   wait_until)

ADDRESSES = {4: ("10.7.0.1", "10.7.0.2"), 6: ("fd07::1", "fd07::2")}   # ours, the kernel's
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
UDP_ECHO, TCP_SINK, CLOSED = 7001, 7002, 7003
LARGEST_UDP = {4: 65535 - 20 - 8, 6: 65535 - 40 - 8}   # our packets have at most 65,535 bytes with their header
TCP_BYTES = 3_000_000


def pings(host, ours, kernels, mtu, version):
    headers = (20 if version == 4 else 40) + 8
    for size in (0, 56, mtu - headers, mtu - headers + 1, 4000, 20000):
        host.ping(kernels, count=2, size=size)
        run("ping", "-n", "-q", "-c", "2", "-i", "0.02", "-W", "3", "-s", str(size), ours)


# ---- UDP -------------------------------------------------------------------------------------------------------------

def kernel_asks(version, ours, mtu):
    """Datagrams of the kernel come back from our udp_echo."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.2)
        udp.connect((ours, UDP_ECHO))

        def serves():   # refused until the server is there
            with contextlib.suppress(ConnectionRefusedError, TimeoutError):
                udp.send(b"there?")
                return udp.recv(65535)
        wait_until(serves, "udp_echo serves")
        udp.settimeout(PATIENCE)
        for size in (0, 1, mtu - 60, mtu, 8000, 40000, LARGEST_UDP[version]):
            text = material(f"udp {size}", size)
            udp.send(text)
            got = udp.recv(65535)
            while got == b"there?" != text:   # a late answer to an early question
                got = udp.recv(65535)
            expect(got == text, f"UDP, {size} bytes to our echo: {len(got)} bytes came back, or other ones")


def our_host_asks(host, version, kernels):
    """Our datagrams come back from a server of the kernel."""
    with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as udp:
        udp.bind((kernels, UDP_ECHO))
        udp.settimeout(PATIENCE)
        for size in (1, 1500, 9000, LARGEST_UDP[version]):
            text = material(f"our udp {size}", (size + 1) // 2).hex()[:size]
            asker = host.start("udp_echo", "send", kernels, str(UDP_ECHO), text, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            udp.sendto(*udp.recvfrom(65535))
            got, _ = asker.communicate(timeout=PATIENCE)
            expect(asker.returncode == 0 and got == text + "\n", f"UDP, {size} bytes to the kernel: {got[:100]!r}")


# ---- TCP -------------------------------------------------------------------------------------------------------------

def kernel_sends(host, version, ours):
    data = material(f"to us {version}", TCP_BYTES)
    receiver = host.start("tcp_transfer", "receive", str(TCP_SINK), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def connects():
        with contextlib.suppress(ConnectionRefusedError):
            return socket.create_connection((ours, TCP_SINK), PATIENCE)

    def send():
        with connection:
            connection.sendall(data)
    connection = wait_until(connects, "tcp_transfer listens")
    sender = threading.Thread(target=send)
    sender.start()
    got, _ = receiver.communicate(timeout=PATIENCE)
    sender.join()
    expect(receiver.returncode == 0 and got == data, f"TCP to us: {len(got)} of {len(data)} bytes, or other ones")
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as tcp:
        tcp.settimeout(PATIENCE)
        try:
            tcp.connect((ours, CLOSED))
        except ConnectionRefusedError:
            return
        expect(False, "a closed port of ours took a connection")


def our_host_sends(host, version, kernels):
    data = material(f"from us {version}", TCP_BYTES)
    with socket.create_server((kernels, TCP_SINK), family=FAMILY[version]) as listener:
        listener.settimeout(PATIENCE)
        sender = host.start("tcp_transfer", "send", kernels, str(TCP_SINK), stdin=subprocess.PIPE)
        feeder = threading.Thread(target=lambda: (sender.stdin.write(data), sender.stdin.close()))
        feeder.start()
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            got = b"".join(iter(lambda: connection.recv(1 << 20), b""))
        feeder.join()
    status = sender.wait(PATIENCE)
    expect(status == 0 and got == data,
           f"TCP from us: exit status {status}, {len(got)} of {len(data)} bytes, or other ones")
    done = host.run("tcp_transfer", "send", kernels, str(CLOSED), input="")
    expect(done.returncode == 1 and "refused" in done.stdout, f"TCP to a closed port of the kernel: {done.stdout!r}")


def exchange(lab, device, mtu):
    host = lab.host(f"ours-{device}", "--wire", f"tap:{device}", "--mtu", str(mtu), "--address", "10.7.0.1/24",
                    "--address", "fd07::1/64")
    kernel_address(device, "10.7.0.2/24", "fd07::2/64", mtu=mtu)
    host.start("udp_echo", "serve", str(UDP_ECHO), stderr=subprocess.DEVNULL)
    for version, (ours, kernels) in ADDRESSES.items():
        pings(host, ours, kernels, mtu, version)
        kernel_asks(version, ours, mtu)
        our_host_asks(host, version, kernels)
        kernel_sends(host, version, ours)
        our_host_sends(host, version, kernels)
        print(f"{device}, MTU {mtu}, IPv{version}: ping, UDP and TCP both ways")
    host.stop()


def body(lab):
    exchange(lab, "made0", 1500)
    expect("made0" not in ip("link"), "the daemon ended, but the TAP that it made is still there")
    ip("tuntap add dev there0 mode tap")
    exchange(lab, "there0", 9000)
    expect("there0" in ip("link"), "the daemon removed a TAP that was there before it")


if __name__ == "__main__":
    need_programs(ping="iputils-ping")
    enter_private_network()
    sys.exit(main(body))
