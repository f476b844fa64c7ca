// SPDX-License-Identifier: BSD-2-Clause
// SADB messages about SAs: what is stored. What is answered, refused, told to whom: engine_replies_test.cpp,
// engine_refusals_test.cpp, engine_socket_test.cpp.
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

#include <set>

using namespace latchkey;
using namespace latchkey::test;

TEST_CASE("ADD stores the SA; the answer has no keys, GET has them")
{
    Host host;
    Client client(host.engine, host.now);
    Message add = keyed(SADB_ADD, 0x1000);
    add.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 7};
    add.hard = Lifetime{1, 2, 3600, 4};
    add.soft = Lifetime{0, 1, 3000, 2};
    add.sa->flags = SADB_X_EXT_CYCSEQ;
    add.source_identity = IdentityExt{SADB_IDENTTYPE_FQDN, 0, "alpha"};

    const Reply added = client.ask(add);
    CHECK(added.message.error == 0);
    CHECK(!added.message.cipher_key);
    CHECK(!added.message.auth_key);
    CHECK(added.message.sa->spi == 0x1000);
    CHECK(added.message.sa->state == SADB_SASTATE_MATURE);
    CHECK(added.message.source == add.source);

    const Reply got = client.ask(sa_message(SADB_GET, 0x1000));
    const Message& m = got.message;
    CHECK(m.sa == SaExt{0x1000, 32, SADB_SASTATE_MATURE, SADB_X_AALG_SHA2_256HMAC, SADB_X_EALG_AESCBC,
                        SADB_X_EXT_CYCSEQ});
    CHECK(m.sa2 == Sa2Ext{IPSEC_MODE_TUNNEL, 0, 7});
    REQUIRE(m.cipher_key);
    CHECK(std::ranges::equal(m.cipher_key->key, cipher_key));
    REQUIRE(m.auth_key);
    CHECK(std::ranges::equal(m.auth_key->key, auth_key));
    CHECK(m.hard == add.hard);
    CHECK(m.soft == add.soft);
    CHECK(m.current == Lifetime{0, 0, epoch + 10, 0});
    CHECK(m.source == end_point("10.0.0.1"));
    CHECK(m.destination == end_point("10.0.0.2"));
    CHECK(m.source_identity == add.source_identity);
    CHECK(!m.sa_replay);   // private to clients that used it
}

TEST_CASE("the same SPI again is EEXIST; another destination or protocol makes it another SA")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == EEXIST);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000, "10.0.0.9", "10.0.0.2")) == EEXIST);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000, "10.0.0.1", "10.0.0.3")) == 0);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000, "fd00::1", "fd00::2")) == 0);
    CHECK(host.engine.sad().size() == 3);
}

TEST_CASE("absent SAs: ESRCH")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(sa_message(SADB_GET, 0x1000)) == ESRCH);
    CHECK(client.error_of(sa_message(SADB_DELETE, 0x1000)) == ESRCH);
    CHECK(client.error_of(keyed(SADB_UPDATE, 0x1000)) == ESRCH);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    CHECK(client.error_of(sa_message(SADB_GET, 0x1000, "10.0.0.7")) == ESRCH);   // another source
    CHECK(client.error_of(sa_message(SADB_GET, 0x1000, "0.0.0.0")) == 0);        // any source
}

