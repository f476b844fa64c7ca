// SPDX-License-Identifier: BSD-2-Clause
// Policies in the words of KAME's ipsec_set_policy(3) and of setkey's -P, both ways:
//
//     DIRECTION [prio PRIORITY] ACTION PROTOCOL/MODE/SOURCE-DESTINATION/LEVEL ...
//
// setkey and the libipsec-style functions read and print them here.
#pragma once

#include "pfkey/message.hpp"

#include <expected>
#include <string>
#include <string_view>

namespace latchkey {

// What ipsec_strerror(3) distinguishes about a policy string.
enum class PolicyFault : std::uint8_t {
    syntax,              // "Invalid argument"
    too_few_arguments,   // a rule without a mode
    address,             // a tunnel without end points, or an end point that is no address
    family_mismatch,
    direction,           // me-any in an `in` policy, any-me in an `out` policy
    priority_offset,     // prio N
    base_offset,         // prio low, def or high + N
    reqid,
};

struct PolicyStringError {
    PolicyFault fault;
    std::size_t column;          // from 1
    std::string_view expected;   // a literal
    std::string found;           // the text at that column, shortened; empty at the end of the string

    std::string text() const;    // "column 12: expected a level, found `must'"
};

std::expected<PolicyExt, PolicyStringError> parse_policy_string(std::string_view text);

// The text of a policy: delimiter stands before each rule. Ports of tunnel end points only if asked for, as in
// ipsec_dump_policy_withports(). What has no name is printed as its number.
std::string policy_text(const PolicyExt& policy, std::string_view delimiter, bool with_ports = false);

// Priorities are offsets from three bases; lower values come first, so "low" is the highest number.
inline constexpr std::uint32_t priority_low = 0xc0000000;
inline constexpr std::uint32_t priority_default = 0x80000000;
inline constexpr std::uint32_t priority_high = 0x40000000;

// "prio def + 100", or nothing for 0 (not given).
std::string priority_text(std::uint32_t priority);

}  // namespace latchkey
