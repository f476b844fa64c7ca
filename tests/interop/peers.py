# SPDX-License-Identifier: BSD-2-Clause
"""What the scripts that run whole hosts share: a private network, daemons, a capture, the cipher suites."""
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

from esp_cases import SKIPPED, material

BUILD = os.environ.get("LATCHKEY_BUILD", "build")
# Instrumented daemons, and a machine that runs two tests at once.
PATIENCE = 60 if os.environ.get("LATCHKEY_SANITIZED") else 20


class Failed(Exception):
    pass


def expect(condition, text):
    if not condition:
        raise Failed(text)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def need_programs(**packages):
    """Keyword: a program, value: the Debian package that has it."""
    for name, package in packages.items():
        name = name.replace("_", ".")
        if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            skip(f"no {name} (Debian: {package})")


def program(name):
    folder = "examples" if name in ("pfkey_register", "tcp_transfer", "udp_echo") else "bin"
    path = os.path.join(BUILD, folder, name)
    if not os.access(path, os.X_OK):
        sys.exit(f"{path}: not there; set LATCHKEY_BUILD to the build folder")
    return path


def wait_until(condition, text, seconds=None):
    """Returns what `condition` returns, once that is true."""
    deadline = time.monotonic() + (seconds or PATIENCE)
    while not (result := condition()):
        expect(time.monotonic() < deadline, f"not within {seconds or PATIENCE} s: {text}")
        time.sleep(0.02)
    return result


# ---- a network of our own --------------------------------------------------------------------------------------------

def enter_private_network():
    """Runs this script again with network, mount and process namespaces of its own. However it ends, also by SIGKILL,
    the kernel then ends every process and removes every interface that it made."""
    if os.environ.get("LATCHKEY_PRIVATE_NETWORK") == "yes":
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        ip("link set lo up")
        return
    need_programs(unshare="util-linux", ip="iproute2")
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    trial = subprocess.run([*command, "true"], capture_output=True, text=True)
    if trial.returncode != 0:
        skip(f"needs root, or the right to make namespaces: {trial.stderr.strip()}")
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        skip(f"/dev/net/tun: {error.strerror} (modprobe tun; run as root)")
    os.environ["LATCHKEY_PRIVATE_NETWORK"] = "yes"
    sys.stdout.flush()
    os.execvp(command[0], [*command, "--", sys.executable, "-B", *sys.argv])


