// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tunables.hpp"

#include <charconv>

namespace latchkey {

std::optional<Tunable> find_tunable(std::string_view name)
{
    for (const auto& row : tunables)
        if (row.name == name)
            return row.id;
    for (const auto& alias : tunable_aliases)
        if (alias.name == name)
            return alias.id;
    return std::nullopt;
}

Result<std::int64_t> parse_tunable_value(std::string_view text)
{
    const bool hex = text.starts_with("0x") || text.starts_with("0X");
    const auto digits = text.substr(hex ? 2 : 0);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, hex ? 16 : 10);
    if (error != std::errc{} || end != digits.data() + digits.size() || (hex && digits.front() == '-'))
        return fail(Errc::bad_value, "expected a whole number, decimal or hexadecimal with 0x");
    return value;
}

Tunables::Tunables()
{
    for (const auto& row : tunables)
        values_[static_cast<std::size_t>(row.id)] = row.standard;
}

Result<void> Tunables::set(Tunable id, std::int64_t value)
{
    const auto& row = tunables[static_cast<std::size_t>(id)];
    if (row.type == TunableType::computed)
        return fail(Errc::no_permission, "this tunable can only be read");
    if (value < row.min || value > row.max)
        return fail(Errc::bad_value, "the value is outside the range of this tunable");
    values_[static_cast<std::size_t>(id)] = value;
    ++changes_;
    return {};
}

Result<std::int64_t> Tunables::get(std::string_view name) const
{
    if (const auto id = find_tunable(name))
        return get(*id);
    return fail(Errc::not_found, "no tunable has this name", ENOENT);
}

Result<void> Tunables::set(std::string_view name, std::int64_t value)
{
    if (const auto id = find_tunable(name))
        return set(*id, value);
    return fail(Errc::not_found, "no tunable has this name", ENOENT);
}

}  // namespace latchkey
