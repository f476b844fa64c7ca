// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/message.hpp"

#include "pfkey/tables.hpp"
#include "tests/pfkey/records.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <map>
#include <set>

using namespace latchkey;
using namespace latchkey::test;

namespace {

const std::string data = LATCHKEY_TEST_DATA "/pfkey/";

Record message_bytes(std::uint8_t type, std::initializer_list<Record> parts)
{
    Record out{2, type, 0, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0};
    for (const auto& part : parts)
        out.insert(out.end(), part.begin(), part.end());
    out[4] = static_cast<std::uint8_t>(out.size() / 8);
    out[5] = static_cast<std::uint8_t>(out.size() / 8 >> 8);
    return out;
}

std::string_view reason_for(Bytes record)
{
    const auto parsed = Message::parse(record);
    if (parsed)
        return "accepted";
    CHECK(parsed.error().number() == EINVAL);
    return parsed.error().reason;
}

std::vector<Record> all_recorded()
{
    std::vector<Record> all;
    for (const auto* file : {"wire-bytes.k.jsonl", "wire-bytes.r.jsonl"})
        std::ranges::copy(sent_by_setkey(data + file), std::back_inserter(all));
    for (const auto* file : {"racoon-initiator.pfkey.log", "racoon-responder.pfkey.log"})
        for (const char mark : {'<', '>'})
            std::ranges::copy(racoon_records(data + file, mark), std::back_inserter(all));
    return all;
}

// A C struct of the public header as bytes, the way an application fills it.
template <class T> Record raw(const T& value)
{
    Record out(sizeof(T));
    std::memcpy(out.data(), &value, sizeof(T));
    return out;
}

Record joined(std::initializer_list<Record> parts)
{
    Record out;
    for (const auto& part : parts)
        out.insert(out.end(), part.begin(), part.end());
    return out;
}

const Record sa_extension = unhex("02000100000010010400030c40000000");
const Record source_v4 = unhex("03000500ff200000020000000a63010100000000"
                               "00000000");
const Record source_v6 = unhex("05000600ff8000000a0001f400000000"
                               "20010db8000000000000000000000001"
                               "0300000000000000");

Message full_message(std::vector<std::uint8_t>& storage)
{
    storage.resize(64);
    for (std::size_t i = 0; i < storage.size(); ++i)
        storage[i] = static_cast<std::uint8_t>(i + 1);
    const Bytes view(storage);
    Message m;
    m.type = SADB_ADD;
    m.error = 3;
    m.satype = SADB_SATYPE_ESP;
    m.seq = 0x01020304;
    m.pid = 0x05060708;
    m.sa = SaExt{0xc0ffee01, 64, 1, 3, 12, 0x400};
    m.current = Lifetime{1, 2, 3, 4};
    m.hard = Lifetime{5, 6, 7, 8};
    m.soft = Lifetime{9, 10, 11, 12};
    m.source = AddressExt{6, 24, {*Address::parse("192.0.2.1"), 80, 0}};
    m.destination = AddressExt{6, 64, {*Address::parse("2001:db8::1"), 443, 7}};
    m.proxy = AddressExt{255, 32, {*Address::parse("198.51.100.9"), 0, 0}};
    m.auth_key = KeyExt{160, view.first(20)};
    m.cipher_key = KeyExt{288, view.first(36)};
    m.source_identity = IdentityExt{2, 17, "a.example"};
    m.destination_identity = IdentityExt{3, 18, "bob@b.example.net"};
    m.sensitivity = view.first(20);
    m.proposal = ProposalExt{32, {Combination{3, 12, 1, 160, 161, 128, 256, {1, 2, 3, 4}, {5, 6, 7, 8}}, {}}};
    m.supported_auth = std::vector<SupportedAlgorithm>{{3, 0, 160, 160}, {5, 0, 256, 256}};
    m.supported_encrypt = std::vector<SupportedAlgorithm>{{12, 16, 128, 256}};
    m.spi_range = SpiRangeExt{0x100, 0xfffffff};
    m.policy = PolicyExt{2, 1, 8, 0x80000005, {}};
    m.policy->requests.push_back({50, Mode::tunnel, Level::unique, 77, *Address::parse("10.0.0.1"),
                                  *Address::parse("10.0.0.2"), 4500, 4501, 0, 0});
    m.policy->requests.push_back({51, Mode::transport, Level::use, 0, {}, {}});
    m.sa2 = Sa2Ext{2, 99, 16};
    m.natt_type = 2;
    m.natt_source_port = 4500;
    m.natt_destination_port = 1024;
    m.natt_original = AddressExt{0, 32, {*Address::parse("203.0.113.1"), 0, 0}};
    m.km_private = view.first(4);
    m.security_context = view.first(12);
    m.kmaddress = view.first(36);
    m.filter = view.first(36);
    m.natt_original_remote = AddressExt{0, 32, {*Address::parse("203.0.113.2"), 0, 0}};
    m.natt_fragment = 1400;
    m.sa_replay = 4096;
    m.new_source = AddressExt{0, 32, {*Address::parse("203.0.113.3"), 0, 0}};
    m.new_destination = AddressExt{0, 32, {*Address::parse("203.0.113.4"), 0, 0}};
    m.reason = "no SA has this SPI";
    return m;
}

}  // namespace