def run(*words, **more):
    """A command that must succeed; returns its output."""
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE * 3,
                          check=False, **more)
    expect(done.returncode == 0, f"{' '.join(words)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def ip(line):
    return run("ip", *line.split())


def kernel_address(device, *prefixes, mtu=1500):
    """Gives the kernel's end of a TAP its addresses, without duplicate address detection."""
    ip(f"link set {device} mtu {mtu} up")
    for prefix in prefixes:
        ip(f"address add {prefix} dev {device}" + (" nodad" if ":" in prefix else ""))


def quiet_device(name):
    """No IPv6 of the kernel's own on this device."""
    with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
        file.write("1")


# ---- processes -------------------------------------------------------------------------------------------------------

def _die_with_parent():
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


class Lab(contextlib.ExitStack):
    """A folder, and the processes that work in it; all end with the block."""

    def __init__(self):
        super().__init__()
        self.folder = self.enter_context(tempfile.TemporaryDirectory(prefix="latchkey-"))
        self.hosts = []

    def path(self, name):
        return os.path.join(self.folder, name)

    def start(self, *words, **more):
        process = subprocess.Popen(words, preexec_fn=_die_with_parent, **more)
        self.callback(self._end, process)
        return process

    @staticmethod
    def _end(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def host(self, name, *arguments):
        host = Host(self, name, *arguments)
        self.hosts.append(host)
        return host


class Host:
    """A latchkeyd that is ready, and the tools that speak to it."""

    def __init__(self, lab, name, *arguments):
        self.lab, self.name = lab, name
        self.socket, self.log = lab.path(f"{name}.sock"), lab.path(f"{name}.log")
        self.environment = {**os.environ, "LATCHKEY": self.socket}
        with open(self.log, "wb") as log:
            self.process = lab.start(program("latchkeyd"), "--foreground", "--socket", self.socket, "--name", name,
                                     *arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline()
        expect(line == b"ready\n", f"{name} said {line!r} instead of `ready`\n{self.messages()}")

    def messages(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def run(self, name, *words, **more):
        """One of our programs, on this host."""
        options = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": PATIENCE * 3}
        options.update(more)
        return subprocess.run([program(name), *words], env=self.environment, check=False, **options)

    def start(self, name, *words, **more):
        return self.lab.start(program(name), *words, env=self.environment, **more)

    def setkey(self, script):
        done = self.run("setkey", "-f", "-", input=script)
        expect(done.returncode == 0, f"{self.name}: setkey: exit status {done.returncode}\n{done.stdout}\n{script}")

    def counters(self):
        done = self.run("latchkey", "stat", "-r")
        expect(done.returncode == 0, f"latchkey stat: {done.stdout}")
        return {name: int(value) for name, value in (line.split() for line in done.stdout.splitlines())}

    def drops_since(self, before):
        """Why packets were dropped since counters() were `before`, and how many."""
        return {name: value - before[name] for name, value in self.counters().items()
                if name.startswith("drop_") and value != before[name]}

    def ping(self, address, count=3, size=56):
        done = self.run("latchkey", "ping", "-c", str(count), "-i", "0.05", "-s", str(size), "-W", "3", address)
        expect(done.returncode == 0 and f"{count} received" in done.stdout,
               f"{self.name} pings {address} with {size} bytes:\n{done.stdout}")

    def stop(self):
        """The clean way; whatever a sanitizer has to say makes it fail."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        expect(status == 0, f"{self.name} ended with status {status}\n{self.messages()}")
        expect(not os.path.exists(self.socket), f"{self.name} left its socket behind")


def main(body):
    """Runs body(lab); the exit status of the script."""
    with Lab() as lab:
        try:
            body(lab)
            for host in lab.hosts:
                if host.process.poll() is None:
                    host.stop()
        except (Failed, OSError, subprocess.SubprocessError) as failure:
            print(f"FAILED: {failure}")
            for host in lab.hosts:
                print(f"---- {host.name}\n{host.messages()}")
            return 1
    return 0


# ---- cipher suites ---------------------------------------------------------------------------------------------------

class Suite(NamedTuple):
    """One way to protect, in everybody's words."""
    name: str
    cipher: str          # setkey
    cipher_bytes: int    # with the salt
    auth: str
    auth_bytes: int
    scapy: tuple         # crypt_algo, auth_algo
    xfrm: tuple          # words of `ip xfrm state`, a key after each

    def keys(self, label):
        return material(f"{label} {self.cipher}", self.cipher_bytes), material(f"{label} {self.auth}", self.auth_bytes)

    def setkey_words(self, label):
        key, auth_key = self.keys(label)
        words = f"-E {self.cipher}" + (f" 0x{key.hex()}" if key else "")
        return words + (f" -A {self.auth} 0x{auth_key.hex()}" if auth_key else "")

    def xfrm_words(self, label):
        words = []
        for (kind, name, *size), key in zip(self.xfrm, self.keys(label)):
            words += [kind, name, "0x" + key.hex() if key else "", *size]
        return words


# Linux takes hmac(sha256) without a length for one of 96 bits.
SUITES = (
    Suite("AES-GCM-16", "aes-gcm-16", 20, "", 0, ("AES-GCM", None), (("aead", "rfc4106(gcm(aes))", "128"),)),
    Suite("AES-CBC HMAC-SHA1", "aes-cbc", 16, "hmac-sha1", 20, ("AES-CBC", "HMAC-SHA1-96"),
          (("enc", "cbc(aes)"), ("auth-trunc", "hmac(sha1)", "96"))),
    Suite("AES-CBC HMAC-SHA2-256", "aes-cbc", 32, "hmac-sha256", 32, ("AES-CBC", "SHA2-256-128"),
          (("enc", "cbc(aes)"), ("auth-trunc", "hmac(sha256)", "128"))),
    Suite("NULL HMAC-SHA2-256", "null", 0, "hmac-sha256", 32, ("NULL", "SHA2-256-128"),
          (("enc", "ecb(cipher_null)"), ("auth-trunc", "hmac(sha256)", "128"))),
)


class Ends(NamedTuple):
    """Who talks to whom: addresses as policy sees them, and the ends of the tunnel, if it is one."""
    name: str
    ours: str
    peers: str
    outer_ours: str = ""
    outer_peers: str = ""

    @property
    def tunnel(self):
        return bool(self.outer_ours)

    @property
    def mode(self):
        return "tunnel" if self.tunnel else "transport"

    @property
    def outer(self):
        return (self.outer_ours, self.outer_peers) if self.tunnel else (self.ours, self.peers)


# Our host and its peer are on one link. Behind the peer there is a net, to which the tunnels go; on our side the end of
# the tunnel is also the one who talks.
OUR_MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
TRANSPORTS = (
    Ends("transport, IPv4", "10.7.0.1", "10.7.0.2"),
    Ends("transport, IPv6", "fd07::1", "fd07::2"),
)
TUNNELS = (
    Ends("tunnel, IPv4 in IPv4", "10.7.0.1", "10.82.0.1", "10.7.0.1", "10.7.0.2"),
    Ends("tunnel, IPv6 in IPv6", "fd07::1", "fd82::1", "fd07::1", "fd07::2"),
)
MIXED_TUNNELS = (
    Ends("tunnel, IPv4 in IPv6", "10.7.0.1", "10.82.0.1", "fd07::1", "fd07::2"),
    Ends("tunnel, IPv6 in IPv4", "fd07::1", "fd82::1", "10.7.0.1", "10.7.0.2"),
)


def host_on_tap(lab, device):
    """Our end of those cases."""
    host = lab.host("ours", "--wire", f"tap:{device}", "--mac", OUR_MAC,
                    "--address", "10.7.0.1/24", "--route", "10.82.0.0/24", "via", "10.7.0.2",
                    "--address", "fd07::1/64", "--route", "fd82::/64", "via", "fd07::2")
    quiet_device(device)
    return host


OUT_SPI, IN_SPI = 0x1001, 0x2002   # as our host sees it


def setkey_script(suite, ends):
    """Two associations and two policies on our side; the window is 32 packets."""
    ours, peers = ends.outer
    out_path = f"{ours}-{peers}" if ends.tunnel else ""
    in_path = f"{peers}-{ours}" if ends.tunnel else ""
    return f"""flush; spdflush;
        add {ours} {peers} esp {OUT_SPI:#x} -m {ends.mode} -r 32 {suite.setkey_words("out")};
        add {peers} {ours} esp {IN_SPI:#x} -m {ends.mode} -r 32 {suite.setkey_words("in")};
        spdadd {ends.ours} {ends.peers} any -P out ipsec esp/{ends.mode}/{out_path}/require;
        spdadd {ends.peers} {ends.ours} any -P in ipsec esp/{ends.mode}/{in_path}/require;"""


# ---- a capture -------------------------------------------------------------------------------------------------------

ESP, ICMP6 = 50, 58
NEIGHBOUR_TYPES = {130, 131, 132, 133, 134, 135, 136, 137, 143}   # multicast listeners and neighbour discovery


def kind_of_frame(frame):
    """What a bystander sees: "esp", "arp", "nd", or the protocol in clear."""
    ethertype, = struct.unpack_from("!H", frame, 12)
    if ethertype == 0x0806:
        return "arp"
    if ethertype == 0x0800:
        header = frame[14:]
        protocol, rest = header[9], header[(header[0] & 15) * 4:]
        version = 4
    elif ethertype == 0x86DD:
        version, protocol, rest = 6, frame[20], frame[54:]
        while protocol in (0, 44, 60):   # hop-by-hop, fragment, destination options
            if protocol == 44 and struct.unpack_from("!H", rest, 2)[0] & 0xFFF8:
                protocol = rest[0]
                return "esp" if protocol == ESP else f"fragment of protocol {protocol}"
            protocol, rest = rest[0], rest[8 if protocol == 44 else 8 + rest[1] * 8:]
    else:
        return f"ethertype {ethertype:#06x}"
    if protocol == ESP:
        return "esp"
    if version == 6 and protocol == ICMP6 and rest[0] in NEIGHBOUR_TYPES:
        return "nd"
    return f"IPv{version} protocol {protocol}"


class Capture:
    """Counts what passes a device, until the block ends."""

    def __init__(self, device):
        every_protocol = 3
        # Protocol 0 first: otherwise frames of other devices come in until bind().
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        force_receive_buffer = 33
        with contextlib.suppress(PermissionError):   # in a user namespace: the buffer stays small
            self.socket.setsockopt(socket.SOL_SOCKET, force_receive_buffer, 32 << 20)
        self.socket.bind((device, every_protocol))
        self.socket.settimeout(0.1)
        self.kinds = {}
        self.stopped = False
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        while True:
            try:
                frame = self.socket.recv(65536)
            except TimeoutError:
                if self.stopped:
                    return
                continue
            kind = kind_of_frame(frame)
            self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped = True
        self.thread.join()
        statistics = 6
        seen, lost = struct.unpack("II", self.socket.getsockopt(263, statistics, 8))
        self.socket.close()
        if lost:
            raise Failed(f"the capture lost {lost} of {seen} frames, so that it proves nothing")

    def expect_only_esp(self, text):
        expect(self.kinds.get("esp"), f"{text}: no ESP packet on the wire: {self.kinds}")
        expect(set(self.kinds) <= {"esp", "arp", "nd"}, f"{text}: in clear on the wire: {self.kinds}")