TEST_CASE("DELETE removes one SA; without SA everything between the addresses (KAME)")
{
    Host host;
    Client client(host.engine, host.now);
    for (const std::uint32_t spi : {0x1000u, 0x1001u, 0x1002u})
        CHECK(client.error_of(keyed(SADB_ADD, spi)) == 0);
    CHECK(client.error_of(keyed(SADB_ADD, 0x2000, "10.0.0.2", "10.0.0.1")) == 0);

    const Reply deleted = client.ask(sa_message(SADB_DELETE, 0x1001));
    CHECK(deleted.message.sa->spi == 0x1001);
    CHECK(deleted.message.sa->state == SADB_SASTATE_DEAD);
    CHECK(deleted.message.source == end_point("10.0.0.1"));
    CHECK(deleted.message.destination == end_point("10.0.0.2"));
    CHECK(host.engine.sad().size() == 3);

    const Reply all = client.ask(sa_message(SADB_DELETE, std::nullopt));
    CHECK(all.message.error == 0);
    CHECK(!all.message.sa);
    CHECK(host.engine.sad().size() == 1);
    CHECK(client.error_of(sa_message(SADB_DELETE, std::nullopt)) == 0);   // nothing left is no error
}

TEST_CASE("GETSPI makes a larval SA in the range, which UPDATE gives keys")
{
    Host host;
    Client client(host.engine, host.now);
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.spi_range = SpiRangeExt{0x5000, 0x5003};
    getspi.sa2 = Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 9};
    const Reply got = client.ask(getspi);
    const std::uint32_t spi = got.message.sa->spi;
    CHECK(spi >= 0x5000);
    CHECK(spi <= 0x5003);
    CHECK(got.message.sa->state == SADB_SASTATE_LARVAL);
    CHECK(host.engine.inbound(ip_proto::esp, address("10.0.0.2"), spi) == nullptr);

    const auto generation = host.engine.generation();
    Message update = keyed(SADB_UPDATE, spi);
    update.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 11};
    const Reply updated = client.ask(update);
    CHECK(updated.message.error == 0);
    CHECK(!updated.message.cipher_key);
    CHECK(host.engine.generation() != generation);
    const Sa* sa = host.engine.inbound(ip_proto::esp, address("10.0.0.2"), spi);
    REQUIRE(sa != nullptr);
    CHECK(sa->mode == Mode::tunnel);
    CHECK(sa->reqid == 11);
    CHECK(host.engine.sad().size() == 1);
    CHECK(client.ask(sa_message(SADB_GET, spi)).message.current->addtime == epoch + 10);
}

TEST_CASE("UPDATE without X_SA2 leaves mode and reqid as GETSPI said")
{
    Host host;
    Client client(host.engine, host.now);
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 9};
    const std::uint32_t spi = client.ask(getspi).message.sa->spi;
    REQUIRE(client.error_of(keyed(SADB_UPDATE, spi)) == 0);
    CHECK(client.ask(sa_message(SADB_GET, spi)).message.sa2 == Sa2Ext{IPSEC_MODE_TUNNEL, 0, 9});
}

TEST_CASE("GETSPI ranges")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = sa_message(SADB_GETSPI, std::nullopt);
    std::set<std::uint32_t> spis;
    SUBCASE("every SPI of a range is given once, then EEXIST")
    {
        m.spi_range = SpiRangeExt{0x100, 0x10f};
        for (int i = 0; i < 16; ++i)
            spis.insert(client.ask(m).message.sa->spi);
        CHECK(spis.size() == 16);
        CHECK(*spis.begin() == 0x100);
        CHECK(*spis.rbegin() == 0x10f);
        CHECK(client.error_of(m) == EEXIST);
    }
    SUBCASE("minimum above maximum, or nothing but reserved SPIs: EINVAL")
    {
        m.spi_range = SpiRangeExt{0x200, 0x100};
        CHECK(client.error_of(m) == EINVAL);
        m.spi_range = SpiRangeExt{10, 255};
        CHECK(client.error_of(m) == EINVAL);
    }
    SUBCASE("reserved SPIs are cut off a range")
    {
        m.spi_range = SpiRangeExt{0, 0x101};
        for (int i = 0; i < 2; ++i)
            spis.insert(client.ask(m).message.sa->spi);
        CHECK(spis == std::set<std::uint32_t>{0x100, 0x101});
    }
    SUBCASE("a range above spi_maxval is the client's choice (strongSwan: c0000000-cfffffff)")
    {
        m.spi_range = SpiRangeExt{0xc0000000, 0xcfffffff};
        const std::uint32_t spi = client.ask(m).message.sa->spi;
        CHECK(spi >= 0xc0000000);
        CHECK(spi <= 0xcfffffff);
    }
    SUBCASE("no range: the tunables")
    {
        REQUIRE(host.engine.tunables().set("net.key.spi_minval", 0x7000));
        REQUIRE(host.engine.tunables().set("net.key.spi_maxval", 0x7001));
        for (int i = 0; i < 2; ++i)
            spis.insert(client.ask(m).message.sa->spi);
        CHECK(spis == std::set<std::uint32_t>{0x7000, 0x7001});
    }
    SUBCASE("the full range")
    {
        m.spi_range = SpiRangeExt{0, 0xffffffff};
        CHECK(client.ask(m).message.sa->spi >= 0x100);
    }
}

