// SPDX-License-Identifier: BSD-2-Clause
// SADB_X_BATCH: several messages that apply all or not at all; and SADB_X_EXT_REASON, which says why not.
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

using namespace latchkey;
using namespace latchkey::test;

namespace {

const Message begin = bare(SADB_X_BATCH, SADB_X_BATCH_BEGIN), commit = bare(SADB_X_BATCH, SADB_X_BATCH_COMMIT),
              abandon = bare(SADB_X_BATCH, SADB_X_BATCH_ABANDON);

Message numbered(Message m, std::uint32_t seq)
{
    m.seq = seq;
    m.pid = 4711;
    return m;
}

Message policy(std::uint8_t type, std::string_view source, Direction direction = Direction::out)
{
    return policy_message(type, direction, source, "10.9.0.1");
}

// Everything that clients can see of the tables, as bytes.
std::vector<std::vector<std::uint8_t>> tables(Host& host)
{
    std::vector<std::vector<std::uint8_t>> records;
    Client reader(host.engine, host.now);
    for (const auto type : {SADB_DUMP, SADB_X_SPDDUMP}) {
        REQUIRE(reader.send(bare(static_cast<std::uint8_t>(type))));
        for (auto& reply : reader.receive())
            records.push_back(std::move(reply.record));
    }
    host.engine.close_key_socket(reader.id());
    return records;
}

Message opted_in(Message m)
{
    m.reason = "";
    return m;
}

bool has_reason(const std::vector<std::uint8_t>& record)
{
    return std::ranges::any_of(extensions_of(record), [](const Extension& e) { return e.type == SADB_X_EXT_REASON; });
}

}  // namespace

TEST_CASE("a batch: nothing is answered, done or told before the commit; then all, in order")
{
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    other.receive();
    REQUIRE(client.error_of(begin) == 0);
    CHECK(other.receive().empty());
    for (const auto& m : {sa_message(SADB_DELETE, 0x1000), keyed(SADB_ADD, 0x1000), keyed(SADB_ADD, 0x1001),
                          policy(SADB_X_SPDADD, "10.0.0.1"), policy(SADB_X_SPDUPDATE, "10.0.0.1")})
        REQUIRE(client.send(m));
    CHECK(client.receive().empty());
    CHECK(other.receive().empty());
    CHECK(host.engine.sad().size() == 1);
    CHECK(host.engine.no_policies());

    CHECK(client.error_of(commit) == 0);
    CHECK(host.engine.sad().size() == 2);
    CHECK(host.engine.spd().size() == 1);
    std::vector<std::uint8_t> heard;
    for (const auto& reply : other.receive())
        heard.push_back(reply.message.type);
    CHECK(heard == std::vector<std::uint8_t>{SADB_DELETE, SADB_ADD, SADB_ADD, SADB_X_SPDADD, SADB_X_SPDUPDATE});
}

