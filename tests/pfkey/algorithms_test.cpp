// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/algorithms.hpp"

#include <doctest/doctest.h>
#include <map>
#include <string>

using namespace latchkey;

namespace {

const Algorithm& cipher(std::string_view name)
{
    const auto* row = algorithm_by_name(AlgorithmKind::cipher, name);
    REQUIRE_MESSAGE(row != nullptr, name);
    return *row;
}

const Algorithm& auth(std::string_view name)
{
    const auto* row = algorithm_by_name(AlgorithmKind::auth, name);
    REQUIRE_MESSAGE(row != nullptr, name);
    return *row;
}

}  // namespace

TEST_CASE("numbers as they stand in messages")
{
    // Literals, not the macros that the table is written with; tests/include compares those with <linux/pfkeyv2.h>.
    const std::map<std::string, unsigned> ciphers{
        {"des-cbc", 2},     {"3des-cbc", 3},      {"cast128-cbc", 6}, {"blowfish-cbc", 7},
        {"null", 11},       {"aes-cbc", 12},      {"aes-ctr", 13},    {"aes-ccm-8", 14},
        {"aes-ccm-12", 15}, {"aes-ccm-16", 16},   {"aes-gcm-8", 18},  {"aes-gcm-12", 19},
        {"aes-gcm-16", 20}, {"camellia-cbc", 22}, {"aes-gmac", 23},   {"twofish-cbc", 253}};
    for (const auto& [name, id] : ciphers)
        CHECK_MESSAGE(cipher(name).sadb_id == id, name);
    const std::map<std::string, unsigned> auths{{"hmac-md5", 2},     {"hmac-sha1", 3},   {"hmac-sha256", 5},
                                                {"hmac-sha384", 6},  {"hmac-sha512", 7}, {"hmac-ripemd160", 8},
                                                {"aes-xcbc-mac", 9}, {"keyed-md5", 249}, {"keyed-sha1", 250},
                                                {"null", 251},       {"tcp-md5", 252}};
    for (const auto& [name, id] : auths)
        CHECK_MESSAGE(auth(name).sadb_id == id, name);
    CHECK(algorithm_by_name(AlgorithmKind::compression, "deflate")->sadb_id == 2);
    CHECK(algorithm_by_name(AlgorithmKind::compression, "lzs")->sadb_id == 3);
}

TEST_CASE("IKEv2 transform ids are IANA's")
{
    // https://www.iana.org/assignments/ikev2-parameters: transform types 1 (encryption) and 3 (integrity).
    const std::map<std::string, unsigned> encryption{
        {"des-cbc", 2},     {"3des-cbc", 3},    {"cast128-cbc", 6},   {"blowfish-cbc", 7},
        {"null", 11},       {"aes-cbc", 12},    {"aes-ctr", 13},      {"aes-ccm-8", 14},
        {"aes-ccm-12", 15}, {"aes-ccm-16", 16}, {"aes-gcm-8", 18},    {"aes-gcm-12", 19},
        {"aes-gcm-16", 20}, {"aes-gmac", 21},   {"camellia-cbc", 23}, {"chacha20-poly1305", 28}};
    for (const auto& [name, id] : encryption)
        CHECK_MESSAGE(cipher(name).ike2_id == id, name);
    const std::map<std::string, unsigned> integrity{{"hmac-md5", 1},     {"hmac-sha1", 2},    {"aes-xcbc-mac", 5},
                                                    {"hmac-sha256", 12}, {"hmac-sha384", 13}, {"hmac-sha512", 14}};
    for (const auto& [name, id] : integrity)
        CHECK_MESSAGE(auth(name).ike2_id == id, name);
}

TEST_CASE("names and aliases, also of combined modes among the ciphers")
{
    CHECK(&cipher("rijndael-cbc") == &cipher("aes-cbc"));
    CHECK(&cipher("aes-gcm16") == &cipher("aes-gcm-16"));
    CHECK(cipher("aes-gcm-16").kind == AlgorithmKind::aead);
    CHECK(&auth("hmac-sha2-256") == &auth("hmac-sha256"));
    CHECK(algorithm_by_name(AlgorithmKind::cipher, "hmac-sha1") == nullptr);
    CHECK(algorithm_by_name(AlgorithmKind::auth, "aes-cbc") == nullptr);
    CHECK(algorithm_by_name(AlgorithmKind::cipher, "aes") != nullptr);
    CHECK(algorithm_by_name(AlgorithmKind::cipher, "aes-gcm16 aes-gcm") == nullptr);
    CHECK(algorithm_by_name(AlgorithmKind::cipher, "") == nullptr);
    CHECK(algorithm_by_name(AlgorithmKind::auth, "AES-CBC") == nullptr);
    CHECK(algorithm_by_id(AlgorithmKind::cipher, 20) == algorithm_by_id(AlgorithmKind::aead, 20));
    CHECK(algorithm_by_id(AlgorithmKind::cipher, 200) == nullptr);
    CHECK(&auth("null") != &cipher("null"));
}

