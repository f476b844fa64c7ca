// SPDX-License-Identifier: BSD-2-Clause
// Lifetimes of SAs and policies, larval time-outs.
#include "tests/pfkey/engine_fixture.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Aging {
    Host host;
    Client daemon{host.engine, host.now}, bystander{host.engine, host.now};

    Aging()
    {
        REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    }

    Sa* add(Lifetime hard, Lifetime soft)
    {
        Message m = keyed(SADB_ADD, 0x1000);
        m.hard = hard;
        m.soft = soft;
        m.seq = 321;
        CHECK(daemon.error_of(m) == 0);
        bystander.receive();
        return sa();
    }

    Sa* sa() { return host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000); }

    // "", "soft" or "hard", or both in turn: what the daemon was told since.
    std::string told()
    {
        std::string events;
        for (const auto& reply : daemon.receive()) {
            const Message& m = reply.message;
            REQUIRE(m.type == SADB_EXPIRE);
            CHECK(m.pid == 0);
            CHECK(m.seq == 321);
            CHECK(m.satype == SADB_SATYPE_ESP);
            CHECK(m.sa->spi == 0x1000);
            CHECK(m.sa2);
            CHECK(m.current);
            CHECK(m.source == end_point("10.0.0.1"));
            CHECK(m.destination == end_point("10.0.0.2"));
            CHECK(!m.cipher_key);
            CHECK(m.hard.has_value() != m.soft.has_value());   // racoon takes no EXPIRE with both
            CHECK(m.sa->state == (m.hard ? SADB_SASTATE_DEAD : SADB_SASTATE_DYING));
            events += m.hard ? "hard " : "soft ";
        }
        CHECK(bystander.receive().empty());
        return events;
    }

    bool charge(std::size_t bytes) { return host.engine.charge(*sa(), bytes, host.now); }
};

Lifetime added(std::uint64_t n) { return {0, 0, n, 0}; }
Lifetime used(std::uint64_t n) { return {0, 0, 0, n}; }
Lifetime bytes(std::uint64_t n) { return {0, n, 0, 0}; }
Lifetime packets(std::uint32_t n) { return {n, 0, 0, 0}; }

}  // namespace

TEST_CASE_FIXTURE(Aging, "by age: soft once, then hard once, to the registered only")
{
    add(added(4), added(2));
    CHECK(host.engine.next_deadline() == seconds(12));
    host.advance(1);
    CHECK(told() == "");
    const auto generation = host.engine.generation();
    host.advance(1);
    CHECK(told() == "soft ");
    CHECK(sa()->state == SaState::dying);
    CHECK(host.engine.generation() != generation);
    host.advance(1);
    CHECK(told() == "");
    host.advance(1);
    CHECK(told() == "hard ");
    CHECK(sa() == nullptr);
    CHECK(host.engine.next_deadline() == Time::max());
    host.advance(100);
    CHECK(told() == "");
}

TEST_CASE_FIXTURE(Aging, "rump refuses hard without soft; here it is legal (rump-and-other-stacks §3 item 8)")
{
    add(added(2), {});
    host.advance(2);
    CHECK(told() == "hard ");
}

TEST_CASE_FIXTURE(Aging, "rump deletes an unused SA at its soft limit; here it lives on and EXPIRE is sent (§3 item 8)")
{
    add(added(60), added(1));
    host.advance(2);
    CHECK(told() == "soft ");
    CHECK(sa() != nullptr);
}

TEST_CASE_FIXTURE(Aging, "rump enforces bytes by a one-second timer; here no byte goes beyond (§3 item 8)")
{
    add(bytes(300), bytes(100));
    CHECK(charge(99));
    CHECK(told() == "");
    CHECK(charge(1));
    CHECK(told() == "soft ");
    CHECK(charge(199));
    CHECK(told() == "");
    CHECK(!charge(2));          // would make 301
    CHECK(told() == "hard ");
    CHECK(sa() == nullptr);
}

TEST_CASE_FIXTURE(Aging, "the packet that uses up the last byte still goes")
{
    add(bytes(300), {});
    CHECK(charge(300));
    CHECK(told() == "hard ");
    CHECK(sa() == nullptr);
}