TEST_CASE("what setkey sends is read, and written again byte for byte in the same order")
{
    std::size_t count = 0;
    for (const auto* file : {"wire-bytes.k.jsonl", "wire-bytes.r.jsonl"})
        for (const auto& record : sent_by_setkey(data + file)) {
            CAPTURE(hex(record));
            const auto message = Message::parse(record);
            REQUIRE_MESSAGE(message.has_value(), (message ? "" : message.error().reason));
            CHECK(hex(message->bytes()) == hex(masked(record)));
            CHECK(message->size() == record.size());
            ++count;
        }
    CHECK(count == 342);
}

TEST_CASE("what racoon sends and is sent is read, and written again extension for extension")
{
    const auto by_type = [](Bytes record) {
        std::map<std::uint16_t, std::string> out;
        for (const auto& e : extensions_of(record))
            out[e.type] = hex(record.subspan(e.at, e.size));
        return out;
    };
    std::size_t count = 0;
    for (const auto* file : {"racoon-initiator.pfkey.log", "racoon-responder.pfkey.log"})
        for (const char mark : {'<', '>'})
            for (const auto& record : racoon_records(data + file, mark)) {
                CAPTURE(hex(record));
                const auto message = Message::parse(record);
                REQUIRE_MESSAGE(message.has_value(), (message ? "" : message.error().reason));
                const auto again = message->bytes();
                const auto expected = masked(record);
                CHECK(hex(Bytes(again).first(16)) == hex(Bytes(expected).first(16)));
                CHECK(by_type(again) == by_type(expected));
                ++count;
            }
    CHECK(count == 44);
}

TEST_CASE("the fields of a recorded ADD")
{
    // add 198.51.100.2 198.51.100.6 esp 0x1000 -E aes-cbc "1234567890123456" -A hmac-sha1 "12345678901234567890";
    const auto sent = sent_by_setkey(data + "wire-bytes.k.jsonl");
    const auto record = std::ranges::find_if(sent, [](const Record& r) { return r[1] == SADB_ADD; });
    REQUIRE(record != sent.end());
    const auto m = Message::parse(*record);
    REQUIRE(m.has_value());
    CHECK(m->type == SADB_ADD);
    CHECK(m->satype == SADB_SATYPE_ESP);
    CHECK(m->sa == SaExt{0x1000, 0, 0, SADB_AALG_SHA1HMAC, SADB_X_EALG_AESCBC, SADB_X_EXT_CYCSEQ});
    REQUIRE(m->cipher_key.has_value());
    CHECK(m->cipher_key->bits == 128);
    CHECK(std::ranges::equal(m->cipher_key->key, std::string_view("1234567890123456")));
    REQUIRE(m->auth_key.has_value());
    CHECK(m->auth_key->bits == 160);
    CHECK(std::ranges::equal(m->auth_key->key, std::string_view("12345678901234567890")));
    REQUIRE(m->source.has_value());
    CHECK(m->source->endpoint.text() == "198.51.100.2:0");
    CHECK(m->source->prefix_length == 32);
    CHECK(m->source->protocol == 255);
    CHECK(m->destination->endpoint.text() == "198.51.100.6:0");
    CHECK(m->sa2 == Sa2Ext{0, 0, 0});
    CHECK_FALSE(m->hard.has_value());
    CHECK_FALSE(m->policy.has_value());
}

