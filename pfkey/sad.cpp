// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/sad.hpp"

#include "pfkey/flat_index.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

namespace latchkey {

namespace {

// The SAs that one key (peer, or peer and reqid) leads to, oldest first, linked through the SAs themselves.
struct Group {
    Sa* first = nullptr;
    Sa* last = nullptr;
    std::uint32_t dying = 0;   // so that a group without any is not searched for one
};

using Link = SaLink Sa::*;

// Where ESP in UDP goes to.
struct Place {
    Address address;
    std::uint16_t port;
    bool operator==(const Place&) const = default;
};

struct PlaceHash {
    std::size_t operator()(const Place& place) const { return mix(place.address.hash() + place.port); }
};

std::uint64_t spi_hash(std::uint8_t protocol, const Address& destination, std::uint32_t spi)
{
    return mix(destination.hash() + (std::uint64_t{spi} << 8 | protocol));
}

std::uint64_t peer_hash(std::uint8_t protocol, const Address& source, const Address& destination, std::uint32_t reqid)
{
    return mix(source.hash() * 3 + destination.hash() + (std::uint64_t{reqid} << 8 | protocol));
}

bool between(const Sa& sa, std::uint8_t protocol, const Address& source, const Address& destination)
{
    return sa.protocol == protocol && sa.destination == destination && sa.source == source;
}

void append(Group& group, Sa& sa, Link link)
{
    (sa.*link) = {nullptr, group.last};
    (group.last != nullptr ? (group.last->*link).next : group.first) = &sa;
    group.last = &sa;
    group.dying += sa.state == SaState::dying;
}

void unlink(Group& group, Sa& sa, Link link)
{
    const SaLink own = sa.*link;
    (own.previous != nullptr ? (own.previous->*link).next : group.first) = own.next;
    (own.next != nullptr ? (own.next->*link).previous : group.last) = own.previous;
    group.dying -= sa.state == SaState::dying;
    sa.*link = {};
}

// KAME's order. The old ones first: dying before mature, so that the peer has the new SA when it is used at last; or
// the new ones first: mature before dying.
Sa* choose(const Group& group, Link link, Mode mode, bool prefer_old)
{
    const SaState first_choice = prefer_old && group.dying != 0 ? SaState::dying : SaState::mature;
    Sa* second_choice = nullptr;
    for (Sa* sa = prefer_old ? group.first : group.last; sa != nullptr;
         sa = prefer_old ? (sa->*link).next : (sa->*link).previous) {
        if (!sa->usable() || (sa->mode != mode && sa->mode != Mode::any && mode != Mode::any))
            continue;
        if (sa->state == first_choice)
            return sa;
        if (second_choice == nullptr)
            second_choice = sa;
    }
    return second_choice;
}

}  // namespace

struct Sad::Impl {
    struct Row {
        std::uint64_t serial;
        std::unique_ptr<Sa> sa;   // null: erased since
        std::uint8_t protocol;    // so that a walk for one protocol does not touch the SAs of others
    };

    void index(Sa& sa);
    void unindex(Sa& sa);
    void count(const Sa& sa, std::size_t by);
    Sa* choose_between(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                       std::uint32_t reqid, bool prefer_old) const;
    Row& row_of(const Sa& sa);
    Group* group(FlatIndex<Group>& index, std::uint64_t hash, const Sa& sa, bool with_reqid);
    void join(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid);
    void leave(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid);
    void relink(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid, SaLink place);
    Sa* exact(std::uint8_t protocol, const Address& destination, std::uint32_t spi) const;
    const Group* peers_of(std::uint8_t protocol, const Address& source, const Address& destination) const;
    const Group* reqid_of(std::uint8_t protocol, const Address& source, const Address& destination,
                          std::uint32_t reqid) const;
    void compact();

