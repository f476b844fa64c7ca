// SPDX-License-Identifier: BSD-2-Clause
// The one list of algorithms. SADB_REGISTER, setkey, policy proposals, the transforms, the README and (later) IKE
// and the other policy languages all read it; a row is checked against the others at compile time.
#pragma once

#include <net/pfkeyv2.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace latchkey {

enum class AlgorithmKind : std::uint8_t { cipher, aead, auth, compression };

// What the data path needs to know to run a row; none: the host knows the name but cannot do it.
enum class Primitive : std::uint8_t {
    none,
    null,
    des_cbc, des3_cbc, cast_cbc, blowfish_cbc, aes_cbc, camellia_cbc,
    aes_ctr,
    aes_ccm, aes_gcm, aes_gmac, chacha20_poly1305,
    hmac_md5, hmac_sha1, hmac_sha256, hmac_sha384, hmac_sha512, hmac_ripemd160,
    aes_xcbc,
    keyed_md5, keyed_sha1,   // RFC 1828, RFC 1852: the digest of key, fill, data, key
    deflate,
};

struct Algorithm {
    AlgorithmKind kind;
    std::uint8_t sadb_id;          // SADB_EALG_*, SADB_AALG_*, SADB_X_CALG_*
    std::uint16_t ike2_id;         // IANA IKEv2 transform id, 0: none
    std::uint16_t key_min;         // bits; for AES-CTR, GCM, CCM, GMAC and ChaCha20 the salt is part of the key, as in PF_KEY
    std::uint16_t key_max;
    std::uint16_t key_step;        // 0: only key_min
    std::uint8_t salt;             // bytes at the end of the key
    std::uint8_t iv;               // bytes on the wire
    std::uint8_t icv;              // bytes on the wire
    std::uint8_t block;            // padding unit of ESP, bytes
    Primitive primitive;
    std::string_view name;         // as setkey(8) prints it
    std::string_view aliases;      // separated by one space
    bool legacy;                   // broken or weak by today's judgement

    constexpr bool offered() const { return primitive != Primitive::none; }
    // Its IV is the sequence number, which must never come twice under one key: an SA with it may not cycle.
    constexpr bool counts() const { return kind == AlgorithmKind::aead || primitive == Primitive::aes_ctr; }
    constexpr bool key_bits_ok(unsigned bits) const
    {
        return bits >= key_min && bits <= key_max && (key_step == 0 ? bits == key_min : (bits - key_min) % key_step == 0);
    }
};

