# SPDX-License-Identifier: BSD-2-Clause
"""A Linux kernel with IPsec as an ordinary process (User Mode Linux), where that of this machine may have none."""
import os
import socket
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from peers import PATIENCE, Failed, expect, ip, need_programs, run, wait_until

HOST_END, GUEST_END, PORT = "172.31.255.1", "172.31.255.2", 7000


def need_guest():
    need_programs(linux_uml="user-mode-linux", socat="socat", ethtool="ethtool", modprobe="kmod")


class Guest:
    """Needs a private network (peers.enter_private_network) with the bridge `bridge` in it; its interface there is vec0
    inside and "guest" outside. Commands go over an interface of their own, which no policy touches."""

    def __init__(self, lab, bridge):
        for device in ("guest", "manage"):
            ip(f"tuntap add dev {device} mode tap")
            # Packets as on a wire: neither bigger ones nor unfinished checksums.
            run("ethtool", "-K", device, "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off")
        ip(f"link set guest master {bridge} up")
        ip(f"address add {HOST_END}/30 dev manage")
        ip("link set manage up")
        self.console = lab.path("guest.console")
        init = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.sh")
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else lab.folder
        with open(self.console, "wb") as console:
            self.process = lab.start(
                "linux.uml", "mem=192M", "rootfstype=hostfs", "rootflags=/", "root=/dev/root", "ro", f"init={init}",
                f"vec0:transport=tap,ifname=guest,mac=52:54:00:99:00:01,depth=64",
                "vec1:transport=tap,ifname=manage,mac=52:54:00:88:00:01,depth=64",
                "con=null", "con0=null,fd:1", "con1=null", f"uml_dir={lab.path('uml')}/", "umid=guest",
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={**os.environ, "TMPDIR": memory})
        wait_until(self._answers, "the guest boots", PATIENCE * 3)

    def _answers(self):
        if self.process.poll() is not None:
            with open(self.console, encoding="utf-8", errors="replace") as console:
                raise Failed(f"the guest kernel ended:\n{console.read()}")
        try:
            return self.ask("echo here", 2) == (0, "here\n")
        except OSError:
            return False

    def ask(self, script, seconds):
        """Exit status and output. The connection is not half-closed: socat would end half a second after that."""
        with socket.create_connection((GUEST_END, PORT), seconds) as connection:
            connection.sendall(f"{{ {script}\n}} 2>&1; s=$?; echo; echo status=$s\n".encode())
            text = b""
            while b"\nstatus=" not in text or not text.endswith(b"\n"):
                piece = connection.recv(65536)
                if not piece:
                    raise OSError(f"the guest's shell ended: {text!r}")
                text += piece
        output, _, status = text.decode(errors="replace").rpartition("\nstatus=")
        return int(status), output

    def run(self, script, seconds=PATIENCE * 3):
        """A script that must succeed; returns its output."""
        status, output = self.ask(script, seconds)
        expect(status == 0, f"guest: {script}: exit status {status}\n{output}")
        return output

    def start(self, command):
        """In the background of the guest, for as long as it lives."""
        self.run(f"setsid {command} </dev/null >/dev/null 2>&1 &")