    std::vector<Row> rows;   // by serial number: the order of insertion, which dumps follow
    std::size_t live = 0;
    std::uint64_t last_serial = 0;
    FlatIndex<Sa*> by_spi;
    FlatIndex<Group> by_peer, by_reqid;
    std::array<std::size_t, 256> per_protocol{};
    std::size_t wildcards = 0, wildcard_sources = 0;   // SAs to and from 0.0.0.0 or ::
    std::unordered_map<Place, std::size_t, PlaceHash> encapsulated;   // SAs in UDP
};

Sad::Sad() : impl_(std::make_unique<Impl>()) {}
Sad::~Sad() = default;

Result<Sa*> Sad::insert(std::unique_ptr<Sa> sa)
{
    if (impl_->exact(sa->protocol, sa->destination, sa->spi) != nullptr)
        return fail(Errc::exists, "an SA with this protocol, destination and SPI exists");
    Sa& added = *sa;
    added.serial = ++impl_->last_serial;
    impl_->rows.push_back({added.serial, std::move(sa), added.protocol});
    impl_->index(added);
    return &added;
}

void Sad::erase(Sa& sa)
{
    take(sa);
    impl_->compact();
}

std::vector<std::unique_ptr<Sa>> Sad::clear()
{
    std::vector<std::unique_ptr<Sa>> all;
    all.reserve(impl_->live);
    for (auto& row : impl_->rows)
        if (row.sa != nullptr)
            all.push_back(std::move(row.sa));
    const auto serial = impl_->last_serial;
    impl_ = std::make_unique<Impl>();
    impl_->last_serial = serial;
    return all;
}

Sa& Sad::replace(Sa& old, std::unique_ptr<Sa> with)
{
    with->serial = old.serial;
    take(old);
    return fill(std::move(with));
}

std::unique_ptr<Sa> Sad::take(Sa& sa)
{
    const SaLink peer = sa.peer_link, reqid = sa.reqid_link;
    impl_->unindex(sa);
    sa.peer_link = peer;
    sa.reqid_link = reqid;
    return std::move(impl_->row_of(sa).sa);
}

Sa& Sad::fill(std::unique_ptr<Sa> sa)
{
    auto& row = impl_->row_of(*sa);
    row.sa = std::move(sa);
    impl_->index(*row.sa);
    return *row.sa;
}

void Sad::put_back(std::unique_ptr<Sa> sa)
{
    const SaLink peer = sa->peer_link, reqid = sa->reqid_link;
    Sa& back = fill(std::move(sa));
    impl_->relink(impl_->by_peer, back, &Sa::peer_link, false, peer);
    if (back.reqid != 0)
        impl_->relink(impl_->by_reqid, back, &Sa::reqid_link, true, reqid);
}

void Sad::rewind(std::uint64_t serial)
{
    while (!impl_->rows.empty() && impl_->rows.back().serial > serial)
        impl_->rows.pop_back();
    impl_->last_serial = serial;
}

void Sad::settle()
{
    impl_->compact();
}

void Sad::set_aside(Sad& into)
{
    const auto serial = impl_->last_serial;
    into.impl_ = std::exchange(impl_, std::make_unique<Impl>());
    impl_->last_serial = serial;
}

void Sad::bring_back(Sad& from)
{
    impl_ = std::exchange(from.impl_, std::make_unique<Impl>());
}

std::size_t Sad::size() const
{
    return impl_->live;
}

std::size_t Sad::size(std::uint8_t protocol) const
{
    return protocol == 0 ? impl_->live : impl_->per_protocol[protocol];
}

Sa* Sad::find(std::uint8_t protocol, const Address& destination, std::uint32_t spi) const
{
    if (Sa* sa = impl_->exact(protocol, destination, spi))
        return sa;
    return impl_->wildcards == 0 ? nullptr : impl_->exact(protocol, Address::any(destination.family()), spi);
}

Sa* Sad::outbound(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                  std::uint32_t reqid, bool prefer_old) const
{
    const auto between = [&](const Address& from, const Address& to) {
        return impl_->choose_between(protocol, mode, from, to, reqid, prefer_old);
    };
    if (Sa* sa = between(source, destination))
        return sa;
    if (impl_->wildcards == 0 && impl_->wildcard_sources == 0)
        return nullptr;
    const Address any = Address::any(destination.family());
    if (Sa* sa = between(any, destination))
        return sa;
    Sa* sa = between(source, any);
    return sa != nullptr ? sa : between(any, any);
}

bool Sad::encapsulates(const Address& destination, std::uint16_t port) const
{
    const auto& places = impl_->encapsulated;
    return !places.empty() && (places.contains({destination, port}) ||
                               (impl_->wildcards != 0 && places.contains({Address::any(destination.family()), port})));
}

void Sad::set_state(Sa& sa, SaState state)
{
    const auto step = static_cast<std::uint32_t>(state == SaState::dying) -
                      static_cast<std::uint32_t>(sa.state == SaState::dying);
    sa.state = state;
    if (step == 0)
        return;
    impl_->group(impl_->by_peer, peer_hash(sa.protocol, sa.source, sa.destination, 0), sa, false)->dying += step;
    if (sa.reqid != 0)
        impl_->group(impl_->by_reqid, peer_hash(sa.protocol, sa.source, sa.destination, sa.reqid), sa, true)->dying +=
            step;
}

void Sad::set_natt(Sa& sa, std::unique_ptr<NatTraversal> natt)
{
    impl_->count(sa, ~std::size_t{0});
    sa.natt = std::move(natt);
    impl_->count(sa, 1);
}

Sa* Sad::any_between(std::uint8_t protocol, const Address& source, const Address& destination) const
{
    const auto* group = impl_->peers_of(protocol, source, destination);
    return group == nullptr ? nullptr : group->first;
}

Sa* Sad::next(std::uint64_t& cursor, std::uint8_t protocol) const
{
    for (auto row = std::ranges::upper_bound(impl_->rows, cursor, {}, &Impl::Row::serial); row != impl_->rows.end();
         ++row) {
        if (row->sa == nullptr || (protocol != 0 && row->protocol != protocol))
            continue;
        cursor = row->serial;
        return row->sa.get();
    }
    return nullptr;
}

std::uint64_t Sad::last_serial() const
{
    return impl_->last_serial;
}

void Sad::Impl::index(Sa& sa)
{
    ++live;
    count(sa, 1);
    by_spi.insert(spi_hash(sa.protocol, sa.destination, sa.spi), &sa);
    join(by_peer, sa, &Sa::peer_link, false);
    if (sa.reqid != 0)
        join(by_reqid, sa, &Sa::reqid_link, true);
}

void Sad::Impl::unindex(Sa& sa)
{
    by_spi.erase(spi_hash(sa.protocol, sa.destination, sa.spi), [&](const Sa* other) { return other == &sa; });
    leave(by_peer, sa, &Sa::peer_link, false);
    if (sa.reqid != 0)
        leave(by_reqid, sa, &Sa::reqid_link, true);
    count(sa, ~std::size_t{0});
    --live;
}

// by: 1, or all ones to take the SA out of the counts.
void Sad::Impl::count(const Sa& sa, std::size_t by)
{
    per_protocol[sa.protocol] += by;
    wildcards += sa.destination.is_unspecified() ? by : 0;
    wildcard_sources += sa.source.is_unspecified() ? by : 0;
    if (sa.natt == nullptr)
        return;
    const auto place = encapsulated.try_emplace({sa.destination, sa.natt->destination_port}).first;
    place->second += by;
    if (place->second == 0)
        encapsulated.erase(place);
}

Sad::Impl::Row& Sad::Impl::row_of(const Sa& sa)
{
    return *std::ranges::lower_bound(rows, sa.serial, {}, &Row::serial);
}

Group* Sad::Impl::group(FlatIndex<Group>& index, std::uint64_t hash, const Sa& sa, bool with_reqid)
{
    return index.find(hash, [&](const Group& g) {
        return between(*g.first, sa.protocol, sa.source, sa.destination) &&
               (!with_reqid || g.first->reqid == sa.reqid);
    });
}

void Sad::Impl::join(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid)
{
    const auto hash = peer_hash(sa.protocol, sa.source, sa.destination, with_reqid ? sa.reqid : 0);
    Group* found = group(index, hash, sa, with_reqid);
    append(found != nullptr ? *found : index.insert(hash, {}), sa, link);
}

void Sad::Impl::leave(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid)
{
    const auto hash = peer_hash(sa.protocol, sa.source, sa.destination, with_reqid ? sa.reqid : 0);
    Group* found = group(index, hash, sa, with_reqid);
    if (found->first == found->last)
        index.erase(hash, [&](const Group& g) { return g.first == &sa; });
    else
        unlink(*found, sa, link);
}

// From the end of its group, where index() puts an SA, to its old place in it.
void Sad::Impl::relink(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid, SaLink place)
{
    Group& found = *group(index, peer_hash(sa.protocol, sa.source, sa.destination, with_reqid ? sa.reqid : 0), sa,
                          with_reqid);
    if (found.first == found.last)
        return;
    unlink(found, sa, link);
    found.dying += sa.state == SaState::dying;
    sa.*link = place;
    (place.previous != nullptr ? (place.previous->*link).next : found.first) = &sa;
    (place.next != nullptr ? (place.next->*link).previous : found.last) = &sa;
}

Sa* Sad::Impl::exact(std::uint8_t protocol, const Address& destination, std::uint32_t spi) const
{
    Sa* const* found = by_spi.find(spi_hash(protocol, destination, spi), [&](const Sa* sa) {
        return sa->spi == spi && sa->protocol == protocol && sa->destination == destination;
    });
    return found == nullptr ? nullptr : *found;
}

Sa* Sad::Impl::choose_between(std::uint8_t protocol, Mode mode, const Address& source, const Address& destination,
                              std::uint32_t reqid, bool prefer_old) const
{
    const Group* group = reqid == 0 ? peers_of(protocol, source, destination)
                                    : reqid_of(protocol, source, destination, reqid);
    return group == nullptr ? nullptr : choose(*group, reqid == 0 ? &Sa::peer_link : &Sa::reqid_link, mode, prefer_old);
}

const Group* Sad::Impl::peers_of(std::uint8_t protocol, const Address& source, const Address& destination) const
{
    return by_peer.find(peer_hash(protocol, source, destination, 0),
                        [&](const Group& g) { return between(*g.first, protocol, source, destination); });
}

const Group* Sad::Impl::reqid_of(std::uint8_t protocol, const Address& source, const Address& destination,
                                 std::uint32_t reqid) const
{
    return by_reqid.find(peer_hash(protocol, source, destination, reqid), [&](const Group& g) {
        return g.first->reqid == reqid && between(*g.first, protocol, source, destination);
    });
}

// Rows of erased SAs go when they are the majority, so that an erase costs O(1) on average.
void Sad::Impl::compact()
{
    if (rows.size() < 64 ? live != 0 : live * 2 > rows.size())
        return;
    std::erase_if(rows, [](const Row& row) { return row.sa == nullptr; });
    if (rows.capacity() > 4 * rows.size() + 64)
        rows.shrink_to_fit();
}

}  // namespace latchkey
