// SPDX-License-Identifier: BSD-2-Clause
// Choosing outbound SAs, and asking key managers for those that are missing. Two engines play IKE at the end.
#include "tests/pfkey/engine_fixture.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Outbound {
    Host host;
    Client daemon{host.engine, host.now};
    std::vector<std::uint32_t> done;
    Flow packet = flow("10.0.0.1", "10.0.0.2");

    Outbound()
    {
        REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
        host.engine.on_acquire_done = [this](std::uint32_t id) { done.push_back(id); };
    }

    const Policy& policy(std::vector<Request> requests = {esp_request()})
    {
        const Message m = policy_message(SADB_X_SPDUPDATE, Direction::out, "10.0.0.0/24", "10.0.0.0/24", requests);
        return *host.engine.spd().find(daemon.ask(m).message.policy->id);
    }

    Engine::Selected select(const Policy& p)
    {
        return host.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, host.now);
    }

    void add(std::uint32_t spi, std::uint32_t reqid = 0, std::uint8_t mode = IPSEC_MODE_ANY)
    {
        Message m = keyed(SADB_ADD, spi);
        m.sa2 = Sa2Ext{mode, 0, reqid};
        REQUIRE(daemon.error_of(m) == 0);
    }

    std::uint32_t chosen(const Policy& p)
    {
        const auto selected = select(p);
        daemon.receive();
        return selected.state == Engine::Selection::found ? selected.sa->spi : 0;
    }
};

}  // namespace

TEST_CASE_FIXTURE(Outbound, "of several SAs the oldest is used, or with preferred_oldsa=0 the newest")
{
    const Policy& p = policy();
    for (const std::uint32_t spi : {0x1000u, 0x1001u, 0x1002u})
        add(spi);
    CHECK(chosen(p) == 0x1000);
    REQUIRE(host.engine.tunables().set("net.key.prefered_oldsa", 0));   // NetBSD's spelling
    CHECK(chosen(p) == 0x1002);
    REQUIRE(host.engine.tunables().set("net.key.preferred_oldsa", 1));
    REQUIRE(daemon.error_of(sa_message(SADB_DELETE, 0x1000)) == 0);
    CHECK(chosen(p) == 0x1001);
}

TEST_CASE_FIXTURE(Outbound, "a dying SA: before the mature ones if the old are preferred, else after them (KAME)")
{
    const Policy& p = policy();
    add(0x1000);
    add(0x1001);
    add(0x1002);
    const auto age = [&](std::uint32_t spi) {
        Message update = sa_message(SADB_UPDATE, spi);
        update.soft = Lifetime{1, 0, 0, 0};
        REQUIRE(daemon.error_of(update) == 0);
        Sa& sa = *host.engine.inbound(ip_proto::esp, address("10.0.0.2"), spi);
        REQUIRE(host.engine.charge(sa, 1, host.now));
        REQUIRE(sa.state == SaState::dying);
        daemon.receive();
    };
    age(0x1001);
    CHECK(chosen(p) == 0x1001);
    age(0x1000);
    CHECK(chosen(p) == 0x1000);
    REQUIRE(host.engine.tunables().set("net.key.preferred_oldsa", 0));
    CHECK(chosen(p) == 0x1002);
    age(0x1002);
    CHECK(chosen(p) == 0x1002);   // the newest of the dying
    add(0x1003);
    CHECK(chosen(p) == 0x1003);
    REQUIRE(host.engine.tunables().set("net.key.preferred_oldsa", 1));
    Message younger = sa_message(SADB_UPDATE, 0x1000);
    younger.soft = Lifetime{};
    REQUIRE(daemon.error_of(younger) == 0);
    CHECK(chosen(p) == 0x1001);   // 0x1000 is mature again
    for (const std::uint32_t spi : {0x1001u, 0x1002u})
        REQUIRE(daemon.error_of(sa_message(SADB_DELETE, spi)) == 0);
    CHECK(chosen(p) == 0x1000);
}