TEST_CASE("a larval SA can be deleted and the same SPI added (strongSwan)")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t spi = client.ask(sa_message(SADB_GETSPI, std::nullopt)).message.sa->spi;
    CHECK(client.error_of(keyed(SADB_ADD, spi)) == EEXIST);
    CHECK(client.error_of(sa_message(SADB_DELETE, spi)) == 0);
    CHECK(client.error_of(keyed(SADB_ADD, spi)) == 0);
}

TEST_CASE("messages of another process may finish what the first began: pids are not checked")
{
    Host host;
    Client parent(host.engine, host.now), child(host.engine, host.now);
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.pid = 1;
    getspi.seq = 5;
    REQUIRE(parent.send(getspi));
    const std::uint32_t spi = parent.receive_one().message.sa->spi;
    Message update = keyed(SADB_UPDATE, spi);
    update.pid = 2;
    update.seq = 6;
    REQUIRE(child.send(update));
    CHECK(child.receive_one().message.error == 0);
}

TEST_CASE("UPDATE of a mature SA changes limits only")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    Sa* sa = host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000);
    sa->sequence = 77;
    Message update = sa_message(SADB_UPDATE, 0x1000);
    update.hard = Lifetime{0, 5000, 0, 0};
    CHECK(client.error_of(update) == 0);
    CHECK(sa->hard.bytes == 5000);

    CHECK(client.error_of(keyed(SADB_UPDATE, 0x1000)) == 0);   // the same keys again (NetBSD's setkey update)
    CHECK(sa->sequence == 77);

    const std::vector<std::uint8_t> other(16, 0x33);
    Message rekey = keyed(SADB_UPDATE, 0x1000);
    rekey.cipher_key = KeyExt{128, other};
    CHECK(client.error_of(rekey) == EINVAL);
    Message algorithm = keyed(SADB_UPDATE, 0x1000);
    algorithm.sa->auth = SADB_AALG_SHA1HMAC;
    CHECK(client.error_of(algorithm) == EINVAL);
    Message mode = sa_message(SADB_UPDATE, 0x1000);
    mode.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 0};
    CHECK(client.error_of(mode) == EINVAL);
}