TEST_CASE("key lengths form the sets that NetBSD's tests and RFC 4106 ask for")
{
    const auto legal = [](const Algorithm& row) {
        std::string out;
        for (unsigned bits = 0; bits <= 4096; ++bits)
            if (row.key_bits_ok(bits))
                out += std::to_string(bits) + " ";
        return out;
    };
    CHECK(legal(cipher("des-cbc")) == "64 ");
    CHECK(legal(cipher("3des-cbc")) == "192 ");
    CHECK(legal(cipher("aes-cbc")) == "128 192 256 ");
    CHECK(legal(cipher("camellia-cbc")) == "128 192 256 ");
    CHECK(legal(cipher("aes-ctr")) == "160 224 288 ");
    CHECK(legal(cipher("aes-gcm-16")) == "160 224 288 ");
    CHECK(legal(cipher("aes-gmac")) == "160 224 288 ");
    CHECK(legal(cipher("aes-ccm-16")) == "152 216 280 ");
    CHECK(legal(cipher("chacha20-poly1305")) == "288 ");
    CHECK(legal(auth("hmac-sha1")) == "160 ");
    CHECK(legal(auth("hmac-sha256")) == "256 ");
    CHECK(legal(auth("hmac-sha384")) == "384 ");
    CHECK(legal(auth("hmac-sha512")) == "512 ");
    CHECK(legal(*algorithm_by_name(AlgorithmKind::compression, "deflate")) == "0 ");
    CHECK(cipher("null").key_bits_ok(0));
    CHECK(auth("null").key_bits_ok(0));
    CHECK(cipher("blowfish-cbc").key_bits_ok(40));
    CHECK(cipher("blowfish-cbc").key_bits_ok(448));
    CHECK_FALSE(cipher("blowfish-cbc").key_bits_ok(44));
    CHECK_FALSE(cipher("blowfish-cbc").key_bits_ok(456));
}

TEST_CASE("sizes on the wire: RFC 2403, 2404, 2857, 3566, 3602, 3686, 4106, 4309, 4543, 4868, 7634; keyed digests: KAME")
{
    CHECK(auth("hmac-sha1").icv == 12);
    CHECK(auth("hmac-sha256").icv == 16);
    CHECK(auth("hmac-sha384").icv == 24);
    CHECK(auth("hmac-sha512").icv == 32);
    for (const auto* name : {"hmac-md5", "hmac-ripemd160", "aes-xcbc-mac", "keyed-md5", "keyed-sha1"})   // 96 bits
        CHECK(auth(name).icv == 12);
    CHECK(auth("null").icv == 0);
    CHECK(cipher("aes-cbc").iv == 16);
    CHECK(cipher("aes-cbc").block == 16);
    CHECK(cipher("aes-gcm-16").iv == 8);
    CHECK(cipher("aes-gcm-16").icv == 16);
    CHECK(cipher("aes-gcm-16").salt == 4);
    CHECK(cipher("aes-gcm-16").block == 4);
    CHECK(cipher("chacha20-poly1305").salt == 4);
    CHECK(cipher("chacha20-poly1305").iv == 8);
    CHECK(cipher("aes-ccm-16").salt == 3);
    CHECK(cipher("null").block == 4);
    for (const auto* name : {"des-cbc", "3des-cbc", "cast128-cbc", "blowfish-cbc"}) {
        CHECK(cipher(name).iv == 8);
        CHECK(cipher(name).block == 8);
        CHECK(cipher(name).icv == 0);
    }
    CHECK(cipher("camellia-cbc").iv == 16);
    CHECK(cipher("aes-ctr").iv == 8);
    CHECK(cipher("aes-ctr").salt == 4);
    CHECK(cipher("aes-ctr").block == 4);
    CHECK(cipher("aes-gmac").iv == 8);
    CHECK(cipher("aes-gmac").salt == 4);
    for (const unsigned icv : {8u, 12u, 16u})
        for (const auto* mode : {"aes-gcm-", "aes-ccm-"})
            CHECK(cipher(mode + std::to_string(icv)).icv == icv);
}

TEST_CASE("what can be run, and what may not see a sequence number twice")
{
    std::string idle, counting;
    for (const auto& row : algorithms) {
        if (!row.offered())
            idle += std::string(row.name) + " ";
        if (row.counts())
            counting += std::string(row.name) + " ";
    }
    CHECK(idle == "twofish-cbc tcp-md5 oui lzs ");
    CHECK(counting == "aes-ctr aes-ccm-8 aes-ccm-12 aes-ccm-16 aes-gcm-8 aes-gcm-12 aes-gcm-16 aes-gmac "
                      "chacha20-poly1305 ");
}
