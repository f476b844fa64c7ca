// SPDX-License-Identifier: BSD-2-Clause
// Who gets which message, the two classes of errors, dumps with back-pressure, slow readers.
#include "tests/pfkey/engine_fixture.hpp"

#include <set>

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Crowd {
    Host& host;
    Client sender{host.engine, host.now}, registered{host.engine, host.now}, bystander{host.engine, host.now};

    explicit Crowd(Host& h) : host(h)
    {
        REQUIRE(sender.error_of(bare(SADB_REGISTER, SADB_SATYPE_AH)) == 0);
        REQUIRE(registered.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
        drain();
    }

    void drain()
    {
        for (Client* client : {&sender, &registered, &bystander})
            client->receive();
    }

    // How many messages each of the three gets.
    std::vector<std::size_t> counts(const Message& message)
    {
        REQUIRE(sender.send(message));
        return {sender.receive().size(), registered.receive().size(), bystander.receive().size()};
    }
};

using Counts = std::vector<std::size_t>;
const Counts one{1, 0, 0}, reg{1, 1, 0}, all{1, 1, 1};

std::vector<std::uint32_t> sequence_of(const std::vector<Reply>& replies)
{
    std::vector<std::uint32_t> sequence;
    for (const auto& reply : replies)
        sequence.push_back(reply.message.seq);
    return sequence;
}

// The numbers of a dump: falling, 0 once and last.
void check_sequence(const std::vector<std::uint32_t>& sequence)
{
    REQUIRE(!sequence.empty());
    CHECK(sequence.back() == 0);
    for (std::size_t i = 0; i + 1 < sequence.size(); ++i)
        CHECK(sequence[i] != 0);
    CHECK(std::ranges::is_sorted(sequence, std::greater{}));
}

void fill(Host& host, std::uint32_t count)
{
    Client client(host.engine, host.now);
    for (std::uint32_t i = 0; i < count; ++i)
        REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000 + i)) == 0);
    host.engine.close_key_socket(client.id());
}

}  // namespace

TEST_CASE("recipients: the sender, the registered, or all (KAME)")
{
    Host host;
    Crowd crowd(host);
    const auto spd = [](std::uint8_t type) { return policy_message(type, Direction::out, "10.0.0.1", "10.0.0.2"); };
    CHECK(crowd.counts(keyed(SADB_ADD, 0x1000)) == all);
    CHECK(crowd.counts(keyed(SADB_ADD, 0x1000)) == one);   // EEXIST is the sender's alone
    CHECK(crowd.counts(keyed(SADB_UPDATE, 0x1000)) == all);
    CHECK(crowd.counts(sa_message(SADB_GET, 0x1000)) == one);
    CHECK(crowd.counts(sa_message(SADB_GETSPI, std::nullopt)) == one);
    CHECK(crowd.counts(bare(SADB_DUMP)) == Counts{2, 0, 0});
    CHECK(crowd.counts(sa_message(SADB_DELETE, 0x1000)) == all);
    CHECK(crowd.counts(bare(SADB_FLUSH)) == all);
    CHECK(crowd.counts(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == reg);
    CHECK(crowd.counts(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == one);
    CHECK(crowd.counts(spd(SADB_X_SPDADD)) == all);
    CHECK(crowd.counts(spd(SADB_X_SPDUPDATE)) == all);
    CHECK(crowd.counts(bare(SADB_X_SPDDUMP)) == one);
    CHECK(crowd.counts(spd(SADB_X_SPDDELETE)) == all);
    CHECK(crowd.counts(spd(SADB_X_SPDSETIDX)) == all);
    CHECK(crowd.counts(bare(SADB_X_SPDFLUSH)) == all);
}

TEST_CASE("REGISTER: the algorithms of the table that are offered; twice is EEXIST; UNSPEC only asks")
{
    Host host;
    Client client(host.engine, host.now);
    const Reply reply = client.ask(bare(SADB_REGISTER, SADB_SATYPE_ESP));
    std::set<unsigned> auth, encrypt;
    for (const auto& a : *reply.message.supported_auth)
        auth.insert(a.id);
    for (const auto& e : *reply.message.supported_encrypt) {
        encrypt.insert(e.id);
        if (e.id == SADB_X_EALG_AESCBC)
            CHECK(e == SupportedAlgorithm{SADB_X_EALG_AESCBC, 16, 128, 256});
    }
    CHECK(auth.contains(SADB_X_AALG_SHA2_256HMAC));
    CHECK(auth.contains(SADB_AALG_SHA1HMAC));
    CHECK(encrypt.contains(SADB_EALG_NULL));
    CHECK(encrypt.contains(SADB_X_EALG_AES_GCM_ICV16));
    for (const auto& row : algorithms)
        if (!row.offered() && row.kind != AlgorithmKind::compression)
            CHECK(!(row.kind == AlgorithmKind::auth ? auth : encrypt).contains(row.sadb_id));

    CHECK(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == EEXIST);
    CHECK(client.error_of(bare(SADB_REGISTER, SADB_X_SATYPE_IPCOMP)) == 0);
    CHECK(client.error_of(bare(SADB_REGISTER)) == 0);
    CHECK(client.error_of(bare(SADB_REGISTER)) == 0);
    CHECK(client.error_of(bare(SADB_REGISTER, 77)) == EINVAL);
    CHECK(client.error_of(bare(SADB_REGISTER, SADB_SATYPE_RSVP)) == EOPNOTSUPP);
}

TEST_CASE("malformed messages fail in send() and queue nothing; on a bare socket they are answered")
{
    Host host;
    Client client(host.engine, host.now);
    auto record = keyed(SADB_ADD, 0x1000).bytes();
    SUBCASE("length field") { record[4] = static_cast<std::uint8_t>(record[4] + 1); }
    SUBCASE("trailing bytes") { record.insert(record.end(), 8, 0); }
    SUBCASE("short") { record.resize(12); }
    SUBCASE("empty") { record.clear(); }
    SUBCASE("version") { record[0] = 1; }
    SUBCASE("type 0") { record[1] = 0; }
    SUBCASE("type 200") { record[1] = 200; }
    SUBCASE("extension of length 0") { record[16] = record[17] = 0; }
    SUBCASE("unknown extension") { record[18] = 50; }
    const auto refused = host.engine.handle(client.id(), record, host.now);
    REQUIRE(!refused.has_value());
    CHECK(refused.error().number() == EINVAL);
    CHECK(!refused.error().reason.empty());
    CHECK(host.engine.front(client.id()).empty());
    CHECK(host.engine.sad().size() == 0);

    host.engine.handle_unsupervised(client.id(), record, host.now);
    const auto replies = client.receive();
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].record.size() == 16);
    CHECK(replies[0].message.error == EINVAL);
}