TEST_CASE("what ESP may be made of")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    SUBCASE("GCM, auth 0")
    {
        m.sa->encrypt = SADB_X_EALG_AES_GCM_ICV16;
        m.sa->auth = SADB_AALG_NONE;
        m.auth_key.reset();
        const std::vector<std::uint8_t> key(36, 1);   // 256 bits and the salt
        m.cipher_key = KeyExt{288, key};
        CHECK(client.error_of(m) == 0);
    }
    SUBCASE("null alone (the BSDs' test suites)")
    {
        m.sa->encrypt = SADB_EALG_NULL;
        m.sa->auth = SADB_AALG_NONE;
        m.auth_key.reset();
        m.cipher_key.reset();
        CHECK(client.error_of(m) == 0);
    }
    SUBCASE("GCM, auth 251: the same")
    {
        const std::vector<std::uint8_t> key(20, 1);
        m.sa->encrypt = SADB_X_EALG_AES_GCM_ICV16;
        m.sa->auth = SADB_X_AALG_NULL;
        m.auth_key = KeyExt{};
        m.cipher_key = KeyExt{160, key};
        CHECK(client.error_of(m) == 0);
        CHECK(host.engine.sad().find(ip_proto::esp, address("10.0.0.2"), 0x1000)->auth == nullptr);
    }
    SUBCASE("null cipher without a key extension, or with an empty one, or with a key that is ignored")
    {
        m.sa->encrypt = SADB_EALG_NULL;
        m.cipher_key.reset();
        CHECK(client.error_of(m) == 0);
        m.sa->spi = 0x1001;
        m.cipher_key = KeyExt{};
        CHECK(client.error_of(m) == 0);
        m.sa->spi = 0x1002;
        m.cipher_key = KeyExt{128, cipher_key};
        CHECK(client.error_of(m) == 0);
    }
    SUBCASE("encryption alone, as KAME allows")
    {
        m.sa->auth = SADB_AALG_NONE;
        m.auth_key.reset();
        CHECK(client.error_of(m) == 0);
    }
    SUBCASE("a multicast destination, ports and prefixes in addresses: racoon's 500 is ignored")
    {
        m.destination = end_point("224.1.1.1");
        m.source->endpoint.port = 500;
        m.source->prefix_length = 0;
        CHECK(client.error_of(m) == 0);
        const Sa* sa = host.engine.inbound(ip_proto::esp, address("224.1.1.1"), 0x1000);
        REQUIRE(sa != nullptr);
        CHECK(sa->source == address("10.0.0.1"));
    }
    SUBCASE("a wildcard destination takes packets to any address")
    {
        m.destination = end_point("0.0.0.0");
        CHECK(client.error_of(m) == 0);
        CHECK(host.engine.inbound(ip_proto::esp, address("192.0.2.7"), 0x1000) != nullptr);
        CHECK(host.engine.inbound(ip_proto::esp, address("fd00::1"), 0x1000) == nullptr);
    }
    SUBCASE("state larval in ADD (racoon)")
    {
        m.sa->state = SADB_SASTATE_LARVAL;
        CHECK(client.ask(m).message.sa->state == SADB_SASTATE_MATURE);
    }
    SUBCASE("a wide replay window, told only to who asked for one")
    {
        m.sa_replay = 1024;
        CHECK(client.error_of(m) == 0);
        CHECK(host.engine.sad().find(ip_proto::esp, address("10.0.0.2"), 0x1000)->replay.size() == 1024);
        const Reply got = client.ask(sa_message(SADB_GET, 0x1000));
        CHECK(got.message.sa_replay == 1024);
        CHECK(got.message.sa->replay == 255);
        Client other(host.engine, host.now);
        CHECK(!other.ask(sa_message(SADB_GET, 0x1000)).message.sa_replay);
    }
}

TEST_CASE("every legal AES-CBC key length is taken, no other (NetBSD t_ipsec_esp_keys)")
{
    Host host;
    Client client(host.engine, host.now);
    const std::vector<std::uint8_t> key(64, 5);
    for (unsigned bits = 8; bits <= 512; bits += 8) {
        Message m = keyed(SADB_ADD, 0x1000);
        m.cipher_key = KeyExt{static_cast<std::uint16_t>(bits), Bytes(key).first(bits / 8)};
        const bool legal = bits == 128 || bits == 192 || bits == 256;
        CAPTURE(bits);
        CHECK(client.error_of(m) == (legal ? 0 : EINVAL));
        CHECK(host.engine.sad().size() == legal);
        if (legal)
            CHECK(client.error_of(sa_message(SADB_DELETE, 0x1000)) == 0);
    }
}