TEST_CASE("a batch that fails: the message's own answer, ECANCELED for the commit, nothing done and nobody told")
{
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    REQUIRE(client.error_of(policy(SADB_X_SPDADD, "10.0.0.1")) == 0);
    Sa* sa = host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000);
    sa->sequence = 99;
    sa->replay.accept(50);
    host.engine.charge(*sa, 1000, host.now);
    const Policy* rule = host.engine.match(Direction::out, flow("10.0.0.1", "10.9.0.1"), host.now);
    other.receive();
    const auto before = tables(host);
    host.now += seconds(3);

    REQUIRE(client.error_of(opted_in(begin)) == 0);
    Message changed = keyed(SADB_UPDATE, 0x1000);
    changed.hard = Lifetime{0, 0, 100, 0};
    Message moved = policy(SADB_X_SPDUPDATE, "10.0.0.1");
    moved.policy->priority = 9;
    for (const auto& m : {changed, sa_message(SADB_DELETE, std::nullopt), bare(SADB_FLUSH), keyed(SADB_ADD, 0x1001),
                          moved, policy(SADB_X_SPDADD, "10.0.0.2"), policy(SADB_X_SPDDELETE, "10.0.0.1"),
                          bare(SADB_X_SPDFLUSH), policy(SADB_X_SPDADD, "10.0.0.3"),
                          numbered(sa_message(SADB_DELETE, 0x7777), 31337)})
        REQUIRE(client.send(m));
    REQUIRE(client.send(numbered(commit, 31338)));
    const auto replies = client.receive();
    REQUIRE(replies.size() == 2);
    CHECK(replies[0].message.type == SADB_DELETE);
    CHECK(replies[0].message.seq == 31337);
    CHECK(replies[0].message.error == ESRCH);
    CHECK(replies[0].message.reason == "no SA has this protocol, source, destination and SPI");
    CHECK(replies[1].message.type == SADB_X_BATCH);
    CHECK(replies[1].message.satype == SADB_X_BATCH_COMMIT);
    CHECK(replies[1].message.seq == 31338);
    CHECK(replies[1].message.error == ECANCELED);
    CHECK(other.receive().empty());

    CHECK(tables(host) == before);
    CHECK(host.engine.inbound(ip_proto::esp, address("10.0.0.2"), 0x1000) == sa);   // the very same, with its state
    CHECK(sa->sequence == 99);
    CHECK(!sa->replay.fresh(50));
    CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.9.0.1"), host.now) == rule);
    CHECK(host.engine.match(Direction::out, flow("10.0.0.2", "10.9.0.1"), host.now) == nullptr);
    CHECK(client.ask(abandon).message.error == EINVAL);   // the failed commit closed it
    CHECK(client.ask(policy(SADB_X_SPDADD, "10.0.0.9")).message.policy->id / 8 == 2);   // no number was used up
}

TEST_CASE("the timers of what a failed batch had removed run on")
{
    Host host;
    Client client(host.engine, host.now);
    Message add = keyed(SADB_ADD, 0x1000);
    add.hard = Lifetime{0, 0, 60, 0};
    REQUIRE(client.error_of(add) == 0);
    Message rule = policy(SADB_X_SPDADD, "10.0.0.1");
    rule.hard = Lifetime{0, 0, 90, 0};
    REQUIRE(client.error_of(rule) == 0);
    REQUIRE(client.error_of(begin) == 0);
    SUBCASE("deleted") { REQUIRE(client.send(sa_message(SADB_DELETE, 0x1000))); }
    SUBCASE("flushed") { REQUIRE(client.send(bare(SADB_FLUSH))); }
    SUBCASE("updated")
    {
        Message update = keyed(SADB_UPDATE, 0x1000);
        update.hard = Lifetime{0, 0, 6000, 0};
        REQUIRE(client.send(update));
    }
    REQUIRE(client.send(bare(SADB_X_SPDFLUSH)));
    REQUIRE(client.send(sa_message(SADB_DELETE, 0x7777)));
    REQUIRE(client.send(commit));
    client.receive();
    host.advance(59);
    CHECK(host.engine.sad().size() == 1);
    host.advance(1);
    CHECK(host.engine.sad().size() == 0);
    CHECK(host.engine.spd().size() == 1);
    host.advance(30);
    CHECK(host.engine.no_policies());
}

TEST_CASE("an SA that a failed batch had moved (NEW_ADDRESS) is where it was")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1001)) == 0);
    const auto before = tables(host);
    Message moves = keyed(SADB_UPDATE, 0x1000);
    moves.new_source = end_point("10.7.0.1");
    moves.new_destination = end_point("10.7.0.2");
    for (const bool fails : {true, false}) {
        REQUIRE(client.error_of(begin) == 0);
        REQUIRE(client.send(moves));
        if (fails)
            REQUIRE(client.send(sa_message(SADB_DELETE, 0x1000)));   // it is not there any more
        REQUIRE(client.send(commit));
        CHECK(client.receive().size() == (fails ? 2 : 1));
        const Sa* there = host.engine.inbound(ip_proto::esp, address("10.7.0.2"), 0x1000);
        CHECK((there == nullptr) == fails);
        CHECK((tables(host) == before) == fails);
        CHECK(host.engine.sad().any_between(ip_proto::esp, address("10.0.0.1"), address("10.0.0.2"))->spi ==
              (fails ? 0x1000u : 0x1001u));
    }
}

