# SPDX-License-Identifier: BSD-2-Clause
"""What kernel_peer.py asks of our host and of a Linux kernel beyond the four suites: every other algorithm, AH, IPComp,
ESP in UDP, 64-bit sequence numbers, bundles. Each case is written in the words of setkey(8) and of ip-xfrm(8)."""
from typing import NamedTuple

from esp_cases import material
from peers import IN_SPI, MIXED_TUNNELS, OUT_SPI, SUITES, TRANSPORTS, TUNNELS, Ends, Suite

V4, V6 = TRANSPORTS
TUNNEL4, TUNNEL6 = TUNNELS
TUNNEL46, TUNNEL64 = MIXED_TUNNELS
UDP_PORT = 4500


def suite(cipher, size, xfrm, auth="", auth_size=0, xfrm_auth=()):
    return Suite(f"{cipher} {auth}".strip(), cipher, size, auth, auth_size, (), (xfrm, xfrm_auth) if auth else (xfrm,))


ALGORITHMS = (
    suite("chacha20-poly1305", 36, ("aead", "rfc7539esp(chacha20,poly1305)", "128")),
    suite("aes-gcm-8", 36, ("aead", "rfc4106(gcm(aes))", "64")),
    suite("aes-gcm-12", 28, ("aead", "rfc4106(gcm(aes))", "96")),
    suite("aes-ccm-8", 19, ("aead", "rfc4309(ccm(aes))", "64")),
    suite("aes-ccm-12", 27, ("aead", "rfc4309(ccm(aes))", "96")),
    suite("aes-ccm-16", 35, ("aead", "rfc4309(ccm(aes))", "128")),
    suite("aes-gmac", 20, ("aead", "rfc4543(gcm(aes))", "128")),
    suite("aes-ctr", 36, ("enc", "rfc3686(ctr(aes))"), "hmac-sha512", 64, ("auth-trunc", "hmac(sha512)", "256")),
    suite("3des-cbc", 24, ("enc", "cbc(des3_ede)"), "hmac-sha384", 48, ("auth-trunc", "hmac(sha384)", "192")),
    suite("camellia-cbc", 32, ("enc", "cbc(camellia)"), "aes-xcbc-mac", 16, ("auth-trunc", "xcbc(aes)", "96")),
    suite("des-cbc", 8, ("enc", "cbc(des)"), "hmac-md5", 16, ("auth-trunc", "hmac(md5)", "96")),
    suite("blowfish-cbc", 16, ("enc", "cbc(blowfish)"), "hmac-ripemd160", 20, ("auth-trunc", "hmac(rmd160)", "96")),
    suite("cast128-cbc", 16, ("enc", "cbc(cast5)"), "hmac-sha1", 20, ("auth-trunc", "hmac(sha1)", "96")),
)
GCM, CBC = SUITES[0], SUITES[2]


class Layer(NamedTuple):
    """One request of a policy and its associations."""
    protocol: str            # setkey's word
    mode: str
    words: object            # label -> words for setkey
    xfrm_words: object       # label -> words for ip xfrm
    flags: str = ""          # more words for setkey
    xfrm_in: str = ""        # flags of the kernel's inbound state, which is our outbound one
    xfrm_out: str = ""
    optional: bool = False   # a packet may come without it

    @property
    def xfrm_protocol(self):
        return {"ipcomp": "comp", "esp-udp": "esp"}.get(self.protocol, self.protocol)

    @property
    def request(self):
        return "esp" if self.protocol == "esp-udp" else self.protocol


def esp(what, mode="transport", esn=False, udp=False):
    kernel_esn = "esn" if esn else ""
    return Layer("esp-udp" if udp else "esp", mode, what.setkey_words, lambda label: " ".join(w or '""' for w in what.xfrm_words(label)),
                 "-f esn" if esn else "", kernel_esn, kernel_esn)


