// SPDX-License-Identifier: BSD-2-Clause
// The texts are compared here; that every JSON parser takes them is checked with python's in tests/scenarios.
#include "script.hpp"

#include "setkey/json.hpp"
#include "setkey/json_writer.hpp"

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

std::string quoted(std::string_view text)
{
    std::string out;
    append_json_text(out, text);
    return out;
}

std::string sa_text(const Message& m, bool keys = false)
{
    std::string out;
    append_json_sa(out, m, {keys});
    return out;
}

std::string policy_text(const Message& m)
{
    std::string out;
    append_json_policy(out, m);
    return out;
}

std::string record_text(const Message& m, bool keys = false)
{
    std::string out;
    append_json_record(out, m.bytes(), -1, {keys});
    return out;
}

bool contains(const std::string& text, std::string_view part)
{
    return text.find(part) != text.npos;
}

AddressExt address(std::string_view text, std::uint8_t protocol = 255, std::uint16_t port = 0)
{
    const auto parsed = *Address::parse(text);
    return {protocol, static_cast<std::uint8_t>(parsed.bits()), {parsed, port}};
}

const std::vector<std::uint8_t> key_bytes{0xde, 0xad, 0xbe, 0xef};

Message full_sa()
{
    Message m;
    m.satype = SADB_SATYPE_ESP;
    m.seq = 3;
    m.pid = 4;
    m.sa = SaExt{4096, 255, SADB_SASTATE_DYING, SADB_X_AALG_SHA2_256HMAC, SADB_X_EALG_AESCBC,
                 SADB_X_EXT_CYCSEQ | SADB_X_SAFLAGS_ESN | 0x8};
    m.sa_replay = 4096;
    m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 77, 5};
    m.source = address("10.0.0.1");
    m.destination = address("2001:db8::1");
    m.cipher_key = m.auth_key = KeyExt{32, key_bytes};
    m.current = Lifetime{1, ~std::uint64_t{0}, 3, 4};
    m.hard = Lifetime{5, 6, 7, 8};
    return m;
}

}  // namespace