TEST_CASE("an ACQUIRE is answered by a batch that holds, not by one that fails")
{
    Host host;
    Client client(host.engine, host.now);
    std::vector<std::uint32_t> done;
    host.engine.on_acquire_done = [&](std::uint32_t id) { done.push_back(id); };
    REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1", "10.0.0.2")) == 0);
    const Flow packet = flow("10.0.0.1", "10.0.0.2");
    const auto send = [&] {
        const Policy* rule = host.engine.match(Direction::out, packet, host.now);
        return host.engine.outbound(*rule, rule->requests[0], packet, packet.source, packet.destination, host.now);
    };
    const auto waiting = send();
    REQUIRE(waiting.state == Engine::Selection::acquiring);
    for (const bool fails : {true, false}) {
        REQUIRE(client.error_of(begin) == 0);
        REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
        if (fails)
            REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
        REQUIRE(client.send(commit));
        client.receive();
        CHECK(done.size() == (fails ? 0 : 1));
        CHECK(send().state == (fails ? Engine::Selection::acquiring : Engine::Selection::found));
    }
    CHECK(done[0] == waiting.acquire);
}

TEST_CASE("in an open batch everything that only asks is answered at once, and does not see the batch")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(begin) == 0);
    CHECK(client.error_of(begin) == EBUSY);
    REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
    CHECK(client.error_of(sa_message(SADB_GET, 0x1000)) == ESRCH);
    CHECK(client.error_of(bare(SADB_DUMP)) == ENOENT);
    CHECK(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    const Reply spi = client.ask(sa_message(SADB_GETSPI, std::nullopt));
    CHECK(spi.message.error == 0);
    REQUIRE(client.send(keyed(SADB_UPDATE, spi.message.sa->spi)));
    REQUIRE(client.error_of(commit) == 0);
    CHECK(host.engine.inbound(ip_proto::esp, address("10.0.0.2"), spi.message.sa->spi) != nullptr);
    CHECK(host.engine.sad().size() == 2);
}

TEST_CASE("X_BATCH: what it refuses")
{
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    CHECK(client.error_of(commit) == EINVAL);
    CHECK(client.error_of(abandon) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_BATCH, 0)) == EINVAL);
    CHECK(client.error_of(bare(SADB_X_BATCH, 4)) == EINVAL);
    REQUIRE(client.error_of(begin) == 0);
    CHECK(other.error_of(commit) == EINVAL);   // each socket has its own
    REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
    CHECK(client.error_of(abandon) == 0);
    CHECK(host.engine.sad().size() == 0);
    REQUIRE(client.error_of(begin) == 0);
    CHECK(client.error_of(commit) == 0);   // of nothing
}

TEST_CASE("closing the socket abandons its batch")
{
    Host host({.batch_bytes = 2000});
    for (int i = 0; i < 10; ++i) {   // what it held is free again
        Client client(host.engine, host.now);
        REQUIRE(client.error_of(begin) == 0);
        for (std::uint32_t spi = 0; spi < 4; ++spi)
            REQUIRE(client.send(keyed(SADB_ADD, 0x1000 + spi)));
        host.engine.close_key_socket(client.id());
    }
    CHECK(host.engine.sad().size() == 0);
}

