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
    reply.source = from.new_source ? from.new_source : from.source;
    reply.destination = from.new_destination ? from.new_destination : from.destination;
    reply.proxy = from.proxy;
    reply.source_identity = from.source_identity;
    reply.destination_identity = from.destination_identity;
    reply.sa_replay = from.sa_replay;
}

std::vector<SupportedAlgorithm> supported(AlgorithmKind kind, const AlgorithmSet& offered)
{
    std::vector<SupportedAlgorithm> list;
    for (const auto& row : algorithms)
        if (offers(offered, row) && same_space(row.kind, kind))
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
    auto larval = build_larval(m, call.protocol);
    if (!larval)
        return std::unexpected(larval.error());
    const auto bounds = spi_bounds(m.spi_range, sa_protocol(call.protocol), tunables);
    if (!bounds)
        return std::unexpected(bounds.error());
    if (sad.size() >= limits.max_sas)
        return fail(Errc::no_memory, "the SAD is full");
    const auto spi = pick_spi(call.protocol, (*larval)->destination, bounds->low, bounds->high);
    if (!spi)
        return std::unexpected(spi.error());

    (*larval)->spi = *spi;
    const Sa& published = publish(std::move(*larval), nullptr, call.now);
    // A key manager is at work on this ACQUIRE: it gets as long as its SPI has.
    if (PendingAcquire* pending = m.seq == 0 ? nullptr : acquires.find(m.seq))
        deadlines.set(pending->timer, after_seconds(call.now, static_cast<std::uint64_t>(
                                                                  tunables.get(Tunable::key_larval_lifetime))));
    reply.sa = SaExt{.spi = *spi};
    reply.source = m.source;
    reply.destination = m.destination;
    describe_natt(published, reply);
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
        if (exact(protocol, destination, spi) == nullptr)
            return spi;
    }
    return fail(Errc::exists, "no SPI of the range is free");
}

Result<void> Engine::Impl::update(const Call& call, Message& reply)
{
    const auto found = existing(call);
    if (!found)
        return std::unexpected(found.error());
    Sa* sa = *found;
    if (sa->state == SaState::larval) {
        if (call.message.new_source || call.message.new_destination)
            return fail(Errc::bad_value, "a larval SA cannot move to other addresses");
        auto built = build_sa(call.message, call.protocol, available);
        if (!built)
            return std::unexpected(built.error());
        if (!call.message.sa2) {   // then GETSPI's holds
            (*built)->mode = sa->mode;
            (*built)->reqid = sa->reqid;
        }
        sa = &publish(std::move(*built), sa, call.now);
    } else if (auto updated = update_mature(call, *sa); !updated) {
        return updated;
    }
    echo_sa(call.message, reply);
    reply.sa = sa_ext(*sa);   // of a mature SA, most of what came is not taken
    if (reply.sa_replay)
        reply.sa_replay = sa->replay.size();
    describe_natt(*sa, reply);
    return {};
}

// NEW_ADDRESS_SRC and _DST (FreeBSD) move the SA, with what the message says of a NAT there. Without them NAT_T_TYPE
// changes the ports (Linux), as a key manager does after X_NAT_T_NEW_MAPPING.
Result<void> Engine::Impl::update_mature(const Call& call, Sa& sa)
{
    const Message& m = call.message;
    if (auto checked = check_update_of_mature(m, sa); !checked)
        return checked;
    const bool moves = m.new_source || m.new_destination;
    const AddressExt source = m.new_source.value_or(address_ext(sa.source));
    const AddressExt destination = m.new_destination.value_or(address_ext(sa.destination));
    if (auto checked = check_addresses(source, destination); !checked)
        return checked;
    if (moves && exact(sa.protocol, destination.endpoint.address, sa.spi, &sa) != nullptr)
        return fail(Errc::exists, "an SA with this protocol, SPI and new destination exists");
    auto natt = natt_of(m, sa.protocol, destination.endpoint.address.family());
    if (!natt)
        return std::unexpected(natt.error());

    remember(sa);
    sa.hard = m.hard.value_or(sa.hard);
    sa.soft = m.soft.value_or(sa.soft);
    if (sa.state == SaState::dying && !soft_reached(sa, call.now))
        sad.set_state(sa, SaState::mature);   // its soft limit moved on, and will be announced again
    if (moves || m.natt_type)
        sad.set_natt(sa, std::move(*natt));
    ++generation;
    arm(sa);
    if (moves)
        move(sa, source.endpoint.address, destination.endpoint.address);
    return {};
}