TEST_CASE_FIXTURE(Aging, "rump stores limits of allocations and use, and ignores them; here they count (§3 item 8)")
{
    SUBCASE("allocations are packets")
    {
        add(packets(3), packets(2));
        CHECK(charge(10));
        CHECK(charge(10));
        CHECK(told() == "soft ");
        CHECK(charge(10));
        CHECK(told() == "hard ");
        CHECK(sa() == nullptr);
    }
    SUBCASE("use time runs from the first packet")
    {
        add(used(20), used(10));
        CHECK(host.engine.next_deadline() == Time::max());
        host.advance(1000);
        CHECK(told() == "");
        CHECK(charge(1));
        CHECK(sa()->current.usetime == epoch + 1010);
        host.advance(5);
        CHECK(charge(1));
        host.advance(5);
        CHECK(told() == "soft ");
        host.advance(10);
        CHECK(told() == "hard ");
        CHECK(sa() == nullptr);
    }
}

TEST_CASE_FIXTURE(Aging, "charge() counts, and sees a time limit before tick() does")
{
    add(added(4), {});
    CHECK(charge(100));
    CHECK(charge(11));
    CHECK(sa()->current == Lifetime{2, 111, epoch + 10, epoch + 10});
    host.now += seconds(4);
    CHECK(!charge(1));
    CHECK(told() == "hard ");
    host.engine.tick(host.now);
    CHECK(told() == "");
}

TEST_CASE_FIXTURE(Aging, "the hard limit at the same moment as the soft one: hard only")
{
    add(added(2), added(2));
    host.advance(3);
    CHECK(told() == "hard ");
}

TEST_CASE_FIXTURE(Aging, "limits beyond the end of time never come")
{
    add(added(~std::uint64_t{0}), added(~std::uint64_t{0} / 2));
    CHECK(host.engine.next_deadline() == Time::max());
    CHECK(charge(1));
}

TEST_CASE_FIXTURE(Aging, "UPDATE moves limits; a dying SA matures again and is announced again")
{
    add(added(100), added(2));
    host.advance(2);
    CHECK(told() == "soft ");
    Message update = sa_message(SADB_UPDATE, 0x1000);
    update.soft = added(10);
    CHECK(daemon.error_of(update) == 0);
    bystander.receive();
    CHECK(sa()->state == SaState::mature);
    host.advance(8);
    CHECK(told() == "soft ");
    update.soft.reset();
    update.hard = added(11);
    CHECK(daemon.error_of(update) == 0);
    bystander.receive();
    CHECK(sa()->state == SaState::dying);
    host.advance(1);
    CHECK(told() == "hard ");
}

TEST_CASE_FIXTURE(Aging, "a deleted SA never expires, and a new one with its SPI has a life of its own")
{
    add(added(5), {});
    CHECK(daemon.error_of(sa_message(SADB_DELETE, 0x1000)) == 0);
    bystander.receive();
    CHECK(host.engine.next_deadline() == Time::max());
    host.advance(3);
    add(added(5), {});
    host.advance(4);
    CHECK(told() == "");
    host.advance(1);
    CHECK(told() == "hard ");
}

TEST_CASE_FIXTURE(Aging,
                  "rump lets ESP sequence numbers wrap; here the SA ends at the last (RFC 4303 §3.3.3; §3 item 6)")
{
    Sa* outbound = add({}, {});
    SUBCASE("soft early enough to rekey, hard at the end")
    {
        outbound->sequence = 0xdfff'ffff;
        CHECK(charge(1));
        CHECK(told() == "");
        outbound->sequence = 0xe000'0000;
        CHECK(charge(1));
        CHECK(told() == "soft ");
        outbound->sequence = 0xffff'ffff;
        CHECK(charge(1));   // the last number was used by this packet
        CHECK(told() == "hard ");
        CHECK(sa() == nullptr);
    }
    SUBCASE("with cyclic-seq (setkey's default) it goes on")
    {
        outbound->flags = SADB_X_EXT_CYCSEQ;
        outbound->sequence = 0xffff'ffff;
        CHECK(charge(1));
        CHECK(told() == "");
        CHECK(sa() != nullptr);
    }
    SUBCASE("extended numbers go on behind 2^32, to 2^64 - 1")
    {
        outbound->flags = SADB_X_SAFLAGS_ESN | SADB_X_EXT_CYCSEQ;
        outbound->sequence = 0x1'0000'0001;
        CHECK(charge(1));
        CHECK(told() == "");
        outbound->sequence = 0xe000'0000'0000'0000;
        CHECK(charge(1));
        CHECK(told() == "soft ");
        outbound->sequence = ~std::uint64_t{0};
        CHECK(charge(1));
        CHECK(told() == "hard ");
    }
    SUBCASE("but never for AES-CTR")
    {
        outbound->flags = SADB_X_EXT_CYCSEQ;
        outbound->cipher = algorithm_by_id(AlgorithmKind::cipher, SADB_X_EALG_AESCTR);
        outbound->sequence = 0xffff'ffff;
        CHECK(charge(1));
        CHECK(told() == "hard ");
    }
    SUBCASE("nor for another counter mode, whose nonces would repeat")
    {
        outbound->flags = SADB_X_EXT_CYCSEQ;
        outbound->cipher = algorithm_by_id(AlgorithmKind::aead, SADB_X_EALG_AES_GCM_ICV16);
        outbound->sequence = 0xffff'ffff;
        CHECK(charge(1));
        CHECK(told() == "hard ");
    }
}