TEST_CASE("what a batch may hold is limited for all sockets together; a batch that lost a message cannot be committed")
{
    Host host({.batch_bytes = 2000});
    Client a(host.engine, host.now), b(host.engine, host.now);
    REQUIRE(a.error_of(begin) == 0);
    REQUIRE(b.error_of(begin) == 0);
    REQUIRE(b.send(keyed(SADB_ADD, 0x2000)));
    int kept = 0, refused_with = 0;
    while (refused_with == 0 && kept < 100)
        if (const auto sent = a.send(keyed(SADB_ADD, 0x1000)); sent)
            ++kept;
        else
            refused_with = sent.error().number();
    CHECK(refused_with == ENOBUFS);
    CHECK(kept > 2);
    CHECK(!b.send(keyed(SADB_ADD, 0x2001)).has_value());
    CHECK(a.error_of(commit) == ECANCELED);
    CHECK(b.error_of(commit) == ECANCELED);
    CHECK(host.engine.sad().size() == 0);
    REQUIRE(b.error_of(begin) == 0);
    REQUIRE(b.send(keyed(SADB_ADD, 0x2000)));
    CHECK(b.error_of(commit) == 0);
}

TEST_CASE("a malformed message in a batch fails in send(), and its commit with it")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(begin) == 0);
    REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
    auto record = keyed(SADB_ADD, 0x1001).bytes();
    record[4] = 1;
    CHECK(host.engine.handle(client.id(), record, host.now).error().number() == EINVAL);
    CHECK(client.error_of(commit) == ECANCELED);
    CHECK(host.engine.sad().size() == 0);
}

TEST_CASE("the limits of the tables count in a batch: what it removes makes room for what it adds")
{
    Host host({.max_sas = 2, .max_policies = 1});
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1001)) == 0);
    for (const bool room : {false, true}) {
        REQUIRE(client.error_of(begin) == 0);
        if (room)
            REQUIRE(client.send(sa_message(SADB_DELETE, 0x1000)));
        REQUIRE(client.send(keyed(SADB_ADD, 0x1002)));
        REQUIRE(client.send(commit));
        const auto replies = client.receive();
        CHECK(replies.front().message.error == (room ? 0 : ENOBUFS));
    }
}

TEST_CASE("others' old packets and messages see the SAs as they are before or after, never between: one generation")
{
    Host host;
    Client client(host.engine, host.now);
    REQUIRE(client.error_of(begin) == 0);
    const auto generation = host.engine.generation();
    for (std::uint32_t spi = 0; spi < 100; ++spi)
        REQUIRE(client.send(keyed(SADB_ADD, 0x1000 + spi)));
    CHECK(host.engine.generation() == generation);
    REQUIRE(client.error_of(commit) == 0);
    CHECK(host.engine.generation() != generation);
}

TEST_CASE("a promiscuous socket sees what a batch changed, but no X_BATCH: old clients do not know it")
{
    Host host;
    Client watcher(host.engine, host.now), client(host.engine, host.now);
    REQUIRE(watcher.send(bare(SADB_X_PROMISC, 1)));
    watcher.receive();
    client.receive();
    REQUIRE(client.error_of(begin) == 0);
    REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
    REQUIRE(client.error_of(commit) == 0);
    const auto seen = watcher.receive();
    REQUIRE(seen.size() == 2);   // the broadcast, and its copy
    CHECK(seen[0].message.type == SADB_X_PROMISC);
    CHECK(peek_header(seen[0].message.wrapped)->type == SADB_ADD);
    CHECK(seen[1].message.type == SADB_ADD);
}

TEST_CASE("a batch of 20,000 messages, undone at its last one and then done")
{
    constexpr std::uint32_t count = 20'000;
    Host host;
    Client client(host.engine, host.now);
    const auto commit_all = [&](bool fails) {
        REQUIRE(client.error_of(begin) == 0);
        for (std::uint32_t i = 0; i < count; ++i)
            REQUIRE(client.send(keyed(SADB_ADD, 0x1000 + i)));
        if (fails)
            REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
        REQUIRE(client.send(commit));
        return client.receive().back().message.error;
    };
    CHECK(commit_all(true) == ECANCELED);
    CHECK(host.engine.sad().size() == 0);
    CHECK(host.engine.next_deadline() == Time::max());
    CHECK(commit_all(false) == 0);
    CHECK(host.engine.sad().size() == count);
}

