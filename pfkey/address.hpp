// SPDX-License-Identifier: BSD-2-Clause
// Internet addresses as values: family and bytes in network order; ports and lengths in host order.
#pragma once

#include "pfkey/result.hpp"
#include "pfkey/wire.hpp"

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace latchkey {

enum class Family : std::uint8_t { none = 0, v4 = 4, v6 = 6 };

class Address {
public:
    constexpr Address() = default;
    static Address v4(std::span<const std::uint8_t, 4> bytes);
    static Address v6(std::span<const std::uint8_t, 16> bytes);
    static Address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d);
    static Address any(Family family);   // 0.0.0.0 or ::

    // "10.0.0.1", "fd00::1"; names are not resolved.
    static std::optional<Address> parse(std::string_view text);
    std::string text() const;

    Family family() const { return family_; }
    bool is_v4() const { return family_ == Family::v4; }
    bool is_v6() const { return family_ == Family::v6; }
    std::size_t size() const { return is_v4() ? 4 : is_v6() ? 16 : 0; }
    unsigned bits() const { return static_cast<unsigned>(size()) * 8; }
    Bytes bytes() const { return {bytes_.data(), size()}; }

    bool is_unspecified() const;   // 0.0.0.0, ::, or no address at all
    bool is_multicast() const;     // and 255.255.255.255
    bool is_loopback() const;
    bool is_link_local() const;

    Address masked(unsigned length) const;   // host bits cleared

    friend bool operator==(const Address& a, const Address& b)
    {
        return a.family_ == b.family_ && a.bytes_ == b.bytes_;
    }
    friend auto operator<=>(const Address&, const Address&) = default;

    std::uint64_t hash() const;   // unkeyed mix, for hash tables of this process

private:
    Family family_ = Family::none;
    std::array<std::uint8_t, 16> bytes_{};   // the unused tail of a v4 address is zero
};

struct Endpoint {
    Address address;
    std::uint16_t port = 0;        // host order
    std::uint32_t scope = 0;       // IPv6 zone index, 0: none
    bool operator==(const Endpoint&) const = default;
    std::string text() const;      // "10.0.0.1:80", "[fd00::1]:80"
};

struct Prefix {
    Address address;
    std::uint8_t length = 0;
    bool operator==(const Prefix&) const = default;
    bool contains(const Address& a) const;
    static std::optional<Prefix> parse(std::string_view text);   // "10.0.0.0/24"; no length means all bits
    std::string text() const;
};

// 64-bit finaliser shared by every hash table of the project.
constexpr std::uint64_t mix(std::uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    return h;
}

}  // namespace latchkey