TEST_CASE_FIXTURE(Outbound, "SAs from or to any address serve where no other does (KAME)")
{
    const Policy& p = policy({esp_request(Level::unique, 7)});
    const auto add_between = [&](std::uint32_t spi, std::string_view source, std::string_view destination) {
        Message m = keyed(SADB_ADD, spi, source, destination);
        m.sa2 = Sa2Ext{IPSEC_MODE_ANY, 0, 7};
        REQUIRE(daemon.error_of(m) == 0);
        return chosen(p);
    };
    CHECK(add_between(0x1006, "::", "::") == 0);
    CHECK(add_between(0x1001, "0.0.0.0", "10.0.0.9") == 0);
    CHECK(add_between(0x1002, "0.0.0.0", "0.0.0.0") == 0x1002);
    CHECK(add_between(0x1003, "10.0.0.1", "0.0.0.0") == 0x1003);
    CHECK(add_between(0x1004, "0.0.0.0", "10.0.0.2") == 0x1004);
    CHECK(add_between(0x1005, "10.0.0.1", "10.0.0.2") == 0x1005);
}

TEST_CASE_FIXTURE(Outbound, "larval SAs and other modes, reqids and directions do not fit")
{
    const Policy& p = policy({esp_request(Level::unique, 7)});
    add(0x1000);
    add(0x1001, 8);
    add(0x1002, 7, IPSEC_MODE_TUNNEL);
    REQUIRE(daemon.error_of(keyed(SADB_ADD, 0x1003, "10.0.0.2", "10.0.0.1")) == 0);
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.sa2 = Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 7};
    REQUIRE(daemon.error_of(getspi) == 0);
    CHECK(chosen(p) == 0);
    add(0x1004, 7, IPSEC_MODE_TRANSPORT);
    CHECK(chosen(p) == 0x1004);
    CHECK(chosen(policy({esp_request()})) == 0x1000);   // reqid 0: any SA
}

TEST_CASE_FIXTURE(Outbound, "in tunnel mode the tunnel's end points count")
{
    const Policy& p = policy({esp_tunnel("192.0.2.1", "192.0.2.2")});
    add(0x1000);
    CHECK(chosen(p) == 0);
    Message m = keyed(SADB_ADD, 0x1001, "192.0.2.1", "192.0.2.2");
    m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 0};
    REQUIRE(daemon.error_of(m) == 0);
    CHECK(chosen(p) == 0x1001);
}

TEST_CASE_FIXTURE(Outbound, "level use never asks; level default is a tunable of protocol, mode and family")
{
    CHECK(select(policy({esp_request(Level::use)})).state == Engine::Selection::absent);
    const Policy& standard = policy({esp_request(Level::standard)});
    CHECK(select(standard).state == Engine::Selection::absent);
    REQUIRE(host.engine.tunables().set("net.inet.ipsec.esp_net_deflev", 2));
    REQUIRE(host.engine.tunables().set("net.inet6.ipsec6.esp_trans_deflev", 2));
    CHECK(select(standard).state == Engine::Selection::absent);
    REQUIRE(host.engine.tunables().set("net.inet.ipsec.esp_trans_deflev", 2));
    CHECK(select(standard).state == Engine::Selection::acquiring);
    Request request = esp_request(Level::standard);
    CHECK(host.engine.level_of(request, Family::v6) == Level::require);
    request.protocol = ip_proto::ah;
    CHECK(host.engine.level_of(request, Family::v4) == Level::use);
    REQUIRE(host.engine.tunables().set("net.inet.ipsec.ah_trans_deflev", 2));   // KAME never looks at it
    CHECK(host.engine.level_of(request, Family::v4) == Level::require);
    request.level = Level::unique;
    CHECK(host.engine.level_of(request, Family::v4) == Level::unique);
}

