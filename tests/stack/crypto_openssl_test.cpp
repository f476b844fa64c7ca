// SPDX-License-Identifier: BSD-2-Clause
// Truth from elsewhere: the documents named at each case. AES-CBC: see esp_test.cpp.
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

TEST_CASE("RFC 2202, RFC 2286 and RFC 4868: HMAC")
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
        {Primitive::hmac_md5, Buffer(16, 0x0b), text("Hi There"), "9294727a3638bb1c13f48ef8158bfc9d"},
        {Primitive::hmac_md5, text("Jefe"), text("what do ya want for nothing?"), "750c783e6ab0b503eaa86e310a5db738"},
        {Primitive::hmac_md5, Buffer(16, 0xaa), Buffer(50, 0xdd), "56be34521d144c88dbb8c733f0e8b3f6"},
        {Primitive::hmac_md5, rising(25), Buffer(50, 0xcd), "697eaf0aca3a3aea3a75164746ffaa79"},
        {Primitive::hmac_ripemd160, Buffer(20, 0x0b), text("Hi There"), "24cb4bd67d20fc1a5d2ed7732dcc39377f0a5668"},
        {Primitive::hmac_ripemd160, text("Jefe"), text("what do ya want for nothing?"),
         "dda6c0213a485a9e24f4742064a7f033b43c4069"},
        {Primitive::hmac_ripemd160, Buffer(20, 0xaa), Buffer(50, 0xdd), "b0b105360de759960ab4f35298e116e295d8e7c1"},
        {Primitive::hmac_ripemd160, rising(25), Buffer(50, 0xcd), "d5ca862f4d21d5e610e18b4cf1beb97a4365ecf4"},
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
        {Primitive::hmac_sha384, Buffer(48, 0x0b), text("Hi There"),
         "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2"},
        {Primitive::hmac_sha512, Buffer(64, 0x0b), text("Hi There"),
         "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1"
         "be65aea45fd464e89f8f5b"},
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

namespace {

// What a cipher makes of one packet; `iv` is the whole nonce.
Buffer encrypted(const crypto::Library& library, Primitive primitive, const Buffer& key, const Buffer& iv,
                 const Buffer& plain)
{
    auto cipher = library.make_cipher(primitive, key, crypto::Cipher::Side::encrypt);
    REQUIRE(cipher);
    Buffer out(plain.size());
    for (int again = 0; again < 2; ++again) {
        std::size_t written = 0;
        REQUIRE(cipher->start(iv));
        REQUIRE(cipher->update(plain, out, written));
        REQUIRE(cipher->finish());
        CHECK(written == plain.size());
    }
    auto back = library.make_cipher(primitive, key, crypto::Cipher::Side::decrypt);
    REQUIRE(back);
    Buffer again(out);
    std::size_t written = 0;
    REQUIRE(back->start(iv));
    REQUIRE(back->update(again, again, written));
    REQUIRE(back->finish());
    CHECK(again == plain);
    return out;
}

}  // namespace

TEST_CASE("CBC ciphers: FIPS 81, the vectors of SSLeay, RFC 2144, RFC 3713")
{
    struct Vector {
        Primitive primitive;
        std::string_view key, iv, plain, cipher;
    };
    static constexpr std::string_view now_is = "37363534333231204e6f77206973207468652074696d6520666f722000000000";
    static constexpr Vector vectors[] = {
        {Primitive::des_cbc, "0123456789abcdef", "1234567890abcdef", "4e6f77206973207468652074696d6520666f7220616c6c20",
         "e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"},
        {Primitive::des3_cbc, "0123456789abcdeff1e0d3c2b5a49786fedcba9876543210", "fedcba9876543210", now_is,
         "3fe301c962ac01d02213763c1cbd4cdc799657c064ecf5d41c673812cfde9675"},
        {Primitive::blowfish_cbc, "0123456789abcdeff0e1d2c3b4a59687", "fedcba9876543210", now_is,
         "6b77b4d63006dee605b156e27403979358deb9e7154616d959f1652bd5ff92cc"},
        // One block from a zero IV is what ECB gives.
        {Primitive::cast_cbc, "0123456712345678234567893456789a", "0000000000000000", "0123456789abcdef",
         "238b4fe5847e44b2"},
        {Primitive::cast_cbc, "01234567123456782345", "0000000000000000", "0123456789abcdef", "eb6a711a2c02271b"},
        {Primitive::cast_cbc, "0123456712", "0000000000000000", "0123456789abcdef", "7ac816d16e9b302e"},
        {Primitive::camellia_cbc, "0123456789abcdeffedcba9876543210", "00000000000000000000000000000000",
         "0123456789abcdeffedcba9876543210", "67673138549669730857065648eabe43"},
        {Primitive::camellia_cbc, "0123456789abcdeffedcba98765432100011223344556677",
         "00000000000000000000000000000000", "0123456789abcdeffedcba9876543210", "b4993401b3e996f84ee5cee7d79b09b9"},
        {Primitive::camellia_cbc, "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff",
         "00000000000000000000000000000000", "0123456789abcdeffedcba9876543210", "9acc237dff16d76c20ef7c919e3a7509"},
    };
    const crypto::Library library;
    for (const auto& vector : vectors) {
        CAPTURE(vector.cipher);
        CHECK(encrypted(library, vector.primitive, from_hex(vector.key), from_hex(vector.iv), from_hex(vector.plain)) ==
              from_hex(vector.cipher));
    }
}