TEST_CASE("the fields of racoon's UPDATE")
{
    for (const auto& record : racoon_records(data + "racoon-initiator.pfkey.log", '>')) {
        if (record[1] != SADB_UPDATE)
            continue;
        const auto m = Message::parse(record);
        REQUIRE(m.has_value());
        CHECK(m->seq == 77);
        CHECK(m->pid == 0x9ca);
        CHECK(m->sa == SaExt{0x1bfe, 4, 0, SADB_X_AALG_SHA2_256HMAC, SADB_X_EALG_AESCBC, 0});
        CHECK(m->sa2 == Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 0});
        CHECK(m->hard == Lifetime{0, 0, 3600, 0});
        REQUIRE(m->soft.has_value());
        CHECK(m->soft->addtime == 2880);
        return;
    }
    FAIL("no UPDATE in the log");
}

TEST_CASE("the last byte is needed, and every cut inside an extension is seen")
{
    std::set<std::string> shapes;
    for (const auto& record : all_recorded()) {
        std::string shape;
        for (const auto& e : extensions_of(record))
            shape += std::to_string(e.type) + "/" + std::to_string(e.size) + " ";
        if (!shapes.insert(shape).second)
            continue;
        std::set<std::size_t> boundaries{16};
        for (const auto& e : extensions_of(record))
            boundaries.insert(e.at + e.size);
        for (std::size_t n = 0; n < record.size(); ++n) {
            Record cut(record.begin(), record.begin() + static_cast<long>(n));
            CHECK_FALSE(Message::parse(cut).has_value());   // sadb_msg_len no longer fits
            if (n < 16)
                continue;
            cut[4] = static_cast<std::uint8_t>(n / 8);   // now it does, when n is a whole number of units
            cut[5] = static_cast<std::uint8_t>(n / 8 >> 8);
            CHECK_MESSAGE(Message::parse(cut).has_value() == boundaries.contains(n), shape, n);
        }
    }
    CHECK(shapes.size() > 20);
}

