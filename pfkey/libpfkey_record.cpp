// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/libpfkey_record.hpp"

#include "pfkey/tables.hpp"

#include <sodium/utils.h>
#include <unistd.h>

namespace latchkey::ipsec {

namespace {

constexpr std::size_t fixed_room = 1024;   // more than all extensions of fixed size together
constexpr std::size_t length_at = 4;       // sadb_msg_len

}  // namespace

Record::Record(unsigned type, unsigned satype, std::uint32_t seq, std::size_t variable)
{
    bytes_.reserve(fixed_room + variable);
    wire::Writer out(grow(sizeof(sadb_msg)), wire::Order::host);
    out.put<std::uint8_t>(PF_KEY_V2);
    out.put<std::uint8_t>(static_cast<std::uint8_t>(type));
    out.put<std::uint8_t>(0);
    out.put<std::uint8_t>(static_cast<std::uint8_t>(satype));
    out.zero(4);
    out.put<std::uint32_t>(seq);
    out.put<std::uint32_t>(static_cast<std::uint32_t>(getpid()));
}

Record::~Record()
{
    sodium_memzero(bytes_.data(), bytes_.size());
}

void Record::add(Bytes extension)
{
    wire::Writer(grow(extension.size())).put(extension);
}

void Record::add_address(std::uint16_t type, const Endpoint& endpoint)
{
    const auto bits = static_cast<std::uint8_t>(endpoint.address.bits());
    add<formats::AddressFormat>(type, AddressExt{IPSEC_ULPROTO_ANY, bits, endpoint});
}

int Record::send(int so)
{
    if (bytes_.size() > max_record)
        return refuse(EIPSEC_NO_BUFS, "the message is longer than PF_KEY can say");
    wire::Writer(bytes_, wire::Order::host).put_at<std::uint16_t>(length_at,
                                                                  static_cast<std::uint16_t>(bytes_.size() / 8));
    return pfkey_send(so, static_cast<sadb_msg*>(static_cast<void*>(bytes_.data())), static_cast<int>(bytes_.size()));
}

// New bytes are zero: what pads an extension.
MutableBytes Record::grow(std::size_t size)
{
    const auto used = bytes_.size();
    bytes_.resize(used + size);
    return MutableBytes(bytes_).subspan(used);
}

std::optional<Endpoint> endpoint_of(const sockaddr* name)
{
    if (name->sa_family != AF_INET && name->sa_family != AF_INET6)
        return std::nullopt;
    const auto family = name->sa_family == AF_INET ? Family::v4 : Family::v6;
    std::array<std::uint8_t, 32> padded{};
    std::memcpy(padded.data(), name, sysdep_sa_len(name));
    wire::Reader in(Bytes(padded).first(sockaddr_size(family)), wire::Order::host);
    const auto endpoint = parse_sockaddr(in);
    return endpoint ? std::optional(*endpoint) : std::nullopt;
}

std::optional<Ends> ends_of(const sockaddr* source, const sockaddr* destination)
{
    if (source == nullptr || destination == nullptr) {
        refuse(EIPSEC_INVAL_ARGUMENT, "expected a source and a destination address, got NULL");
        return std::nullopt;
    }
    if (source->sa_family != destination->sa_family) {
        refuse(EIPSEC_FAMILY_MISMATCH);
        return std::nullopt;
    }
    const auto from = endpoint_of(source), to = endpoint_of(destination);
    if (!from || !to) {
        refuse(EIPSEC_INVAL_FAMILY, "expected AF_INET or AF_INET6");
        return std::nullopt;
    }
    return Ends{*from, *to};
}

}  // namespace latchkey::ipsec