TEST_CASE("RFC 3686: AES-CTR, nonce and IV and the block counter 1")
{
    struct Vector {
        std::string_view key, nonce, iv, plain, cipher;
    };
    static constexpr Vector vectors[] = {
        {"ae6852f8121067cc4bf7a5765577f39e", "00000030", "0000000000000000", "53696e676c6520626c6f636b206d7367",
         "e4095d4fb7a7b3792d6175a3261311b8"},
        {"7e24067817fae0d743d6ce1f32539163", "006cb6db", "c0543b59da48d90b",
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
         "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28"},
        {"7691be035e5020a8ac6e618529f9a0dc", "00e0017b", "27777f3f4a1786f0",
         "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
         "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f"},
        {"16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515", "00000048", "36733c147d6d93cb",
         "53696e676c6520626c6f636b206d7367", "4b55384fe259c9c84e7935a003cbe928"},
        {"776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104", "00000060", "db5672c97aa8f0b2",
         "53696e676c6520626c6f636b206d7367", "145ad01dbf824ec7560863dc71e3e0c0"},
    };
    const crypto::Library library;
    for (const auto& vector : vectors) {
        CAPTURE(vector.cipher);
        const auto block = joined({from_hex(vector.nonce), from_hex(vector.iv), from_hex("00000001")});
        CHECK(encrypted(library, Primitive::aes_ctr, from_hex(vector.key), block, from_hex(vector.plain)) ==
              from_hex(vector.cipher));
    }
}

TEST_CASE("RFC 3566: AES-XCBC-MAC-96 and its whole MAC, however the data is cut")
{
    struct Vector {
        Buffer data;
        std::string_view mac;
    };
    const auto rising = [](std::size_t n) {
        Buffer bytes(n);
        for (std::size_t i = 0; i < n; ++i)
            bytes[i] = static_cast<std::uint8_t>(i);
        return bytes;
    };
    const std::vector<Vector> vectors = {
        {{}, "75f0251d528ac01c4573dfd584d79f29"},          {rising(3), "5b376580ae2f19afe7219ceef172756f"},
        {rising(16), "d2a246fa349b68a79998a4394ff7a263"},  {rising(20), "47f51b4564966215b8985c63055ed308"},
        {rising(32), "f54f0ec8d2b9f3d36807734bd5283fd4"},  {rising(34), "becbb3bccdb518a30677d5481fb6b4d8"},
        {Buffer(1000), "f0dafee895db30253761103b5d84528f"},
    };
    const crypto::Library library;
    auto mac = library.make_mac(Primitive::aes_xcbc, rising(16));
    REQUIRE(mac);
    for (const auto& vector : vectors) {
        CAPTURE(vector.data.size());
        const auto expected = from_hex(vector.mac);
        for (std::size_t cut = 0; cut <= vector.data.size(); ++cut) {
            Buffer whole(16), truncated(12);
            const auto first = Bytes(vector.data).first(cut), second = Bytes(vector.data).subspan(cut);
            REQUIRE(mac->compute(first, second, whole));
            CHECK(whole == expected);
            REQUIRE(mac->start());
            for (auto rest = Bytes(vector.data); !rest.empty();) {
                const auto piece = rest.first(std::min(rest.size(), cut % 37 + 1));
                REQUIRE(mac->update(piece));
                rest = rest.subspan(piece.size());
            }
            REQUIRE(mac->finish(truncated));
            CHECK(std::equal(truncated.begin(), truncated.end(), expected.begin()));
        }
    }
    CHECK_FALSE(library.make_mac(Primitive::aes_xcbc, Buffer(24)));
}