TEST_CASE("X_REASON: who has sent it once gets the reason behind the header of every error answer")
{
    Host host;
    Client client(host.engine, host.now);
    const Message absent = sa_message(SADB_GET, 0x7777);
    CHECK(client.ask(absent).record.size() == 16);
    const Reply first = client.ask(opted_in(absent));
    CHECK(first.message.error == ESRCH);
    CHECK(first.message.reason == host.engine.last_error(client.id()));
    CHECK(client.ask(absent).message.reason == host.engine.last_error(client.id()));
    CHECK(client.ask(bare(SADB_X_SPDFLUSH)).record.size() == 16);   // no error, no reason

    auto record = absent.bytes();
    record[4] = 1;
    host.engine.handle_unsupervised(client.id(), record, host.now);
    const Reply malformed = client.receive_one();
    CHECK(malformed.message.error == EINVAL);
    CHECK(malformed.message.reason == "sadb_msg_len differs from the size of the message");
}

TEST_CASE("X_REASON is no part of what the message says: it goes with messages that take no extensions")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.ask(opted_in(bare(SADB_X_SPDFLUSH))).message.error == 0);
    Message gave_up = opted_in(bare(SADB_ACQUIRE, SADB_SATYPE_ESP));
    REQUIRE(client.send(gave_up));
    CHECK(client.receive().empty());   // as the bare header: no answer
    const Reply registered = client.ask(opted_in(bare(SADB_REGISTER)));
    CHECK(registered.message.error == 0);
    CHECK(!has_reason(registered.record));
}

TEST_CASE("nobody else ever sees a private extension: listeners, promiscuous sockets, Linux clients with 16 bytes")
{
    Host host;
    Client asker(host.engine, host.now), plain(host.engine, host.now), watcher(host.engine, host.now),
        knowing(host.engine, host.now);
    for (Client* client : {&watcher, &knowing}) {
        REQUIRE(client->send(bare(SADB_X_PROMISC, 1)));
        for (Client* all : {&asker, &plain, &watcher, &knowing})
            all->receive();
    }
    REQUIRE(knowing.send(opted_in(bare(SADB_REGISTER))));
    for (Client* all : {&asker, &plain, &watcher, &knowing})
        all->receive();

    CHECK(has_reason(asker.ask(opted_in(sa_message(SADB_GET, 0x7777))).record));
    CHECK(plain.receive().empty());
    auto seen = watcher.receive();
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].message.wrapped.size() == 16);
    seen = knowing.receive();
    REQUIRE(seen.size() == 1);
    CHECK(has_reason({seen[0].message.wrapped.begin(), seen[0].message.wrapped.end()}));
    CHECK(plain.ask(sa_message(SADB_GET, 0x7777)).record.size() == 16);

    // The same for SA_REPLAY in the answer to GET, and for an X_PROMISC that carries one to everybody.
    for (Client* all : {&watcher, &knowing})
        all->receive();
    REQUIRE(asker.error_of(keyed(SADB_ADD, 0x1000)) == 0);
    Message get = sa_message(SADB_GET, 0x1000);
    get.sa_replay = 0;
    for (Client* all : {&plain, &watcher, &knowing})
        all->receive();
    CHECK(asker.ask(get).message.sa_replay == 32u);
    for (const auto& reply : watcher.receive())
        CHECK(!Message::parse(reply.message.wrapped)->sa_replay);
    Message carrier = bare(SADB_X_PROMISC);
    const auto inner = opted_in(bare(SADB_X_SPDFLUSH)).bytes();
    carrier.wrapped = inner;
    REQUIRE(asker.send(carrier));
    CHECK(plain.receive_one().record == bare(SADB_X_SPDFLUSH).bytes());
    CHECK(asker.receive_one().record == inner);
}