TEST_CASE("strings: always valid UTF-8, whatever comes")
{
    CHECK(quoted("plain") == "\"plain\"");
    CHECK(quoted("\"\\\n\x01\x7f") == "\"\\\"\\\\\\u000a\\u0001\\u007f\"");
    CHECK(quoted("ä€😀") == "\"ä€😀\"");
    const char* broken[] = {"\x80", "\xc3", "\xc0\xaf", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88", "\xff"};
    for (const std::string_view text : broken) {
        CAPTURE(text.size());
        std::string expected;
        for (std::size_t i = 0; i < text.size(); ++i)
            expected += "\\ufffd";
        CHECK(quoted(text) == '"' + expected + '"');
    }
    CHECK(quoted("a\xff" "b") == "\"a\\ufffdb\"");
}

TEST_CASE("an SA: every member, in order")
{
    CHECK(sa_text(full_sa()) ==
          R"({"source": {"address": "10.0.0.1", "port": 0}, "destination": {"address": "2001:db8::1", "port": 0}, )"
          R"("protocol": "esp", "mode": "tunnel", "spi": 4096, "reqid": 5, "state": "dying", )"
          R"("flags": ["cyclic-seq", "esn", "0x8"], "flags_value": 1096, )"
          R"("encryption": {"algorithm": "aes-cbc", "id": 12, "key_bits": 32}, )"
          R"("authentication": {"algorithm": "hmac-sha256", "id": 5, "key_bits": 32}, "compression": null, )"
          R"("replay": {"window": 4096, "sequence": 77}, "nat_traversal": null, "lifetimes": )"
          R"({"current": {"allocations": 1, "bytes": 18446744073709551615, "addtime": 3, "usetime": 4}, )"
          R"("hard": {"allocations": 5, "bytes": 6, "addtime": 7, "usetime": 8}, )"
          R"("soft": {"allocations": 0, "bytes": 0, "addtime": 0, "usetime": 0}}, "proxy": null, )"
          R"("identities": {"source": null, "destination": null}, "seq": 3, "pid": 4})");
}

TEST_CASE("keys only when they are asked for")
{
    CHECK_FALSE(contains(sa_text(full_sa()), "deadbeef"));
    const auto text = sa_text(full_sa(), true);
    CHECK(contains(text, R"("encryption": {"algorithm": "aes-cbc", "id": 12, "key_bits": 32, "key": "deadbeef"})"));
    CHECK(contains(text, R"("authentication": {"algorithm": "hmac-sha256", "id": 5, "key_bits": 32, "key": "deadbeef"})"));
    auto add = full_sa();
    add.type = SADB_ADD;
    CHECK_FALSE(contains(record_text(add), "deadbeef"));
    CHECK(contains(record_text(add, true), R"("key_encrypt": {"bits": 32, "key": "deadbeef"})"));
}

TEST_CASE("NAT traversal, IPComp, AH, identities, a proxy")
{
    auto m = full_sa();
    m.natt_type = 2;
    m.natt_source_port = 4500;
    m.natt_destination_port = 4501;
    m.natt_original = address("192.168.0.1");
    m.natt_fragment = 1400;
    m.proxy = address("10.9.0.0");
    m.source_identity = IdentityExt{SADB_IDENTTYPE_FQDN, 9, "gw.\"example\""};
    m.destination_identity = IdentityExt{99, 0, "a\xff"};
    auto text = sa_text(m);
    CHECK(contains(text, R"("source": {"address": "10.0.0.1", "port": 4500}, "destination": {"address": "2001:db8::1", "port": 4501})"));
    CHECK(contains(text, R"("nat_traversal": {"type": "esp-udp", "source_port": 4500, "destination_port": 4501, )"
                         R"("original_source": {"address": "192.168.0.1", "port": 0}, "original_destination": null, )"
                         R"("fragment": 1400})"));
    CHECK(contains(text, R"("proxy": {"address": "10.9.0.0", "port": 0})"));
    CHECK(contains(text, R"("source": {"type": "fqdn", "id": 9, "text": "gw.\"example\""})"));
    CHECK(contains(text, R"("destination": {"type": "99", "id": 0, "text": "a\ufffd", "hex": "61ff"})"));

    m = full_sa();
    m.satype = SADB_X_SATYPE_IPCOMP;
    m.sa->encrypt = SADB_X_CALG_DEFLATE;
    m.sa->auth = 0;
    CHECK(contains(sa_text(m), R"("encryption": null, "authentication": null, "compression": {"algorithm": "deflate", "id": 2})"));
    m.satype = SADB_SATYPE_AH;
    m.sa->encrypt = 0;
    m.sa->auth = 77;
    CHECK(contains(sa_text(m), R"("encryption": null, "authentication": {"algorithm": "77", "id": 77, "key_bits": 32})"));
}

TEST_CASE("policies")
{
    const auto parsed = parse("spdadd 10.0.1.0/24[any] 10.0.2.1[80] tcp -P out prio def + 1 ipsec "
                              "esp/tunnel/20.0.0.1-20.0.0.2/unique:7 ah/transport//require;"
                              "spdadd ::/0 ::/0 icmp6 135,0 -P in discard;"
                              "spdadd 10.0.0.1 10.0.0.2 any -P fwd none;");
    std::vector<std::string> texts;
    for (const auto& command : parsed.commands)
        build(command, {false}, [&](Message m, bool) {
            m.policy->id = 9;
            m.current = Lifetime{0, 0, 11, 12};
            m.hard = Lifetime{0, 0, 13, 14};
            texts.push_back(policy_text(m));
        });
    REQUIRE(texts.size() == 3);
    CHECK(texts[0] ==
          R"({"direction": "out", "action": "ipsec", "id": 9, "priority": 2147483647, "rules": [)"
          R"({"protocol": "esp", "mode": "tunnel", "level": "unique", "reqid": 7, )"
          R"("source": {"address": "20.0.0.1", "port": 0}, "destination": {"address": "20.0.0.2", "port": 0}}, )"
          R"({"protocol": "ah", "mode": "transport", "level": "require", "reqid": 0, "source": null, "destination": null}], )"
          R"("per_socket": false, "source": {"address": "10.0.1.0", "prefix_length": 24, "port": null}, )"
          R"("destination": {"address": "10.0.2.1", "prefix_length": 32, "port": 80}, )"
          R"("protocol": {"number": 6, "name": "tcp"}, "icmp": null, "gre_key": null, )"
          R"("created": 11, "last_used": 12, "lifetime": 13, "validtime": 14, "seq": 0, "pid": 0})");
    CHECK(contains(texts[1], R"("direction": "in", "action": "discard", "id": 9, "priority": 2147483648, "rules": [])"));
    CHECK(contains(texts[1], R"("protocol": {"number": 58, "name": "ipv6-icmp"}, "icmp": {"type": 135, "code": 0})"));
    CHECK(contains(texts[2], R"("direction": "fwd", "action": "none")"));
    CHECK(contains(texts[2], R"("protocol": {"number": 255, "name": "any"})"));

    Message socket;
    socket.policy = PolicyExt{IPSEC_POLICY_BYPASS, IPSEC_DIR_INBOUND, 11, 0, {}};
    CHECK(contains(policy_text(socket), R"("action": "bypass", "id": 11, "priority": 0, "rules": [], )"
                                        R"("per_socket": true, "source": null, "destination": null, "protocol": null, )"));
    socket.policy->type = 99;
    CHECK(contains(policy_text(socket), R"("action": "99")"));

    auto gre = socket;
    gre.source = address("10.0.0.1", 47, 0x1234);
    gre.destination = address("10.0.0.2", 47, 0x5678);
    CHECK(contains(policy_text(gre), R"("icmp": null, "gre_key": 305419896)"));
}

TEST_CASE("any record: a member per extension")
{
    Message m = full_sa();
    m.type = SADB_EXPIRE;
    m.error = 17;
    Combination combination;
    combination.auth = SADB_AALG_SHA1HMAC;
    combination.encrypt = SADB_X_EALG_AESCBC;
    combination.encrypt_min = 128;
    m.proposal = ProposalExt{4, {combination}};
    m.supported_auth = {{3, 0, 160, 160}};
    m.spi_range = SpiRangeExt{256, 511};
    m.natt_source_port = 4500;
    m.reason = "no\tway";
    m.km_private = Bytes(key_bytes);
    const auto text = record_text(m);
    for (const auto* part :
         {R"({"message": "EXPIRE", "type": 8, "satype": "esp", "errno": 17, "seq": 3, "pid": 4)",
          R"("sa": {"spi": 4096, "replay": 255, "state": "dying", "encrypt": "aes-cbc", "auth": "hmac-sha256", )",
          R"("x_sa2": {"mode": "tunnel", "reqid": 5, "sequence": 77})",
          R"("lifetime_hard": {"allocations": 5, "bytes": 6, "addtime": 7, "usetime": 8})",
          R"("address_src": {"address": "10.0.0.1", "prefix_length": 32, "port": 0, "protocol": 255})",
          R"("proposal": {"replay": 4, "combinations": [{"encrypt": "aes-cbc", "encrypt_min_bits": 128, )",
          R"("supported_auth": [{"id": 3, "iv_bytes": 0, "min_bits": 160, "max_bits": 160}])",
          R"("spirange": {"min": 256, "max": 511})", R"("x_nat_t_sport": 4500)", R"("x_sa_replay": 4096)",
          R"("x_reason": "no\u0009way")", R"("x_kmprivate": {"size": 4})"}) {
        CAPTURE(part);
        CHECK(contains(text, part));
    }
    CHECK_FALSE(contains(text, "lifetime_soft"));
}
