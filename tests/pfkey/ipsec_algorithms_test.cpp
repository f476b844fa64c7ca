// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/algorithms.hpp"

#include <latchkey/algorithms.h>

#include <cerrno>
#include <cstdlib>
#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <vector>

using namespace latchkey;

namespace {

struct Give {
    void operator()(ipsecalgent* entry) const { freeipsecalgent(entry); }
};
using Entry = std::unique_ptr<ipsecalgent, Give>;

int protocol_of(AlgorithmKind kind)
{
    return kind == AlgorithmKind::auth          ? IPSEC_PROTO_AH
           : kind == AlgorithmKind::compression ? IPSEC_PROTO_IPCOMP
                                                : IPSEC_PROTO_ESP;
}

std::vector<int> list(const int* numbers, std::size_t size)
{
    return {numbers, numbers + size};
}

}  // namespace

TEST_CASE("every algorithm is found by its number, its name and each alias, in any case of letters")
{
    for (const auto& row : algorithms) {
        const int protocol = protocol_of(row.kind);
        const Entry entry(getipsecalgbynum(row.sadb_id, protocol, nullptr));
        REQUIRE(entry);
        CHECK(entry->a_alg_num == row.sadb_id);
        CHECK(entry->a_proto_num == protocol);
        CHECK(entry->a_names[0] == row.name);
        CHECK(((entry->a_alg_flags & ALG_FLAG_VALID) != 0) == row.offered());
        std::size_t names = 0;
        for (char** name = entry->a_names; *name != nullptr; ++name, ++names) {
            std::string shouted(*name);
            for (auto& c : shouted)
                c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
            int error = -1;
            const Entry again(getipsecalgbyname(shouted.c_str(), protocol, &error));
            REQUIRE(again);
            CHECK(error == 0);
            CHECK(again->a_alg_num == row.sadb_id);
        }
        CHECK(names >= 1);
    }
}

TEST_CASE("what an entry says: RFC 3602, RFC 4106, RFC 4309, RFC 2404, RFC 2451")
{
    const Entry aes(getipsecalgbyname("aes", IPSEC_PROTO_ESP, nullptr));
    REQUIRE(aes);
    CHECK(list(aes->a_key_sizes, 4) == std::vector{256, 128, 256, 0});
    CHECK(aes->a_key_increment == 64);
    CHECK(list(aes->a_block_sizes, 2) == std::vector{16, 0});
    CHECK(list(aes->a_mech_params, 4) == std::vector{16, 0, 0, 0});
    CHECK(std::string(aes->a_mech_name) == "CKM_AES_CBC");

    const Entry gcm(getipsecalgbynum(20, IPSEC_PROTO_ESP, nullptr));
    REQUIRE(gcm);
    CHECK(list(gcm->a_key_sizes, 4) == std::vector{256, 128, 256, 0});   // the salt is no part of it
    CHECK(list(gcm->a_mech_params, 4) == std::vector{8, 16, 4, 0});
    CHECK((gcm->a_alg_flags & ~ALG_FLAG_VALID) == (ALG_FLAG_COUNTERMODE | ALG_FLAG_COMBINED | ALG_FLAG_GCM));
    const Entry ccm(getipsecalgbynum(14, IPSEC_PROTO_ESP, nullptr));
    REQUIRE(ccm);
    CHECK((ccm->a_alg_flags & ALG_FLAG_CCM) != 0);
    CHECK(list(ccm->a_mech_params, 4) == std::vector{8, 8, 3, 0});

    const Entry sha1(getipsecalgbyname("hmac-sha1", IPSEC_PROTO_AH, nullptr));
    REQUIRE(sha1);
    CHECK(list(sha1->a_key_sizes, 2) == std::vector{160, 0});
    CHECK(sha1->a_key_increment == 0);
    CHECK(list(sha1->a_mech_params, 4) == std::vector{0, 12, 0, 0});
    CHECK(sha1->a_alg_num == 3);

    const Entry blowfish(getipsecalgbyname("blowfish", IPSEC_PROTO_ESP, nullptr));
    REQUIRE(blowfish);
    CHECK(list(blowfish->a_key_sizes, 4) == std::vector{128, 40, 448, 0});
    CHECK(blowfish->a_key_increment == 8);

    const Entry lzs(getipsecalgbyname("lzs", IPSEC_PROTO_IPCOMP, nullptr));
    REQUIRE(lzs);
    CHECK((lzs->a_alg_flags & ALG_FLAG_VALID) == 0);
}

TEST_CASE("what is not found")
{
    int error = 0;
    CHECK(getipsecalgbyname("rot13", IPSEC_PROTO_ESP, &error) == nullptr);
    CHECK(error == ENOENT);
    CHECK(getipsecalgbyname(nullptr, IPSEC_PROTO_ESP, &error) == nullptr);
    CHECK(getipsecalgbyname("aes", IPSEC_PROTO_AH, &error) == nullptr);
    CHECK(error == ENOENT);
    CHECK(getipsecalgbynum(-1, IPSEC_PROTO_ESP, &error) == nullptr);
    CHECK(error == ENOENT);
    CHECK(getipsecalgbynum(12, 0, &error) == nullptr);
    CHECK(error == EINVAL);
    freeipsecalgent(nullptr);
}

TEST_CASE("names of the name spaces")
{
    CHECK(getipsecprotobyname("ESP") == IPSEC_PROTO_ESP);
    CHECK(getipsecprotobyname("ah") == IPSEC_PROTO_AH);
    CHECK(getipsecprotobyname("gre") == -1);
    CHECK(getipsecprotobyname(nullptr) == -1);
    char* name = getipsecprotobynum(IPSEC_PROTO_IPCOMP);
    REQUIRE(name != nullptr);
    CHECK(std::string(name) == "IPCOMP");
    std::free(name);
    CHECK(getipsecprotobynum(1) == nullptr);
}
