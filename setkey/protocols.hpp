// SPDX-License-Identifier: BSD-2-Clause
// Upper-layer protocols by name, so that scripts mean the same without /etc/protocols. The parser reads the table,
// the printer prints it.
#pragma once

#include "pfkey/algorithms.hpp"
#include "pfkey/policy.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace latchkey::setkey {

struct UpperProtocol {
    std::uint8_t number;
    std::string_view name;      // as IANA's list, and so getprotobynumber(), has it
    std::string_view aliases;   // separated by one space
};

// Numbers and names as IANA assigned them; the ones that scripts name most stand first.
inline constexpr UpperProtocol upper_protocols[] = {
    {255, "255", "any"},   // a wild card, not a protocol: traditionally printed as a number
    {6, "tcp", ""},
    {17, "udp", ""},
    {1, "icmp", ""},
    {58, "ipv6-icmp", "icmp6 icmpv6"},
    {47, "gre", ""},
    {0, "ip", "hopopt"},
    {2, "igmp", ""},
    {3, "ggp", ""},
    {4, "ipencap", "ip4 ipv4 ip-encap"},
    {5, "st", ""},
    {8, "egp", ""},
    {9, "igp", ""},
    {12, "pup", ""},
    {20, "hmp", ""},
    {22, "xns-idp", ""},
    {27, "rdp", ""},
    {29, "iso-tp4", ""},
    {33, "dccp", ""},
    {36, "xtp", ""},
    {37, "ddp", ""},
    {38, "idpr-cmtp", ""},
    {41, "ipv6", "ip6"},
    {43, "ipv6-route", ""},
    {44, "ipv6-frag", ""},
    {45, "idrp", ""},
    {46, "rsvp", ""},
    {50, "esp", "ipsec-esp"},
    {51, "ah", "ipsec-ah"},
    {55, "mobile", ""},
    {57, "skip", ""},
    {59, "ipv6-nonxt", ""},
    {60, "ipv6-opts", ""},
    {73, "rspf", "cphb"},
    {81, "vmtp", ""},
    {88, "eigrp", ""},
    {89, "ospf", "ospfigp"},
    {93, "ax.25", ""},
    {94, "ipip", ""},
    {97, "etherip", ""},
    {98, "encap", ""},
    {103, "pim", ""},
    {108, "ipcomp", ""},
    {112, "vrrp", "carp"},
    {115, "l2tp", ""},
    {124, "isis", ""},
    {132, "sctp", ""},
    {133, "fc", ""},
    {135, "mobility-header", "mh"},
    {136, "udplite", ""},
    {137, "mpls-in-ip", ""},
    {138, "manet", ""},
    {139, "hip", ""},
    {140, "shim6", ""},
    {141, "wesp", ""},
    {142, "rohc", ""},
};

constexpr std::optional<std::uint8_t> upper_protocol(std::string_view word)
{
    for (const auto& row : upper_protocols)
        if (row.name == word || has_word(row.aliases, word))
            return row.number;
    return std::nullopt;
}

inline std::string upper_protocol_name(std::uint8_t number)
{
    for (const auto& row : upper_protocols)
        if (row.number == number)
            return std::string(row.name);
    return std::to_string(number);
}

// Their selectors have a type and a code in the place of ports.
constexpr bool has_type_and_code(std::uint8_t protocol)
{
    return protocol == ip_proto::icmp || protocol == ip_proto::icmpv6 || protocol == ip_proto::mobility;
}

inline constexpr std::uint8_t gre = 47;   // its selectors have a 32-bit key in the place of the two ports

// `any` may have them: such a rule is for the protocols that do.
constexpr bool carries_ports(std::uint8_t protocol)
{
    constexpr std::uint8_t dccp = 33, sctp = 132, udplite = 136;
    return protocol == ip_proto::tcp || protocol == ip_proto::udp || protocol == sctp || protocol == udplite ||
           protocol == dccp || protocol == ip_proto::any;
}

}  // namespace latchkey::setkey
