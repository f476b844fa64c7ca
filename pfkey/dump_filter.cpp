// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/dump_filter.hpp"

#include <sys/socket.h>

namespace latchkey {

namespace {

constexpr std::size_t address_field = 16;   // an IPv4 address stands in the first four bytes

Result<Prefix> prefix_of(Bytes field, Family family, std::uint8_t length)
{
    const Address address = family == Family::v4 ? Address::v4(field.first<4>()) : Address::v6(field.first<16>());
    if (length > address.bits())
        return fail(Errc::bad_value, "a prefix of the filter is longer than the address");
    return Prefix{address.masked(length), length};
}

}  // namespace

Result<DumpFilter> DumpFilter::parse(Bytes body)
{
    wire::Reader in(body, wire::Order::host);
    const Bytes source = in.take(address_field), destination = in.take(address_field);
    const auto family = in.get<std::uint16_t>();
    const auto source_length = in.get<std::uint8_t>(), destination_length = in.get<std::uint8_t>();
    if (!in.ok())
        return fail(Errc::truncated, "the filter is too short");
    if (family == AF_UNSPEC) {
        if (source_length != 0 || destination_length != 0)
            return fail(Errc::bad_value, "the filter has prefixes, but no address family");
        return DumpFilter{};
    }
    if (family != AF_INET && family != AF_INET6)
        return fail(Errc::bad_family, "the filter's addresses are neither IPv4 nor IPv6");
    const Family known = family == AF_INET ? Family::v4 : Family::v6;
    const auto from = prefix_of(source, known, source_length), to = prefix_of(destination, known, destination_length);
    if (!from || !to)
        return std::unexpected(from ? to.error() : from.error());
    return DumpFilter{*from, *to};
}

bool DumpFilter::matches(const Sa& sa) const
{
    return (!source || source->contains(sa.source)) && (!destination || destination->contains(sa.destination));
}

}  // namespace latchkey
