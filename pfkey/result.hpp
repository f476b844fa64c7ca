// SPDX-License-Identifier: BSD-2-Clause
// Result<T>: a value, or an error code with the reason in words. errno exists only at the edges (to_errno).
#pragma once

#include <cerrno>
#include <cstdint>
#include <expected>
#include <string_view>

namespace latchkey {

enum class Errc : std::uint8_t {
    truncated,     // the input ended early
    malformed,     // a length, type or combination that the format forbids
    bad_value,     // well-formed, but the value is not acceptable
    exists,
    not_found,
    unsupported,   // known, but this host does not do it
    bad_family,
    bad_protocol,
    no_memory,     // a limit of this host is reached
    no_permission,
    too_big,
    busy,
};

// The only table from internal codes to errno (and sadb_msg_errno).
constexpr int to_errno(Errc code)
{
    switch (code) {
    case Errc::truncated:
    case Errc::malformed:
    case Errc::bad_value: return EINVAL;
    case Errc::exists: return EEXIST;
    case Errc::not_found: return ESRCH;
    case Errc::unsupported: return EOPNOTSUPP;
    case Errc::bad_family: return EAFNOSUPPORT;
    case Errc::bad_protocol: return EPROTONOSUPPORT;
    case Errc::no_memory: return ENOBUFS;
    case Errc::no_permission: return EPERM;
    case Errc::too_big: return EMSGSIZE;
    case Errc::busy: return EBUSY;
    }
    return EINVAL;
}

struct Error {
    Errc code;
    std::string_view reason;   // a literal: what was expected and what came
    int exact = 0;             // an errno that the table cannot express (ENOENT for SPD messages), or 0

    constexpr int number() const { return exact != 0 ? exact : to_errno(code); }
};

template <class T = void> using Result = std::expected<T, Error>;

constexpr std::unexpected<Error> fail(Errc code, std::string_view reason, int exact = 0)
{
    return std::unexpected(Error{code, reason, exact});
}

}  // namespace latchkey