TEST_CASE("handle_unsupervised answers a good message just as handle() does")
{
    Host host;
    Client client(host.engine, host.now);
    host.engine.handle_unsupervised(client.id(), keyed(SADB_ADD, 0x1000).bytes(), host.now);
    CHECK(client.receive().size() == 1);
    CHECK(host.engine.sad().size() == 1);
}

TEST_CASE("a promiscuous socket gets a wrapped copy of every message, and its own besides")
{
    Host host;
    Client watcher(host.engine, host.now), client(host.engine, host.now);
    CHECK(watcher.error_of(bare(SADB_X_PROMISC, 2)) == EINVAL);
    REQUIRE(watcher.send(bare(SADB_X_PROMISC, 1)));
    CHECK(watcher.receive().size() == 2);   // the echo, and its copy
    client.receive();

    const Reply spi = client.ask(sa_message(SADB_GETSPI, std::nullopt));
    auto seen = watcher.receive();
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].message.type == SADB_X_PROMISC);
    CHECK(std::ranges::equal(seen[0].message.wrapped, spi.record));

    const Reply added = client.ask(keyed(SADB_ADD, 0x1000));
    seen = watcher.receive();
    REQUIRE(seen.size() == 2);
    CHECK(std::ranges::equal(seen[0].message.wrapped, added.record));
    CHECK(seen[1].record == added.record);

    REQUIRE(client.error_of(sa_message(SADB_GET, 0x9999)) == ESRCH);
    CHECK(watcher.receive().size() == 1);   // errors are seen too
    REQUIRE(watcher.send(bare(SADB_X_PROMISC, 0)));
    watcher.receive();
    client.receive();
    REQUIRE(client.error_of(sa_message(SADB_GET, 0x1000)) == 0);
    CHECK(watcher.receive().empty());
}

TEST_CASE("X_PROMISC with a message inside: everybody gets it as it is")
{
    Host host;
    Client one_client(host.engine, host.now), other(host.engine, host.now);
    const auto inner = bare(SADB_X_SPDFLUSH).bytes();
    Message m = bare(SADB_X_PROMISC);
    m.wrapped = inner;
    REQUIRE(one_client.send(m));
    CHECK(one_client.receive_one().record == inner);
    CHECK(other.receive_one().record == inner);
    const std::vector<std::uint8_t> broken(16, 0xff);
    m.wrapped = broken;
    REQUIRE(one_client.send(m));
    CHECK(one_client.receive_one().message.error == EINVAL);
    CHECK(other.receive().empty());
}