// The SA with exactly this destination, not a wildcard one; `but` does not count.
Sa* Engine::Impl::exact(std::uint8_t protocol, const Address& destination, std::uint32_t spi, const Sa* but) const
{
    Sa* found = sad.find(protocol, destination, spi);
    return found != nullptr && found != but && found->destination == destination ? found : nullptr;
}

Result<void> Engine::Impl::add(const Call& call, Message& reply)
{
    if (call.message.new_source || call.message.new_destination)
        return fail(Errc::bad_value, "ADD takes no NEW_ADDRESS: UPDATE moves an SA that is there");
    auto built = build_sa(call.message, call.protocol, available);
    if (!built)
        return std::unexpected(built.error());
    if (exact(call.protocol, (*built)->destination, (*built)->spi) != nullptr)
        return fail(Errc::exists, "an SA with this protocol, destination and SPI exists");
    if (sad.size() >= limits.max_sas)
        return fail(Errc::no_memory, "the SAD is full");
    const Sa& published = publish(std::move(*built), nullptr, call.now);
    echo_sa(call.message, reply);
    describe_natt(published, reply);
    return {};
}

// KAME: without an SA extension, everything between the two addresses goes but what is still being negotiated (it is
// how a key manager acts on INITIAL-CONTACT), and nothing to delete is no error.
Result<void> Engine::Impl::remove(const Call& call, Message& reply)
{
    const Message& m = call.message;
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return checked;
    reply.source = m.source;
    reply.destination = m.destination;
    if (!m.sa) {
        Sa* sa = sad.any_between(call.protocol, m.source->endpoint.address, m.destination->endpoint.address);
        while (sa != nullptr) {
            Sa* following = sad.next_between(*sa);
            if (sa->usable())
                erase(*sa);
            sa = following;
        }
        return {};
    }
    const auto found = existing(call);
    if (!found)
        return std::unexpected(found.error());
    reply.sa = sa_ext(**found);
    reply.sa->state = SADB_SASTATE_DEAD;
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
    return {};
}

Result<Sa*> Engine::Impl::existing(const Call& call)
{
    const Message& m = call.message;
    if (auto checked = check_addresses(*m.source, *m.destination); !checked)
        return std::unexpected(checked.error());
    const Address& source = m.source->endpoint.address;
    const Address& destination = m.destination->endpoint.address;
    Sa* sa = exact(call.protocol, destination, m.sa->spi);
    if (sa == nullptr || (sa->source != source && !source.is_unspecified()))
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
    reply.supported_auth = supported(AlgorithmKind::auth, available);
    reply.supported_encrypt = supported(AlgorithmKind::cipher, available);
    return {};
}

Result<void> Engine::Impl::flush(const Call& call, Message&)
{
    if (sad.size(call.protocol) == sad.size()) {
        clear_sad();
        return {};
    }
    std::uint64_t cursor = 0;
    while (Sa* sa = sad.next(cursor, call.protocol))
        erase(*sa);
    return {};
}

Result<void> Engine::Impl::dump(const Call& call, Message& reply)
{
    Dump dump;
    if (call.message.filter) {
        const auto filter = DumpFilter::parse(*call.message.filter);
        if (!filter)
            return std::unexpected(filter.error());
        dump.filter = *filter;
    }
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