def ah(auth, size, xfrm_auth, bits, mode="transport", esn=False, v6=False):
    """Over IPv4 Linux pads AH to 8 bytes; it takes the 4 of RFC 4302 only with align4. We take both."""
    key = lambda label: material(f"{label} ah {auth}", size).hex()
    kernel_esn = "esn" if esn else ""
    return Layer("ah", mode, lambda label: f"-A {auth} 0x{key(label)}", lambda label: f"auth-trunc {xfrm_auth} 0x{key(label)} {bits}",
                 "-f esn" if esn else "", kernel_esn if v6 else f"align4 {kernel_esn}", kernel_esn)


def ipcomp(mode="transport"):
    return Layer("ipcomp", mode, lambda label: "-C deflate -R", lambda label: "comp deflate", optional=True)


class Case(NamedTuple):
    name: str
    ends: Ends
    layers: tuple            # innermost first

    def outer(self, layer):
        """The addresses of the header that carries this layer."""
        at = self.layers.index(layer)
        tunnel = any(inner.mode == "tunnel" for inner in self.layers[:at + 1])
        return self.ends.outer if tunnel else (self.ends.ours, self.ends.peers)

    @property
    def on_wire(self):
        """What a bystander may see: the outermost transform, or what small packets are that IPComp leaves alone."""
        kinds = []
        for layer in reversed(self.layers):
            version = 6 if ":" in self.outer(layer)[0] else 4
            number = {"esp": 50, "esp-udp": 17, "ah": 51, "ipcomp": 108}[layer.protocol]
            kinds += ["esp"] if number == 50 else [f"IPv{version} protocol {number}", f"fragment of protocol {number}"]
            if not layer.optional:
                return kinds
        inner = 6 if ":" in self.ends.ours else 4
        plain = (4 if inner == 4 else 41,) if self.layers[0].mode == "tunnel" else (1, 6, 17, 58)
        return kinds + [f"IPv{version} protocol {number}" for number in plain] + [f"fragment of protocol {n}" for n in plain]

    def setkey_script(self):
        lines = ["flush; spdflush;"]
        for layer in self.layers:
            ours, peers = self.outer(layer)
            port = f"[{UDP_PORT}]" if layer.protocol == "esp-udp" else ""
            window = "" if layer.protocol == "ipcomp" else "-r 32"
            for source, destination, spi, label in ((ours, peers, OUT_SPI, "out"), (peers, ours, IN_SPI, "in")):
                lines.append(f"add {source}{port} {destination}{port} {layer.protocol} {spi:#x} -m {layer.mode} {window} "
                             f"{layer.flags} {layer.words(label)};")
        for out in (True, False):
            source, destination = (self.ends.ours, self.ends.peers) if out else (self.ends.peers, self.ends.ours)
            requests = []
            for layer in self.layers:
                ours, peers = self.outer(layer)
                path = "" if layer.mode == "transport" else f"{ours}-{peers}" if out else f"{peers}-{ours}"
                requests.append(f"{layer.request}/{layer.mode}/{path}/require")
            lines.append(f"spdadd {source} {destination} any -P {'out' if out else 'in'} ipsec {' '.join(requests)};")
        return "\n".join(lines)

    def xfrm_lines(self):
        """The same, seen from the other side."""
        lines = ["xfrm state flush", "xfrm policy flush"]
        for layer in self.layers:
            ours, peers = self.outer(layer)
            encapsulation = f"encap espinudp {UDP_PORT} {UDP_PORT} ::" if layer.protocol == "esp-udp" else ""
            window = "" if layer.protocol == "ipcomp" else "replay-window 32"
            for source, destination, spi, label, flags in ((ours, peers, OUT_SPI, "out", layer.xfrm_in),
                                                           (peers, ours, IN_SPI, "in", layer.xfrm_out)):
                any_family = "af-unspec" if layer.mode == "tunnel" else ""
                all_flags = f"{any_family} {flags}".strip()
                lines.append(f"xfrm state add src {source} dst {destination} proto {layer.xfrm_protocol} spi {spi:#x} "
                             f"mode {layer.mode} {window} {'flag ' + all_flags if all_flags else ''} "
                             f"{layer.xfrm_words(label)} {encapsulation}")
        for direction in ("in", "out"):
            inward = direction == "in"
            source, destination = (self.ends.ours, self.ends.peers) if inward else (self.ends.peers, self.ends.ours)
            templates = []
            for layer in self.layers:
                ours, peers = self.outer(layer)
                outer = f"src {ours} dst {peers}" if inward else f"src {peers} dst {ours}"
                level = " level use" if layer.optional and inward else ""
                templates.append(f"tmpl {outer} proto {layer.xfrm_protocol} mode {layer.mode}{level}")
            lines.append(f"xfrm policy add src {source} dst {destination} dir {direction} priority 2 {' '.join(templates)}")
            if any(layer.protocol == "esp-udp" for layer in self.layers):   # Linux looks at the UDP packet first
                ours, peers = self.ends.outer
                outer = (ours, peers) if inward else (peers, ours)
                lines.append(f"xfrm policy add src {outer[0]} dst {outer[1]} proto udp dport {UDP_PORT} dir {direction} "
                             "priority 1 action allow")
        return lines


