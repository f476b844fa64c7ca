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
        CHECK(!row.help.empty());
        if (row.type == TunableType::computed) {
            CHECK(values.set(row.name, row.min).error().number() == EPERM);
            values.computed = [&](Tunable id) { return id == row.id ? 77 : 0; };
            CHECK(values.get(row.name).value_or(0) == 77);
            CHECK(values.changes() == 0);
            continue;
        }
        CHECK(values.set(row.name, row.min).has_value());
        CHECK(values.get(row.id) == row.min);
        CHECK(values.set(row.name, row.max).has_value());
        CHECK(values.set(row.name, row.max + 1).error().number() == EINVAL);
        CHECK(values.set(row.name, row.min - 1).error().number() == EINVAL);
        CHECK(values.get(row.id) == row.max);
        CHECK(values.changes() == 2);
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

TEST_CASE("other systems' names are the same rows")
{
    for (const auto& alias : tunable_aliases) {
        CAPTURE(std::string(alias.name));
        const auto& row = tunables[static_cast<std::size_t>(alias.id)];
        Tunables values;
        CHECK(find_tunable(alias.name) == alias.id);
        REQUIRE(values.set(alias.name, row.min).has_value());
        CHECK(values.get(row.name).value_or(-99) == row.min);
        REQUIRE(values.set(row.name, row.max).has_value());
        CHECK(values.get(alias.name).value_or(-99) == row.max);
    }
}

TEST_CASE("values: whole numbers, decimal or hexadecimal")
{
    const std::pair<std::string_view, std::int64_t> good[] = {
        {"0", 0}, {"-1", -1}, {"007", 7}, {"4294967295", 0xffffffff}, {"0xffffffff", 0xffffffff}, {"0X10", 16},
    };
    for (const auto& [text, value] : good) {
        CAPTURE(std::string(text));
        CHECK(parse_tunable_value(text).value_or(-99) == value);
    }
    for (const std::string_view text : {"", " 1", "1 ", "+1", "--1", "0x", "0x-1", "-0x1", "1.0", "1k", "yes", "ff",
                                        "9223372036854775808", "0x10000000000000000"}) {
        CAPTURE(std::string(text));
        REQUIRE(!parse_tunable_value(text));
        CHECK(parse_tunable_value(text).error().number() == EINVAL);
    }
}