TEST_CASE_FIXTURE(Outbound, "ACQUIRE says who talks to whom, under which policy, and what this host can do")
{
    const Policy& p = policy();
    const auto selected = select(p);
    REQUIRE(selected.state == Engine::Selection::acquiring);
    auto replies = daemon.receive();
    REQUIRE(replies.size() == 1);
    const Message& m = replies[0].message;
    CHECK(m.type == SADB_ACQUIRE);
    CHECK(m.satype == SADB_SATYPE_ESP);
    CHECK(m.pid == 0);
    CHECK(m.seq == selected.acquire);
    CHECK(m.seq != 0);
    CHECK(m.source == end_point("10.0.0.1"));
    CHECK(m.destination == end_point("10.0.0.2"));
    REQUIRE(m.policy);
    CHECK(m.policy->id == p.id);
    CHECK(m.policy->direction == IPSEC_DIR_OUTBOUND);
    CHECK(m.policy->type == IPSEC_POLICY_IPSEC);
    REQUIRE(m.proposal);
    bool gcm_alone = false, cbc_sha256 = false;
    for (const auto& c : m.proposal->combinations) {
        gcm_alone |= c.encrypt == SADB_X_EALG_AES_GCM_ICV16 && c.auth == 0 && c.encrypt_min == 288;
        cbc_sha256 |= c.encrypt == SADB_X_EALG_AESCBC && c.auth == SADB_X_AALG_SHA2_256HMAC && c.auth_min == 256 &&
                      c.encrypt_min == 256;   // net.key.esp_keymin
        CHECK(c.encrypt != SADB_EALG_NULL);
        CHECK(algorithm_by_id(AlgorithmKind::cipher, c.encrypt)->offered());
    }
    CHECK(gcm_alone);
    CHECK(cbc_sha256);
    CHECK(!m.sa2);   // as Linux: SRC, DST, POLICY, PROPOSAL
}

TEST_CASE_FIXTURE(Outbound, "an SA from or to any address ends the waiting of all whom it serves, and of nobody else")
{
    const Policy& p = policy({esp_request(Level::unique, 7)});
    const auto waiting_for = [&](std::uint8_t peer) {
        packet.destination = Address::v4(10, 0, 0, peer);
        return select(p).acquire;
    };
    const auto second = waiting_for(2), third = waiting_for(3);
    Message m = keyed(SADB_ADD, 0x1000, "0.0.0.0", "10.0.0.2");
    m.sa2 = Sa2Ext{IPSEC_MODE_TRANSPORT, 0, 8};
    REQUIRE(daemon.send(m).has_value());
    CHECK(done.empty());   // another reqid
    m.sa->spi = 0x1001;
    m.sa2->reqid = 7;
    REQUIRE(daemon.send(m).has_value());
    CHECK(done == std::vector{second});
    m = keyed(SADB_ADD, 0x1002, "10.0.0.1", "0.0.0.0");
    m.sa2 = Sa2Ext{IPSEC_MODE_ANY, 0, 7};
    REQUIRE(daemon.send(m).has_value());
    CHECK(done == std::vector{second, third});
}

TEST_CASE_FIXTURE(Outbound, "proposals: esp_keymin, ah_keymin and esp_auth")
{
    REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_AH)) == 0);
    REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_X_SATYPE_IPCOMP)) == 0);
    std::uint8_t peer = 10;
    const auto proposed = [&](std::uint8_t protocol) {
        Request request = esp_request(Level::require);
        request.protocol = protocol;
        const Policy& p = policy({request});
        packet.destination = Address::v4(10, 0, 0, ++peer);   // each time another question
        select(p);
        return daemon.receive_one().message.proposal->combinations;
    };
    const auto shortest = [](const std::vector<Combination>& list, std::uint8_t encrypt) {
        return std::ranges::find(list, encrypt, &Combination::encrypt)->encrypt_min;
    };
    auto& tunables = host.engine.tunables();
    REQUIRE(tunables.set("net.key.esp_keymin", 0));
    CHECK(shortest(proposed(ip_proto::esp), SADB_X_EALG_AESCBC) == 128);
    REQUIRE(tunables.set("net.key.esp_keymin", 129));
    CHECK(shortest(proposed(ip_proto::esp), SADB_X_EALG_AESCBC) == 192);
    CHECK(shortest(proposed(ip_proto::esp), SADB_X_EALG_AES_GCM_ICV16) == 192 + 32);   // the salt is no key
    REQUIRE(tunables.set("net.key.esp_keymin", 2048));
    CHECK(shortest(proposed(ip_proto::esp), SADB_X_EALG_AESCBC) == 256);               // there is no more

    const auto bare_encryption = [](const Combination& c) {
        return c.auth == 0 && algorithm_by_id(AlgorithmKind::cipher, c.encrypt)->kind == AlgorithmKind::cipher;
    };
    auto list = proposed(ip_proto::esp);
    const auto first_bare = std::ranges::find_if(list, bare_encryption);
    CHECK(first_bare != list.begin());
    CHECK(first_bare != list.end());
    CHECK(std::all_of(first_bare, list.end(), bare_encryption));   // last
    REQUIRE(tunables.set("net.key.esp_auth", 1));
    list = proposed(ip_proto::esp);
    CHECK(std::ranges::none_of(list, bare_encryption));

    list = proposed(ip_proto::ah);
    CHECK(std::ranges::any_of(list, [](const Combination& c) { return c.auth == SADB_X_AALG_SHA2_256HMAC; }));
    for (const auto& c : list) {
        CHECK(c.encrypt == 0);
        CHECK(c.auth != SADB_X_AALG_NULL);
        CHECK(c.auth != SADB_AALG_MD5HMAC);
    }
    list = proposed(ip_proto::ipcomp);
    REQUIRE(list.size() == 1);
    CHECK(list[0].encrypt == SADB_X_CALG_DEFLATE);
}

