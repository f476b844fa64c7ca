# SPDX-License-Identifier: BSD-2-Clause
"""scapy's IPsec with the algorithms that it lacks, added to its own tables: truncated GCM, GMAC, Camellia, and the
signatures of esp_cases. Importing this raises ImportError where scapy or python3-cryptography is missing."""
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.ipsec import AUTH_ALGOS, CRYPT_ALGOS, ESP, AuthAlgo, CryptAlgo, IPSecIntegrityError, _ESPPlain

from esp_cases import AUTHS as OUR_AUTHS

CIPHERS = {"null": "NULL", "aes-cbc": "AES-CBC", "aes-ctr": "AES-CTR", "des-cbc": "DES", "3des-cbc": "3DES",
           "cast128-cbc": "CAST", "blowfish-cbc": "Blowfish", "aes-gcm-16": "AES-GCM", "aes-ccm-8": "AES-CCM",
           "aes-ccm-12": "AES-CCM", "aes-ccm-16": "AES-CCM", "chacha20-poly1305": "CHACHA20-POLY1305",
           "camellia-cbc": "camellia-cbc", "aes-gcm-8": "aes-gcm-8", "aes-gcm-12": "aes-gcm-12", "aes-gmac": "aes-gmac"}
AUTHS = {"-": None, "hmac-md5": "HMAC-MD5-96", "hmac-sha1": "HMAC-SHA1-96", "hmac-sha256": "SHA2-256-128",
         "hmac-sha384": "SHA2-384-192", "hmac-sha512": "SHA2-512-256", "hmac-ripemd160": "hmac-ripemd160",
         "aes-xcbc-mac": "aes-xcbc-mac", "keyed-md5": "keyed-md5", "keyed-sha1": "keyed-sha1"}


class Gmac(CryptAlgo):
    """RFC 4543: AES-GCM that signs everything and encrypts nothing."""

    def __init__(self):
        super().__init__("aes-gmac", cipher=None, mode=None, block_size=1, iv_size=8, icv_size=16, salt_size=4)
        self.is_aead = True

    @staticmethod
    def associated(esp, data, esn_en, esn):
        numbers = struct.pack("!LLL", esp.spi, esn, esp.seq) if esn_en else struct.pack("!LL", esp.spi, esp.seq)
        return numbers + data

    def encrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        data = esp.iv + esp.data_for_encryption()
        tag = AESGCM(key).encrypt(sa.crypt_salt + esp.iv, b"", self.associated(esp, data, esn_en, esn))
        return ESP(spi=esp.spi, seq=esp.seq, data=data + tag)

    def decrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        data, tag = esp.data[:-16], esp.data[-16:]
        iv, body = data[:8], data[8:]
        try:
            AESGCM(key).decrypt(sa.crypt_salt + iv, tag, self.associated(esp, data, esn_en, esn))
        except InvalidTag as error:
            raise IPSecIntegrityError(error) from error
        padding, next_header = body[-2], body[-1]
        return _ESPPlain(spi=esp.spi, seq=esp.seq, iv=iv, data=body[:len(body) - padding - 2], padlen=padding,
                         nh=next_header, icv=tag)


class Signature(AuthAlgo):
    """One of our names, computed by esp_cases."""

    class Running:
        def __init__(self, compute, key):
            self.compute, self.key, self.data = compute, key, b""

        def update(self, data):
            self.data += data

        def finalize(self):
            return self.compute(self.key, self.data)

    def __init__(self, name):
        super().__init__(name, mac=self.Running, digestmod=None, icv_size=OUR_AUTHS[name].icv)

    def new_mac(self, key):
        return self.Running(OUR_AUTHS[self.name].compute, key)


def salted(sa, iv, **_):
    return sa.crypt_salt + iv


CRYPT_ALGOS["camellia-cbc"] = CryptAlgo("camellia-cbc", cipher=algorithms.Camellia, mode=modes.CBC)
CRYPT_ALGOS["aes-gmac"] = Gmac()
for bytes_of_icv in (8, 12):
    name = f"aes-gcm-{bytes_of_icv}"
    CRYPT_ALGOS[name] = CryptAlgo(name, cipher=algorithms.AES, mode=modes.GCM, salt_size=4, block_size=1, iv_size=8,
                                  icv_size=bytes_of_icv, format_mode_iv=salted)
for name in ("hmac-ripemd160", "aes-xcbc-mac", "keyed-md5", "keyed-sha1"):
    AUTH_ALGOS[name] = Signature(name)
