// SPDX-License-Identifier: BSD-2-Clause
// A batch (SADB_X_BATCH) against the same messages one by one: if all of them are accepted, the tables end up the same
// and everybody heard the same; if one is refused, the tables are as they were, to the last number.
#include "pfkey/engine.hpp"
#include "tests/support/rng.hpp"

#include <rapidcheck.h>

using namespace latchkey;

namespace {

using Records = std::vector<std::vector<std::uint8_t>>;

struct Host {
    Time now = std::chrono::seconds(100);
    test::SequenceRng rng;
    Engine engine{rng, 1'700'000'000};
    KeySocketId sender = *engine.open_key_socket(), listener = *engine.open_key_socket();
    std::vector<std::uint32_t> acquires_done;

    Host()
    {
        engine.on_acquire_done = [this](std::uint32_t id) { acquires_done.push_back(id); };
    }

    Records read(KeySocketId socket)
    {
        Records records;
        for (Bytes record = engine.front(socket); !record.empty(); record = engine.front(socket)) {
            records.emplace_back(record.begin(), record.end());
            engine.pop(socket, now);
        }
        return records;
    }

    // The answers; none is kept back.
    Records ask(const Message& message)
    {
        RC_ASSERT(engine.handle(sender, message.bytes(), now).has_value());
        return read(sender);
    }

    Records tables()
    {
        Message dump;
        dump.type = SADB_DUMP;
        Records all = ask(dump);
        dump.type = SADB_X_SPDDUMP;
        std::ranges::move(ask(dump), std::back_inserter(all));
        return all;
    }
};

int error_of(const Records& answers)
{
    return peek_header(answers.at(0))->error;
}

Address random_host()
{
    return Address::v4(10, 0, 0, *rc::gen::inRange<std::uint8_t>(1, 4));
}

AddressExt end_point(const Address& address, std::uint8_t bits = 32)
{
    return {255, bits, {address.masked(bits), 0, 0}};
}

Message random_sa_message(std::uint8_t type)
{
    static const std::vector<std::uint8_t> key(36, 7);
    Message m;
    m.type = type;
    m.satype = *rc::gen::weightedElement<std::uint8_t>({{9, SADB_SATYPE_ESP}, {1, SADB_SATYPE_AH}});
    m.source = end_point(random_host());
    m.destination = end_point(random_host());
    m.sa = SaExt{.spi = *rc::gen::inRange<std::uint32_t>(0x100, 0x103), .replay = 32, .state = SADB_SASTATE_MATURE};
    if (type == SADB_DELETE) {
        if (*rc::gen::inRange(0, 4) == 0)
            m.sa.reset();
        return m;
    }
    m.sa->auth = SADB_X_AALG_SHA2_256HMAC;
    m.auth_key = KeyExt{256, Bytes(key).first(32)};
    if (m.satype == SADB_SATYPE_ESP) {
        m.sa->encrypt = SADB_X_EALG_AESCBC;
        m.cipher_key = KeyExt{128, Bytes(key).first(16)};
    }
    m.sa2 = Sa2Ext{IPSEC_MODE_TRANSPORT, 0, type == SADB_UPDATE ? 0 : *rc::gen::inRange<std::uint32_t>(0, 3)};
    if (*rc::gen::arbitrary<bool>())
        m.hard = Lifetime{0, 0, *rc::gen::inRange<std::uint64_t>(50, 60), 0};
    if (*rc::gen::arbitrary<bool>())
        m.soft = Lifetime{0, 0, *rc::gen::element<std::uint64_t>(5, 40), 0};
    if (type == SADB_UPDATE && *rc::gen::arbitrary<bool>())
        m.new_destination = end_point(random_host());
    return m;
}

Message random_policy_message(std::uint8_t type)
{
    Message m;
    m.type = type;
    if (type == SADB_X_SPDDELETE2) {
        m.policy.emplace().id = *rc::gen::inRange<std::uint32_t>(1, 10) << 3 | *rc::gen::inRange<std::uint32_t>(0, 3);
        return m;
    }
    m.source = end_point(random_host(), *rc::gen::element<std::uint8_t>(24, 32));
    m.destination = end_point(random_host(), *rc::gen::element<std::uint8_t>(24, 32));
    Request request;
    request.level = *rc::gen::element(Level::require, Level::use, Level::unique);
    m.policy = PolicyExt{IPSEC_POLICY_IPSEC, *rc::gen::element<std::uint8_t>(IPSEC_DIR_INBOUND, IPSEC_DIR_OUTBOUND), 0,
                         *rc::gen::inRange<std::uint32_t>(0, 2), {request}};
    if (*rc::gen::arbitrary<bool>())
        m.hard = Lifetime{0, 0, 90, 0};
    return m;
}

Message random_message()
{
    const auto type = *rc::gen::weightedElement<std::uint8_t>({{12, SADB_ADD}, {8, SADB_UPDATE}, {5, SADB_DELETE},
                                                               {1, SADB_FLUSH}, {10, SADB_X_SPDADD},
                                                               {5, SADB_X_SPDUPDATE}, {3, SADB_X_SPDDELETE},
                                                               {2, SADB_X_SPDDELETE2}, {1, SADB_X_SPDSETIDX},
                                                               {1, SADB_X_SPDFLUSH}});
    Message m;
    m.type = type;
    if (type == SADB_ADD || type == SADB_UPDATE || type == SADB_DELETE)
        m = random_sa_message(type);
    else if (type == SADB_FLUSH)
        m.satype = *rc::gen::element<std::uint8_t>(SADB_SATYPE_UNSPEC, SADB_SATYPE_ESP, SADB_SATYPE_AH);
    else if (type != SADB_X_SPDFLUSH)
        m = random_policy_message(type);
    m.seq = *rc::gen::inRange<std::uint32_t>(1, 5);
    m.pid = 9;
    return m;
}

Message batch_message(std::uint8_t step)
{
    Message m;
    m.type = SADB_X_BATCH;
    m.satype = step;
    m.seq = 1000;
    return m;
}

// What lookups find, as pointers where nothing may have moved.
std::vector<const void*> lookups(Host& host)
{
    std::vector<const void*> found;
    for (std::uint8_t a = 1; a < 4; ++a)
        for (std::uint8_t b = 1; b < 4; ++b) {
            const Address source = Address::v4(10, 0, 0, a), destination = Address::v4(10, 0, 0, b);
            for (const Direction direction : {Direction::in, Direction::out})
                found.push_back(host.engine.spd().lookup(direction, {source, destination, 0, 0, 17, false}));
            for (const std::uint32_t reqid : {0u, 1u, 2u})
                for (const bool old : {false, true})
                    found.push_back(
                        host.engine.sad().outbound(ip_proto::esp, Mode::transport, source, destination, reqid, old));
            for (std::uint32_t spi = 0x100; spi < 0x108; ++spi)
                found.push_back(host.engine.sad().find(ip_proto::esp, destination, spi));
        }
    return found;
}

// Some history: SAs and policies, used ones among them, a larval SA, ACQUIREs under way.
void prepare(Host& host, const std::vector<Message>& history)
{
    for (const auto& message : history)
        host.ask(message);
    for (std::uint8_t i = 1; i < 4; ++i) {
        const Flow packet{Address::v4(10, 0, 0, 1), Address::v4(10, 0, 0, i), 0, 0, 17, false};
        const Policy* policy = host.engine.match(Direction::out, packet, host.now);
        if (policy == nullptr || policy->requests.empty())
            continue;
        const auto selected = host.engine.outbound(*policy, policy->requests[0], packet, packet.source,
                                                   packet.destination, host.now);
        if (selected.sa != nullptr) {
            selected.sa->sequence += 5;
            host.engine.charge(*selected.sa, 100, host.now);
        }
    }
    Message getspi;
    getspi.type = SADB_GETSPI;
    getspi.satype = SADB_SATYPE_ESP;
    getspi.source = end_point(Address::v4(10, 0, 0, 1));
    getspi.destination = end_point(Address::v4(10, 0, 0, 2));
    getspi.spi_range = SpiRangeExt{0x100, 0x107};
    host.ask(getspi);
    host.read(host.listener);
    host.now += std::chrono::seconds(7);
    host.engine.tick(host.now);
    host.read(host.listener);
}

// A walk of messages that a host accepts one after the other.
std::vector<Message> accepted_by(Host& host, int count)
{
    std::vector<Message> messages;
    for (int tries = 0; tries < 4 * count && messages.size() < static_cast<std::size_t>(count); ++tries)
        if (Message message = random_message(); error_of(host.ask(message)) == 0)
            messages.push_back(std::move(message));
    return messages;
}

Message refused_always()
{
    Message message;
    message.type = SADB_X_SPDDELETE2;
    message.seq = 77;
    message.policy.emplace().id = 0xffffffff;
    return message;
}

struct Case {
    std::vector<Message> history, messages;
    std::size_t accepted = 0;   // of the messages
};

// Half of the batches hold to the end; the others have one message, anywhere, that is refused.
Case random_case(bool may_hold)
{
    Host scratch;
    Case c;
    c.history = accepted_by(scratch, *rc::gen::inRange(0, 30));
    Host second;
    prepare(second, c.history);
    c.messages = accepted_by(second, *rc::gen::inRange(1, 15));
    c.accepted = c.messages.size();
    if (may_hold && *rc::gen::arbitrary<bool>())
        return c;
    c.accepted = *rc::gen::inRange<std::size_t>(0, c.messages.size() + 1);
    c.messages.insert(c.messages.begin() + static_cast<std::ptrdiff_t>(c.accepted), refused_always());
    return c;
}

Records commit(Host& host, const std::vector<Message>& messages)
{
    RC_ASSERT(error_of(host.ask(batch_message(SADB_X_BATCH_BEGIN))) == 0);
    for (const auto& message : messages)
        RC_ASSERT(host.ask(message).empty());
    return host.ask(batch_message(SADB_X_BATCH_COMMIT));
}

void done_as_one_by_one(Host& batch, Host& single, const Case& c, const Records& answers)
{
    for (const auto& message : c.messages)
        single.ask(message);
    RC_ASSERT(answers.size() == 1u);
    RC_ASSERT(error_of(answers) == 0);
    RC_ASSERT(batch.tables() == single.tables());
    RC_ASSERT(batch.read(batch.listener) == single.read(single.listener));
    RC_ASSERT(batch.acquires_done == single.acquires_done);
    RC_ASSERT(batch.engine.sad().last_serial() == single.engine.sad().last_serial());
}

void all_or_nothing()
{
    const Case c = random_case(true);
    Host batch, single;
    prepare(batch, c.history);
    prepare(single, c.history);
    const Records tables = batch.tables();
    RC_ASSERT(tables == single.tables());
    const auto found = lookups(batch);
    const auto serial = batch.engine.sad().last_serial();
    const auto order = batch.engine.spd().last_order();

    const Records answers = commit(batch, c.messages);
    if (c.accepted == c.messages.size()) {
        done_as_one_by_one(batch, single, c, answers);
        return;
    }
    RC_ASSERT(answers.size() == 2u);
    const auto refused = *peek_header(answers[0]);
    RC_ASSERT(refused.type == SADB_X_SPDDELETE2);
    RC_ASSERT(refused.seq == 77u);
    RC_ASSERT(refused.error == ENOENT);
    RC_ASSERT(peek_header(answers[1])->error == ECANCELED);
    RC_ASSERT(batch.tables() == tables);
    const bool same = lookups(batch) == found;
    RC_ASSERT(same);
    RC_ASSERT(batch.engine.sad().last_serial() == serial);
    RC_ASSERT(batch.engine.spd().last_order() == order);
    RC_ASSERT(batch.read(batch.listener).empty());
    RC_ASSERT(batch.acquires_done.empty());
}

// The ACQUIREs that packets to each address wait for, or start.
std::vector<std::uint32_t> acquires(Host& host)
{
    std::vector<std::uint32_t> ids;
    for (std::uint8_t i = 1; i < 4; ++i) {
        const Flow packet{Address::v4(10, 0, 0, 1), Address::v4(10, 0, 0, i), 0, 0, 17, false};
        const Policy* policy = host.engine.match(Direction::out, packet, host.now);
        if (policy != nullptr && !policy->requests.empty())
            ids.push_back(host.engine.outbound(*policy, policy->requests[0], packet, packet.source, packet.destination,
                                               host.now).acquire);
    }
    return ids;
}

// After a batch that failed, everything goes on as if it had never been: the same answers, the same packets' SAs, and the
// same things expire at the same moments.
void goes_on_as_before()
{
    const Case c = random_case(false);
    Host batch, untouched;
    prepare(batch, c.history);
    prepare(untouched, c.history);
    RC_ASSERT(commit(batch, c.messages).size() == 2u);
    const int more = *rc::gen::inRange(0, 6);
    for (int i = 0; i < more; ++i) {
        const Message message = random_message();
        RC_ASSERT(batch.ask(message) == untouched.ask(message));
    }
    RC_ASSERT(acquires(batch) == acquires(untouched));
    RC_ASSERT(batch.acquires_done == untouched.acquires_done);
    batch.read(batch.listener);
    untouched.read(untouched.listener);
    for (int second = 0; second < 110; second += 3) {
        for (Host* host : {&batch, &untouched}) {
            host->now += std::chrono::seconds(3);
            host->engine.tick(host->now);
        }
        RC_ASSERT(batch.tables() == untouched.tables());
        RC_ASSERT(batch.read(batch.listener) == untouched.read(untouched.listener));
    }
}

}  // namespace

int main()
{
    const bool all = rc::check("a batch does all or nothing", all_or_nothing);
    const bool after = rc::check("after a batch that failed everything goes on as before", goes_on_as_before);
    return all && after ? 0 : 1;
}
