// SPDX-License-Identifier: BSD-2-Clause
// Why packets are dropped: one row each. Counters, log, `latchkey stat` and the tests read this table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace latchkey {

enum class Drop : std::uint8_t {
    none,
    // outbound
    out_discard,
    out_no_sa,
    out_hold_full,
    out_too_big,
    out_sequence_exhausted,
    out_crypto,
    out_no_route,
    out_no_buffer,
    out_lifetime,
    out_nested,
    // inbound
    in_discard,
    in_clear,
    in_wrong_protection,
    in_selector_mismatch,
    in_unknown_spi,
    in_sa_state,
    in_replay,
    in_integrity,
    in_decompress,
    in_disabled,
    in_encapsulation,
    in_keepalive,
    in_padding,
    in_truncated,
    in_dummy,
    in_lifetime,
    in_wrong_mode,
    in_tunnel_endpoint,
    in_no_buffer,
    in_queue_full,
    in_nested,
    in_malformed,
    in_not_local,
    // transit
    fwd_discard,
    fwd_clear,
    fwd_wrong_protection,
    fwd_port_fragment,
    fwd_no_route,
    fwd_ttl,
    fwd_too_big,
    // reassembly
    frag_malformed,
    frag_overlap,
    frag_too_big,
    frag_limit,
    frag_timeout,
    count_,
};

struct DropRow {
    Drop id;
    std::string_view name;   // stable, for scripts
    std::string_view text;   // for people
    bool auditable;          // RFC 4301 and RFC 4303 call it an auditable event
};

// clang-format off
inline constexpr DropRow drops[] = {
    {Drop::none,                   "none",                   "not dropped", false},
    {Drop::out_discard,            "out_discard",            "outbound policy says discard", true},
    {Drop::out_no_sa,              "out_no_sa",              "no SA for an outbound policy that requires one", true},
    {Drop::out_hold_full,          "out_hold_full",          "hold queue full while waiting for an SA", false},
    {Drop::out_too_big,            "out_too_big",            "would exceed 65,535 bytes once protected", false},
    {Drop::out_sequence_exhausted, "out_sequence_exhausted", "the SA's sequence numbers are used up", true},
    {Drop::out_crypto,             "out_crypto",             "the cipher refused an outbound packet", false},
    {Drop::out_no_route,           "out_no_route",           "no route to the outer destination", false},
    {Drop::out_no_buffer,          "out_no_buffer",          "no packet buffer for an outbound packet", false},
    {Drop::out_lifetime,           "out_lifetime",           "the SA's hard lifetime is used up (outbound)", false},
    {Drop::out_nested,             "out_nested",             "a policy's tunnels nest too deeply (outbound)", false},
    {Drop::in_discard,             "in_discard",             "inbound policy says discard", true},
    {Drop::in_clear,               "in_clear",               "clear packet where inbound policy requires protection", true},
    {Drop::in_wrong_protection,    "in_wrong_protection",    "protected otherwise than inbound policy requires", true},
    {Drop::in_selector_mismatch,   "in_selector_mismatch",   "the inner packet does not belong to this SA", true},
    {Drop::in_unknown_spi,         "in_unknown_spi",         "no SA with this SPI", true},
    {Drop::in_sa_state,            "in_sa_state",            "the SA of this SPI is not usable", true},
    {Drop::in_replay,              "in_replay",              "outside the replay window, or seen before", true},
    {Drop::in_integrity,           "in_integrity",           "integrity check failed", true},
    {Drop::in_decompress,          "in_decompress",          "IPComp payload is not a DEFLATE stream, or too big", false},
    {Drop::in_disabled,            "in_disabled",            "this protocol is switched off by a tunable", false},
    {Drop::in_encapsulation,       "in_encapsulation",       "ESP in UDP on an SA without NAT traversal, or the reverse", true},
    {Drop::in_keepalive,           "in_keepalive",           "NAT keepalive, as it should be (RFC 3948)", false},
    {Drop::in_padding,             "in_padding",             "padding is not 1, 2, 3, ... or longer than the packet", false},
    {Drop::in_truncated,           "in_truncated",           "shorter than its transform allows", false},
    {Drop::in_dummy,               "in_dummy",               "dummy packet (next header 59)", false},
    {Drop::in_lifetime,            "in_lifetime",            "the SA's hard lifetime is used up (inbound)", false},
    {Drop::in_wrong_mode,          "in_wrong_mode",          "transport packet on a tunnel SA, or the reverse", true},
    {Drop::in_tunnel_endpoint,     "in_tunnel_endpoint",     "outer source is not the SA's peer", true},
    {Drop::in_no_buffer,           "in_no_buffer",           "no packet buffer for an inbound packet", false},
    {Drop::in_queue_full,          "in_queue_full",          "too many decapsulated packets are waiting", false},
    {Drop::in_nested,              "in_nested",              "too many transforms around one packet", false},
    {Drop::in_malformed,           "in_malformed",           "broken IP header or extension header chain", false},
    {Drop::in_not_local,           "in_not_local",           "not addressed to this host, and forwarding is off", false},
    {Drop::fwd_discard,            "fwd_discard",            "transit policy says discard", true},
    {Drop::fwd_clear,              "fwd_clear",              "clear transit packet where policy requires protection", true},
    {Drop::fwd_wrong_protection,   "fwd_wrong_protection",   "transit packet protected otherwise than policy requires", true},
    {Drop::fwd_port_fragment,      "fwd_port_fragment",      "transit fragment without ports where a port rule could apply", true},
    {Drop::fwd_no_route,           "fwd_no_route",           "no route for a transit packet", false},
    {Drop::fwd_ttl,                "fwd_ttl",                "the TTL or hop limit of a transit packet ran out", false},
    {Drop::fwd_too_big,            "fwd_too_big",            "transit packet bigger than the next link, and not to be fragmented", false},
    {Drop::frag_malformed,         "frag_malformed",         "fragment with an impossible offset or length", false},
    {Drop::frag_overlap,           "frag_overlap",           "fragments overlap (RFC 5722)", false},
    {Drop::frag_too_big,           "frag_too_big",           "fragments add up to more than 65,535 bytes", false},
    {Drop::frag_limit,             "frag_limit",             "reassembly memory is used up", false},
    {Drop::frag_timeout,           "frag_timeout",           "the rest of a fragmented packet did not come", false},
};
// clang-format on

constexpr const DropRow& drop_row(Drop drop)
{
    return drops[static_cast<std::size_t>(drop)];
}

namespace detail {
consteval bool drops_sound()
{
    for (std::size_t i = 0; i < static_cast<std::size_t>(Drop::count_); ++i) {
        if (drops[i].id != static_cast<Drop>(i))
            return false;
        for (std::size_t j = 0; j < i; ++j)
            if (drops[j].name == drops[i].name)
                return false;
    }
    return sizeof(drops) / sizeof(drops[0]) == static_cast<std::size_t>(Drop::count_);
}
static_assert(drops_sound(), "drops[] must have one row per Drop, in order, with unique names");
}  // namespace detail

}  // namespace latchkey