TEST_CASE("DUMP: every SA with keys, numbered down to 0; of one type only if asked")
{
    Host host;
    Client client(host.engine, host.now);
    CHECK(client.error_of(bare(SADB_DUMP)) == ENOENT);
    fill(host, 3);
    client.receive();
    Message dump = bare(SADB_DUMP);
    dump.pid = 5;
    dump.seq = 99;
    REQUIRE(client.send(dump));
    const auto replies = client.receive();
    CHECK(sequence_of(replies) == std::vector<std::uint32_t>{2, 1, 0});
    for (const auto& reply : replies) {
        CHECK(reply.message.pid == 5);
        CHECK(reply.message.satype == SADB_SATYPE_ESP);
        CHECK(reply.message.sa2);
        CHECK(reply.message.current);
        REQUIRE(reply.message.cipher_key);
        CHECK(std::ranges::equal(reply.message.cipher_key->key, cipher_key));
    }
    CHECK(client.error_of(bare(SADB_DUMP, SADB_SATYPE_AH)) == ENOENT);
    REQUIRE(client.send(bare(SADB_DUMP, SADB_SATYPE_ESP)));
    CHECK(client.receive().size() == 3);
}

TEST_CASE("a dump of any size is complete though the queue is small, two at once included")
{
    Host host({.queue_bytes = 8192});
    fill(host, 2000);
    Client a(host.engine, host.now), b(host.engine, host.now);
    REQUIRE(a.send(bare(SADB_DUMP)));
    REQUIRE(b.send(bare(SADB_DUMP)));
    CHECK(host.engine.stats(a.id()).queued_bytes <= 8192);
    CHECK(a.send(bare(SADB_DUMP)).has_value());   // refused below
    std::vector<std::uint32_t> from_a, from_b;
    std::set<std::uint32_t> spis;
    int busy = 0;
    for (bool more = true; more;) {
        more = false;
        if (!host.engine.front(a.id()).empty()) {
            const Reply reply = a.receive_one();
            busy += reply.message.error == EBUSY;
            if (reply.message.error == 0) {
                from_a.push_back(reply.message.seq);
                spis.insert(reply.message.sa->spi);
            }
            more = true;
        }
        if (!host.engine.front(b.id()).empty()) {
            from_b.push_back(b.receive_one().message.seq);
            more = true;
        }
    }
    CHECK(busy == 1);
    CHECK(from_a.size() == 2000);
    CHECK(spis.size() == 2000);
    CHECK(from_b == from_a);
    check_sequence(from_a);
    CHECK(from_a.front() == 1999);
    CHECK(host.engine.stats(a.id()).dropped == 0);
    REQUIRE(a.send(bare(SADB_DUMP)));   // not busy any more
    CHECK(a.receive().size() == 2000);
}

TEST_CASE("changes during a dump: no entry that stays is missed, the numbering stays sound")
{
    Host host({.queue_bytes = 8192});
    fill(host, 300);
    Client reader(host.engine, host.now), writer(host.engine, host.now);
    std::vector<Reply> replies;
    REQUIRE(reader.send(bare(SADB_DUMP)));
    for (int i = 0; i < 5; ++i)
        replies.push_back(reader.receive_one());
    const auto is_dump = [](const Reply& reply) { return reply.message.type == SADB_DUMP; };
    SUBCASE("additions")
    {
        for (std::uint32_t i = 0; i < 20; ++i)
            REQUIRE(writer.error_of(keyed(SADB_ADD, 0x9000 + i)) == 0);
    }
    SUBCASE("deletions")
    {
        for (std::uint32_t i = 100; i < 300; ++i)
            REQUIRE(writer.error_of(sa_message(SADB_DELETE, 0x1000 + i)) == 0);
    }
    SUBCASE("flush") { REQUIRE(writer.error_of(bare(SADB_FLUSH)) == 0); }
    while (!host.engine.front(reader.id()).empty())
        replies.push_back(reader.receive_one());
    std::erase_if(replies, std::not_fn(is_dump));
    check_sequence(sequence_of(replies));
    std::set<std::uint32_t> seen;
    for (const auto& reply : replies)
        seen.insert(reply.message.sa->spi);
    CHECK(seen.size() == replies.size());
    std::uint64_t cursor = 0;
    while (const Sa* sa = host.engine.sad().next(cursor, 0))
        CHECK(seen.contains(sa->spi) == (sa->spi < 0x9000));
}

