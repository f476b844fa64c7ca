// SPDX-License-Identifier: BSD-2-Clause
// Weak keys, judged by OpenSSL's own test of them.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "pfkey/weak_keys.hpp"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <openssl/des.h>
#include <random>
#include <vector>

using namespace latchkey;

namespace {

using DesKey = std::array<std::uint8_t, 8>;

bool weak_for_openssl(DesKey key)
{
    DES_cblock block;
    std::ranges::copy(key, block);
    DES_set_odd_parity(&block);
    return DES_is_weak_key(&block) != 0;
}

bool refused(Primitive primitive, Bytes key)
{
    return !check_weak_key(primitive, key).has_value();
}

std::vector<std::uint8_t> joined(const DesKey& a, const DesKey& b, const DesKey& c)
{
    std::vector<std::uint8_t> key(a.begin(), a.end());
    key.insert(key.end(), b.begin(), b.end());
    key.insert(key.end(), c.begin(), c.end());
    return key;
}

// Weak and semi-weak keys consist of few different bytes; all patterns of such bytes are tried.
constexpr std::array<std::uint8_t, 8> suspicious{0x01, 0xfe, 0xe0, 0xf1, 0x1f, 0x0e, 0x00, 0xff};

}  // namespace

TEST_CASE("a DES key is refused if and only if OpenSSL calls it weak, whatever its parity bits")
{
    int weak = 0;
    for (unsigned pattern = 0; pattern < 8 * 8 * 8 * 8; ++pattern) {
        const auto pick = [&](unsigned place) { return suspicious[(pattern >> (3 * place)) & 7]; };
        DesKey key{pick(0), pick(1), pick(0), pick(1), pick(2), pick(3), pick(2), pick(3)};
        CAPTURE(pattern);
        REQUIRE(refused(Primitive::des_cbc, key) == weak_for_openssl(key));
        weak += refused(Primitive::des_cbc, key);
        key[3] ^= 1;   // parity only
        REQUIRE(refused(Primitive::des_cbc, key) == weak_for_openssl(key));
        key[5] ^= 2;   // another key
        REQUIRE(refused(Primitive::des_cbc, key) == weak_for_openssl(key));
    }
    CHECK(weak > 16);   // 0x00 and 0x01, 0xfe and 0xff are the same but for parity
    std::mt19937 random(1);
    for (int i = 0; i < 10'000; ++i) {
        DesKey key;
        std::ranges::generate(key, [&] { return static_cast<std::uint8_t>(random()); });
        REQUIRE(!refused(Primitive::des_cbc, key));
    }
}

TEST_CASE("triple DES: no weak part, and no two neighbours alike (RFC 2451 §2.6)")
{
    const DesKey a{1, 2, 3, 4, 5, 6, 7, 8}, b{11, 12, 13, 14, 15, 16, 17, 18}, c{21, 22, 23, 24, 25, 26, 27, 28};
    const DesKey weak{0xe0, 0xfe, 0xe0, 0xfe, 0xf1, 0xfe, 0xf1, 0xfe};
    DesKey a_other_parity = a;
    a_other_parity[7] ^= 1;
    CHECK(!refused(Primitive::des3_cbc, joined(a, b, c)));
    CHECK(!refused(Primitive::des3_cbc, joined(a, b, a)));   // two keys: weaker, but triple
    CHECK(refused(Primitive::des3_cbc, joined(a, a, c)));
    CHECK(refused(Primitive::des3_cbc, joined(a, b, b)));
    CHECK(refused(Primitive::des3_cbc, joined(a, a_other_parity, c)));
    CHECK(refused(Primitive::des3_cbc, joined(weak, b, c)));
    CHECK(refused(Primitive::des3_cbc, joined(a, weak, c)));
    CHECK(refused(Primitive::des3_cbc, joined(a, b, weak)));
}

TEST_CASE("other ciphers have no keys to avoid")
{
    const std::vector<std::uint8_t> zero(32, 0);
    CHECK(!refused(Primitive::aes_cbc, Bytes(zero).first(16)));
    CHECK(!refused(Primitive::blowfish_cbc, Bytes(zero).first(5)));
    CHECK(!refused(Primitive::hmac_sha256, zero));
    CHECK(!refused(Primitive::null, {}));
}
