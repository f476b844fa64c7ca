// SPDX-License-Identifier: BSD-2-Clause
// SADB_X_MIGRATE (Linux, Mobile IPv6, MOBIKE): an end point of a tunnel has a new address. The requests come in pairs,
// old and new; the policy is rewritten and the SAs move, with their keys, numbers and windows.
#include "pfkey/engine_impl.hpp"
#include "pfkey/sa_rules.hpp"

#include <algorithm>
#include <sys/socket.h>
#include <tuple>

namespace latchkey {

namespace {

constexpr std::size_t max_pairs = 6;   // as on Linux

struct Pair {
    const Request& from;
    const Request& to;
};

bool same_kind(const Request& a, const Request& b)
{
    return a.protocol == b.protocol && a.mode == b.mode && a.reqid == b.reqid;
}

bool same_addresses(const Request& a, const Request& b)
{
    return a.tunnel_source == b.tunnel_source && a.tunnel_destination == b.tunnel_destination;
}

bool has_addresses(const Request& r)
{
    return r.tunnel_source.family() != Family::none && r.tunnel_source.family() == r.tunnel_destination.family();
}

Result<void> check(const Pair& pair)
{
    const auto& [from, to] = pair;
    if (!same_kind(from, to))
        return fail(Errc::bad_value, "the old and the new request differ in protocol, mode or reqid");
    if (!protocol_is_transform(from.protocol))
        return fail(Errc::bad_protocol, "a request's protocol is none of esp, ah, ipcomp");
    if (from.mode != Mode::transport && from.mode != Mode::tunnel)
        return fail(Errc::bad_value, "a request's mode is neither transport nor tunnel");
    if (!has_addresses(from) || !has_addresses(to))
        return fail(Errc::bad_value, "every request of MIGRATE needs two addresses of one family");
    if (to.tunnel_source.is_unspecified() || to.tunnel_destination.is_unspecified())
        return fail(Errc::bad_value, "a new address is unspecified");
    if (same_addresses(from, to))
        return fail(Errc::bad_value, "the old and the new addresses are the same");
    return {};
}

Result<std::vector<Pair>> pairs_of(const PolicyExt& policy)
{
    const auto& requests = policy.requests;
    if (requests.empty() || requests.size() % 2 != 0 || requests.size() > 2 * max_pairs)
        return fail(Errc::bad_value, "MIGRATE takes 1 to 6 pairs of requests, old and new");
    std::vector<Pair> pairs;
    for (std::size_t i = 0; i < requests.size(); i += 2) {
        const Pair pair{requests[i], requests[i + 1]};
        if (auto checked = check(pair); !checked)
            return std::unexpected(checked.error());
        if (std::ranges::any_of(pairs, [&](const Pair& other) {
                return same_kind(other.from, pair.from) && same_addresses(other.from, pair.from);
            }))
            return fail(Errc::bad_value, "two pairs have the same old request");
        pairs.push_back(pair);
    }
    return pairs;
}

// Behind a reserved word the key managers' addresses: two sockaddrs of one family, padded at the end only.
Result<void> check_kmaddress(Bytes body)
{
    wire::Reader in(body, wire::Order::host);
    in.skip(4);
    const auto family = in.get<std::uint16_t>();
    const std::size_t size = family == AF_INET ? 16 : family == AF_INET6 ? 28 : 0;
    in.skip(size == 0 ? body.size() : size - 2);
    if (in.get<std::uint16_t>() != family || !in.ok() || body.size() != 4 + (2 * size + 7) / 8 * 8)
        return fail(Errc::bad_value, "X_KMADDRESS needs two addresses of one family");
    return {};
}

// Requests in transport mode carry no addresses: they stay as they are, and only count as found (as on Linux).
bool concerns(const Pair& pair, const Request& request)
{
    return pair.from.protocol == request.protocol && pair.from.mode == request.mode &&
           (pair.from.reqid == 0 || pair.from.reqid == request.reqid) &&
           (request.mode != Mode::tunnel || same_addresses(pair.from, request));
}

// How many requests of the policy a pair concerns; those in tunnel mode get the new end points.
std::size_t rewrite(Policy& policy, const std::vector<Pair>& pairs)
{
    std::size_t found = 0;
    for (auto& request : policy.requests) {
        const auto pair = std::ranges::find_if(pairs, [&](const Pair& p) { return concerns(p, request); });
        if (pair == pairs.end())
            continue;
        ++found;
        if (request.mode != Mode::tunnel)
            continue;
        request.tunnel_source = pair->to.tunnel_source;
        request.tunnel_destination = pair->to.tunnel_destination;
        request.tunnel_source_scope = pair->to.tunnel_source_scope;
        request.tunnel_destination_scope = pair->to.tunnel_destination_scope;
    }
    return found;
}

struct Move {
    Sa* sa;
    const Request* to;