TEST_CASE("changes during an SPD dump")
{
    Host host({.queue_bytes = 8192});
    Client reader(host.engine, host.now), writer(host.engine, host.now);
    const auto policy = [](std::uint8_t type, int i) {
        return policy_message(type, i % 2 ? Direction::in : Direction::out,
                              "10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256), "10.9.0.1");
    };
    for (int i = 0; i < 300; ++i)
        REQUIRE(writer.error_of(policy(SADB_X_SPDADD, i)) == 0);
    reader.receive();
    std::vector<Reply> replies;
    REQUIRE(reader.send(bare(SADB_X_SPDDUMP)));
    for (int i = 0; i < 5; ++i)
        replies.push_back(reader.receive_one());
    std::size_t expected = 300;
    SUBCASE("additions in front of the cursor and behind it")
    {
        for (int i = 400; i < 420; ++i) {
            Message m = policy(SADB_X_SPDADD, i);
            m.policy->priority = i % 3 == 0 ? 0 : 100;
            REQUIRE(writer.error_of(m) == 0);
        }
    }
    SUBCASE("updates keep their place")
    {
        for (int i = 0; i < 300; ++i)
            REQUIRE(writer.error_of(policy(SADB_X_SPDUPDATE, i)) == 0);
    }
    SUBCASE("flush")
    {
        REQUIRE(writer.error_of(bare(SADB_X_SPDFLUSH)) == 0);
        expected = 0;
    }
    while (!host.engine.front(reader.id()).empty())
        replies.push_back(reader.receive_one());
    std::erase_if(replies, [](const Reply& reply) { return reply.message.type != SADB_X_SPDDUMP; });
    check_sequence(sequence_of(replies));
    if (expected != 0)
        CHECK(replies.size() == expected);
}

TEST_CASE(
    "rump stops a broadcast at the first full listener; here only the slow one loses (rump-and-other-stacks §3 item 9)")
{
    Host host({.queue_bytes = 4096});
    Client writer(host.engine, host.now), stuck(host.engine, host.now), watcher(host.engine, host.now);
    int heard = 0;
    for (std::uint32_t i = 0; i < 200; ++i) {
        REQUIRE(writer.error_of(keyed(SADB_ADD, 0x1000 + i)) == 0);
        heard += static_cast<int>(watcher.receive().size());
    }
    CHECK(heard == 200);
    const auto stats = host.engine.stats(stuck.id());
    CHECK(stats.queued_bytes <= 4096);
    CHECK(stats.dropped > 0);
    CHECK(stuck.receive().size() + stats.dropped == 200);
    CHECK(host.engine.stats(watcher.id()).dropped == 0);
}

TEST_CASE("a dump that waits for its reader leaves room for what the socket registered for")
{
    Host host({.queue_bytes = 8192});
    fill(host, 300);
    Client manager(host.engine, host.now), client(host.engine, host.now);
    REQUIRE(manager.error_of(bare(SADB_REGISTER, SADB_SATYPE_ESP)) == 0);
    REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::out, "10.5.0.1", "10.5.0.2")) == 0);
    manager.receive();
    REQUIRE(manager.send(bare(SADB_DUMP)));
    const std::size_t dumping = host.engine.stats(manager.id()).queued_bytes;
    CHECK(dumping >= 4096);
    const Flow packet = flow("10.5.0.1", "10.5.0.2");
    const Policy* policy = host.engine.match(Direction::out, packet, host.now);
    host.engine.outbound(*policy, policy->requests[0], packet, packet.source, packet.destination, host.now);
    CHECK(host.engine.stats(manager.id()).queued_bytes > dumping);
    CHECK(host.engine.stats(manager.id()).dropped == 0);
    std::size_t dumped = 0, asked = 0;
    for (const auto& reply : manager.receive()) {
        dumped += reply.message.type == SADB_DUMP;
        asked += reply.message.type == SADB_ACQUIRE;
    }
    CHECK(dumped == 300);
    CHECK(asked == 1);
}

