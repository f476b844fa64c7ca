// SPDX-License-Identifier: BSD-2-Clause
// The one list of tunables: sysctl get and set, --help, README and the tests iterate it. The engine owns the values;
// it acts on net.key.* and the default levels itself, the packet walk on the others.
#pragma once

#include "pfkey/result.hpp"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
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
    key_esp_keymin,
    key_esp_auth,
    key_ah_keymin,
    key_debug,
    key_int_random,
    spdcache_maxentries,
    spdcache_threshold,
    v4_def_policy,
    v4_esp_trans_deflev,
    v4_esp_net_deflev,
    v4_ah_trans_deflev,
    v4_ah_net_deflev,
    v4_ah_cleartos,
    v4_ah_offsetmask,
    v4_dfbit,
    v4_ecn,
    v4_debug,
    v4_esp_randpad,
    v4_enabled,
    v4_used,
    v4_filtertunnel,
    v4_check_policy_history,
    v4_natt_cksum_policy,
    v4_crypto_support,
    v4_async_crypto,
    v4_test_replay,
    v4_test_integrity,
    v4_strict,
    esp_enable,
    ah_enable,
    ipcomp_enable,
    esp_ctr_compatibility,
    v6_def_policy,
    v6_esp_trans_deflev,
    v6_esp_net_deflev,
    v6_ah_trans_deflev,
    v6_ah_net_deflev,
    v6_ecn,
    v6_debug,
    v6_esp_randpad,
    v6_enabled,
    v6_used,
    v6_filtertunnel,
    v6_test_replay,
    v6_test_integrity,
    v6_strict,
    count_,
};

enum class TunableType : std::uint8_t {
    integer,
    choice,     // few values, each named in the help
    computed,   // read-only (EPERM): its value comes from the host
};

