// SPDX-License-Identifier: BSD-2-Clause
// Truth from elsewhere: draft-mcgrew-gcm-test-01, RFC 2202 and RFC 4868. AES-CBC: see esp_test.cpp.
#include "stack/crypto.hpp"

#include "tests/stack/esp_support.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace latchkey;
using namespace latchkey::test;

TEST_CASE("draft-mcgrew-gcm-test: the cipher gives these bytes")
{
    const crypto::Library library;
    for (const auto& vector : gcm_vectors()) {
        const auto& plain = vector.plain;
        CAPTURE(plain.size());
        auto cipher = library.make_cipher(Primitive::aes_gcm, vector.key, crypto::Cipher::Side::encrypt);
        REQUIRE(cipher);
        for (int again = 0; again < 2; ++again) {   // the second packet of a context starts as clean as the first
            Buffer sealed(plain.size()), icv(16);
            std::size_t written = 0;
            REQUIRE(cipher->start(vector.nonce));
            REQUIRE(cipher->associate(vector.associated));
            REQUIRE(cipher->update(plain, sealed, written));
            REQUIRE(cipher->finish());
            REQUIRE(cipher->read_icv(icv));
            CHECK(written == plain.size());
            CHECK(sealed == vector.sealed);
            CHECK(icv == vector.icv);
        }
    }
}

TEST_CASE("RFC 2202 and RFC 4868: HMAC")
{
    struct Vector {
        Primitive primitive;
        Buffer key, data;
        std::string_view mac;
    };
    const auto text = [](std::string_view s) { return Buffer(s.begin(), s.end()); };
    const auto rising = [](std::size_t n) {
        Buffer bytes(n);
        for (std::size_t i = 0; i < n; ++i)
            bytes[i] = static_cast<std::uint8_t>(i + 1);
        return bytes;
    };
    const std::vector<Vector> vectors = {
        {Primitive::hmac_sha1, Buffer(20, 0x0b), text("Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00"},
        {Primitive::hmac_sha1, text("Jefe"), text("what do ya want for nothing?"),
         "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        {Primitive::hmac_sha1, Buffer(20, 0xaa), Buffer(50, 0xdd), "125d7342b9ac11cd91a39af48aa17b4f63f175d3"},
        {Primitive::hmac_sha1, rising(25), Buffer(50, 0xcd), "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
        {Primitive::hmac_sha256, Buffer(32, 0x0b), text("Hi There"),
         "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"},
        {Primitive::hmac_sha256, text("JefeJefeJefeJefeJefeJefeJefeJefe"), text("what do ya want for nothing?"),
         "167f928588c5cc2eef8e3093caa0e87c9ff566a14794aa61648d81621a2a40c6"},
        {Primitive::hmac_sha256, Buffer(32, 0xaa), Buffer(50, 0xdd),
         "cdcb1220d1ecccea91e53aba3092f962e549fe6ce9ed7fdc43191fbde45c30b0"},
        {Primitive::hmac_sha256, rising(32), Buffer(50, 0xcd),
         "372efcf9b40b35c2115b1346903d2ef42fced46f0846e7257bb156d3d7b30d3f"},
    };
    const crypto::Library library;
    for (const auto& vector : vectors) {
        CAPTURE(vector.mac);
        auto mac = library.make_mac(vector.primitive, vector.key);
        REQUIRE(mac);
        const auto expected = from_hex(vector.mac);
        for (std::size_t cut = 0; cut <= vector.data.size(); ++cut) {
            Buffer whole(expected.size()), truncated(12);
            const auto first = Bytes(vector.data).first(cut), second = Bytes(vector.data).subspan(cut);
            REQUIRE(mac->compute(first, second, whole));
            REQUIRE(mac->compute(first, second, truncated));
            CHECK(whole == expected);
            CHECK(std::equal(truncated.begin(), truncated.end(), expected.begin()));
        }
    }
    CHECK_FALSE(library.make_mac(Primitive::aes_cbc, Buffer(16)));
    CHECK_FALSE(library.make_mac(Primitive::hmac_sha1, {}));
    CHECK_FALSE(library.make_cipher(Primitive::aes_gcm, Buffer(20), crypto::Cipher::Side::encrypt));
    CHECK_FALSE(library.make_cipher(Primitive::null, {}, crypto::Cipher::Side::encrypt));
}