    auto key() const { return std::tie(sa->protocol, sa->spi, to->tunnel_destination); }
};

std::vector<Move> moves_of(const Sad& sad, const std::vector<Pair>& pairs)
{
    std::vector<Move> moves;
    for (const auto& [from, to] : pairs)
        for (Sa* sa = sad.any_between(from.protocol, from.tunnel_source, from.tunnel_destination); sa != nullptr;
             sa = sad.next_between(*sa))
            if (sa->usable() && (sa->mode == from.mode || sa->mode == Mode::any) &&
                (from.reqid == 0 || from.reqid == sa->reqid))
                moves.push_back({sa, &to});
    return moves;
}

// An SA is known by protocol, destination and SPI: it must be the only one of its name where it goes.
Result<void> check_collisions(const Sad& sad, std::vector<Move> moves)
{
    const auto occupied = [&](const Move& move) {
        const Address& destination = move.to->tunnel_destination;
        const Sa* there = sad.find(move.sa->protocol, destination, move.sa->spi);
        return there != nullptr && there->destination == destination && there != move.sa;
    };
    std::ranges::sort(moves, {}, &Move::key);
    if (std::ranges::any_of(moves, occupied) || std::ranges::adjacent_find(moves, {}, &Move::key) != moves.end())
        return fail(Errc::exists, "at a new address there is an SA with the same SPI");
    return {};
}

}  // namespace

Result<void> Engine::Impl::migrate(const Call& call, Message& reply)
{
    const Message& m = call.message;
    if (sockets.find(call.from)->batch)
        return fail(Errc::bad_value, "MIGRATE cannot be part of a batch");
    const auto direction = direction_of(*m.policy);
    if (!direction)
        return std::unexpected(direction.error());
    const auto selector = selector_of(m);
    if (!selector)
        return std::unexpected(selector.error());
    const auto pairs = pairs_of(*m.policy);
    if (!pairs)
        return std::unexpected(pairs.error());
    if (m.kmaddress)
        if (auto checked = check_kmaddress(*m.kmaddress); !checked)
            return checked;

    const Policy* policy = spd.find(*direction, *selector);
    if (policy == nullptr)
        return fail(Errc::not_found, "no policy has this direction and selector", ENOENT);
    Policy rewritten = *policy;
    if (rewrite(rewritten, *pairs) == 0)
        return fail(Errc::not_found, "no request of the policy matches an old request", ENODATA);
    const auto moves = moves_of(sad, *pairs);
    if (auto checked = check_collisions(sad, moves); !checked)
        return checked;

    reply.source = m.source;
    reply.destination = m.destination;
    reply.policy = m.policy;
    reply.policy->id = policy->id;
    reply.kmaddress = m.kmaddress;
    if (rewritten.requests != policy->requests)
        publish(std::move(rewritten), policy);
    for (const auto& [sa, to] : moves)
        move(*sa, to->tunnel_source, to->tunnel_destination);
    announce_migration(call.from, reply);
    return {};
}

// To everybody else it is news from the host: pid and seq 0, and the SA type of the first request, as on Linux.
void Engine::Impl::announce_migration(KeySocketId from, const Message& reply)
{
    Message event = reply;
    event.satype = satype_of_protocol(reply.policy->requests[0].protocol).value_or(SADB_SATYPE_UNSPEC);
    event.seq = event.pid = 0;
    sockets.announce(Recipients::all, from, event.satype, event.bytes());
}

void Engine::Impl::move(Sa& sa, const Address& source, const Address& destination)
{
    remember(sa);
    leave(sa);
    auto held = sad.take(sa);
    sa.source = source;
    sa.destination = destination;
    sad.fill(std::move(held));
    enter(sa);
    ++generation;
    answer_acquires(sa);
}

}  // namespace latchkey