SHA256, SHA1, SHA512 = (("hmac-sha256", 32, "hmac(sha256)", 128), ("hmac-sha1", 20, "hmac(sha1)", 96),
                        ("hmac-sha512", 64, "hmac(sha512)", 256))
XCBC, MD5 = ("aes-xcbc-mac", 16, "xcbc(aes)", 96), ("hmac-md5", 16, "hmac(md5)", 96)

CASES = [Case(f"ESP {what.name}", V6 if at % 2 else V4, (esp(what),)) for at, what in enumerate(ALGORITHMS)]
CASES += [
    Case("ESP with 64-bit sequence numbers, AEAD", V4, (esp(GCM, esn=True),)),
    Case("ESP with 64-bit sequence numbers, tunnel", TUNNEL6, (esp(CBC, "tunnel", esn=True),)),
    Case("AH SHA2-256, IPv4", V4, (ah(*SHA256),)),
    Case("AH SHA1, IPv4", V4, (ah(*SHA1),)),
    Case("AH SHA2-512, IPv6", V6, (ah(*SHA512, v6=True),)),
    Case("AH SHA1, IPv6", V6, (ah(*SHA1, v6=True),)),
    Case("AH XCBC tunnel, IPv4", TUNNEL4, (ah(*XCBC, mode="tunnel"),)),
    Case("AH MD5 tunnel, IPv6", TUNNEL6, (ah(*MD5, mode="tunnel", v6=True),)),
    Case("AH tunnel, IPv6 in IPv4", TUNNEL64, (ah(*SHA256, mode="tunnel"),)),
    Case("AH with 64-bit sequence numbers", V4, (ah(*SHA256, esn=True),)),
    Case("AH around ESP, IPv4", V4, (esp(GCM), ah(*SHA256))),
    Case("AH around ESP, IPv6", V6, (esp(CBC), ah(*SHA256, v6=True))),
    Case("AH around an ESP tunnel", TUNNEL4, (esp(GCM, "tunnel"), ah(*SHA1))),
    Case("IPComp, IPv4", V4, (ipcomp(),)),
    Case("IPComp, IPv6", V6, (ipcomp(),)),
    Case("IPComp tunnel", TUNNEL4, (ipcomp("tunnel"),)),
    Case("IPComp in ESP", V4, (ipcomp(), esp(GCM))),
    Case("IPComp in ESP in AH", V6, (ipcomp(), esp(GCM), ah(*SHA256, v6=True))),
    Case("IPComp tunnel in ESP", TUNNEL4, (ipcomp("tunnel"), esp(GCM))),
    Case("ESP in UDP, IPv4", V4, (esp(GCM, udp=True),)),
    Case("ESP in UDP tunnel, IPv4", TUNNEL4, (esp(CBC, "tunnel", udp=True),)),
    Case("ESP in UDP, IPv6", V6, (esp(GCM, udp=True),)),
    Case("ESP in UDP tunnel, IPv4 in IPv6", TUNNEL46, (esp(GCM, "tunnel", udp=True),)),
]
