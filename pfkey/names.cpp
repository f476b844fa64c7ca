// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tables.hpp"

#include <algorithm>
#include <iterator>

namespace latchkey {

namespace {

template <class Table> constexpr std::string_view name_of(const Table& table, unsigned number)
{
    const auto row = std::ranges::find(table, number, [](const auto& r) { return unsigned{r.number}; });
    return row == std::end(table) ? std::string_view{"?"} : row->name;
}

}  // namespace

std::string_view message_name(unsigned type)
{
    return name_of(messages, type);
}

std::string_view satype_name(unsigned satype)
{
    return name_of(satypes, satype);
}

std::string_view extension_name(unsigned type)
{
    std::string_view name = "?";
    std::apply([&](const auto&... row) { ((row.type == type ? void(name = row.name) : void()), ...); }, extensions);
    return name;
}

std::optional<std::uint8_t> satype_of_protocol(std::uint8_t ip_protocol)
{
    for (const auto& row : satypes)
        if (row.ip_protocol != 0 && row.ip_protocol == ip_protocol)
            return row.number;
    return std::nullopt;
}

std::optional<std::uint8_t> protocol_of_satype(std::uint8_t satype)
{
    for (const auto& row : satypes)
        if (row.ip_protocol != 0 && row.number == satype)
            return row.ip_protocol;
    return std::nullopt;
}

}  // namespace latchkey