TEST_CASE("what is malformed is refused with its reason")
{
    const auto good = message_bytes(SADB_GET, {sa_extension, source_v4});
    REQUIRE(Message::parse(good).has_value());

    SUBCASE("version")
    {
        for (const auto version : Record{0, 1, 3, 255}) {
            auto bad = good;
            bad[0] = version;
            CHECK(reason_for(bad) == "sadb_msg_version is not 2");
        }
    }
    SUBCASE("length of the message")
    {
        auto bad = good;
        ++bad[4];
        CHECK(reason_for(bad) == "sadb_msg_len differs from the size of the message");
        bad = good;
        bad.resize(bad.size() + 8);
        CHECK(reason_for(bad) == "sadb_msg_len differs from the size of the message");
        bad = good;
        bad.push_back(0);
        CHECK(reason_for(bad) == "sadb_msg_len differs from the size of the message");
        CHECK(reason_for(Bytes(good).first(15)) == "a message has at least 16 bytes");
        CHECK(reason_for({}) == "a message has at least 16 bytes");
    }
    SUBCASE("length of an extension")
    {
        CHECK(reason_for(message_bytes(SADB_GET, {unhex("0000010000000000")})) == "an extension has length 0");
        CHECK(reason_for(message_bytes(SADB_GET, {unhex("0000000000000000")})) == "an extension has length 0");
        CHECK(reason_for(message_bytes(SADB_GET, {sa_extension, unhex("ffff050000000000")})) ==
              "an extension is longer than the rest of the message");
        CHECK(reason_for(message_bytes(SADB_GET, {unhex("0100010000000000")})) == "SA has 16 bytes");
        CHECK(reason_for(message_bytes(SADB_GET, {unhex("03000100000010010400030c4000000000000000"
                                                        "00000000")})) == "SA has 16 bytes");
    }
    SUBCASE("an extension twice")
    {
        CHECK(reason_for(message_bytes(SADB_GET, {sa_extension, sa_extension})) == "an extension occurs twice");
        CHECK(reason_for(message_bytes(SADB_GET, {source_v4, sa_extension, source_v4})) == "an extension occurs twice");
    }
    SUBCASE("unknown types, those of the gap before our private numbers included")
    {
        for (const unsigned type : {0u, 27u, 28u, 63u, 70u, 255u, 65535u}) {
            Record unknown{1, 0, static_cast<std::uint8_t>(type), static_cast<std::uint8_t>(type >> 8), 0, 0, 0, 0};
            CHECK(reason_for(message_bytes(SADB_GET, {unknown})) == "unknown extension type");
        }
    }
    SUBCASE("addresses")
    {
        // An AF_INET sockaddr of 24 bytes, an AF_INET6 one of 16, one that has no family at all.
        CHECK(reason_for(message_bytes(SADB_GET, {joined({unhex("04000500ff200000"), Record{2, 0}, Record(22)})})) ==
              "an address extension is longer than its sockaddr");
        CHECK(reason_for(message_bytes(SADB_GET, {joined({unhex("03000500ff200000"), Record{10, 0}, Record(14)})})) ==
              "a sockaddr ends early");
        CHECK(reason_for(message_bytes(SADB_GET, {unhex("01000500ff200000")})) ==
              "ADDRESS_SRC needs 8 bytes and a sockaddr");
    }
    SUBCASE("keys: the bits decide the size")
    {
        const auto key = [](unsigned bits, std::size_t body) {
            const auto units = static_cast<std::uint8_t>(1 + body / 8);
            return joined(
                {Record{units, 0, 9, 0, static_cast<std::uint8_t>(bits), static_cast<std::uint8_t>(bits >> 8), 0, 0},
                 Record(body, 7)});
        };
        constexpr std::string_view reason = "sadb_key_bits does not fit the size of the key extension";
        for (const auto& [bits, body] : {std::pair{128u, 8u}, {128u, 24u}, {0u, 8u}, {8u, 0u}, {65u, 8u}, {64u, 16u}})
            CHECK(reason_for(message_bytes(SADB_ADD, {key(bits, body)})) == reason);
        for (const auto& [bits, body, used] :
             {std::tuple{128u, 16u, 16u}, {0u, 0u, 0u}, {1u, 8u, 1u}, {65u, 16u, 9u}}) {
            const auto record = message_bytes(SADB_ADD, {key(bits, body)});
            const auto m = Message::parse(record);
            REQUIRE(m.has_value());
            CHECK(m->cipher_key->bits == bits);
            CHECK(m->cipher_key->key.size() == used);
        }
    }
    SUBCASE("identities end with a NUL")
    {
        CHECK(reason_for(message_bytes(SADB_ADD, {unhex("03000a00020000000000000000000000"
                                                        "6162636465666768")})) ==
              "an identity is not terminated by a NUL");
    }
    SUBCASE("proposals are whole combinations")
    {
        CHECK(reason_for(message_bytes(SADB_ACQUIRE, {joined({unhex("09000d0020000000"), Record(64)})})) ==
              "PROPOSAL is not a whole number of 72-byte combinations");
    }
}

