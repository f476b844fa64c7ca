// SPDX-License-Identifier: BSD-2-Clause
// SADB messages about SAs: what is answered, stored and refused. Recipients, dumps: engine_socket_test.cpp.
#include "tests/pfkey/engine_fixture.hpp"

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
    // rump swaps in the source address here (key.c, key_do_allocsa_policy); see rump-and-other-stacks §3 item 7.
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
    Message moved = sa_message(SADB_UPDATE, 0x1000);
    moved.new_destination = end_point("10.0.0.8");
    CHECK(client.error_of(moved) == EOPNOTSUPP);
}

TEST_CASE("ADD refuses, with a reason, and stores nothing")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    int expected = EINVAL;
    SUBCASE("reserved SPI") { m.sa->spi = 255; }
    SUBCASE("SPI 0") { m.sa->spi = 0; }
    SUBCASE("state dying") { m.sa->state = SADB_SASTATE_DYING; }
    SUBCASE("mode 3") { m.sa2 = Sa2Ext{3, 0, 0}; }
    SUBCASE("unknown flag") { m.sa->flags = 0x1000; }
    SUBCASE("mixed families") { m.source = end_point("fd00::1"); }
    SUBCASE("prefix too long") { m.source->prefix_length = 33; }
    SUBCASE("different protocols") { m.source->protocol = 6; }
    SUBCASE("AES key of 136 bits")
    {
        m.cipher_key = KeyExt{136, Bytes(auth_key).first(17)};
    }
    SUBCASE("no encryption key") { m.cipher_key.reset(); }
    SUBCASE("no authentication key") { m.auth_key.reset(); }
    SUBCASE("SHA-256 key of 128 bits") { m.auth_key = KeyExt{128, cipher_key}; }
    SUBCASE("an authentication key, but no algorithm") { m.sa->auth = SADB_AALG_NONE; }
    SUBCASE("no encryption algorithm") { m.sa->encrypt = SADB_EALG_NONE; }
    SUBCASE("null and nothing else (RFC 4303 §3.2)")
    {
        m.sa->encrypt = SADB_EALG_NULL;
        m.sa->auth = SADB_X_AALG_NULL;
        m.cipher_key.reset();
        m.auth_key.reset();
    }
    SUBCASE("AEAD with authentication")
    {
        m.sa->encrypt = SADB_X_EALG_AES_GCM_ICV16;
        m.cipher_key = KeyExt{160, Bytes(auth_key).first(20)};
    }
    SUBCASE("replay window too large") { m.sa_replay = 5000; }
    SUBCASE("unknown authentication algorithm")
    {
        m.sa->auth = 77;
        expected = ENOSYS;
    }
    SUBCASE("unknown encryption algorithm")
    {
        m.sa->encrypt = 99;
        expected = ENOSYS;
    }
    SUBCASE("known, but not offered: Twofish")
    {
        m.sa->encrypt = SADB_X_EALG_TWOFISHCBC;
        expected = EOPNOTSUPP;
    }
    SUBCASE("AH") { m.satype = SADB_SATYPE_AH; expected = EOPNOTSUPP; }
    SUBCASE("IPComp") { m.satype = SADB_X_SATYPE_IPCOMP; expected = EOPNOTSUPP; }
    SUBCASE("ESN") { m.sa->flags = SADB_X_SAFLAGS_ESN; expected = EOPNOTSUPP; }
    SUBCASE("esp-old") { m.sa->flags = SADB_X_EXT_OLD; expected = EOPNOTSUPP; }
    SUBCASE("NAT-T") { m.natt_type = 2; expected = EOPNOTSUPP; }
    SUBCASE("an address of another family")
    {
        m.destination->endpoint.address = Address();
        expected = EAFNOSUPPORT;
    }
    SUBCASE("no satype") { m.satype = SADB_SATYPE_UNSPEC; }
    SUBCASE("satype 77") { m.satype = 77; }
    SUBCASE("satype MIP") { m.satype = SADB_SATYPE_MIP; expected = EOPNOTSUPP; }
    SUBCASE("no SA") { m.sa.reset(); }
    SUBCASE("no destination") { m.destination.reset(); }
    const auto generation = host.engine.generation();
    CHECK(client.error_of(m) == expected);
    CHECK(host.engine.sad().size() == 0);
    CHECK(host.engine.generation() == generation);
    CHECK(host.engine.next_deadline() == Time::max());
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

TEST_CASE("messages that only the host sends, and those not offered")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(bare(SADB_EXPIRE, SADB_SATYPE_ESP)) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_PCHANGE)) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_SPDACQUIRE)) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_SPDEXPIRE)) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_NAT_T_NEW_MAPPING, SADB_SATYPE_ESP)) == EOPNOTSUPP);
    CHECK(client.error_of(bare(SADB_X_MIGRATE)) == EOPNOTSUPP);
}

TEST_CASE("rump gives bare EINVALs; here each refusal has a reason in words (rump-and-other-stacks §3 item 10)")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    m.cipher_key.reset();
    CHECK(client.error_of(m) == EINVAL);
    CHECK(host.engine.last_error(client.id()) == "the encryption algorithm needs KEY_ENCRYPT");
    m.sa->spi = 3;
    CHECK(client.error_of(m) == EINVAL);
    CHECK(host.engine.last_error(client.id()) == "SPIs 0 to 255 are reserved, CPIs have 16 bits");
}