// clang-format off
inline constexpr Algorithm algorithms[] = {
    // kind, SADB, IKEv2, key min/max/step, salt, iv, icv, block, primitive, name, aliases, legacy
    {AlgorithmKind::cipher, SADB_EALG_DESCBC,            2,  64,   64,  0, 0,  8,  0,  8, Primitive::des_cbc,           "des-cbc", "des", true},
    {AlgorithmKind::cipher, SADB_EALG_3DESCBC,           3, 192,  192,  0, 0,  8,  0,  8, Primitive::des3_cbc,          "3des-cbc", "3des des-ede3-cbc", true},
    {AlgorithmKind::cipher, SADB_X_EALG_CASTCBC,         6,  40,  128,  8, 0,  8,  0,  8, Primitive::cast_cbc,          "cast128-cbc", "cast cast-cbc", true},
    {AlgorithmKind::cipher, SADB_X_EALG_BLOWFISHCBC,     7,  40,  448,  8, 0,  8,  0,  8, Primitive::blowfish_cbc,      "blowfish-cbc", "blowfish", true},
    {AlgorithmKind::cipher, SADB_EALG_NULL,             11,   0, 2048,  8, 0,  0,  0,  4, Primitive::null,              "null", "simple", false},
    {AlgorithmKind::cipher, SADB_X_EALG_AESCBC,         12, 128,  256, 64, 0, 16,  0, 16, Primitive::aes_cbc,           "aes-cbc", "rijndael-cbc aes", false},
    {AlgorithmKind::cipher, SADB_X_EALG_AESCTR,         13, 160,  288, 64, 4,  8,  0,  4, Primitive::aes_ctr,           "aes-ctr", "", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_CCM_ICV8,   14, 152,  280, 64, 3,  8,  8,  4, Primitive::aes_ccm,           "aes-ccm-8", "aes-ccm8", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_CCM_ICV12,  15, 152,  280, 64, 3,  8, 12,  4, Primitive::aes_ccm,           "aes-ccm-12", "aes-ccm12", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_CCM_ICV16,  16, 152,  280, 64, 3,  8, 16,  4, Primitive::aes_ccm,           "aes-ccm-16", "aes-ccm16 ccm", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_GCM_ICV8,   18, 160,  288, 64, 4,  8,  8,  4, Primitive::aes_gcm,           "aes-gcm-8", "aes-gcm8", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_GCM_ICV12,  19, 160,  288, 64, 4,  8, 12,  4, Primitive::aes_gcm,           "aes-gcm-12", "aes-gcm12", false},
    {AlgorithmKind::aead,   SADB_X_EALG_AES_GCM_ICV16,  20, 160,  288, 64, 4,  8, 16,  4, Primitive::aes_gcm,           "aes-gcm-16", "aes-gcm16 aes-gcm gcm", false},
    {AlgorithmKind::cipher, SADB_X_EALG_CAMELLIACBC,    23, 128,  256, 64, 0, 16,  0, 16, Primitive::camellia_cbc,      "camellia-cbc", "camellia", false},
    {AlgorithmKind::aead,   SADB_X_EALG_NULL_AES_GMAC,  21, 160,  288, 64, 4,  8, 16,  4, Primitive::aes_gmac,          "aes-gmac", "null-aes-gmac gmac", false},
    {AlgorithmKind::aead,   SADB_X_EALG_CHACHA20POLY1305, 28, 288, 288, 0, 4,  8, 16,  4, Primitive::chacha20_poly1305, "chacha20-poly1305", "chacha20poly1305", false},
    {AlgorithmKind::cipher, SADB_X_EALG_TWOFISHCBC,      0,   0,  256,  8, 0, 16,  0, 16, Primitive::none,              "twofish-cbc", "twofish", false},

    {AlgorithmKind::auth,   SADB_AALG_MD5HMAC,           1, 128,  128,  0, 0,  0, 12,  1, Primitive::hmac_md5,          "hmac-md5", "md5", true},
    {AlgorithmKind::auth,   SADB_AALG_SHA1HMAC,          2, 160,  160,  0, 0,  0, 12,  1, Primitive::hmac_sha1,         "hmac-sha1", "sha1 sha", false},
    {AlgorithmKind::auth,   SADB_X_AALG_SHA2_256HMAC,   12, 256,  256,  0, 0,  0, 16,  1, Primitive::hmac_sha256,       "hmac-sha256", "hmac-sha2-256 sha256 sha2-256", false},
    {AlgorithmKind::auth,   SADB_X_AALG_SHA2_384HMAC,   13, 384,  384,  0, 0,  0, 24,  1, Primitive::hmac_sha384,       "hmac-sha384", "hmac-sha2-384 sha384 sha2-384", false},
    {AlgorithmKind::auth,   SADB_X_AALG_SHA2_512HMAC,   14, 512,  512,  0, 0,  0, 32,  1, Primitive::hmac_sha512,       "hmac-sha512", "hmac-sha2-512 sha512 sha2-512", false},
    {AlgorithmKind::auth,   SADB_X_AALG_RIPEMD160HMAC,   0, 160,  160,  0, 0,  0, 12,  1, Primitive::hmac_ripemd160,    "hmac-ripemd160", "ripemd160", true},
    {AlgorithmKind::auth,   SADB_X_AALG_AES_XCBC_MAC,    5, 128,  128,  0, 0,  0, 12,  1, Primitive::aes_xcbc,          "aes-xcbc-mac", "aes-xcbc xcbc", false},
    {AlgorithmKind::auth,   SADB_X_AALG_MD5,             0, 128,  128,  0, 0,  0, 12,  1, Primitive::keyed_md5,         "keyed-md5", "", true},
    {AlgorithmKind::auth,   SADB_X_AALG_SHA,             0, 160,  160,  0, 0,  0, 12,  1, Primitive::keyed_sha1,        "keyed-sha1", "", true},
    {AlgorithmKind::auth,   SADB_X_AALG_NULL,            0,   0, 2048,  8, 0,  0,  0,  1, Primitive::null,              "null", "", false},
    {AlgorithmKind::auth,   SADB_X_AALG_TCP_MD5,         0,   8,  640,  8, 0,  0, 16,  1, Primitive::none,              "tcp-md5", "", true},

    {AlgorithmKind::compression, SADB_X_CALG_OUI,        1,   0,    0,  0, 0,  0,  0,  1, Primitive::none,              "oui", "", true},
    {AlgorithmKind::compression, SADB_X_CALG_DEFLATE,    2,   0,    0,  0, 0,  0,  0,  1, Primitive::deflate,           "deflate", "", false},
    {AlgorithmKind::compression, SADB_X_CALG_LZS,        3,   0,    0,  0, 0,  0,  0,  1, Primitive::none,              "lzs", "", true},
};
// clang-format on

