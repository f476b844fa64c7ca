// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/address.hpp"

#include <arpa/inet.h>
#include <charconv>
#include <sys/socket.h>

namespace latchkey {

Address Address::v4(std::span<const std::uint8_t, 4> bytes)
{
    Address a;
    a.family_ = Family::v4;
    std::memcpy(a.bytes_.data(), bytes.data(), 4);
    return a;
}

Address Address::v6(std::span<const std::uint8_t, 16> bytes)
{
    Address a;
    a.family_ = Family::v6;
    std::memcpy(a.bytes_.data(), bytes.data(), 16);
    return a;
}

Address Address::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d)
{
    const std::array<std::uint8_t, 4> bytes{a, b, c, d};
    return v4(bytes);
}

Address Address::any(Family family)
{
    Address a;
    a.family_ = family;
    return a;
}

std::optional<Address> Address::parse(std::string_view text)
{
    const std::string copy(text);
    std::array<std::uint8_t, 16> raw{};
    if (inet_pton(AF_INET, copy.c_str(), raw.data()) == 1)
        return v4(std::span(raw).first<4>());
    if (inet_pton(AF_INET6, copy.c_str(), raw.data()) == 1)
        return v6(raw);
    return std::nullopt;
}

std::string Address::text() const
{
    if (family_ == Family::none)
        return "none";
    std::array<char, INET6_ADDRSTRLEN> out{};
    inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), out.data(), out.size());
    return out.data();
}

bool Address::is_unspecified() const
{
    return bytes_ == std::array<std::uint8_t, 16>{};
}

bool Address::is_multicast() const
{
    if (is_v4())
        return bytes_[0] >= 224 && (bytes_[0] < 240 || wire::field<std::uint32_t>(bytes_, 0) == 0xffffffffu);
    return is_v6() && bytes_[0] == 0xff;
}

bool Address::is_loopback() const
{
    if (is_v4())
        return bytes_[0] == 127;
    static constexpr std::array<std::uint8_t, 16> one{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    return is_v6() && bytes_ == one;
}

bool Address::is_link_local() const
{
    if (is_v4())
        return bytes_[0] == 169 && bytes_[1] == 254;
    return is_v6() && bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

Address Address::masked(unsigned length) const
{
    Address out = *this;
    for (unsigned i = 0; i < size(); ++i) {
        const unsigned keep = length >= (i + 1) * 8 ? 8 : length > i * 8 ? length - i * 8 : 0;
        out.bytes_[i] = static_cast<std::uint8_t>(bytes_[i] & (0xff00u >> keep));
    }
    return out;
}

std::uint64_t Address::hash() const
{
    if (is_v4())
        return mix(wire::field<std::uint32_t>(bytes_, 0) | (std::uint64_t{4} << 32));
    const Bytes all(bytes_);
    return mix(wire::field<std::uint64_t>(all, 0) ^ mix(wire::field<std::uint64_t>(all, 8) + 6));
}

std::string Endpoint::text() const
{
    const auto number = std::to_string(port);
    return address.is_v6() ? "[" + address.text() + "]:" + number : address.text() + ":" + number;
}

bool Prefix::contains(const Address& a) const
{
    return a.family() == address.family() && a.masked(length) == address.masked(length);
}

std::optional<Prefix> Prefix::parse(std::string_view text)
{
    const auto slash = text.find('/');
    const auto address = Address::parse(text.substr(0, slash));
    if (!address)
        return std::nullopt;
    unsigned length = address->bits();
    if (slash != text.npos) {
        const auto digits = text.substr(slash + 1);
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
        if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty() || length > address->bits())
            return std::nullopt;
    }
    return Prefix{*address, static_cast<std::uint8_t>(length)};
}

std::string Prefix::text() const
{
    return address.text() + "/" + std::to_string(length);
}

}  // namespace latchkey
