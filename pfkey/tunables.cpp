// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/tunables.hpp"

#include <optional>

namespace latchkey {

namespace {

std::optional<Tunable> by_name(std::string_view name)
{
    if (name == preferred_oldsa_alias)
        return Tunable::key_preferred_oldsa;
    for (const auto& row : tunables)
        if (row.name == name)
            return row.id;
    return std::nullopt;
}

}  // namespace

Tunables::Tunables()
{
    for (const auto& row : tunables)
        values_[static_cast<std::size_t>(row.id)] = row.standard;
}

Result<void> Tunables::set(Tunable id, std::int64_t value)
{
    const auto& row = tunables[static_cast<std::size_t>(id)];
    if (value < row.min || value > row.max)
        return fail(Errc::bad_value, "the value is outside the range of this tunable");
    values_[static_cast<std::size_t>(id)] = value;
    ++changes_;
    return {};
}

Result<std::int64_t> Tunables::get(std::string_view name) const
{
    if (const auto id = by_name(name))
        return get(*id);
    return fail(Errc::not_found, "no tunable has this name", ENOENT);
}

Result<void> Tunables::set(std::string_view name, std::int64_t value)
{
    if (const auto id = by_name(name))
        return set(*id, value);
    return fail(Errc::not_found, "no tunable has this name", ENOENT);
}

}  // namespace latchkey