TEST_CASE_FIXTURE(Outbound, "a flood asks once; again after blockacq_count packets or blockacq_lifetime seconds")
{
    const Policy& p = policy();
    const auto first = select(p).acquire;
    CHECK(daemon.receive().size() == 1);
    for (int i = 0; i < 10; ++i)
        CHECK(select(p).acquire == first);
    CHECK(daemon.receive().empty());
    CHECK(select(p).acquire == first);
    const auto repeated = daemon.receive();
    REQUIRE(repeated.size() == 1);
    CHECK(repeated[0].message.seq == first);

    packet.destination = address("10.0.0.3");   // another peer is another question
    const auto other = select(p).acquire;
    CHECK(other != first);
    CHECK(daemon.receive().size() == 1);

    host.advance(19);
    CHECK(done.empty());
    host.advance(1);
    CHECK(done == std::vector{first, other});
    CHECK(select(p).acquire > other);
    CHECK(daemon.receive().size() == 1);
}

TEST_CASE_FIXTURE(Outbound, "an ACQUIRE with an errno ends the waiting")
{
    const Policy& p = policy();
    const auto id = select(p).acquire;
    daemon.receive();
    Message failure = bare(SADB_ACQUIRE, SADB_SATYPE_ESP);
    failure.seq = id + 1;
    failure.error = ETIMEDOUT;
    REQUIRE(daemon.send(failure));
    CHECK(done.empty());   // not this one
    failure.seq = id;
    REQUIRE(daemon.send(failure));
    CHECK(done == std::vector{id});
    CHECK(daemon.receive().empty());   // as KAME: no answer
    CHECK(select(p).acquire != id);
}

TEST_CASE_FIXTURE(Outbound, "an SA that fits ends the waiting; the inbound one of the same negotiation does not")
{
    const Policy& p = policy();
    const auto id = select(p).acquire;
    daemon.receive();
    Message getspi = sa_message(SADB_GETSPI, std::nullopt, "10.0.0.2", "10.0.0.1");
    getspi.seq = id;
    const std::uint32_t spi = daemon.ask(getspi).message.sa->spi;
    Message update = keyed(SADB_UPDATE, spi, "10.0.0.2", "10.0.0.1");
    update.seq = id;
    REQUIRE(daemon.error_of(update) == 0);
    CHECK(done.empty());
    SUBCASE("by seq, even if it does not fit")
    {
        Message add = keyed(SADB_ADD, 0x1000);
        add.seq = id;
        add.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 0};
        REQUIRE(daemon.error_of(add) == 0);
        CHECK(done == std::vector{id});
    }
    SUBCASE("by fitting, whatever its seq")
    {
        add(0x1000);
        CHECK(done == std::vector{id});
        CHECK(chosen(p) == 0x1000);
    }
    SUBCASE("by fitting the mode and the reqid")
    {
        add(0x1000, 3, IPSEC_MODE_TUNNEL);
        CHECK(done.empty());
        add(0x1001, 3, IPSEC_MODE_TRANSPORT);
        CHECK(done == std::vector{id});
    }
}

