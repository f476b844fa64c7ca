// SPDX-License-Identifier: BSD-2-Clause
#include "stack/route.hpp"

#include <algorithm>

namespace latchkey {

Result<> RouteTable::add(const Route& route)
{
    Route entry = route;
    entry.destination.address = route.destination.address.masked(route.destination.length);
    if (entry.gateway.family() != Family::none && entry.gateway.family() != entry.destination.address.family())
        return fail(Errc::bad_family, "the gateway is of another address family than the destination");
    auto& t = table(entry.destination.address.family());
    auto& bucket = t.by_length[entry.destination.length][entry.destination.address.hash()];
    for (const auto& other : bucket)
        if (other.destination == entry.destination)
            return fail(Errc::exists, "there is a route to this prefix already");
    bucket.push_back(entry);
    t.used.set(entry.destination.length);
    return {};
}

Result<> RouteTable::remove(const Prefix& destination, bool connected)
{
    const Prefix wanted{destination.address.masked(destination.length), destination.length};
    auto& t = table(wanted.address.family());
    auto& buckets = t.by_length[wanted.length];
    const auto bucket = buckets.find(wanted.address.hash());
    if (bucket == buckets.end())
        return fail(Errc::not_found, "no route to this prefix");
    const auto gone = std::erase_if(bucket->second, [&](const Route& r) {
        return r.destination == wanted && r.connected == connected;
    });
    if (bucket->second.empty())
        buckets.erase(bucket);
    t.used.set(wanted.length, !buckets.empty());
    if (gone == 0)
        return fail(Errc::not_found, "no route to this prefix");
    return {};
}

void RouteTable::remove_interface(unsigned interface)
{
    for (const auto& route : list())
        if (route.interface == interface)
            (void)remove(route.destination, route.connected);
}

const Route* RouteTable::lookup(const Address& destination) const
{
    const auto& t = table(destination.family());
    for (unsigned length = destination.bits() + 1; length-- > 0;) {
        if (!t.used[length])
            continue;
        const Address key = destination.masked(length);
        const auto bucket = t.by_length[length].find(key.hash());
        if (bucket == t.by_length[length].end())
            continue;
        for (const auto& route : bucket->second)
            if (route.destination.address == key)
                return &route;
    }
    return nullptr;
}

std::vector<Route> RouteTable::list() const
{
    std::vector<Route> all;
    for (const auto* t : {&v4_, &v6_}) {
        const auto first = all.size();
        for (const auto& buckets : t->by_length)
            for (const auto& [hash, routes] : buckets)
                all.insert(all.end(), routes.begin(), routes.end());
        std::sort(all.begin() + static_cast<std::ptrdiff_t>(first), all.end(), [](const Route& a, const Route& b) {
            return a.destination.length != b.destination.length ? a.destination.length > b.destination.length
                                                                : a.destination.address < b.destination.address;
        });
    }
    return all;
}

bool PathMtus::learn(const Address& destination, std::size_t mtu, Time now)
{
    auto& path = paths_[slot(destination)];
    if (path.destination == destination && now < path.until && path.mtu <= mtu)
        return false;
    path = {destination, mtu, now + lifetime};
    return true;
}

std::size_t PathMtus::lookup(const Address& destination, std::size_t link_mtu, Time now) const
{
    const auto& path = paths_[slot(destination)];
    return path.destination == destination && now < path.until ? std::min(path.mtu, link_mtu) : link_mtu;
}

}  // namespace latchkey