// PF_KEY has one number and name space for ciphers and combined modes.
constexpr bool same_space(AlgorithmKind a, AlgorithmKind b)
{
    const auto space = [](AlgorithmKind k) { return k == AlgorithmKind::aead ? AlgorithmKind::cipher : k; };
    return space(a) == space(b);
}

constexpr const Algorithm* algorithm_by_id(AlgorithmKind kind, unsigned id)
{
    for (const auto& row : algorithms)
        if (same_space(row.kind, kind) && row.sadb_id == id)
            return &row;
    return nullptr;
}

constexpr bool has_word(std::string_view list, std::string_view word)
{
    while (!list.empty()) {
        const auto space = list.find(' ');
        if (list.substr(0, space) == word)
            return true;
        list = space == list.npos ? std::string_view{} : list.substr(space + 1);
    }
    return false;
}

constexpr const Algorithm* algorithm_by_name(AlgorithmKind kind, std::string_view name)
{
    for (const auto& row : algorithms)
        if (same_space(row.kind, kind) && (row.name == name || has_word(row.aliases, name)))
            return &row;
    return nullptr;
}

namespace detail {
consteval bool algorithms_sound()
{
    for (const auto& row : algorithms) {
        if (algorithm_by_id(row.kind, row.sadb_id) != &row || algorithm_by_name(row.kind, row.name) != &row)
            return false;
        for (auto rest = row.aliases; !rest.empty();) {
            const auto space = rest.find(' ');
            if (algorithm_by_name(row.kind, rest.substr(0, space)) != &row)
                return false;
            rest = space == rest.npos ? std::string_view{} : rest.substr(space + 1);
        }
        if (row.key_min > row.key_max || row.key_min % 8 != 0 || row.key_step % 8 != 0)
            return false;
        if ((row.key_step == 0) != (row.key_min == row.key_max))
            return false;
        if (row.key_max != 0 && row.salt * 8u >= row.key_max)
            return false;
        if (row.kind == AlgorithmKind::aead && (row.icv == 0 || row.iv == 0))
            return false;
        if (row.block == 0 || (row.block & (row.block - 1)) != 0)
            return false;
    }
    return true;
}
static_assert(algorithms_sound(), "two rows share an id or a name, or a row contradicts itself");
}  // namespace detail

}  // namespace latchkey
