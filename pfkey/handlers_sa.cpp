// SPDX-License-Identifier: BSD-2-Clause
// The messages of RFC 2367: one handler each. Required extensions and satypes are checked before they run (engine.cpp).
#include "pfkey/engine_impl.hpp"
#include "pfkey/lifetimes.hpp"
#include "pfkey/sa_rules.hpp"

#include <algorithm>

namespace latchkey {

namespace {

// "The same without keys": what ADD and UPDATE broadcast.
void echo_sa(const Message& from, Message& reply)
{
    reply.sa = from.sa;
    reply.sa->state = SADB_SASTATE_MATURE;
    reply.sa2 = from.sa2;
    reply.current = from.current;
    reply.hard = from.hard;
    reply.soft = from.soft;
    reply.source = from.source;
    reply.destination = from.destination;
    reply.proxy = from.proxy;
    reply.source_identity = from.source_identity;
    reply.destination_identity = from.destination_identity;
}

std::vector<SupportedAlgorithm> supported(AlgorithmKind kind)
{
    std::vector<SupportedAlgorithm> list;
    for (const auto& row : algorithms)
        if (row.offered() && same_space(row.kind, kind))
            list.push_back({row.sadb_id, row.iv, row.key_min, row.key_max});
    return list;
}

struct SpiBounds {
    std::uint32_t low, high;
};

// A range that the client names is taken as it is, but for values that are illegal or kept back by spi_minval:
// key managers choose ranges far above spi_maxval.
Result<SpiBounds> spi_bounds(const std::optional<SpiRangeExt>& range, const SaProtocol& row, const Tunables& tunables)
{
    const auto floor = std::max(row.spi_min, static_cast<std::uint32_t>(tunables.get(Tunable::key_spi_minval)));
    if (!range)
        return SpiBounds{floor, std::min(row.pick_max,
                                         static_cast<std::uint32_t>(tunables.get(Tunable::key_spi_maxval)))};
    if (range->min > range->max)
        return fail(Errc::bad_value, "the SPI range has its minimum above its maximum");
    const SpiBounds bounds{std::max(range->min, floor), std::min(range->max, row.spi_max)};
    if (bounds.low > bounds.high)
        return fail(Errc::bad_value, "the SPI range has no legal SPI (see net.key.spi_minval)");
    return bounds;
}

}  // namespace

Result<void> Engine::Impl::getspi(const Call& call, Message& reply)
{
    const Message& m = call.message;
    if (auto checked = check_offered(call.protocol); !checked)
        return checked;
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return checked;
    if (m.sa2 && m.sa2->mode > IPSEC_MODE_TUNNEL)
        return fail(Errc::bad_value, "the mode is none of any, transport, tunnel");
    const auto bounds = spi_bounds(m.spi_range, sa_protocol(call.protocol), tunables);
    if (!bounds)
        return std::unexpected(bounds.error());
    if (sad.size() >= limits.max_sas)
        return fail(Errc::no_memory, "the SAD is full");
    const Address& destination = m.destination->endpoint.address;
    const auto spi = pick_spi(call.protocol, destination, bounds->low, bounds->high);
    if (!spi)
        return std::unexpected(spi.error());

    auto larval = std::make_unique<Sa>();
    larval->spi = *spi;
    larval->protocol = call.protocol;
    larval->mode = static_cast<Mode>(m.sa2 ? m.sa2->mode : IPSEC_MODE_ANY);
    larval->reqid = m.sa2 ? m.sa2->reqid : 0;
    larval->source = m.source->endpoint.address;
    larval->destination = destination;
    larval->message_seq = m.seq;
    larval->message_pid = m.pid;
    publish(std::move(larval), nullptr, call.now);
    // A key manager is at work on this ACQUIRE: it gets as long as its SPI has.
    if (PendingAcquire* pending = m.seq == 0 ? nullptr : acquires.find(m.seq))
        deadlines.set(pending->timer, after_seconds(call.now, static_cast<std::uint64_t>(
                                                                  tunables.get(Tunable::key_larval_lifetime))));
    reply.sa = SaExt{.spi = *spi};
    reply.source = m.source;
    reply.destination = m.destination;
    return {};
}

Result<std::uint32_t> Engine::Impl::pick_spi(std::uint8_t protocol, const Address& destination, std::uint32_t low,
                                             std::uint32_t high)
{
    const std::uint64_t count = std::uint64_t{high} - low + 1;
    const auto tries = static_cast<std::uint64_t>(tunables.get(Tunable::key_spi_trycnt));
    const std::uint32_t start = rng.next32();
    for (std::uint64_t i = 0; i < std::min(count, tries); ++i) {
        // A range that the tries can exhaust is walked, so that its last free SPI is found.
        const std::uint64_t offset = count <= tries ? start + i : rng.next32();
        const auto spi = static_cast<std::uint32_t>(low + offset % count);
        const Sa* taken = sad.find(protocol, destination, spi);
        if (taken == nullptr || taken->destination != destination)
            return spi;
    }
    return fail(Errc::exists, "no SPI of the range is free");
}

Result<void> Engine::Impl::update(const Call& call, Message& reply)
{
    const auto found = existing(call);
    if (!found)
        return std::unexpected(found.error());
    Sa& sa = **found;
    if (sa.state == SaState::larval) {
        auto built = build_sa(call.message, call.protocol);
        if (!built)
            return std::unexpected(built.error());
        publish(std::move(*built), &sa, call.now);
    } else if (auto updated = update_mature(call, sa); !updated) {
        return updated;
    }
    echo_sa(call.message, reply);
    return {};
}

Result<void> Engine::Impl::update_mature(const Call& call, Sa& sa)
{
    if (auto checked = check_update_of_mature(call.message, sa); !checked)
        return checked;
    sa.hard = call.message.hard.value_or(sa.hard);
    sa.soft = call.message.soft.value_or(sa.soft);
    if (sa.state == SaState::dying && !soft_reached(sa, call.now))
        sa.state = SaState::mature;   // its soft limit moved on, and will be announced again
    ++generation;
    arm(sa);
    return {};
}

Result<void> Engine::Impl::add(const Call& call, Message& reply)
{
    auto built = build_sa(call.message, call.protocol);
    if (!built)
        return std::unexpected(built.error());
    const Sa* same = sad.find(call.protocol, (*built)->destination, (*built)->spi);
    if (same != nullptr && same->destination == (*built)->destination)
        return fail(Errc::exists, "an SA with this protocol, destination and SPI exists");
    if (sad.size() >= limits.max_sas)
        return fail(Errc::no_memory, "the SAD is full");
    publish(std::move(*built), nullptr, call.now);
    echo_sa(call.message, reply);
    return {};
}

// KAME: without an SA extension, everything between the two addresses goes, and nothing to delete is no error.
Result<void> Engine::Impl::remove(const Call& call, Message& reply)
{
    const Message& m = call.message;
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return checked;
    reply.source = m.source;
    reply.destination = m.destination;
    if (!m.sa) {
        while (Sa* sa = sad.any_between(call.protocol, m.source->endpoint.address, m.destination->endpoint.address))
            erase(*sa);
        return {};
    }
    const auto found = existing(call);
    if (!found)
        return std::unexpected(found.error());
    reply.sa = SaExt{.spi = (*found)->spi, .state = SADB_SASTATE_DEAD};
    erase(**found);
    return {};
}

Result<void> Engine::Impl::get(const Call& call, Message& reply)
{
    const auto found = existing(call);
    if (!found)
        return std::unexpected(found.error());
    describe(**found, reply);
    describe_keys(**found, reply);
    if (sockets.find(call.from)->knows_sa_replay)
        reply.sa_replay = (*found)->replay.size();
    return {};
}

Result<Sa*> Engine::Impl::existing(const Call& call)
{
    const Message& m = call.message;
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return std::unexpected(checked.error());
    const Address& source = m.source->endpoint.address;
    const Address& destination = m.destination->endpoint.address;
    Sa* sa = sad.find(call.protocol, destination, m.sa->spi);
    if (sa == nullptr || sa->destination != destination || (sa->source != source && !source.is_unspecified()))
        return fail(Errc::not_found, "no SA has this protocol, source, destination and SPI");
    return sa;
}

// RFC 2367 §3.1.6: the bare header says that a key manager gave up; with extensions it asks the others for an SA.
Result<void> Engine::Impl::acquire_by_user(const Call& call, Message& reply)
{
    const Message& m = call.message;
    if (call.present == 0) {
        if (PendingAcquire* pending = acquires.find(m.seq))
            finish(*pending);
        reply.type = SADB_RESERVED;   // as KAME: no answer
        return {};
    }
    if (call.protocol == 0)
        return fail(Errc::bad_value, "the message needs an SA type");
    if (!m.source || !m.destination || !m.proposal)
        return fail(Errc::bad_value, "ACQUIRE needs ADDRESS_SRC, ADDRESS_DST and PROPOSAL, or nothing but an errno");
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return checked;
    if (sad.outbound(call.protocol, Mode::any, m.source->endpoint.address, m.destination->endpoint.address,
                     m.sa2 ? m.sa2->reqid : 0, true) != nullptr)
        return fail(Errc::exists, "there is an SA between these addresses already");
    reply.sa2 = m.sa2;
    reply.source = m.source;
    reply.destination = m.destination;
    reply.proposal = m.proposal;
    reply.source_identity = m.source_identity;
    reply.destination_identity = m.destination_identity;
    return {};
}

// Every satype gets the whole list, as on Linux; satype UNSPEC asks without registering.
Result<void> Engine::Impl::enrol(const Call& call, Message& reply)
{
    KeySocket& socket = *sockets.find(call.from);
    const std::uint8_t satype = call.message.satype;
    if (satype != SADB_SATYPE_UNSPEC) {
        if (socket.registered[satype])
            return fail(Errc::exists, "the socket is registered for this SA type already");
        socket.registered.set(satype);
    }
    reply.supported_auth = supported(AlgorithmKind::auth);
    reply.supported_encrypt = supported(AlgorithmKind::cipher);
    return {};
}

Result<void> Engine::Impl::flush(const Call& call, Message&)
{
    if (sad.size(call.protocol) == sad.size()) {
        generation += sad.size() != 0;
        sa_deadlines.clear();
        graveyard = sad.clear();
        bury();
        return {};
    }
    std::uint64_t cursor = 0;
    while (Sa* sa = sad.next(cursor, call.protocol))
        erase(*sa);
    return {};
}

Result<void> Engine::Impl::dump(const Call& call, Message& reply)
{
    if (call.message.filter)
        return fail(Errc::unsupported, "dump filters are not offered");
    Dump dump;
    dump.head.satype = call.message.satype;
    dump.head.type = reply.type;
    dump.head.seq = call.message.seq;
    dump.head.pid = call.message.pid;
    dump.protocol = call.protocol;
    dump.end = sad.last_serial();
    dump.left = sad.size(call.protocol);
    reply.type = SADB_RESERVED;
    return start_dump(call.from, std::move(dump));
}

// RFC 2367 §3.1.11. With a message inside, that one goes to everybody as it is.
Result<void> Engine::Impl::promisc(const Call& call, Message& reply)
{
    const Bytes inner = call.message.wrapped;
    if (!inner.empty()) {
        if (!Message::parse(inner))
            return fail(Errc::bad_value, "the message inside X_PROMISC is malformed");
        sockets.deliver(Recipients::all, call.from, SADB_SATYPE_UNSPEC, Record(inner.begin(), inner.end()));
        reply.type = SADB_RESERVED;
        return {};
    }
    if (call.message.satype > 1)
        return fail(Errc::bad_value, "X_PROMISC takes satype 0 (off) or 1 (on)");
    sockets.set_promiscuous(*sockets.find(call.from), call.message.satype == 1);
    return {};
}

}  // namespace latchkey