constexpr std::string_view type_name(TunableType type)
{
    switch (type) {
    case TunableType::integer: return "integer";
    case TunableType::choice: return "choice";
    case TunableType::computed: return "computed";
    }
    return {};
}

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
    {Tunable::key_esp_keymin,        "net.key.esp_keymin",        TunableType::integer, 256, 0, 2'048, "shortest key in bits, as far as the algorithm has a choice, that ACQUIRE proposes for ESP"},
    {Tunable::key_esp_auth,          "net.key.esp_auth",          TunableType::choice, 0, 0, 1, "1: every ESP proposal of ACQUIRE has authentication, 0: encryption alone is proposed as well, last"},
    {Tunable::key_ah_keymin,         "net.key.ah_keymin",         TunableType::integer, 128, 0, 2'048, "shortest key in bits that ACQUIRE proposes for AH"},
    {Tunable::key_debug,             "net.key.debug",             TunableType::integer, 0, 0, 0x7fff'ffff, "not 0: log every PF_KEY message that is refused, with the reason"},
    {Tunable::key_int_random,        "net.key.int_random",        TunableType::integer, 60, 1, 86'400, "kept for old scripts: random numbers come from the system whenever they are needed"},
    {Tunable::spdcache_maxentries,   "net.key.spdcache.maxentries", TunableType::integer, 4'096, 0, 1'048'576, "decisions about flows that are remembered (a power of two is used), 0: none"},
    {Tunable::spdcache_threshold,    "net.key.spdcache.threshold", TunableType::integer, 0, 0, 1'000'000, "policies from which on decisions are remembered"},
    {Tunable::v4_def_policy,         "net.inet.ipsec.def_policy",      TunableType::choice, 1, 0, 1, "packets that no policy selects: 1: pass, 0: discard"},
    {Tunable::v4_esp_trans_deflev,   "net.inet.ipsec.esp_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for ESP transport: 1: use, 2: require"},
    {Tunable::v4_esp_net_deflev,     "net.inet.ipsec.esp_net_deflev",  TunableType::choice, 1, 1, 2, "what level `default` means for ESP tunnel: 1: use, 2: require"},
    {Tunable::v4_ah_trans_deflev,    "net.inet.ipsec.ah_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for AH transport: 1: use, 2: require"},
    {Tunable::v4_ah_net_deflev,      "net.inet.ipsec.ah_net_deflev",   TunableType::choice, 1, 1, 2, "what level `default` means for AH tunnel: 1: use, 2: require"},
    {Tunable::v4_ah_cleartos,        "net.inet.ipsec.ah_cleartos",     TunableType::choice, 1, 0, 1, "1: AH takes the TOS byte as zero, 0: as it stands"},
    {Tunable::v4_ah_offsetmask,      "net.inet.ipsec.ah_offsetmask",   TunableType::integer, 0, 0, 0xffff, "mask for the fragment offset field as AH takes it, 0: as zero"},
    {Tunable::v4_dfbit,              "net.inet.ipsec.dfbit",           TunableType::choice, 0, 0, 2, "DF of the outer header: 0: clear, 1: set, 2: copy"},
    {Tunable::v4_ecn,                "net.inet.ipsec.ecn",             TunableType::choice, 0, -1, 1, "ECN of tunnels: -1: ignore, 0: forbidden, 1: allowed"},
    {Tunable::v4_debug,              "net.inet.ipsec.debug",           TunableType::choice, 0, 0, 1, "1: log what is dropped and refused"},
    {Tunable::v4_esp_randpad, "net.inet.ipsec.esp_randpad", TunableType::integer, -1, -1, 255, "pad ESP with a random number of bytes, up to so many more than needed, -1: no more than needed"},
    {Tunable::v4_enabled, "net.inet.ipsec.enabled", TunableType::choice, 1, 0, 1, "0: no IPsec at all: nothing is protected, nothing is checked, and what comes in protected is dropped"},
    {Tunable::v4_used, "net.inet.ipsec.used", TunableType::computed, 0, 0, 1, "1 while a policy exists, in the SPD or on a socket"},
    {Tunable::v4_filtertunnel, "net.inet.ipsec.filtertunnel", TunableType::choice, 0, 0, 0, "this host has no packet filter to show decapsulated packets to"},
    {Tunable::v4_check_policy_history, "net.inet.ipsec.check_policy_history", TunableType::choice, 1, 1, 1, "what protected a packet is always compared with its policy"},
    {Tunable::v4_natt_cksum_policy, "net.inet.ipsec.natt_cksum_policy", TunableType::choice, 0, 0, 1, "checksums of transport packets through a NAT: 0: corrected by the original address if known, else taken as good, 1: taken as good"},
    {Tunable::v4_crypto_support, "net.inet.ipsec.crypto_support", TunableType::computed, 0, 0, 0x7fff'ffff, "how many algorithms this host offers"},
    {Tunable::v4_async_crypto, "net.inet.ipsec.async_crypto", TunableType::choice, 0, 0, 0, "cryptography is done at once here"},
    {Tunable::v4_test_replay, "net.inet.ipsec.test_replay", TunableType::choice, 0, 0, 1, "for tests, 1: send every protected packet with the same sequence number (never with a counter mode, whose key it would give away)"},
    {Tunable::v4_test_integrity, "net.inet.ipsec.test_integrity", TunableType::choice, 0, 0, 1, "for tests, 1: send every protected packet with a broken ICV"},
    {Tunable::v4_strict,             "net.inet.ipsec.strict",          TunableType::choice, 0, 0, 1, "1: drop protected packets that no policy asked to protect"},
    {Tunable::esp_enable,            "net.inet.esp.esp_enable",       TunableType::choice, 1, 0, 1, "0: ESP packets that come in are dropped"},
    {Tunable::ah_enable,             "net.inet.ah.ah_enable",         TunableType::choice, 1, 0, 1, "0: AH packets that come in are dropped"},
    {Tunable::ipcomp_enable,         "net.inet.ipcomp.ipcomp_enable", TunableType::choice, 1, 0, 1, "0: IPComp packets that come in are dropped"},
    {Tunable::esp_ctr_compatibility, "net.inet.esp.ctr_compatibility", TunableType::choice, 1, 1, 1, "AES-CTR is that of RFC 3686"},
    {Tunable::v6_def_policy,         "net.inet6.ipsec6.def_policy",      TunableType::choice, 1, 0, 1, "packets that no policy selects: 1: pass, 0: discard"},
    {Tunable::v6_esp_trans_deflev,   "net.inet6.ipsec6.esp_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for ESP transport: 1: use, 2: require"},
    {Tunable::v6_esp_net_deflev,     "net.inet6.ipsec6.esp_net_deflev",  TunableType::choice, 1, 1, 2, "what level `default` means for ESP tunnel: 1: use, 2: require"},
    {Tunable::v6_ah_trans_deflev,    "net.inet6.ipsec6.ah_trans_deflev", TunableType::choice, 1, 1, 2, "what level `default` means for AH transport: 1: use, 2: require"},
    {Tunable::v6_ah_net_deflev,      "net.inet6.ipsec6.ah_net_deflev",   TunableType::choice, 1, 1, 2, "what level `default` means for AH tunnel: 1: use, 2: require"},
    {Tunable::v6_ecn,                "net.inet6.ipsec6.ecn",             TunableType::choice, 0, -1, 1, "ECN of tunnels: -1: ignore, 0: forbidden, 1: allowed"},
    {Tunable::v6_debug,              "net.inet6.ipsec6.debug",           TunableType::choice, 0, 0, 1, "1: log what is dropped and refused"},
    {Tunable::v6_esp_randpad, "net.inet6.ipsec6.esp_randpad", TunableType::integer, -1, -1, 255, "pad ESP with a random number of bytes, up to so many more than needed, -1: no more than needed"},
    {Tunable::v6_enabled, "net.inet6.ipsec6.enabled", TunableType::choice, 1, 0, 1, "0: no IPsec at all: nothing is protected, nothing is checked, and what comes in protected is dropped"},
    {Tunable::v6_used, "net.inet6.ipsec6.used", TunableType::computed, 0, 0, 1, "1 while a policy exists, in the SPD or on a socket"},
    {Tunable::v6_filtertunnel, "net.inet6.ipsec6.filtertunnel", TunableType::choice, 0, 0, 0, "this host has no packet filter to show decapsulated packets to"},
    {Tunable::v6_test_replay, "net.inet6.ipsec6.test_replay", TunableType::choice, 0, 0, 1, "for tests, 1: send every protected packet with the same sequence number (never with a counter mode, whose key it would give away)"},
    {Tunable::v6_test_integrity, "net.inet6.ipsec6.test_integrity", TunableType::choice, 0, 0, 1, "for tests, 1: send every protected packet with a broken ICV"},
    {Tunable::v6_strict,             "net.inet6.ipsec6.strict",          TunableType::choice, 0, 0, 1, "1: drop protected packets that no policy asked to protect"},
};
// clang-format on

// Other systems' names for a row.
struct TunableAlias {
    std::string_view name;
    Tunable id;
};

inline constexpr TunableAlias tunable_aliases[] = {
    {"net.key.prefered_oldsa", Tunable::key_preferred_oldsa},       // NetBSD spells it so
    {"net.inet.ah.ah_cleartos", Tunable::v4_ah_cleartos},           // FreeBSD
    {"net.inet.ah.cleartos", Tunable::v4_ah_cleartos},
};

// By any of a row's names.
std::optional<Tunable> find_tunable(std::string_view name);
// A whole number, decimal or with 0x.
Result<std::int64_t> parse_tunable_value(std::string_view text);

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
        for (const auto& alias : tunable_aliases)
            if (alias.name == row.name)
                return false;
    }
    return i == static_cast<std::size_t>(Tunable::count_);
}
static_assert(tunables_sound(), "rows out of order, a name twice, or a default outside its range");
}  // namespace detail

class Tunables {
public:
    Tunables();

    std::int64_t get(Tunable id) const
    {
        const bool ask = tunables[static_cast<std::size_t>(id)].type == TunableType::computed && computed != nullptr;
        return ask ? computed(id) : values_[static_cast<std::size_t>(id)];
    }
    Result<void> set(Tunable id, std::int64_t value);   // bad_value: outside the row's range; EPERM: computed

    std::function<std::int64_t(Tunable)> computed;       // the host's answer for rows of that type

    // By sysctl name or alias; an unknown one is ENOENT.
    Result<std::int64_t> get(std::string_view name) const;
    Result<void> set(std::string_view name, std::int64_t value);

    std::uint64_t changes() const { return changes_; }   // moves with every set(); part of the engine's generation

private:
    std::array<std::int64_t, static_cast<std::size_t>(Tunable::count_)> values_{};
    std::uint64_t changes_ = 0;
};

}  // namespace latchkey
