// SPDX-License-Identifier: BSD-2-Clause
// The lists of PF_KEY: messages, SA types and extensions, each written once. The codec, the names and the tests
// iterate them.
#pragma once

#include "pfkey/formats.hpp"

#include <tuple>

namespace latchkey {

struct NamedNumber {
    std::uint8_t number;
    std::string_view name;
};

inline constexpr NamedNumber messages[] = {
    {SADB_GETSPI, "GETSPI"},
    {SADB_UPDATE, "UPDATE"},
    {SADB_ADD, "ADD"},
    {SADB_DELETE, "DELETE"},
    {SADB_GET, "GET"},
    {SADB_ACQUIRE, "ACQUIRE"},
    {SADB_REGISTER, "REGISTER"},
    {SADB_EXPIRE, "EXPIRE"},
    {SADB_FLUSH, "FLUSH"},
    {SADB_DUMP, "DUMP"},
    {SADB_X_PROMISC, "X_PROMISC"},
    {SADB_X_PCHANGE, "X_PCHANGE"},
    {SADB_X_SPDUPDATE, "X_SPDUPDATE"},
    {SADB_X_SPDADD, "X_SPDADD"},
    {SADB_X_SPDDELETE, "X_SPDDELETE"},
    {SADB_X_SPDGET, "X_SPDGET"},
    {SADB_X_SPDACQUIRE, "X_SPDACQUIRE"},
    {SADB_X_SPDDUMP, "X_SPDDUMP"},
    {SADB_X_SPDFLUSH, "X_SPDFLUSH"},
    {SADB_X_SPDSETIDX, "X_SPDSETIDX"},
    {SADB_X_SPDEXPIRE, "X_SPDEXPIRE"},
    {SADB_X_SPDDELETE2, "X_SPDDELETE2"},
    {SADB_X_NAT_T_NEW_MAPPING, "X_NAT_T_NEW_MAPPING"},
    {SADB_X_MIGRATE, "X_MIGRATE"},
    {SADB_X_BATCH, "X_BATCH"},
};

struct SaTypeRow {
    std::uint8_t number;
    std::uint8_t ip_protocol;   // 0: not the protocol of a packet transform
    std::string_view name;
};

inline constexpr SaTypeRow satypes[] = {
    {SADB_SATYPE_UNSPEC, 0, "unspec"},
    {SADB_SATYPE_AH, ip_proto::ah, "ah"},
    {SADB_SATYPE_ESP, ip_proto::esp, "esp"},
    {SADB_SATYPE_RSVP, 0, "rsvp"},
    {SADB_SATYPE_OSPFV2, 0, "ospfv2"},
    {SADB_SATYPE_RIPV2, 0, "ripv2"},
    {SADB_SATYPE_MIP, 0, "mip"},
    {SADB_X_SATYPE_IPCOMP, ip_proto::ipcomp, "ipcomp"},
    {SADB_X_SATYPE_TCPSIGNATURE, 0, "tcp"},
};

// Lengths of messages and extensions count 8-byte units in 16 bits.
inline constexpr std::size_t max_record = std::size_t{0xffff} * 8;

// One extension: where its value stands in Message, and how it looks on the wire. Each occurs at most once.
template <class Format, class Value> struct ExtensionRow {
    std::uint16_t type;
    std::string_view name;
    std::size_t min, max;          // bytes, header included; a multiple of 8 in between is checked by the format
    std::string_view size_rule;    // the reason given when the size is outside
    std::optional<Value> Message::*member;
    using Codec = Format;
};

template <class Format, class Value>
constexpr ExtensionRow<Format, Value> extension(std::uint16_t type, std::string_view name, std::size_t min,
                                                std::size_t max, std::string_view size_rule,
                                                std::optional<Value> Message::*member)
{
    return {type, name, min, max, size_rule, member};
}

// The order is that of emit(). It is the order in which ipsec-tools' setkey sends ADD (keys, lifetimes, SA, SA2, NAT-T
// type and original address, addresses, NAT-T ports), GETSPI and SPDADD (policy, addresses), so that what we send can be
// compared with what it sends; RFC 2367 §2.2 leaves the order free.
// clang-format off
inline constexpr std::tuple extensions{
    extension<formats::KeyFormat>(SADB_EXT_KEY_ENCRYPT, "KEY_ENCRYPT", 8, max_record,
        "KEY_ENCRYPT needs 8 bytes and the key", &Message::cipher_key),
    extension<formats::KeyFormat>(SADB_EXT_KEY_AUTH, "KEY_AUTH", 8, max_record,
        "KEY_AUTH needs 8 bytes and the key", &Message::auth_key),
    extension<formats::LifetimeFormat>(SADB_EXT_LIFETIME_HARD, "LIFETIME_HARD", 32, 32,
        "LIFETIME_HARD has 32 bytes", &Message::hard),
    extension<formats::LifetimeFormat>(SADB_EXT_LIFETIME_SOFT, "LIFETIME_SOFT", 32, 32,
        "LIFETIME_SOFT has 32 bytes", &Message::soft),
    extension<formats::PolicyFormat>(SADB_X_EXT_POLICY, "X_POLICY", 16, max_record,
        "X_POLICY needs 16 bytes and its requests", &Message::policy),
    extension<formats::OpaqueFormat>(SADB_X_EXT_SEC_CTX, "X_SEC_CTX", 8, max_record,
        "X_SEC_CTX needs 8 bytes", &Message::security_context),
    extension<formats::SpiRangeFormat>(SADB_EXT_SPIRANGE, "SPIRANGE", 16, 16,
        "SPIRANGE has 16 bytes", &Message::spi_range),
    extension<formats::SaFormat>(SADB_EXT_SA, "SA", 16, 16,
        "SA has 16 bytes", &Message::sa),
    extension<formats::Sa2Format>(SADB_X_EXT_SA2, "X_SA2", 16, 16,
        "X_SA2 has 16 bytes", &Message::sa2),
    extension<formats::NattTypeFormat>(SADB_X_EXT_NAT_T_TYPE, "X_NAT_T_TYPE", 8, 8,
        "X_NAT_T_TYPE has 8 bytes", &Message::natt_type),
    extension<formats::AddressFormat>(SADB_X_EXT_NAT_T_OA, "X_NAT_T_OA", 16, max_record,
        "X_NAT_T_OA needs 8 bytes and a sockaddr", &Message::natt_original),
    extension<formats::LifetimeFormat>(SADB_EXT_LIFETIME_CURRENT, "LIFETIME_CURRENT", 32, 32,
        "LIFETIME_CURRENT has 32 bytes", &Message::current),
    extension<formats::AddressFormat>(SADB_EXT_ADDRESS_SRC, "ADDRESS_SRC", 16, max_record,
        "ADDRESS_SRC needs 8 bytes and a sockaddr", &Message::source),
    extension<formats::AddressFormat>(SADB_EXT_ADDRESS_DST, "ADDRESS_DST", 16, max_record,
        "ADDRESS_DST needs 8 bytes and a sockaddr", &Message::destination),
    extension<formats::AddressFormat>(SADB_EXT_ADDRESS_PROXY, "ADDRESS_PROXY", 16, max_record,
        "ADDRESS_PROXY needs 8 bytes and a sockaddr", &Message::proxy),
    extension<formats::PortFormat>(SADB_X_EXT_NAT_T_SPORT, "X_NAT_T_SPORT", 8, 8,
        "X_NAT_T_SPORT has 8 bytes", &Message::natt_source_port),
    extension<formats::PortFormat>(SADB_X_EXT_NAT_T_DPORT, "X_NAT_T_DPORT", 8, 8,
        "X_NAT_T_DPORT has 8 bytes", &Message::natt_destination_port),
    extension<formats::IdentityFormat>(SADB_EXT_IDENTITY_SRC, "IDENTITY_SRC", 16, max_record,
        "IDENTITY_SRC needs 16 bytes", &Message::source_identity),
    extension<formats::IdentityFormat>(SADB_EXT_IDENTITY_DST, "IDENTITY_DST", 16, max_record,
        "IDENTITY_DST needs 16 bytes", &Message::destination_identity),
    extension<formats::OpaqueFormat>(SADB_EXT_SENSITIVITY, "SENSITIVITY", 16, max_record,
        "SENSITIVITY needs 16 bytes", &Message::sensitivity),
    extension<formats::ProposalFormat>(SADB_EXT_PROPOSAL, "PROPOSAL", 8, max_record,
        "PROPOSAL needs 8 bytes", &Message::proposal),
    extension<formats::SupportedFormat>(SADB_EXT_SUPPORTED_AUTH, "SUPPORTED_AUTH", 8, max_record,
        "SUPPORTED_AUTH needs 8 bytes", &Message::supported_auth),
    extension<formats::SupportedFormat>(SADB_EXT_SUPPORTED_ENCRYPT, "SUPPORTED_ENCRYPT", 8, max_record,
        "SUPPORTED_ENCRYPT needs 8 bytes", &Message::supported_encrypt),
    extension<formats::OpaqueFormat>(SADB_X_EXT_KMPRIVATE, "X_KMPRIVATE", 8, max_record,
        "X_KMPRIVATE needs 8 bytes", &Message::km_private),
    extension<formats::OpaqueFormat>(SADB_X_EXT_KMADDRESS, "X_KMADDRESS", 8, max_record,
        "X_KMADDRESS needs 8 bytes", &Message::kmaddress),
    extension<formats::OpaqueFormat>(SADB_X_EXT_FILTER, "X_FILTER", 40, 40,
        "X_FILTER has 40 bytes", &Message::filter),
    extension<formats::AddressFormat>(SADB_X_EXT_NAT_T_OAR, "X_NAT_T_OAR", 16, max_record,
        "X_NAT_T_OAR needs 8 bytes and a sockaddr", &Message::natt_original_remote),
    extension<formats::NumberFormat<std::uint16_t>>(SADB_X_EXT_NAT_T_FRAG, "X_NAT_T_FRAG", 8, 8,
        "X_NAT_T_FRAG has 8 bytes", &Message::natt_fragment),
    extension<formats::NumberFormat<std::uint32_t>>(SADB_X_EXT_SA_REPLAY, "X_SA_REPLAY", 8, 8,
        "X_SA_REPLAY has 8 bytes", &Message::sa_replay),
    extension<formats::AddressFormat>(SADB_X_EXT_NEW_ADDRESS_SRC, "X_NEW_ADDRESS_SRC", 16, max_record,
        "X_NEW_ADDRESS_SRC needs 8 bytes and a sockaddr", &Message::new_source),
    extension<formats::AddressFormat>(SADB_X_EXT_NEW_ADDRESS_DST, "X_NEW_ADDRESS_DST", 16, max_record,
        "X_NEW_ADDRESS_DST needs 8 bytes and a sockaddr", &Message::new_destination),
    extension<formats::TextFormat>(SADB_X_EXT_REASON, "X_REASON", 8, 1024,
        "X_REASON has 8 to 1024 bytes", &Message::reason),
};
// clang-format on

inline constexpr std::size_t extension_count = std::tuple_size_v<decltype(extensions)>;
inline constexpr std::size_t extension_type_end = SADB_X_EXT_REASON + 1;   // one above the highest number

}  // namespace latchkey