TEST_CASE_FIXTURE(Outbound, "GETSPI with the seq of an ACQUIRE gives the key manager more time")
{
    const auto id = select(policy()).acquire;
    daemon.receive();
    host.advance(15);
    Message getspi = sa_message(SADB_GETSPI, std::nullopt, "10.0.0.2", "10.0.0.1");
    getspi.seq = id;
    REQUIRE(daemon.error_of(getspi) == 0);
    host.advance(29);
    CHECK(done.empty());
    host.advance(1);
    CHECK(done == std::vector{id});
}

TEST_CASE("a key manager that registers late hears of the next packet at once")
{
    Host host;
    Client client(host.engine, host.now);
    const auto id =
        client.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2")).message.policy->id;
    const Policy& p = *host.engine.spd().find(id);
    const auto select = [&] {
        const Flow packet = flow("10.0.0.1", "10.0.0.2");
        return host.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, host.now);
    };
    const auto first = select();
    CHECK(first.state == Engine::Selection::acquiring);
    REQUIRE(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_AH)) == 0);
    CHECK(select().acquire == first.acquire);
    CHECK(client.receive().empty());   // registered for AH only
    REQUIRE(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    CHECK(select().acquire == first.acquire);
    CHECK(client.receive().size() == 1);
}

TEST_CASE("pending ACQUIREs are bounded")
{
    Host host({.max_acquires = 3});
    Client client(host.engine, host.now);
    const auto id =
        client.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.0/8", "10.0.0.0/8")).message.policy->id;
    const Policy& p = *host.engine.spd().find(id);
    const auto to = [&](std::uint8_t last) {
        const Flow packet = flow("10.0.0.1", "10.0.1." + std::to_string(last));
        return host.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, host.now);
    };
    for (std::uint8_t i = 1; i <= 3; ++i)
        CHECK(to(i).acquire != 0);
    CHECK(to(4).state == Engine::Selection::acquiring);   // never in clear
    CHECK(to(4).acquire == 0);
    CHECK(to(2).acquire != 0);
    host.advance(20);
    CHECK(to(4).acquire != 0);
}

