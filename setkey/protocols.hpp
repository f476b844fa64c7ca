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

inline constexpr UpperProtocol upper_protocols[] = {
    {0, "ip", "hopopt"},
    {1, "icmp", ""},
    {2, "igmp", ""},
    {3, "ggp", ""},
    {4, "ipencap", "ip4 ipv4 ip-encap"},
    {6, "tcp", ""},
    {8, "egp", ""},
    {9, "igp", ""},
    {17, "udp", ""},
    {27, "rdp", ""},
    {33, "dccp", ""},
    {41, "ipv6", "ip6"},
    {43, "ipv6-route", ""},
    {44, "ipv6-frag", ""},
    {46, "rsvp", ""},
    {47, "gre", ""},
    {50, "esp", "ipsec-esp"},
    {51, "ah", "ipsec-ah"},
    {58, "ipv6-icmp", "icmp6 icmpv6"},
    {59, "ipv6-nonxt", ""},
    {60, "ipv6-opts", ""},
    {89, "ospf", "ospfigp"},
    {94, "ipip", ""},
    {97, "etherip", ""},
    {98, "encap", ""},
    {103, "pim", ""},
    {108, "ipcomp", ""},
    {112, "vrrp", ""},
    {115, "l2tp", ""},
    {132, "sctp", ""},
    {135, "mobility-header", "mh"},
    {136, "udplite", ""},
    {137, "mpls-in-ip", ""},
    {255, "255", "any"},   // a wild card, not a protocol: traditionally printed as a number
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

}  // namespace latchkey::setkey