TEST_CASE("the SAD has a limit; at the limit nothing changes")
{
    Host host({.max_sas = 2});
    Client client(host.engine, host.now);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    CHECK(client.error_of(sa_message(SADB_GETSPI, std::nullopt)) == 0);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1001)) == ENOBUFS);
    CHECK(client.error_of(sa_message(SADB_GETSPI, std::nullopt)) == ENOBUFS);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == EEXIST);
    CHECK(host.engine.sad().size() == 2);
}

TEST_CASE("FLUSH removes the SAs of a type; an empty table is success")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(bare(SADB_FLUSH)) == 0);
    for (std::uint32_t spi = 0x1000; spi < 0x1064; ++spi)
        REQUIRE(client.error_of(keyed(SADB_ADD, spi)) == 0);
    CHECK(client.error_of(bare(SADB_FLUSH, SADB_SATYPE_AH)) == 0);
    CHECK(host.engine.sad().size() == 100);
    CHECK(client.error_of(bare(SADB_FLUSH, SADB_SATYPE_ESP)) == 0);
    CHECK(host.engine.sad().size() == 0);
    CHECK(client.error_of(bare(SADB_FLUSH, 77)) == EINVAL);
}

TEST_CASE("a large FLUSH empties the SAD at once and frees it in slices")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    m.hard = Lifetime{0, 0, 5, 0};
    for (std::uint32_t i = 0; i < 3000; ++i) {
        m.sa->spi = 0x1000 + i;
        REQUIRE(client.error_of(m) == 0);
    }
    const auto generation = host.engine.generation();
    CHECK(client.error_of(bare(SADB_FLUSH)) == 0);
    CHECK(host.engine.sad().size() == 0);
    CHECK(host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000) == nullptr);
    CHECK(host.engine.generation() != generation);
    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    CHECK(host.engine.next_deadline() <= host.now);   // there is work left for tick()
    host.advance(10);
    host.advance(10);
    CHECK(host.engine.next_deadline() == Time::max());
    CHECK(host.engine.sad().size() == 1);
}

TEST_CASE("what AH may be made of")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    m.satype = SADB_SATYPE_AH;
    m.sa->encrypt = SADB_EALG_NONE;
    m.cipher_key.reset();
    const auto stored = [&] { return host.engine.inbound(ip_proto::ah, address("10.0.0.2"), 0x1000); };
    SUBCASE("an authentication algorithm and its key")
    {
        CHECK(client.error_of(m) == 0);
        REQUIRE(stored() != nullptr);
        CHECK(stored()->cipher == nullptr);
        CHECK(stored()->auth->sadb_id == SADB_X_AALG_SHA2_256HMAC);
        CHECK(stored()->auth_key.size() == 32);
    }
    SUBCASE("an encryption algorithm and its key, as OpenIKED sends them, are not kept")
    {
        m.sa->encrypt = SADB_X_EALG_AESCBC;
        m.cipher_key = KeyExt{128, cipher_key};
        CHECK(client.error_of(m) == 0);
        REQUIRE(stored() != nullptr);
        CHECK(stored()->cipher == nullptr);
        CHECK(stored()->cipher_key.size() == 0);
        Message get = sa_message(SADB_GET, 0x1000);
        get.satype = SADB_SATYPE_AH;
        const auto shown = client.ask(get);
        CHECK(shown.message.sa->encrypt == SADB_EALG_NONE);
        CHECK_FALSE(shown.message.cipher_key.has_value());
    }
    SUBCASE("null, which NetBSD's tests have in their smallest set")
    {
        m.sa->auth = SADB_X_AALG_NULL;
        m.auth_key = KeyExt{};
        CHECK(client.error_of(m) == 0);
        REQUIRE(stored() != nullptr);
        CHECK(stored()->auth->primitive == Primitive::null);
        CHECK(stored()->auth->icv == 0);
    }
    SUBCASE("the keyed digests of RFC 1828 and RFC 1852")
    {
        m.sa->auth = SADB_X_AALG_MD5;
        m.auth_key = KeyExt{128, cipher_key};
        CHECK(client.error_of(m) == 0);
        CHECK(client.ask(sa_message(SADB_GET, 0x1000)).message.error == ESRCH);   // ESP
    }
}