TEST_CASE("garbage in reserved fields and padding is ignored")
{
    auto dirty = message_bytes(SADB_ADD, {source_v4, source_v6,
                                          unhex("0200080008000000ab000000000000"
                                                "00"),
                                          unhex("02001300020000000000000007000000")});
    const auto clean = Message::parse(dirty)->bytes();
    const auto soil = [&](std::size_t at, std::size_t n) {
        std::fill_n(dirty.begin() + static_cast<long>(at), n, 0xee);
    };
    soil(6, 2);   // sadb_msg_reserved
    soil(16 + 6, 2);   // sadb_address_reserved
    soil(16 + 16, 8);   // sin_zero
    soil(40 + 6, 2);
    soil(40 + 12, 4);   // sin6_flowinfo
    soil(40 + 36, 4);   // padding behind sockaddr_in6
    soil(80 + 6, 2);   // sadb_key_reserved
    soil(80 + 9, 7);   // behind the key
    soil(96 + 5, 3);   // sadb_x_sa2_reserved
    const auto m = Message::parse(dirty);
    REQUIRE(m.has_value());
    CHECK(m->auth_key->key.size() == 1);
    CHECK(m->auth_key->key[0] == 0xab);
    CHECK(hex(m->bytes()) == hex(clean));
    CHECK(m->destination->endpoint == Endpoint{*Address::parse("2001:db8::1"), 500, 3});
}

TEST_CASE("an address of another family is a value for the engine, not a format error")
{
    for (const auto family : Record{0, 1, 16, 38}) {
        const auto record =
            message_bytes(SADB_GET, {joined({unhex("04000500ff200000"), Record{family, 0}, Record(22, 0x2f)})});
        const auto m = Message::parse(record);
        REQUIRE(m.has_value());
        REQUIRE(m->source.has_value());
        CHECK(m->source->endpoint.address.family() == Family::none);
        CHECK(m->source->prefix_length == 32);
        const auto again = m->bytes();
        CHECK(Message::parse(again) == *m);
    }
}

TEST_CASE("every extension survives the way out and in")
{
    std::vector<std::uint8_t> storage;
    const auto m = full_message(storage);
    const auto bytes = m.bytes();
    CHECK(bytes.size() == m.size());
    CHECK(extensions_of(bytes).size() == extension_count);
    const auto again = Message::parse(bytes);
    REQUIRE_MESSAGE(again.has_value(), (again ? "" : again.error().reason));
    CHECK(*again == m);
    CHECK(again->policy == m.policy);
    CHECK(again->proposal == m.proposal);
    CHECK(again->source_identity->text == "a.example");
    CHECK(again->natt_fragment == 1400);

    // Each extension alone makes a difference to ==.
    std::apply(
        [&](const auto&... row) {
            const auto without = [&](const auto& r) {
                auto other = m;
                (other.*r.member).reset();
                CHECK_FALSE(other == m);
                CHECK(other.size() < m.size());
                CHECK(Message::parse(other.bytes())->size() == other.size());
            };
            (without(row), ...);
        },
        extensions);
}

TEST_CASE("a writer that is too small fails and is not overrun")
{
    std::vector<std::uint8_t> storage;
    const auto m = full_message(storage);
    std::vector<std::uint8_t> room(m.size());
    for (std::size_t n = 0; n <= room.size(); ++n) {
        wire::Writer out(MutableBytes(room).first(n), wire::Order::host);
        m.emit(out);
        CHECK(out.ok() == (n == room.size()));
    }
}

