// SPDX-License-Identifier: BSD-2-Clause
// SAs behind a NAT, peers that move, SAs that are moved, and what of it is told to whom.
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

#include <set>

using namespace latchkey;
using namespace latchkey::test;

namespace {

const Address here = address("10.0.0.2");

struct Natt {
    Host host;
    Client daemon{host.engine, host.now}, listener{host.engine, host.now};

    Natt()
    {
        REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    }

    static Message natted(std::uint8_t type, std::uint32_t spi, std::uint16_t source_port = 4500,
                          std::uint16_t destination_port = 40'000)
    {
        Message m = keyed(type, spi);
        m.natt_type = 2;
        m.natt_source_port = source_port;
        m.natt_destination_port = destination_port;
        return m;
    }

    Sa* sa(std::uint32_t spi, std::string_view destination = "10.0.0.2")
    {
        return host.engine.sad().find(ip_proto::esp, address(destination), spi);
    }

    Reply dumped(Client& client)
    {
        REQUIRE(client.send(bare(SADB_DUMP)).has_value());
        return client.receive_one();
    }

    Message got(std::uint32_t spi, std::string_view source = "10.0.0.1", std::string_view destination = "10.0.0.2")
    {
        return daemon.ask(sa_message(SADB_GET, spi, source, destination)).message;
    }
};

std::set<std::uint16_t> types_of(const Reply& reply)
{
    std::set<std::uint16_t> types;
    for (const auto& extension : extensions_of(reply.record))
        types.insert(extension.type);
    return types;
}

}  // namespace

TEST_CASE_FIXTURE(Natt, "what ADD says of a NAT is stored, echoed to all, and told by GET, DUMP and EXPIRE")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.natt_original = end_point("192.168.1.7");
    add.soft = Lifetime{0, 100, 0, 0};
    const auto check = [&](const Message& m) {
        CHECK(m.natt_type == 2);
        CHECK(m.natt_source_port == 4500);
        CHECK(m.natt_destination_port == 40'000);
        REQUIRE(m.natt_original);
        CHECK(m.natt_original->endpoint.address == address("192.168.1.7"));
    };
    check(daemon.ask(add).message);
    check(listener.receive_one().message);
    REQUIRE(sa(0x1000)->natt != nullptr);
    CHECK(sa(0x1000)->natt->original == address("192.168.1.7"));
    CHECK(!sa(0x1000)->natt->original_remote);
    check(got(0x1000));
    check(dumped(daemon).message);
    CHECK(host.engine.charge(*sa(0x1000), 100, host.now));
    check(daemon.receive_one().message);
}

TEST_CASE_FIXTURE(Natt, "without NAT_T_TYPE the other extensions mean nothing; without ports it is 4500 (RFC 3948)")
{
    Message add = keyed(SADB_ADD, 0x1000);
    add.natt_source_port = 1;
    add.natt_destination_port = 2;
    add.natt_original = end_point("fd00::1");
    add.natt_fragment = 5;
    CHECK(!daemon.ask(add).message.natt_type);
    CHECK(sa(0x1000)->natt == nullptr);
    CHECK(!host.engine.encapsulates(address("10.0.0.2"), 2));

    add = keyed(SADB_ADD, 0x1001);
    add.natt_type = 2;
    const Message added = daemon.ask(add).message;
    CHECK(added.natt_source_port == 4500);
    CHECK(added.natt_destination_port == 4500);
    add.sa->spi = 0x1002;
    add.natt_source_port = add.natt_destination_port = 0;   // setkey's esp-udp without [port]
    CHECK(daemon.error_of(add) == 0);
    CHECK(sa(0x1002)->natt->destination_port == 4500);
    add.sa->spi = 0x1003;
    add.natt_original = end_point("0.0.0.0");
    CHECK(!daemon.ask(add).message.natt_original);
}

TEST_CASE_FIXTURE(Natt, "GETSPI may say it already; UPDATE decides")
{
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.natt_type = 2;
    getspi.natt_source_port = 4500;
    getspi.natt_destination_port = 5500;
    const Reply reply = daemon.ask(getspi);
    CHECK(reply.message.natt_destination_port == 5500);
    const std::uint32_t spi = reply.message.sa->spi;
    CHECK(got(spi).natt_destination_port == 5500);
    CHECK(daemon.error_of(keyed(SADB_UPDATE, spi)) == 0);
    CHECK(sa(spi)->natt == nullptr);
}

TEST_CASE_FIXTURE(Natt, "ports in the addresses do not count: racoon's 500 as little as NetBSD's 4500")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.source->endpoint.port = 500;
    add.destination->endpoint.port = 777;
    REQUIRE(daemon.error_of(add) == 0);
    CHECK(sa(0x1000)->natt->source_port == 4500);
    Message get = sa_message(SADB_GET, 0x1000);
    get.destination->endpoint.port = 999;
    CHECK(daemon.ask(get).message.destination == end_point("10.0.0.2"));
}