TEST_CASE("UPDATE of a mature SA answers with what the SA is, not with what was ignored")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    Message update = sa_message(SADB_UPDATE, 0x1000);
    update.sa->flags = SADB_X_SAFLAGS_ESN;
    update.sa->replay = 64;
    const auto before = host.engine.sad().find(ip_proto::esp, address("10.0.0.2"), 0x1000)->replay.size();
    const auto reply = client.ask(update);
    CHECK(reply.message.error == 0);
    CHECK((reply.message.sa->flags & SADB_X_SAFLAGS_ESN) == 0);
    CHECK(reply.message.sa->replay == before);
}

TEST_CASE("UPDATE of an AH SA may name the cipher that ADD let pass")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    m.satype = SADB_SATYPE_AH;
    REQUIRE(client.error_of(m) == 0);
    m.type = SADB_UPDATE;
    CHECK(client.error_of(m) == 0);
}

TEST_CASE("what IPComp may be made of")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = sa_message(SADB_ADD, 0x1000);
    m.satype = SADB_X_SATYPE_IPCOMP;
    m.sa->encrypt = SADB_X_CALG_DEFLATE;
    const auto stored = [&](std::uint32_t cpi) {
        return host.engine.inbound(ip_proto::ipcomp, address("10.0.0.2"), cpi);
    };
    SUBCASE("deflate, no keys; empty ones do no harm")
    {
        m.auth_key = m.cipher_key = KeyExt{};
        m.sa->auth = SADB_X_AALG_NULL;
        CHECK(client.error_of(m) == 0);
        REQUIRE(stored(0x1000) != nullptr);
        CHECK(stored(0x1000)->cipher->primitive == Primitive::deflate);
        CHECK(stored(0x1000)->auth == nullptr);
        Message get = sa_message(SADB_GET, 0x1000);
        get.satype = SADB_X_SATYPE_IPCOMP;
        CHECK(client.ask(get).message.sa->encrypt == SADB_X_CALG_DEFLATE);
    }
    SUBCASE("CPIs up to 65535; any SPI if packets carry the algorithm's CPI (KAME)")
    {
        m.sa->spi = 0xffff;
        CHECK(client.error_of(m) == 0);
        m.sa->spi = 0x12345678;
        m.sa->flags = SADB_X_EXT_RAWCPI;
        CHECK(client.error_of(m) == EINVAL);
        m.sa->flags = 0;
        CHECK(client.error_of(m) == 0);
        CHECK(stored(0x12345678) != nullptr);
    }
    SUBCASE("GETSPI picks negotiable CPIs only (RFC 3173 §3.3)")
    {
        Message getspi = sa_message(SADB_GETSPI, std::nullopt);
        getspi.satype = SADB_X_SATYPE_IPCOMP;
        for (int i = 0; i < 50; ++i) {
            const auto cpi = client.ask(getspi).message.sa->spi;
            CHECK(cpi >= 256);
            CHECK(cpi <= 61439);
        }
    }
}

TEST_CASE("extended sequence numbers, pad modes and Linux' flags are kept and shown")
{
    Host host;
    Client client(host.engine, host.now);
    for (const std::uint32_t flags :
         {SADB_X_SAFLAGS_ESN + 0u, SADB_X_SAFLAGS_ESN | SADB_X_EXT_CYCSEQ | 0u, SADB_X_EXT_PRAND + 0u,
          SADB_X_EXT_PZERO + 0u, SADB_SAFLAGS_NOECN + 0u, SADB_SAFLAGS_DECAP_DSCP | SADB_SAFLAGS_NOPMTUDISC | 0u}) {
        CAPTURE(flags);
        Message m = keyed(SADB_ADD, 0x1000);
        m.sa->flags = flags;
        REQUIRE(client.error_of(m) == 0);
        CHECK(client.ask(sa_message(SADB_GET, 0x1000)).message.sa->flags == flags);
        const Sa* sa = host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000);
        CHECK(sa->extended() == ((flags & SADB_X_SAFLAGS_ESN) != 0));
        REQUIRE(client.error_of(sa_message(SADB_DELETE, 0x1000)) == 0);
    }
}

