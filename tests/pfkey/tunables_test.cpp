// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tunables.hpp"

#include <doctest/doctest.h>
#include <string>

using namespace latchkey;

TEST_CASE("every row: default, range, set by name")
{
    for (const auto& row : tunables) {
        CAPTURE(std::string(row.name));
        Tunables values;
        CHECK(values.get(row.id) == row.standard);
        CHECK(*values.get(row.name) == row.standard);
        CHECK(values.set(row.name, row.min).has_value());
        CHECK(values.get(row.id) == row.min);
        CHECK(values.set(row.name, row.max).has_value());
        CHECK(values.set(row.name, row.max + 1).error().number() == EINVAL);
        CHECK(values.set(row.name, row.min - 1).error().number() == EINVAL);
        CHECK(values.get(row.id) == row.max);
        CHECK(values.changes() == 2);
        CHECK(!row.help.empty());
    }
}

TEST_CASE("the defaults of KAME (ipsec.c, key.c)")
{
    Tunables values;
    const std::pair<std::string_view, std::int64_t> kame[] = {
        {"net.key.spi_trycnt", 1000},           {"net.key.spi_minval", 0x100},
        {"net.key.spi_maxval", 0x0fffffff},     {"net.key.larval_lifetime", 30},
        {"net.key.blockacq_count", 10},         {"net.key.blockacq_lifetime", 20},
        {"net.key.preferred_oldsa", 1},         {"net.inet.ipsec.def_policy", 1},
        {"net.inet.ipsec.esp_trans_deflev", 1}, {"net.inet.ipsec.esp_net_deflev", 1},
        {"net.inet.ipsec.ah_trans_deflev", 1},  {"net.inet.ipsec.ah_net_deflev", 1},
        {"net.inet.ipsec.ah_cleartos", 1},      {"net.inet.ipsec.dfbit", 0},
        {"net.inet.ipsec.ecn", 0},              {"net.inet.ipsec.debug", 0},
        {"net.inet6.ipsec6.def_policy", 1},     {"net.inet6.ipsec6.esp_trans_deflev", 1},
        {"net.inet6.ipsec6.ecn", 0},            {"net.key.prefered_oldsa", 1},
    };
    for (const auto& [name, value] : kame) {
        CAPTURE(std::string(name));
        CHECK(values.get(name).value_or(-99) == value);
    }
}

TEST_CASE("an unknown name is ENOENT")
{
    Tunables values;
    CHECK(values.get("net.key.nonsense").error().number() == ENOENT);
    CHECK(values.set("net.inet6.ipsec6.dfbit", 1).error().number() == ENOENT);   // IPv6 has no DF
}