TEST_CASE_FIXTURE(Natt, "OAR and FRAG have numbers of our own: only who used them sees them")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.natt_original_remote = end_point("192.168.9.9");
    add.natt_fragment = 1400;
    add.sa_replay = 1024;
    Client stranger(host.engine, host.now);
    const Reply added = daemon.ask(add);
    CHECK(added.message.natt_fragment == 1400);
    CHECK(added.message.natt_original_remote == add.natt_original_remote);
    CHECK(added.message.sa_replay == 1024);
    CHECK(got(0x1000).natt_fragment == 1400);
    CHECK(got(0x1000).sa_replay == 1024);
    CHECK(got(0x1000).sa->replay == 255);
    for (const Reply& reply : {stranger.receive_one(), stranger.ask(sa_message(SADB_GET, 0x1000)),
                               dumped(stranger), listener.receive_one()}) {
        CHECK(reply.message.natt_type == 2);
        CHECK(*types_of(reply).rbegin() <= SADB_EXT_MAX);
    }
}

TEST_CASE_FIXTURE(Natt, "encapsulates(): the ports of the SAs that are there")
{
    Engine& engine = host.engine;
    CHECK(!engine.encapsulates(here, 40'000));
    REQUIRE(daemon.error_of(natted(SADB_ADD, 0x1000)) == 0);
    REQUIRE(daemon.error_of(natted(SADB_ADD, 0x1001)) == 0);
    REQUIRE(daemon.error_of(natted(SADB_ADD, 0x1002, 4500, 7)) == 0);
    CHECK(engine.encapsulates(here, 40'000));
    CHECK(engine.encapsulates(here, 7));
    CHECK(!engine.encapsulates(address("10.0.0.1"), 7));   // a peer's port is none of ours
    CHECK(!engine.encapsulates(here, 4500));   // a source port, so not ours to receive on
    REQUIRE(daemon.error_of(sa_message(SADB_DELETE, 0x1000)) == 0);
    CHECK(engine.encapsulates(here, 40'000));
    REQUIRE(daemon.error_of(sa_message(SADB_DELETE, 0x1001)) == 0);
    CHECK(!engine.encapsulates(here, 40'000));
    CHECK(engine.encapsulates(here, 7));
    REQUIRE(daemon.error_of(bare(SADB_FLUSH)) == 0);
    CHECK(!engine.encapsulates(here, 7));
}

TEST_CASE_FIXTURE(Natt, "a peer that moves is announced once per change, to key managers, as Linux says it")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.seq = 55;
    REQUIRE(daemon.error_of(add) == 0);
    listener.receive();
    Sa& moving = *sa(0x1000);
    const auto arrives = [&](std::string_view from, std::uint16_t port) {
        host.engine.peer_moved(moving, address(from), port, host.now);
        return daemon.receive();
    };
    CHECK(arrives("10.0.0.1", 4500).empty());   // where it always was
    const auto told = arrives("10.0.0.1", 5555);
    REQUIRE(told.size() == 1);
    const Message& m = told[0].message;
    CHECK(m.type == SADB_X_NAT_T_NEW_MAPPING);
    CHECK(m.satype == SADB_SATYPE_ESP);
    CHECK(m.pid == 0);
    CHECK(m.seq == 55);
    CHECK(m.sa == SaExt{.spi = 0x1000});
    CHECK(m.source == end_point("10.0.0.1"));
    CHECK(m.natt_source_port == 4500);
    CHECK(m.destination == end_point("10.0.0.1"));
    CHECK(m.natt_destination_port == 5555);
    CHECK(types_of(told[0]) == std::set<std::uint16_t>{SADB_EXT_SA, SADB_EXT_ADDRESS_SRC, SADB_EXT_ADDRESS_DST,
                                                       SADB_X_EXT_NAT_T_SPORT, SADB_X_EXT_NAT_T_DPORT});
    CHECK(arrives("10.0.0.1", 5555).empty());
    REQUIRE(arrives("10.9.9.9", 5555).size() == 1);
    CHECK(arrives("10.0.0.1", 4500).empty());    // back home needs no news
    CHECK(arrives("10.9.9.9", 5555).size() == 1);
    CHECK(listener.receive().empty());
    CHECK(moving.source == address("10.0.0.1"));   // it is the key manager that moves an SA
}

TEST_CASE_FIXTURE(Natt, "after a new mapping, UPDATE with the new ports (Linux), the rest stays")
{
    REQUIRE(daemon.error_of(natted(SADB_ADD, 0x1000)) == 0);
    sa(0x1000)->sequence = 17;
    const auto generation = host.engine.generation();
    Message update = natted(SADB_UPDATE, 0x1000, 4500, 41'000);
    const Reply reply = daemon.ask(update);
    CHECK(reply.message.natt_destination_port == 41'000);
    CHECK(sa(0x1000)->natt->destination_port == 41'000);
    CHECK(sa(0x1000)->sequence == 17);
    CHECK(host.engine.generation() != generation);
    CHECK(host.engine.encapsulates(here, 41'000));
    CHECK(!host.engine.encapsulates(here, 40'000));
    CHECK(daemon.error_of(keyed(SADB_UPDATE, 0x1000)) == 0);   // says nothing of a NAT
    CHECK(sa(0x1000)->natt->destination_port == 41'000);
}

TEST_CASE_FIXTURE(Natt, "NEW_ADDRESS moves an SA (FreeBSD): its numbers, keys and limits go with it")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 9};
    add.hard = Lifetime{0, 0, 100, 0};
    REQUIRE(daemon.error_of(add) == 0);
    REQUIRE(daemon.error_of(keyed(SADB_ADD, 0x1000, "10.0.0.1", "10.0.0.3")) == 0);
    REQUIRE(host.engine.charge(*sa(0x1000), 10, host.now));
    sa(0x1000)->sequence = 17;
    listener.receive();
    Message update = sa_message(SADB_UPDATE, 0x1000);
    SUBCASE("to a free place, out of the NAT")
    {
        update.new_source = end_point("10.0.1.1", 500);
        update.new_destination = end_point("10.0.1.2");
        const auto generation = host.engine.generation();
        const Reply reply = daemon.ask(update);
        CHECK(reply.message.source->endpoint.address == address("10.0.1.1"));
        CHECK(listener.receive_one().message.destination == end_point("10.0.1.2"));
        CHECK(sa(0x1000) == nullptr);
        const Sa* moved = sa(0x1000, "10.0.1.2");
        REQUIRE(moved != nullptr);
        CHECK(moved->source == address("10.0.1.1"));
        CHECK(moved->sequence == 17);
        CHECK(moved->current.bytes == 10);
        CHECK(moved->natt == nullptr);
        CHECK(moved->reqid == 9);
        CHECK(!host.engine.encapsulates(here, 40'000));
        CHECK(host.engine.generation() != generation);
        CHECK(host.engine.sad().outbound(ip_proto::esp, Mode::tunnel, address("10.0.1.1"), address("10.0.1.2"), 9,
                                         true) == moved);
        CHECK(host.engine.sad().outbound(ip_proto::esp, Mode::tunnel, address("10.0.0.1"), address("10.0.0.2"), 9,
                                         true) == nullptr);
        host.advance(100);
        CHECK(sa(0x1000, "10.0.1.2") == nullptr);
    }
    SUBCASE("only the source, and other ports")
    {
        update.new_source = end_point("10.0.1.1");
        update.natt_type = 2;
        update.natt_source_port = 7000;
        update.natt_destination_port = 7001;
        REQUIRE(daemon.error_of(update) == 0);
        CHECK(sa(0x1000)->source == address("10.0.1.1"));
        CHECK(sa(0x1000)->natt->source_port == 7000);
        CHECK(host.engine.encapsulates(here, 7001));
    }
    SUBCASE("to another family (MOBIKE)")
    {
        update.new_source = end_point("fd00::1");
        update.new_destination = end_point("fd00::2");
        update.natt_type = 2;
        update.natt_original = end_point("fd00::7");
        REQUIRE(daemon.error_of(update) == 0);
        REQUIRE(sa(0x1000, "fd00::2") != nullptr);
        CHECK(sa(0x1000, "fd00::2")->natt->original == address("fd00::7"));
    }
    SUBCASE("to where its name is taken: EEXIST, nothing moved")
    {
        update.new_destination = end_point("10.0.0.3");
        update.hard = Lifetime{0, 0, 1, 0};
        CHECK(daemon.error_of(update) == EEXIST);
        CHECK(sa(0x1000)->hard.addtime == 100);
        CHECK(sa(0x1000)->natt != nullptr);
    }
    SUBCASE("to where it is: nothing happens")
    {
        update.new_destination = end_point("10.0.0.2");
        update.natt_type = 2;
        CHECK(daemon.error_of(update) == 0);
        CHECK(sa(0x1000)->sequence == 17);
    }
}

TEST_CASE_FIXTURE(Natt, "an SA that is moved to where one is missing ends the waiting")
{
    std::vector<std::uint32_t> done;
    host.engine.on_acquire_done = [&](std::uint32_t id) { done.push_back(id); };
    const auto id =
        daemon.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.0/16", "10.0.0.0/16")).message.policy->id;
    const Policy& p = *host.engine.spd().find(id);
    REQUIRE(daemon.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    const Flow packet = flow("10.0.0.1", "10.0.0.9");
    const auto waiting = host.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, host.now);
    REQUIRE(waiting.state == Engine::Selection::acquiring);
    daemon.receive();
    Message update = sa_message(SADB_UPDATE, 0x1000);
    update.new_destination = end_point("10.0.0.9");
    REQUIRE(daemon.error_of(update) == 0);
    CHECK(done == std::vector{waiting.acquire});
}

TEST_CASE_FIXTURE(Natt, "a batch that fails takes back what UPDATE changed, counts and places included")
{
    Message add = natted(SADB_ADD, 0x1000);
    add.sa2 = Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 9};
    add.soft = Lifetime{1, 0, 0, 0};
    REQUIRE(daemon.error_of(add) == 0);
    add.sa->spi = 0x1001;
    REQUIRE(daemon.error_of(add) == 0);
    REQUIRE(host.engine.charge(*sa(0x1000), 10, host.now));
    REQUIRE(sa(0x1000)->state == SaState::dying);
    listener.receive();
    daemon.receive();
    const auto dump = [&] {
        REQUIRE(listener.send(bare(SADB_DUMP)).has_value());
        std::vector<std::vector<std::uint8_t>> records;
        for (auto& reply : listener.receive())
            records.push_back(std::move(reply.record));
        return records;
    };
    const auto before = dump();
    const auto chosen = [&](std::uint32_t reqid) {
        return host.engine.sad().outbound(ip_proto::esp, Mode::transport, address("10.0.0.1"), address("10.0.0.2"),
                                          reqid, true);
    };
    const Sa* first = chosen(0);

    REQUIRE(daemon.error_of(bare(SADB_X_BATCH, SADB_X_BATCH_BEGIN)) == 0);
    Message update = natted(SADB_UPDATE, 0x1000, 4500, 50'000);
    update.soft = Lifetime{100, 0, 0, 0};   // it would be mature again
    update.new_destination = end_point("10.0.0.77");
    REQUIRE(daemon.send(update).has_value());
    REQUIRE(daemon.send(natted(SADB_UPDATE, 0x1001, 4500, 50'001)).has_value());
    REQUIRE(daemon.send(natted(SADB_ADD, 0x1001)).has_value());   // EEXIST
    REQUIRE(daemon.send(bare(SADB_X_BATCH, SADB_X_BATCH_COMMIT)).has_value());
    CHECK(daemon.receive().back().message.error == ECANCELED);

    CHECK(dump() == before);
    CHECK(host.engine.encapsulates(here, 40'000));
    CHECK(!host.engine.encapsulates(address("10.0.0.77"), 50'000));
    CHECK(!host.engine.encapsulates(here, 50'001));
    CHECK(chosen(0) == first);
    CHECK(chosen(9) == first);
    CHECK(first == sa(0x1000));
    REQUIRE(daemon.error_of(bare(SADB_FLUSH, SADB_SATYPE_ESP)) == 0);
    CHECK(!host.engine.encapsulates(here, 40'000));
}