TEST_CASE("sockets that die with a full queue, in a dump or promiscuous, leave nothing behind")
{
    Host host({.queue_bytes = 4096});
    fill(host, 100);
    Client survivor(host.engine, host.now);
    for (int i = 0; i < 20; ++i) {
        Client dying(host.engine, host.now);
        if (i % 3 == 0)
            REQUIRE(dying.send(bare(SADB_X_PROMISC, 1)));
        if (i % 2 == 0)
            REQUIRE(dying.send(bare(SADB_DUMP)));
        survivor.receive();
        for (std::uint32_t spi = 0; spi < 20; ++spi) {
            REQUIRE(survivor.error_of(keyed(SADB_ADD, 0x9000 + spi)) == 0);
            REQUIRE(survivor.error_of(sa_message(SADB_DELETE, 0x9000 + spi)) == 0);
        }
        host.engine.close_key_socket(dying.id());
    }
    CHECK(host.engine.sad().size() == 100);
    CHECK(host.engine.stats(survivor.id()).dropped == 0);
}

TEST_CASE("a large flush is done at once, and what it removed is freed in slices")
{
    Host host;
    fill(host, 5000);
    Client client(host.engine, host.now);
    for (int i = 0; i < 3000; ++i)
        REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::out, "10.0.0.1",
                                               "10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256))) == 0);
    CHECK(client.error_of(bare(SADB_FLUSH)) == 0);
    CHECK(client.error_of(bare(SADB_X_SPDFLUSH)) == 0);
    CHECK(host.engine.sad().size() == 0);
    CHECK(host.engine.no_policies());
    CHECK(host.engine.match(Direction::out, flow("10.0.0.1", "10.1.0.1"), host.now) == nullptr);
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1000)) == 0);   // at the address of one that is still to be freed
    CHECK(client.error_of(bare(SADB_FLUSH)) == 0);            // a second one, while the first is being freed
    REQUIRE(client.error_of(keyed(SADB_ADD, 0x1001)) == 0);
    int slices = 0;
    for (; host.engine.next_deadline() <= host.now && slices < 100; ++slices)
        host.advance(0);
    CHECK(slices > 2);
    CHECK(slices < 100);
    CHECK(host.engine.sad().size() == 1);
}

TEST_CASE("who never reads cannot make the host queue without bound: ENOBUFS, and nothing is done")
{
    Host host({.queue_bytes = 4096});
    Client client(host.engine, host.now);
    std::uint32_t done = 0;
    Result<void> result;
    for (std::uint32_t i = 0; i < 1000 && result; ++i) {
        result = client.send(keyed(SADB_ADD, 0x1000 + i));
        done += result.has_value();
    }
    REQUIRE(!result.has_value());
    CHECK(result.error().number() == ENOBUFS);
    CHECK(host.engine.sad().size() == done);
    CHECK(host.engine.stats(client.id()).queued_bytes < 4096 + 512);
    CHECK(client.receive().size() == done);   // no answer to a done request is lost
    CHECK(client.send(keyed(SADB_ADD, 0x9000)).has_value());
}

TEST_CASE("on_readable tells once per filling of a queue")
{
    Host host;
    Client client(host.engine, host.now), other(host.engine, host.now);
    std::vector<KeySocketId> told;
    host.engine.on_readable = [&](KeySocketId id) { told.push_back(id); };
    REQUIRE(client.send(keyed(SADB_ADD, 0x1000)));
    REQUIRE(client.send(keyed(SADB_ADD, 0x1001)));
    CHECK(std::ranges::count(told, client.id()) == 1);
    CHECK(std::ranges::count(told, other.id()) == 1);
    client.receive();
    REQUIRE(client.send(sa_message(SADB_GET, 0x1000)));
    CHECK(std::ranges::count(told, client.id()) == 2);
    CHECK(std::ranges::count(told, other.id()) == 1);
}

TEST_CASE("sockets come and go; ids of closed ones are harmless")
{
    Host host({.max_key_sockets = 2});
    Client a(host.engine, host.now), b(host.engine, host.now);
    CHECK(host.engine.open_key_socket().error().number() == ENOBUFS);
    host.engine.close_key_socket(a.id());
    CHECK(host.engine.handle(a.id(), bare(SADB_FLUSH).bytes(), host.now).error().number() == EBADF);
    host.engine.handle_unsupervised(a.id(), bare(SADB_FLUSH).bytes(), host.now);
    host.engine.pop(a.id(), host.now);
    host.engine.close_key_socket(a.id());
    CHECK(host.engine.front(a.id()).empty());
    CHECK(host.engine.stats(a.id()).queued_bytes == 0);
    const auto c = host.engine.open_key_socket();
    REQUIRE(c.has_value());
    CHECK(*c != a.id());
}
