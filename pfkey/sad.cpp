// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/sad.hpp"

#include "pfkey/flat_index.hpp"

#include <algorithm>
#include <array>

namespace latchkey {

namespace {

// The SAs that one key (peer, or peer and reqid) leads to, oldest first, linked through the SAs themselves.
struct Group {
    Sa* first = nullptr;
    Sa* last = nullptr;
};

using Link = SaLink Sa::*;

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
}

void unlink(Group& group, Sa& sa, Link link)
{
    const SaLink own = sa.*link;
    (own.previous != nullptr ? (own.previous->*link).next : group.first) = own.next;
    (own.next != nullptr ? (own.next->*link).previous : group.last) = own.previous;
    sa.*link = {};
}

// Mature before dying: once its soft limit is reached an SA is used only while nothing replaces it.
Sa* choose(const Group& group, Link link, Mode mode, bool prefer_old)
{
    Sa* dying = nullptr;
    for (Sa* sa = prefer_old ? group.first : group.last; sa != nullptr;
         sa = prefer_old ? (sa->*link).next : (sa->*link).previous) {
        if (!sa->usable() || (sa->mode != mode && sa->mode != Mode::any && mode != Mode::any))
            continue;
        if (sa->state == SaState::mature)
            return sa;
        if (dying == nullptr)
            dying = sa;
    }
    return dying;
}

}  // namespace

struct Sad::Impl {
    struct Row {
        std::uint64_t serial;
        std::unique_ptr<Sa> sa;   // null: erased since
    };

    void index(Sa& sa);
    void unindex(Sa& sa);
    Row& row_of(const Sa& sa);
    Group* group(FlatIndex<Group>& index, std::uint64_t hash, const Sa& sa, bool with_reqid);
    void join(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid);
    void leave(FlatIndex<Group>& index, Sa& sa, Link link, bool with_reqid);
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
    std::size_t wildcards = 0;   // SAs to 0.0.0.0 or ::
};

Sad::Sad() : impl_(std::make_unique<Impl>()) {}
Sad::~Sad() = default;

Result<Sa*> Sad::insert(std::unique_ptr<Sa> sa)
{
    if (impl_->exact(sa->protocol, sa->destination, sa->spi) != nullptr)
        return fail(Errc::exists, "an SA with this protocol, destination and SPI exists");
    Sa& added = *sa;
    added.serial = ++impl_->last_serial;
    impl_->rows.push_back({added.serial, std::move(sa)});
    impl_->index(added);
    return &added;
}

void Sad::erase(Sa& sa)
{
    impl_->unindex(sa);
    impl_->row_of(sa).sa.reset();
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
    impl_->unindex(old);
    with->serial = old.serial;
    auto& row = impl_->row_of(old);
    row.sa = std::move(with);
    impl_->index(*row.sa);
    return *row.sa;
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
    const auto* group = reqid == 0 ? impl_->peers_of(protocol, source, destination)
                                   : impl_->reqid_of(protocol, source, destination, reqid);
    return group == nullptr ? nullptr : choose(*group, reqid == 0 ? &Sa::peer_link : &Sa::reqid_link, mode, prefer_old);
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
        if (row->sa == nullptr || (protocol != 0 && row->sa->protocol != protocol))
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
    ++per_protocol[sa.protocol];
    wildcards += sa.destination.is_unspecified();
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
    wildcards -= sa.destination.is_unspecified();
    --per_protocol[sa.protocol];
    --live;
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

Sa* Sad::Impl::exact(std::uint8_t protocol, const Address& destination, std::uint32_t spi) const
{
    Sa* const* found = by_spi.find(spi_hash(protocol, destination, spi), [&](const Sa* sa) {
        return sa->spi == spi && sa->protocol == protocol && sa->destination == destination;
    });
    return found == nullptr ? nullptr : *found;
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