TEST_CASE("keyed digests: the digest of key, its padding, data and key again (RFC 1828, RFC 1852)")
{
    const crypto::Library library;
    for (const auto& [primitive, name] : {std::pair{Primitive::keyed_md5, "MD5"}, {Primitive::keyed_sha1, "SHA1"}}) {
        const bool md5 = primitive == Primitive::keyed_md5;
        for (const std::size_t size : {1u, 16u, 20u, 55u}) {
            CAPTURE(name);
            CAPTURE(size);
            const auto key = counted(size), data = counted(100);
            Buffer fill(64 - size);
            fill[0] = 0x80;
            const auto bits = static_cast<std::uint16_t>(size * 8);   // MD5 little-endian, SHA-1 big-endian
            fill[fill.size() - (md5 ? 8 : 1)] = static_cast<std::uint8_t>(bits);
            fill[fill.size() - (md5 ? 7 : 2)] = static_cast<std::uint8_t>(bits >> 8);
            const auto all = joined({key, fill, data, key});
            Buffer expected(md5 ? 16 : 20);
            unsigned length = 0;
            const auto* digest = EVP_get_digestbyname(name);
            REQUIRE(EVP_Digest(all.data(), all.size(), expected.data(), &length, digest, nullptr) == 1);
            auto mac = library.make_mac(primitive, key);
            REQUIRE(mac);
            for (int again = 0; again < 2; ++again) {
                Buffer whole(expected.size()), truncated(12), too_long(expected.size() + 1);
                REQUIRE(mac->compute(Bytes(data).first(33), Bytes(data).subspan(33), whole));
                CHECK(whole == expected);
                REQUIRE(mac->compute(data, {}, truncated));
                CHECK(std::equal(truncated.begin(), truncated.end(), expected.begin()));
                CHECK_FALSE(mac->compute(data, {}, too_long));
            }
        }
        CHECK_FALSE(library.make_mac(primitive, Buffer(56)));
    }
}

namespace {

// RFC 3610 from its parts: CBC-MAC over the formatted blocks, counter mode from counter 0 over MAC and text.
Buffer ccm(const crypto::Library& library, const Buffer& key, const Buffer& nonce, const Buffer& data,
           const Buffer& plain, std::size_t icv)
{
    constexpr std::uint8_t length_size = 4;
    Buffer blocks{static_cast<std::uint8_t>(0x40 | (icv - 2) / 2 << 3 | (length_size - 1))};
    const auto append = [&](const Buffer& bytes) { blocks.insert(blocks.end(), bytes.begin(), bytes.end()); };
    const auto fill = [&] { blocks.resize((blocks.size() + 15) / 16 * 16); };
    append(nonce);
    append({0, 0, static_cast<std::uint8_t>(plain.size() >> 8), static_cast<std::uint8_t>(plain.size())});
    append({0, static_cast<std::uint8_t>(data.size())});
    append(data);
    fill();
    append(plain);
    fill();
    const auto chained = encrypted(library, Primitive::aes_cbc, key, Buffer(16), blocks);
    const Buffer mac(chained.end() - 16, chained.end());
    const auto counter = joined({{length_size - 1}, nonce, Buffer(4)});
    const auto hidden = encrypted(library, Primitive::aes_ctr, key, counter, joined({mac, plain}));
    Buffer sealed(hidden.begin() + 16, hidden.end());
    sealed.insert(sealed.end(), hidden.begin(), hidden.begin() + static_cast<std::ptrdiff_t>(icv));
    return sealed;
}

}  // namespace

TEST_CASE("RFC 3610: CCM with the nonce of RFC 4309, sealed and opened")
{
    const crypto::Library library;
    for (const std::size_t icv : {8u, 12u, 16u})
        for (const std::size_t key_size : {16u, 24u, 32u}) {
            const auto key = counted(key_size), plain = counted(300), nonce = counted(11), data = counted(12);
            const auto expected = ccm(library, key, nonce, data, plain, icv);
            auto seal = library.make_cipher(Primitive::aes_ccm, key, crypto::Cipher::Side::encrypt, icv);
            auto open = library.make_cipher(Primitive::aes_ccm, key, crypto::Cipher::Side::decrypt, icv);
            REQUIRE(seal);
            REQUIRE(open);
            for (int again = 0; again < 2; ++again) {
                Buffer text(plain), tag(icv);
                std::size_t written = 0;
                REQUIRE(seal->start(nonce));
                REQUIRE(seal->expect_size(text.size()));
                REQUIRE(seal->associate(data));
                REQUIRE(seal->update(text, text, written));
                REQUIRE(seal->finish());
                REQUIRE(seal->read_icv(tag));
                CHECK(joined({text, tag}) == expected);
                for (const bool good : {false, true}) {
                    Buffer copy(text), mine(tag);
                    mine[0] ^= good ? 0 : 1;
                    written = 0;
                    REQUIRE(open->start(nonce));
                    REQUIRE(open->expect_icv(mine));
                    REQUIRE(open->expect_size(copy.size()));
                    REQUIRE(open->associate(data));
                    CHECK(open->update(copy, copy, written) == good);
                    if (good)
                        CHECK(copy == plain);
                }
            }
        }
}
