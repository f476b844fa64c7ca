// SPDX-License-Identifier: BSD-2-Clause
#include "stack/client/protocol.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

namespace latchkey::control {

using wire::Order;
using wire::Reader;
using wire::Writer;

namespace {

constexpr std::size_t request_header_size = 24;   // op, address size, id, arg[3], payload size
constexpr std::size_t reply_header_size = 16;     // id, result, address size, zero, payload size
constexpr std::size_t max_address = sizeof(sockaddr_storage);

// The header is always host order, whatever Reader or Writer the caller came with.
template <std::size_t Size> void put_header(Writer& out, const std::array<std::uint8_t, Size>& header)
{
    out.put(Bytes(header));
}

// Address and payload fill the rest of the record exactly: a record that the kernel truncated is never taken for whole.
Result<void> split(Reader& in, std::size_t address_size, std::size_t payload_size, Bytes& address, Bytes& payload)
{
    if (!in.ok())
        return fail(Errc::truncated, "control record shorter than its header");
    if (address_size > max_address)
        return fail(Errc::malformed, "control record with an address of more than 128 bytes");
    address = in.take(address_size);
    payload = in.take(payload_size);
    if (!in.ok())
        return fail(Errc::truncated, "control record shorter than its sizes say");
    if (!in.done())
        return fail(Errc::malformed, "control record longer than its sizes say");
    return {};
}

}  // namespace

Result<Request> Request::parse(Bytes record)
{
    Reader in(record, Order::host);
    Request request;
    request.op = static_cast<Op>(in.get<std::uint16_t>());
    const std::size_t address_size = in.get<std::uint16_t>();
    request.id = in.get<std::uint32_t>();
    for (auto& arg : request.arg)
        arg = static_cast<std::int32_t>(in.get<std::uint32_t>());
    const std::size_t payload_size = in.get<std::uint32_t>();
    if (const auto rest = split(in, address_size, payload_size, request.address, request.payload); !rest)
        return std::unexpected(rest.error());
    return request;
}

std::size_t Request::size() const
{
    return request_header_size + address.size() + payload.size();
}

void Request::emit(Writer& out) const
{
    std::array<std::uint8_t, request_header_size> raw{};
    Writer header(raw, Order::host);
    header.put<std::uint16_t>(static_cast<std::uint16_t>(op));
    header.put<std::uint16_t>(static_cast<std::uint16_t>(address.size()));
    header.put<std::uint32_t>(id);
    for (const auto value : arg)
        header.put<std::uint32_t>(static_cast<std::uint32_t>(value));
    header.put<std::uint32_t>(static_cast<std::uint32_t>(payload.size()));
    put_header(out, raw);
    out.put(address);
    out.put(payload);
}

Result<Reply> Reply::parse(Bytes record)
{
    Reader in(record, Order::host);
    Reply reply;
    reply.id = in.get<std::uint32_t>();
    reply.result = static_cast<std::int32_t>(in.get<std::uint32_t>());
    const std::size_t address_size = in.get<std::uint16_t>();
    in.skip(2);
    const std::size_t payload_size = in.get<std::uint32_t>();
    if (const auto rest = split(in, address_size, payload_size, reply.address, reply.payload); !rest)
        return std::unexpected(rest.error());
    return reply;
}

std::size_t Reply::size() const
{
    return reply_header_size + address.size() + payload.size();
}

void Reply::emit(Writer& out) const
{
    std::array<std::uint8_t, reply_header_size> raw{};
    Writer header(raw, Order::host);
    header.put<std::uint32_t>(id);
    header.put<std::uint32_t>(static_cast<std::uint32_t>(result));
    header.put<std::uint16_t>(static_cast<std::uint16_t>(address.size()));
    header.put<std::uint16_t>(0);
    header.put<std::uint32_t>(static_cast<std::uint32_t>(payload.size()));
    put_header(out, raw);
    out.put(address);
    out.put(payload);
}

Result<DataHeader> DataHeader::parse(Reader& outer)
{
    Reader in(outer.take(data_header_size), Order::host);
    DataHeader header;
    const auto family = in.get<std::uint16_t>();
    header.remote.port = in.get<std::uint16_t>();
    header.remote.scope = in.get<std::uint32_t>();
    const auto address = in.take(16);
    header.flags = in.get<std::uint16_t>();
    header.tos = in.get<std::uint8_t>();
    header.ttl = in.get<std::uint8_t>();
    in.skip(4);
    if (!in.ok())
        return fail(Errc::truncated, "datagram shorter than its header");
    if (family == AF_INET)
        header.remote.address = Address::v4(address.first<4>());
    else if (family == AF_INET6)
        header.remote.address = Address::v6(address.first<16>());
    else if (family != AF_UNSPEC)
        return fail(Errc::bad_family, "datagram header with an address family other than none, IPv4 or IPv6");
    return header;
}

void DataHeader::emit(Writer& out) const
{
    std::array<std::uint8_t, data_header_size> raw{};
    Writer header(raw, Order::host);
    header.put<std::uint16_t>(remote.address.is_v4() ? AF_INET : remote.address.is_v6() ? AF_INET6 : AF_UNSPEC);
    header.put<std::uint16_t>(remote.port);
    header.put<std::uint32_t>(remote.scope);
    header.put(remote.address.bytes());
    header.zero(16 - remote.address.size());
    header.put<std::uint16_t>(flags);
    header.put<std::uint8_t>(tos);
    header.put<std::uint8_t>(ttl);
    put_header(out, raw);
}

// As the kernel's calls do: sizes beyond the structure are accepted, a sockaddr_in6 may come without its scope
// (RFC 2133's 24 bytes), and a family alone is enough to dissolve a connection.
Result<Endpoint> parse_socket_address(Bytes raw)
{
    Reader in(raw, Order::network);
    const auto family_bytes = in.take(2);
    if (!in.ok())
        return fail(Errc::malformed, "socket address without a family");
    Endpoint endpoint;
    switch (wire::load<std::uint16_t>(family_bytes.first<2>(), Order::host)) {
    case AF_UNSPEC: return endpoint;
    case AF_INET: {
        if (raw.size() < sizeof(sockaddr_in))
            return fail(Errc::malformed, "IPv4 socket address of less than 16 bytes");
        endpoint.port = in.get<std::uint16_t>();
        endpoint.address = Address::v4(in.take(4).first<4>());
        return endpoint;
    }
    case AF_INET6: {
        endpoint.port = in.get<std::uint16_t>();
        in.skip(4);   // flow label
        const auto address = in.take(16);
        if (!in.ok())
            return fail(Errc::malformed, "IPv6 socket address of less than 24 bytes");
        endpoint.address = Address::v6(address.first<16>());
        if (const auto scope = in.take(4); in.ok())
            endpoint.scope = wire::load<std::uint32_t>(scope.first<4>(), Order::host);
        return endpoint;
    }
    default: return fail(Errc::bad_family, "socket address of a family other than IPv4 or IPv6");
    }
}

std::size_t put_socket_address(std::span<std::uint8_t, max_socket_address> raw, const Endpoint& endpoint)
{
    const auto& address = endpoint.address;
    const std::size_t size = address.is_v4() ? sizeof(sockaddr_in) : address.is_v6() ? sizeof(sockaddr_in6) : 2;
    const std::uint16_t family = address.is_v4() ? AF_INET : address.is_v6() ? AF_INET6 : AF_UNSPEC;
    wire::store<std::uint16_t>(raw.first<2>(), family, Order::host);
    std::memset(raw.data() + 2, 0, size - 2);
    if (size == 2)
        return size;
    wire::store<std::uint16_t>(raw.subspan<2, 2>(), endpoint.port);
    const auto place = MutableBytes(raw).subspan(address.is_v6() ? 8 : 4, address.size());
    std::memcpy(place.data(), address.bytes().data(), place.size());
    if (address.is_v6())
        wire::store<std::uint32_t>(raw.subspan<24, 4>(), endpoint.scope, Order::host);
    return size;
}

std::vector<std::uint8_t> socket_address(const Endpoint& endpoint)
{
    std::array<std::uint8_t, max_socket_address> raw{};
    const auto size = put_socket_address(raw, endpoint);
    return {raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(size)};
}

}  // namespace latchkey::control
