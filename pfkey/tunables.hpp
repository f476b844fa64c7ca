// SPDX-License-Identifier: BSD-2-Clause
// The one list of tunables: sysctl get and set, --help, README and the tests iterate it. The engine owns the values;
// it acts on net.key.* and the default levels itself, the packet walk on the others.
#pragma once

#include "pfkey/result.hpp"

#include <array>
#include <cstdint>
#include <string_view>

namespace latchkey {

enum class Tunable : std::uint8_t {
    key_preferred_oldsa,
    key_spi_trycnt,
    key_spi_minval,
    key_spi_maxval,
    key_larval_lifetime,
    key_blockacq_count,
    key_blockacq_lifetime,
    v4_def_policy,
    v4_esp_trans_deflev,
    v4_esp_net_deflev,
    v4_ah_trans_deflev,
    v4_ah_net_deflev,
    v4_ah_cleartos,
    v4_dfbit,
    v4_ecn,
    v4_debug,
    v4_strict,
    v6_def_policy,
    v6_esp_trans_deflev,
    v6_esp_net_deflev,
    v6_ah_trans_deflev,
    v6_ah_net_deflev,
    v6_ecn,
    v6_debug,
    v6_strict,
    count_,
};

enum class TunableType : std::uint8_t { integer, choice };   // choice: few values, each named in the help

struct TunableRow {
    Tunable id;
    std::string_view name;
    TunableType type;
    std::int64_t standard, min, max;
    std::string_view help;
};

// clang-format off
inline constexpr TunableRow tunables[] = {
    {Tunable::key_preferred_oldsa,   "net.key.preferred_oldsa",   TunableType::choice,  1, 0, 1, "of several SAs that fit use 1: the oldest, 0: the newest"},
    {Tunable::key_spi_trycnt,        "net.key.spi_trycnt",        TunableType::integer, 1000, 1, 1'000'000, "attempts to find a free SPI"},
    {Tunable::key_spi_minval,        "net.key.spi_minval",        TunableType::integer, 0x100, 0x100, 0xffff'ffff, "lowest SPI that GETSPI gives"},
    {Tunable::key_spi_maxval,        "net.key.spi_maxval",        TunableType::integer, 0x0fff'ffff, 0x100, 0xffff'ffff, "highest SPI that GETSPI gives when the request names no range"},
    {Tunable::key_larval_lifetime,   "net.key.larval_lifetime",   TunableType::integer, 30, 1, 86'400, "seconds until an SPI without keys is given up"},
    {Tunable::key_blockacq_count,    "net.key.blockacq_count",    TunableType::integer, 10, 0, 1'000'000, "packets without an SA until ACQUIRE is repeated"},
    {Tunable::key_blockacq_lifetime, "net.key.blockacq_lifetime", TunableType::integer, 20, 1, 86'400, "seconds until an unanswered ACQUIRE is given up"},
    {Tunable::v4_def_policy,         "net.inet.ipsec.def_policy",      TunableType::choice, 1, 0, 1, "packets that no policy selects: 1: pass, 0: discard"},
    {Tunable::v4_esp_trans_deflev,   "net.inet.ipsec.esp_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for ESP transport: 1: use, 2: require"},
    {Tunable::v4_esp_net_deflev,     "net.inet.ipsec.esp_net_deflev",  TunableType::choice, 1, 1, 2, "what level `default` means for ESP tunnel: 1: use, 2: require"},
    {Tunable::v4_ah_trans_deflev,    "net.inet.ipsec.ah_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for AH transport: 1: use, 2: require"},
    {Tunable::v4_ah_net_deflev,      "net.inet.ipsec.ah_net_deflev",   TunableType::choice, 1, 1, 2, "what level `default` means for AH tunnel: 1: use, 2: require"},
    {Tunable::v4_ah_cleartos,        "net.inet.ipsec.ah_cleartos",     TunableType::choice, 1, 0, 1, "1: AH takes the TOS byte as zero, 0: as it stands"},
    {Tunable::v4_dfbit,              "net.inet.ipsec.dfbit",           TunableType::choice, 0, 0, 2, "DF of the outer header: 0: clear, 1: set, 2: copy"},
    {Tunable::v4_ecn,                "net.inet.ipsec.ecn",             TunableType::choice, 0, -1, 1, "ECN of tunnels: -1: ignore, 0: forbidden, 1: allowed"},
    {Tunable::v4_debug,              "net.inet.ipsec.debug",           TunableType::choice, 0, 0, 1, "1: log what is dropped and refused"},
    {Tunable::v4_strict,             "net.inet.ipsec.strict",          TunableType::choice, 0, 0, 1, "1: drop protected packets that no policy asked to protect"},
    {Tunable::v6_def_policy,         "net.inet6.ipsec6.def_policy",      TunableType::choice, 1, 0, 1, "packets that no policy selects: 1: pass, 0: discard"},
    {Tunable::v6_esp_trans_deflev,   "net.inet6.ipsec6.esp_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for ESP transport: 1: use, 2: require"},
    {Tunable::v6_esp_net_deflev,     "net.inet6.ipsec6.esp_net_deflev",  TunableType::choice, 1, 1, 2, "what level `default` means for ESP tunnel: 1: use, 2: require"},
    {Tunable::v6_ah_trans_deflev,    "net.inet6.ipsec6.ah_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for AH transport: 1: use, 2: require"},
    {Tunable::v6_ah_net_deflev,      "net.inet6.ipsec6.ah_net_deflev",   TunableType::choice, 1, 1, 2, "what level `default` means for AH tunnel: 1: use, 2: require"},
    {Tunable::v6_ecn,                "net.inet6.ipsec6.ecn",             TunableType::choice, 0, -1, 1, "ECN of tunnels: -1: ignore, 0: forbidden, 1: allowed"},
    {Tunable::v6_debug,              "net.inet6.ipsec6.debug",           TunableType::choice, 0, 0, 1, "1: log what is dropped and refused"},
    {Tunable::v6_strict,             "net.inet6.ipsec6.strict",          TunableType::choice, 0, 0, 1, "1: drop protected packets that no policy asked to protect"},
};
// clang-format on

// NetBSD spells it so.
inline constexpr std::string_view preferred_oldsa_alias = "net.key.prefered_oldsa";

namespace detail {
consteval bool tunables_sound()
{
    std::size_t i = 0;
    for (const auto& row : tunables) {
        if (static_cast<std::size_t>(row.id) != i++ || row.min > row.standard || row.standard > row.max)
            return false;
        for (const auto& other : tunables)
            if (other.id != row.id && other.name == row.name)
                return false;
    }
    return i == static_cast<std::size_t>(Tunable::count_);
}
static_assert(tunables_sound(), "rows out of order, a name twice, or a default outside its range");
}  // namespace detail

class Tunables {
public:
    Tunables();

    std::int64_t get(Tunable id) const { return values_[static_cast<std::size_t>(id)]; }
    Result<void> set(Tunable id, std::int64_t value);   // bad_value: outside the row's range

    // By sysctl name; an unknown one is ENOENT.
    Result<std::int64_t> get(std::string_view name) const;
    Result<void> set(std::string_view name, std::int64_t value);

    std::uint64_t changes() const { return changes_; }   // moves with every set(); part of the engine's generation

private:
    std::array<std::int64_t, static_cast<std::size_t>(Tunable::count_)> values_{};
    std::uint64_t changes_ = 0;
};

}  // namespace latchkey