TEST_CASE("the C structs of net/pfkeyv2.h mean what the codec reads")
{
    sadb_lifetime hard{};
    hard.sadb_lifetime_len = sizeof hard / 8;
    hard.sadb_lifetime_exttype = SADB_EXT_LIFETIME_HARD;
    hard.sadb_lifetime_allocations = 11;
    hard.sadb_lifetime_bytes = 0x100000002u;
    hard.sadb_lifetime_addtime = 3600;
    hard.sadb_lifetime_usetime = 1800;
    sadb_spirange range{};
    range.sadb_spirange_len = sizeof range / 8;
    range.sadb_spirange_exttype = SADB_EXT_SPIRANGE;
    range.sadb_spirange_min = 0x1234;
    range.sadb_spirange_max = 0x5678;
    sadb_x_sa2 sa2{};
    sa2.sadb_x_sa2_len = sizeof sa2 / 8;
    sa2.sadb_x_sa2_exttype = SADB_X_EXT_SA2;
    sa2.sadb_x_sa2_mode = IPSEC_MODE_TUNNEL;
    sa2.sadb_x_sa2_sequence = 41;
    sa2.sadb_x_sa2_reqid = 42;
    sadb_x_nat_t_type type{};
    type.sadb_x_nat_t_type_len = sizeof type / 8;
    type.sadb_x_nat_t_type_exttype = SADB_X_EXT_NAT_T_TYPE;
    type.sadb_x_nat_t_type_type = 2;
    sadb_x_nat_t_port port{};
    port.sadb_x_nat_t_port_len = sizeof port / 8;
    port.sadb_x_nat_t_port_exttype = SADB_X_EXT_NAT_T_SPORT;
    port.sadb_x_nat_t_port_port = __builtin_bswap16(4500);
    sadb_x_sa_replay replay{};
    replay.sadb_x_sa_replay_len = sizeof replay / 8;
    replay.sadb_x_sa_replay_exttype = SADB_X_EXT_SA_REPLAY;
    replay.sadb_x_sa_replay_replay = 2048;
    sadb_prop prop{};
    prop.sadb_prop_len = (sizeof prop + sizeof(sadb_comb)) / 8;
    prop.sadb_prop_exttype = SADB_EXT_PROPOSAL;
    prop.sadb_prop_replay = 32;
    sadb_comb comb{};
    comb.sadb_comb_auth = 3;
    comb.sadb_comb_encrypt = 12;
    comb.sadb_comb_flags = 1;
    comb.sadb_comb_auth_minbits = 160;
    comb.sadb_comb_auth_maxbits = 161;
    comb.sadb_comb_encrypt_minbits = 128;
    comb.sadb_comb_encrypt_maxbits = 256;
    comb.sadb_comb_soft_allocations = 1;
    comb.sadb_comb_hard_allocations = 2;
    comb.sadb_comb_soft_bytes = 3;
    comb.sadb_comb_hard_bytes = 4;
    comb.sadb_comb_soft_addtime = 5;
    comb.sadb_comb_hard_addtime = 6;
    comb.sadb_comb_soft_usetime = 7;
    comb.sadb_comb_hard_usetime = 8;
    sadb_supported supported{};
    supported.sadb_supported_len = (sizeof supported + sizeof(sadb_alg)) / 8;
    supported.sadb_supported_exttype = SADB_EXT_SUPPORTED_ENCRYPT;
    sadb_alg algorithm{};
    algorithm.sadb_alg_id = 12;
    algorithm.sadb_alg_ivlen = 16;
    algorithm.sadb_alg_minbits = 128;
    algorithm.sadb_alg_maxbits = 256;

    const auto record = message_bytes(SADB_ADD, {raw(hard), raw(range), raw(sa2), raw(type), raw(port), raw(replay),
                                                 raw(prop), raw(comb), raw(supported), raw(algorithm)});
    const auto m = Message::parse(record);
    REQUIRE_MESSAGE(m.has_value(), (m ? "" : m.error().reason));
    CHECK(m->hard == Lifetime{11, 0x100000002u, 3600, 1800});
    CHECK(m->spi_range == SpiRangeExt{0x1234, 0x5678});
    CHECK(m->sa2 == Sa2Ext{IPSEC_MODE_TUNNEL, 41, 42});
    CHECK(m->natt_type == 2);
    CHECK(m->natt_source_port == 4500);
    CHECK(m->sa_replay == 2048);
    CHECK(m->proposal == ProposalExt{32, {Combination{3, 12, 1, 160, 161, 128, 256, {1, 3, 5, 7}, {2, 4, 6, 8}}}});
    CHECK(m->supported_encrypt == std::vector<SupportedAlgorithm>{{12, 16, 128, 256}});
}