TEST_CASE("larval SAs go after net.key.larval_lifetime, without EXPIRE")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    REQUIRE(client.error_of(sa_message(SADB_GETSPI, std::nullopt)) == 0);
    host.advance(29);
    CHECK(host.engine.sad().size() == 1);
    host.advance(1);
    CHECK(host.engine.sad().size() == 0);
    CHECK(client.receive().empty());
    REQUIRE(host.engine.tunables().set("net.key.larval_lifetime", 5));
    REQUIRE(client.error_of(sa_message(SADB_GETSPI, std::nullopt)) == 0);
    CHECK(host.engine.next_deadline() == host.now + seconds(5));
}

TEST_CASE("an SA that was larval has its limits from UPDATE on")
{
    Host host;
    Client client(host.engine, host.now);
    const std::uint32_t spi = client.ask(sa_message(SADB_GETSPI, std::nullopt)).message.sa->spi;
    host.advance(20);
    Message update = keyed(SADB_UPDATE, spi);
    update.hard = added(100);
    REQUIRE(client.error_of(update) == 0);
    host.advance(99);
    CHECK(host.engine.sad().size() == 1);
    host.advance(1);
    CHECK(host.engine.sad().size() == 0);
}

TEST_CASE("policies expire by age and by disuse: SPDEXPIRE to every registered socket")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_AH)) == 0);
    Message m = policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2");
    std::uint32_t id = 0;
    const auto check_expired = [&] {
        const auto replies = client.receive();
        REQUIRE(replies.size() == 1);
        CHECK(replies[0].message.type == SADB_X_SPDEXPIRE);
        CHECK(replies[0].message.pid == 0);
        CHECK(replies[0].message.policy->id == id);
        CHECK(replies[0].message.hard == m.hard);
        CHECK(replies[0].message.current);
        CHECK(replies[0].message.source);
        CHECK(host.engine.no_policies());
        CHECK(host.engine.next_deadline() == Time::max());
    };
    SUBCASE("age, used or not")
    {
        m.hard = Lifetime{0, 0, 10, 0};
        id = client.ask(m).message.policy->id;
        host.advance(9);
        CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.0.0.2"), host.now) != nullptr);
        CHECK(client.receive().empty());
        host.advance(1);
        check_expired();
    }
    SUBCASE("disuse")
    {
        m.hard = Lifetime{0, 0, 0, 10};
        id = client.ask(m).message.policy->id;
        for (int i = 0; i < 5; ++i) {
            host.advance(6);
            REQUIRE(host.engine.match(Direction::out, flow("10.0.0.1", "10.0.0.2"), host.now) != nullptr);
        }
        host.advance(9);
        CHECK(client.receive().empty());
        host.advance(1);
        check_expired();
    }
    SUBCASE("SPDUPDATE starts a new life, without limits none")
    {
        m.hard = Lifetime{0, 0, 10, 0};
        id = client.ask(m).message.policy->id;
        host.advance(5);
        m.type = SADB_X_SPDUPDATE;
        REQUIRE(client.error_of(m) == 0);
        host.advance(9);
        CHECK(client.receive().empty());
        m.hard.reset();
        REQUIRE(client.error_of(m) == 0);
        CHECK(host.engine.next_deadline() == Time::max());
    }
}

TEST_CASE("tick() does a bounded amount of work per call, and says that more is due")
{
    Host host;
    Client client(host.engine, host.now);
    Message m = keyed(SADB_ADD, 0x1000);
    m.hard = added(5);
    for (std::uint32_t i = 0; i < 5000; ++i) {
        m.sa->spi = 0x1000 + i;
        REQUIRE(client.error_of(m) == 0);
    }
    host.advance(5);
    CHECK(host.engine.sad().size() == 904);
    CHECK(host.engine.next_deadline() <= host.now);
    host.engine.tick(host.now);
    CHECK(host.engine.sad().size() == 0);
}