TEST_CASE("ACQUIRE by a user: relayed to key managers, EEXIST if there is an SA, EINVAL if incomplete")
{
    Host host;
    Client daemon(host.engine, host.now), asker(host.engine, host.now);
    REQUIRE(daemon.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    Message m = sa_message(SADB_ACQUIRE, std::nullopt);
    CHECK(asker.error_of(m) == EINVAL);
    m.proposal = ProposalExt{32, {Combination{}}};
    CHECK(asker.error_of(m) == 0);
    const auto heard = daemon.receive();
    REQUIRE(heard.size() == 1);
    CHECK(heard[0].message.type == SADB_ACQUIRE);
    CHECK(heard[0].message.proposal == m.proposal);
    m.satype = SADB_SATYPE_UNSPEC;
    CHECK(asker.error_of(m) == EINVAL);
    m.satype = SADB_SATYPE_ESP;
    REQUIRE(daemon.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    asker.receive();
    CHECK(asker.error_of(m) == EEXIST);
}

TEST_CASE("two engines joined by their key managers: each protects what the other opens")
{
    Host a, b;
    Client daemon_a(a.engine, a.now), daemon_b(b.engine, b.now);
    std::vector<std::uint32_t> done;
    a.engine.on_acquire_done = [&](std::uint32_t id) { done.push_back(id); };
    for (Client* daemon : {&daemon_a, &daemon_b})
        REQUIRE(daemon->error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    REQUIRE(daemon_a.error_of(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2")) == 0);
    REQUIRE(daemon_b.error_of(policy_message(SADB_X_SPDADD, Direction::in, "10.0.0.1", "10.0.0.2")) == 0);

    const Flow packet = flow("10.0.0.1", "10.0.0.2");
    const Policy* policy = a.engine.match(Direction::out, packet, a.now);
    REQUIRE(policy != nullptr);
    const auto send = [&] {
        return a.engine.outbound(*policy, policy->requests[0], packet, packet.source, packet.destination, a.now);
    };
    const auto waiting = send();
    REQUIRE(waiting.state == Engine::Selection::acquiring);
    const Reply acquire = daemon_a.receive_one();

    // What IKE does next: B picks the SPI of the direction A to B, both install keys.
    Message getspi = sa_message(SADB_GETSPI, std::nullopt);
    getspi.spi_range = SpiRangeExt{0x100, 0xffffffff};
    const std::uint32_t spi = daemon_b.ask(getspi).message.sa->spi;
    REQUIRE(daemon_b.error_of(keyed(SADB_UPDATE, spi)) == 0);
    Message add = keyed(SADB_ADD, spi);
    add.seq = acquire.message.seq;
    add.hard = Lifetime{0, 3000, 0, 0};
    REQUIRE(daemon_a.error_of(add) == 0);
    CHECK(done == std::vector{waiting.acquire});

    const auto ready = send();
    REQUIRE(ready.state == Engine::Selection::found);
    Sa* opener = b.engine.inbound(ip_proto::esp, packet.destination, ready.sa->spi);
    REQUIRE(opener != nullptr);
    CHECK(std::ranges::equal(opener->cipher_key.bytes(), ready.sa->cipher_key.bytes()));
    CHECK(opener->replay.size() == 32);

    // Used up: A asks anew.
    CHECK(a.engine.charge(*ready.sa, 2000, a.now));
    CHECK(a.engine.charge(*ready.sa, 1000, a.now));
    CHECK(daemon_a.receive_one().message.type == SADB_EXPIRE);
    CHECK(send().state == Engine::Selection::acquiring);
    CHECK(daemon_a.receive_one().message.type == SADB_ACQUIRE);
}

TEST_CASE("rump deletes the older SA when a newer one comes, which breaks a peer that still sends on it, and announces "
          "it with the source as destination; here both sides keep working (rump-and-other-stacks §3 item 7)")
{
    Host a, b;
    Client daemon_a(a.engine, a.now), daemon_b(b.engine, b.now), listener(b.engine, b.now);
    REQUIRE(daemon_b.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    const auto id =
        daemon_a.ask(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2")).message.policy->id;
    const Policy& p = *a.engine.spd().find(id);
    const Flow packet = flow("10.0.0.1", "10.0.0.2");
    const auto sent_with = [&] {
        return a.engine.outbound(p, p.requests[0], packet, packet.source, packet.destination, a.now).sa->spi;
    };
    const auto arrives = [&](std::uint32_t spi) {
        Sa* sa = b.engine.inbound(ip_proto::esp, packet.destination, spi);
        return sa != nullptr && b.engine.charge(*sa, 100, b.now);
    };
    const auto install = [&](std::uint32_t spi) {
        Message m = keyed(SADB_ADD, spi);
        m.soft = Lifetime{0, 0, 50, 0};
        m.hard = Lifetime{0, 0, 100, 0};
        REQUIRE(daemon_a.error_of(m) == 0);
        REQUIRE(daemon_b.error_of(m) == 0);
    };
    for (const std::int64_t preferred : {1, 0}) {
        CAPTURE(preferred);
        REQUIRE(a.engine.tunables().set("net.key.preferred_oldsa", preferred));
        const std::uint32_t older = 0x1000 + static_cast<std::uint32_t>(preferred) * 16, newer = older + 1;
        install(older);
        a.advance(60);
        b.advance(60);
        daemon_b.receive();
        install(newer);
        CHECK(sent_with() == (preferred == 1 ? older : newer));
        CHECK(arrives(older));
        CHECK(arrives(newer));
        listener.receive();
        a.advance(40);
        b.advance(40);
        CHECK(sent_with() == newer);     // the older one is dead on both sides
        CHECK(!arrives(older));
        CHECK(arrives(newer));
        CHECK(listener.receive().empty());   // no DELETE, no DELETE of the wrong address
        const auto told = daemon_b.receive();
        REQUIRE(told.size() == 1);
        CHECK(told[0].message.type == SADB_EXPIRE);
        CHECK(told[0].message.sa->spi == older);
        CHECK(told[0].message.source == end_point("10.0.0.1"));
        CHECK(told[0].message.destination == end_point("10.0.0.2"));
        REQUIRE(daemon_b.error_of(sa_message(SADB_DELETE, newer)) == 0);
        const Message deleted = listener.receive_one().message;
        CHECK(deleted.sa->spi == newer);
        CHECK(deleted.source == end_point("10.0.0.1"));
        CHECK(deleted.destination == end_point("10.0.0.2"));
        REQUIRE(daemon_a.error_of(sa_message(SADB_DELETE, newer)) == 0);
    }
}