TEST_CASE("a policy as setsockopt(IP_IPSEC_POLICY) carries it")
{
    // Recorded: racoon sets `in bypass` on its IKE sockets.
    const auto bypass = unhex("02001200040001000000000000000080");
    const auto policy = parse_policy(bypass);
    REQUIRE(policy.has_value());
    CHECK(*policy == PolicyExt{IPSEC_POLICY_BYPASS, IPSEC_DIR_INBOUND, 0, 0x80000000, {}});
    std::vector<std::uint8_t> out(policy_size(*policy));
    wire::Writer writer(out, wire::Order::host);
    emit_policy(writer, *policy);
    CHECK(hex(writer.written()) == hex(bypass));

    const auto reason = [](const Record& r) {
        const auto p = parse_policy(r);
        return p ? std::string_view("accepted") : p.error().reason;
    };
    for (std::size_t n = 0; n < bypass.size(); ++n)
        CHECK(reason(Record(bypass.begin(), bypass.begin() + static_cast<long>(n))) ==
              "X_POLICY needs 16 bytes and its requests");
    auto longer = bypass;
    longer.resize(24);
    CHECK(reason(longer) == "sadb_x_policy_len differs from the size of the policy");
    auto other = bypass;
    other[2] = 19;
    CHECK(reason(other) == "sadb_x_policy_exttype is not SADB_X_EXT_POLICY");
}

TEST_CASE("the requests of a policy")
{
    const auto policy = [](std::initializer_list<Record> requests) {
        auto out = joined({unhex("00001200020002000000000000000080")});
        for (const auto& r : requests)
            out.insert(out.end(), r.begin(), r.end());
        out[0] = static_cast<std::uint8_t>(out.size() / 8);
        return out;
    };
    const auto v4 = [](std::string_view address) { return joined({Record{2, 0, 0, 0}, unhex(address), Record(8)}); };
    const auto reason = [&](const Record& r) {
        const auto p = parse_policy(r);
        return p ? std::string_view("accepted") : p.error().reason;
    };

    SUBCASE("lengths, in bytes")
    {
        CHECK(reason(policy({unhex("00003200010200000000000000000000")})) == "an ipsecrequest has less than 16 bytes");
        CHECK(reason(policy({unhex("0f003200010200000000000000000000")})) == "an ipsecrequest has less than 16 bytes");
        CHECK(reason(policy({unhex("18003200010200000000000000000000")})) ==
              "an ipsecrequest is longer than its policy");
        CHECK(reason(policy({unhex("1000320001020000")})) == "an ipsecrequest is longer than its policy");
        CHECK(reason(policy({joined({unhex("20003200020200000000000000000000"), v4("0a000001")})})) ==
              "a sockaddr ends early");
        CHECK(reason(policy({joined({unhex("38003200020200000000000000000000"), v4("0a000001"), v4("0a000002"),
                                     Record(8)})})) == "an ipsecrequest is longer than its two sockaddrs");
        CHECK(reason(policy({unhex("10003201010200000000000000000000")})) ==
              "the protocol of an ipsecrequest is above 255");
    }
    SUBCASE("end points of different families stay visible")
    {
        const auto v6 = joined({Record{10, 0}, Record(6), Record(15), Record{1}, Record(4)});
        const auto record =
            policy({joined({unhex("40003200020200000000000000000000"), v4("0a000001"), v6, Record(4)})});
        const auto p = parse_policy(record);
        REQUIRE(p.has_value());
        CHECK(p->requests[0].tunnel_source.text() == "10.0.0.1");
        CHECK(p->requests[0].tunnel_destination.text() == "::1");
        std::vector<std::uint8_t> out(policy_size(*p));
        wire::Writer writer(out, wire::Order::host);
        emit_policy(writer, *p);
        CHECK(hex(out) == hex(record));
    }
    SUBCASE("end points of another family are none")
    {
        const auto p = parse_policy(policy(
            {joined({unhex("30003200020200000000000000000000"), Record{1, 0}, Record(14, '/'), v4("0a000002")})}));
        REQUIRE(p.has_value());
        CHECK(p->requests[0].tunnel_source.family() == Family::none);
        CHECK(p->requests[0].tunnel_destination.family() == Family::none);
        const auto q = parse_policy(policy(
            {joined({unhex("30003200020200000000000000000000"), v4("0a000002"), Record{1, 0}, Record(14, '/')})}));
        REQUIRE(q.has_value());
        CHECK(q->requests[0].tunnel_source.text() == "10.0.0.2");
        CHECK(q->requests[0].tunnel_destination.family() == Family::none);
    }
}