TEST_CASE("windows from 0 to 4096 packets, through either extension")
{
    Host host;
    Client client(host.engine, host.now);
    std::uint32_t spi = 0x1000;
    for (const std::uint32_t packets : {0u, 1u, 32u, 255u, 256u, 4095u, 4096u}) {
        Message m = keyed(SADB_ADD, ++spi);
        m.sa->replay = 7;          // SA_REPLAY counts, whatever this says
        m.sa_replay = packets;
        REQUIRE(client.error_of(m) == 0);
        const Message got = client.ask(sa_message(SADB_GET, spi)).message;
        CHECK(got.sa_replay == packets);
        CHECK(got.sa->replay == std::min(packets, 255u));
    }
}

TEST_CASE("a host offers what its transforms can run: REGISTER, ADD and ACQUIRE agree")
{
    Host host;
    Client client(host.engine, host.now);
    Engine::AlgorithmSet rows;
    rows.set();
    const auto without = [&](AlgorithmKind kind, unsigned id) {
        rows.reset(static_cast<std::size_t>(algorithm_by_id(kind, id) - algorithms));
    };
    without(AlgorithmKind::cipher, SADB_EALG_DESCBC);
    without(AlgorithmKind::cipher, SADB_X_EALG_AESCBC);
    without(AlgorithmKind::compression, SADB_X_CALG_DEFLATE);
    host.engine.set_available(rows);

    const Message offered = client.ask(bare(SADB_REGISTER, SADB_SATYPE_ESP)).message;
    const auto lists = [](const auto& list, unsigned id) {
        return std::ranges::any_of(*list, [&](const auto& row) { return row.id == id; });
    };
    CHECK(!lists(offered.supported_encrypt, SADB_EALG_DESCBC));
    CHECK(!lists(offered.supported_encrypt, SADB_X_EALG_AESCBC));
    CHECK(lists(offered.supported_encrypt, SADB_X_EALG_AES_GCM_ICV16));
    CHECK(!lists(offered.supported_encrypt, SADB_X_EALG_TWOFISHCBC));   // nothing runs it, whatever the set says
    CHECK(lists(offered.supported_auth, SADB_AALG_SHA1HMAC));

    CHECK(client.error_of(keyed(SADB_ADD, 0x1000)) == EOPNOTSUPP);
    Message ipcomp = sa_message(SADB_ADD, 0x1000);
    ipcomp.satype = SADB_X_SATYPE_IPCOMP;
    ipcomp.sa->encrypt = SADB_X_CALG_DEFLATE;
    CHECK(client.error_of(ipcomp) == EOPNOTSUPP);

    const auto id =
        client.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2")).message.policy->id;
    const Policy& p = *host.engine.spd().find(id);
    const Flow packet = flow("10.0.0.1", "10.0.0.2");
    host.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, host.now);
    const Message acquire = client.receive_one().message;
    CHECK(!acquire.proposal->combinations.empty());
    for (const auto& c : acquire.proposal->combinations)
        CHECK(c.encrypt != SADB_X_EALG_AESCBC);
}

namespace {

// As Linux lays it out: two addresses of 16 bytes, family, prefix lengths.
std::vector<std::uint8_t> filter(std::string_view source, std::string_view destination)
{
    std::vector<std::uint8_t> body(36);
    const auto from = *Prefix::parse(source), to = *Prefix::parse(destination);
    std::ranges::copy(from.address.bytes(), body.begin());
    std::ranges::copy(to.address.bytes(), body.begin() + 16);
    wire::Writer out(body, wire::Order::host);
    out.put_at<std::uint16_t>(32, from.address.is_v4() ? 2 : 10);
    out.put_at<std::uint8_t>(34, from.length);
    out.put_at<std::uint8_t>(35, to.length);
    return body;
}

}  // namespace

