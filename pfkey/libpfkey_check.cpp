// SPDX-License-Identifier: BSD-2-Clause
// pfkey_align() and pfkey_check(): a received message by its extensions. Nothing beyond sadb_msg_len is looked at, and
// an extension counts only as far as its own length reaches.
#include "pfkey/ipsec_error.hpp"
#include "pfkey/tables.hpp"

#include <libpfkey.h>

#include <algorithm>

using namespace latchkey;
using namespace latchkey::ipsec;

namespace {

// The bytes that a length field in 8-byte units at `at` covers.
Bytes covered(const void* memory, std::size_t at)
{
    const auto* bytes = static_cast<const std::uint8_t*>(memory);
    const auto units = wire::load<std::uint16_t>(Bytes(bytes + at, 2).first<2>(), wire::Order::host);
    return {bytes, std::size_t{units} * 8};
}

bool is_known(unsigned type)
{
    return std::apply([&](const auto&... row) { return ((row.type == type) || ...); }, extensions);
}

bool is_about_sas(unsigned type)
{
    constexpr std::uint8_t about[] = {SADB_GETSPI, SADB_UPDATE,  SADB_ADD,    SADB_DELETE,
                                      SADB_GET,    SADB_ACQUIRE, SADB_EXPIRE, SADB_X_NAT_T_NEW_MAPPING};
    return std::ranges::find(about, type) != std::end(about);
}

bool is_about_policies(unsigned type)
{
    constexpr std::uint8_t about[] = {SADB_X_SPDADD, SADB_X_SPDDELETE, SADB_X_SPDGET, SADB_X_SPDDUMP, SADB_X_SPDFLUSH};
    return std::ranges::find(about, type) != std::end(about);
}

int check_satype(const sadb_msg& message)
{
    const auto type = message.sadb_msg_type;
    switch (message.sadb_msg_satype) {
    case SADB_SATYPE_UNSPEC:
        return is_about_sas(type) ? refuse(EIPSEC_INVAL_SATYPE, "a message about an SA has no SA type") : 0;
    case SADB_SATYPE_AH:
    case SADB_SATYPE_ESP:
    case SADB_X_SATYPE_IPCOMP:
    case SADB_X_SATYPE_TCPSIGNATURE:
        if (is_about_policies(type))
            return refuse(EIPSEC_INVAL_SATYPE, "a message about policies has an SA type");
        if (type == SADB_X_NAT_T_NEW_MAPPING && message.sadb_msg_satype != SADB_SATYPE_ESP)
            return refuse(EIPSEC_INVAL_SATYPE, "NAT traversal is for ESP");
        return 0;
    case SADB_SATYPE_RSVP:
    case SADB_SATYPE_OSPFV2:
    case SADB_SATYPE_RIPV2:
    case SADB_SATYPE_MIP: return refuse(EIPSEC_NOT_SUPPORTED);
    default: break;
    }
    // There it is a switch; in the others of these an old Linux kernel leaves it as it happens to be.
    if ((type == SADB_X_PROMISC && message.sadb_msg_satype == 1) || type == SADB_X_BATCH || type == SADB_X_SPDFLUSH)
        return 0;
    return refuse(EIPSEC_INVAL_SATYPE);
}

struct Seen {
    unsigned protocol = 0, family = 0;
};

std::optional<Seen> address_of(const char* extension)
{
    const auto bytes = covered(extension, 0);
    if (bytes.size() < sizeof(sadb_address) + sizeof(std::uint64_t))
        return std::nullopt;
    wire::Reader in(bytes, wire::Order::host);
    in.skip(4);
    const unsigned protocol = in.get<std::uint8_t>();
    in.skip(3);
    return Seen{protocol, in.get<std::uint16_t>()};
}

int check_addresses(const char* source, const char* destination)
{
    if (source == nullptr || destination == nullptr)
        return 0;
    const auto from = address_of(source), to = address_of(destination);
    if (!from || !to)
        return refuse(EIPSEC_INVAL_SADBMSG, "an address extension ends before its sockaddr");
    if (from->protocol != to->protocol)
        return refuse(EIPSEC_PROTO_MISMATCH);
    if (from->family != to->family)
        return refuse(EIPSEC_FAMILY_MISMATCH);
    if (from->family != AF_INET && from->family != AF_INET6)
        return refuse(EIPSEC_INVAL_FAMILY, "expected AF_INET or AF_INET6");
    return 0;
}

}  // namespace

int pfkey_align(sadb_msg* msg, char** mhp)
{
    constexpr std::size_t length_at = 4;   // sadb_msg_len
    if (msg == nullptr || mhp == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected a message and room for its extensions, got NULL");
    auto* bytes = static_cast<char*>(static_cast<void*>(msg));
    std::fill_n(mhp, SADB_EXT_MAX + 1, nullptr);
    mhp[0] = bytes;

    const auto record = covered(msg, length_at);
    if (record.size() < sizeof *msg)
        return refuse(EIPSEC_INVAL_SADBMSG, "sadb_msg_len is less than a header");
    for (std::size_t at = sizeof *msg; at < record.size();) {
        const auto size = covered(bytes + at, 0).size();
        const unsigned type = wire::load<std::uint16_t>(record.subspan(at + 2).first<2>(), wire::Order::host);
        if (size == 0 || size > record.size() - at)
            return refuse(EIPSEC_INVAL_SADBMSG, "an extension is empty, or longer than the rest of the message");
        if (!is_known(type))
            return refuse(EIPSEC_INVAL_EXTTYPE, "unknown extension type");
        if (type <= SADB_EXT_MAX) {
            if (mhp[type] != nullptr)
                return refuse(EIPSEC_INVAL_EXTTYPE, "an extension occurs twice");
            mhp[type] = bytes + at;
        }
        at += size;
    }
    return accept(0);
}

int pfkey_check(char** mhp)
{
    if (mhp == nullptr || mhp[0] == nullptr)
        return refuse(EIPSEC_INVAL_ARGUMENT, "expected what pfkey_align() made");
    sadb_msg message;
    std::memcpy(&message, mhp[0], sizeof message);
    if (message.sadb_msg_version != PF_KEY_V2)
        return refuse(EIPSEC_INVAL_VERSION);
    if (message.sadb_msg_type > SADB_MAX && message.sadb_msg_type != SADB_X_BATCH)
        return refuse(EIPSEC_INVAL_MSGTYPE);
    if (check_satype(message) != 0 || check_addresses(mhp[SADB_EXT_ADDRESS_SRC], mhp[SADB_EXT_ADDRESS_DST]) != 0)
        return -1;
    return accept(0);
}