TEST_CASE("X_PROMISC carries a message that is left alone")
{
    const auto inner =
        message_bytes(SADB_GET, {unhex("0000000000000000")});   // malformed, but that is its reader's matter
    auto record = message_bytes(SADB_X_PROMISC, {inner});
    auto m = Message::parse(record);
    REQUIRE(m.has_value());
    CHECK(hex(m->wrapped) == hex(inner));
    CHECK(hex(m->bytes()) == hex(record));
    CHECK(Message::parse(message_bytes(SADB_X_PROMISC, {}))->wrapped.empty());
    CHECK(reason_for(message_bytes(SADB_X_PROMISC, {Record(8)})) ==
          "the message inside X_PROMISC has less than 16 bytes");
}

TEST_CASE("the header can be read alone")
{
    const auto record = unhex("0203051120004433040302010d0c0b0a");
    const auto h = peek_header(record);
    REQUIRE(h.has_value());
    CHECK(h->version == 2);
    CHECK(h->type == 3);
    CHECK(h->error == 5);
    CHECK(h->satype == 0x11);
    CHECK(h->units == 0x20);
    CHECK(h->seq == 0x01020304);
    CHECK(h->pid == 0x0a0b0c0d);
    CHECK_FALSE(peek_header(Bytes(record).first(15)).has_value());
}

TEST_CASE("names")
{
    CHECK(message_name(SADB_ADD) == "ADD");
    CHECK(message_name(SADB_X_SPDDUMP) == "X_SPDDUMP");
    CHECK(message_name(0) == "?");
    CHECK(message_name(25) == "?");
    for (unsigned type = 1; type <= SADB_MAX; ++type)
        CHECK(message_name(type) != "?");
    CHECK(satype_name(SADB_SATYPE_ESP) == "esp");
    CHECK(satype_name(SADB_X_SATYPE_IPCOMP) == "ipcomp");
    CHECK(satype_name(1) == "?");
    CHECK(satype_name(SADB_SATYPE_UNSPEC) == "unspec");
    CHECK(extension_name(SADB_X_EXT_POLICY) == "X_POLICY");
    CHECK(extension_name(27) == "?");
    for (unsigned type = 1; type <= SADB_EXT_MAX; ++type)
        CHECK(extension_name(type) != "?");
    CHECK(satype_of_protocol(50) == SADB_SATYPE_ESP);
    CHECK(satype_of_protocol(51) == SADB_SATYPE_AH);
    CHECK(satype_of_protocol(108) == SADB_X_SATYPE_IPCOMP);
    CHECK_FALSE(satype_of_protocol(0).has_value());
    CHECK_FALSE(satype_of_protocol(6).has_value());
    CHECK(protocol_of_satype(SADB_SATYPE_ESP) == 50);
    CHECK_FALSE(protocol_of_satype(SADB_SATYPE_UNSPEC).has_value());
    CHECK_FALSE(protocol_of_satype(SADB_SATYPE_RSVP).has_value());
}

TEST_CASE("the table of extensions is sound")
{
    std::set<unsigned> types;
    std::set<std::string_view> names;
    std::apply(
        [&](const auto&... row) {
            const auto check = [&](const auto& r) {
                CHECK(types.insert(r.type).second);
                CHECK(names.insert(r.name).second);
                CHECK(r.size_rule.starts_with(r.name));
                CHECK(r.min % 8 == 0);
                CHECK(r.min <= r.max);
                CHECK(r.type < extension_type_end);
            };
            (check(row), ...);
        },
        extensions);
    CHECK(types.size() == SADB_EXT_MAX + 6);
}