TEST_CASE("DUMP with a filter: the SAs whose addresses are inside, numbered to the end")
{
    Host host;
    Client client(host.engine, host.now);
    std::uint32_t spi = 0x1000;
    for (const auto* source : {"10.0.0.1", "10.0.1.1", "10.0.0.2", "192.0.2.1"})
        for (const auto* destination : {"10.0.0.9", "10.9.0.9"})
            REQUIRE(client.error_of(keyed(SADB_ADD, ++spi, source, destination)) == 0);
    REQUIRE(client.error_of(keyed(SADB_ADD, ++spi, "fd00::1", "fd00::2")) == 0);
    const auto found = [&](const std::vector<std::uint8_t>& body) {
        Message m = bare(SADB_DUMP);
        m.filter = body;
        REQUIRE(client.send(m).has_value());
        std::vector<std::uint32_t> spis;
        std::uint32_t last_seq = ~0u;
        for (const auto& reply : client.receive()) {
            CHECK(reply.message.seq < last_seq);
            last_seq = reply.message.seq;
            spis.push_back(reply.message.sa->spi);
        }
        CHECK(last_seq == 0);
        return spis;
    };
    CHECK(found(filter("10.0.0.0/24", "0.0.0.0/0")) == std::vector<std::uint32_t>{0x1001, 0x1002, 0x1005, 0x1006});
    CHECK(found(filter("10.0.0.77/24", "10.9.0.9/32")) == std::vector<std::uint32_t>{0x1002, 0x1006});
    CHECK(found(filter("0.0.0.0/0", "0.0.0.0/0")).size() == 8);
    CHECK(found(filter("::/0", "::/0")) == std::vector<std::uint32_t>{0x1009});
    CHECK(found(std::vector<std::uint8_t>(36)).size() == 9);   // AF_UNSPEC
    CHECK(found(filter("192.0.2.1/32", "10.9.0.9/32")) == std::vector<std::uint32_t>{0x1008});
}

TEST_CASE("every message that ipsec-tools' setkey was recorded to send is taken, but for the old formats")
{
    for (const auto* name : {"wire-bytes.k.jsonl", "wire-bytes.r.jsonl"}) {
        Host host;
        Client client(host.engine, host.now);
        int added = 0;
        for (const auto& record : sent_by_setkey(std::string(LATCHKEY_TEST_DATA) + "/pfkey/" + name)) {
            REQUIRE(host.engine.handle(client.id(), record, host.now).has_value());
            const Reply reply = client.receive_one();
            const Message sent = *Message::parse(record);
            const bool old_format = sent.sa && (sent.sa->flags & SADB_X_EXT_OLD) != 0;
            CAPTURE(hex(record));
            CHECK(reply.message.error == (old_format ? EOPNOTSUPP : 0));
            added += sent.type == SADB_ADD && !old_format;
            client.receive();
        }
        CHECK(added == 30);
    }
}

TEST_CASE("GETSPI in use: UPDATE begins a new life, whoever sends it; the larval SA's own time does not count")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t spi = client.ask(sa_message(SADB_GETSPI, std::nullopt)).message.sa->spi;
    host.advance(29);
    Message update = keyed(SADB_UPDATE, spi);
    update.hard = Lifetime{0, 0, 50, 0};
    REQUIRE(client.error_of(update) == 0);
    host.advance(49);
    CHECK(client.ask(sa_message(SADB_GET, spi)).message.current->addtime == epoch + 39);
    host.advance(1);
    CHECK(client.error_of(sa_message(SADB_GET, spi)) == ESRCH);
}
