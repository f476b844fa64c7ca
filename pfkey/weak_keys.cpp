// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/weak_keys.hpp"

#include <algorithm>

namespace latchkey {

namespace {

constexpr std::size_t des_key = 8;

// The four weak and the six pairs of semi-weak keys (FIPS 74 §3.6), with odd parity; the parity bits carry no key.
constexpr std::uint64_t weak_des_keys[] = {
    0x0101010101010101, 0xfefefefefefefefe, 0xe0e0e0e0f1f1f1f1, 0x1f1f1f1f0e0e0e0e,
    0x01fe01fe01fe01fe, 0xfe01fe01fe01fe01, 0x1fe01fe00ef10ef1, 0xe01fe01ff10ef10e,
    0x01e001e001f101f1, 0xe001e001f101f101, 0x1ffe1ffe0efe0efe, 0xfe1ffe1ffe0efe0e,
    0x011f011f010e010e, 0x1f011f010e010e01, 0xe0fee0fef1fef1fe, 0xfee0fee0fef1fef1,
};

constexpr std::uint64_t without_parity(std::uint64_t key)
{
    return key & 0xfefefefefefefefe;
}

std::uint64_t part(Bytes key, std::size_t number)
{
    return without_parity(wire::field<std::uint64_t>(key, number * des_key));
}

bool weak(std::uint64_t key)
{
    return std::ranges::any_of(weak_des_keys, [&](std::uint64_t bad) { return without_parity(bad) == key; });
}

}  // namespace

Result<void> check_weak_key(Primitive primitive, Bytes key)
{
    if (primitive == Primitive::des_cbc) {
        if (weak(part(key, 0)))
            return fail(Errc::bad_value, "this is one of the 16 weak keys of DES");
    } else if (primitive == Primitive::des3_cbc) {
        // RFC 2451 §2.6: then two of the three operations undo each other.
        if (part(key, 0) == part(key, 1) || part(key, 1) == part(key, 2))
            return fail(Errc::bad_value, "two neighbouring parts of the triple-DES key are the same: single DES");
        for (std::size_t i = 0; i < 3; ++i)
            if (weak(part(key, i)))
                return fail(Errc::bad_value, "a part of the triple-DES key is one of the 16 weak keys of DES");
    }
    return {};
}

}  // namespace latchkey
