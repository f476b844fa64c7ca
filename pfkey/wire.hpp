// SPDX-License-Identifier: BSD-2-Clause
// The only code that turns bytes into numbers and back: a bounds-checked Reader and Writer over spans.
// Both fail sticky: read or write all fields, then ask ok() once. Byte order is a property of the
// Reader or Writer (PF_KEY: host, everything on a network: network) and appears nowhere else.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace latchkey {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

namespace wire {

enum class Order : std::uint8_t { network, host };

constexpr bool swapped(Order order)
{
    return order == Order::network && std::endian::native == std::endian::little;
}

// Unchecked load and store; the span's static extent is the check.
template <std::unsigned_integral T>
constexpr T load(std::span<const std::uint8_t, sizeof(T)> from, Order order = Order::network)
{
    std::array<std::uint8_t, sizeof(T)> raw{};
    for (std::size_t i = 0; i < sizeof(T); ++i)
        raw[i] = from[i];
    const auto value = std::bit_cast<T>(raw);
    return swapped(order) ? std::byteswap(value) : value;
}

template <std::unsigned_integral T>
constexpr void store(std::span<std::uint8_t, sizeof(T)> to, T value, Order order = Order::network)
{
    const auto raw = std::bit_cast<std::array<std::uint8_t, sizeof(T)>>(swapped(order) ? std::byteswap(value) : value);
    for (std::size_t i = 0; i < sizeof(T); ++i)
        to[i] = raw[i];
}

// A field at a fixed offset of a buffer that is known to be long enough (asserted by the span).
template <std::unsigned_integral T> constexpr T field(Bytes in, std::size_t at)
{
    return load<T>(in.subspan(at).first<sizeof(T)>());
}

template <std::unsigned_integral T>
constexpr void set_field(MutableBytes out, std::size_t at, std::type_identity_t<T> value)
{
    store<T>(out.subspan(at).first<sizeof(T)>(), value);
}

class Reader {
public:
    explicit constexpr Reader(Bytes in, Order order = Order::network) : rest_(in), order_(order) {}

    template <std::unsigned_integral T> constexpr T get()
    {
        const auto raw = take(sizeof(T));
        return raw.size() == sizeof(T) ? load<T>(raw.first<sizeof(T)>(), order_) : T{0};
    }

    // The next n bytes; on shortage the Reader has failed and the result is empty.
    constexpr Bytes take(std::size_t n)
    {
        if (failed_ || n > rest_.size()) {
            failed_ = true;
            return {};
        }
        const auto head = rest_.first(n);
        rest_ = rest_.subspan(n);
        return head;
    }

    // The last n bytes (ESP trailer, ICV).
    constexpr Bytes take_back(std::size_t n)
    {
        if (failed_ || n > rest_.size()) {
            failed_ = true;
            return {};
        }
        const auto tail = rest_.last(n);
        rest_ = rest_.first(rest_.size() - n);
        return tail;
    }

    constexpr void skip(std::size_t n) { (void)take(n); }

    // A Reader over the next n bytes, as for the body of a TLV; inherits a failure.
    constexpr Reader sub(std::size_t n)
    {
        Reader inner{take(n), order_};
        inner.failed_ = failed_;
        return inner;
    }

    constexpr void fail() { failed_ = true; }
    constexpr Bytes rest() const { return rest_; }
    constexpr std::size_t left() const { return rest_.size(); }
    constexpr bool ok() const { return !failed_; }
    constexpr bool done() const { return !failed_ && rest_.empty(); }

private:
    Bytes rest_;
    Order order_;
    bool failed_ = false;
};

class Writer {
public:
    explicit constexpr Writer(MutableBytes out, Order order = Order::network) : out_(out), order_(order) {}

    template <std::unsigned_integral T> constexpr void put(std::type_identity_t<T> value)
    {
        put_at<T>(used_, value);
        if (!failed_)
            used_ += sizeof(T);
    }

    // Patches an earlier place, for lengths that are known last.
    template <std::unsigned_integral T> constexpr void put_at(std::size_t at, std::type_identity_t<T> value)
    {
        if (failed_ || at > out_.size() || sizeof(T) > out_.size() - at) {
            failed_ = true;
            return;
        }
        store<T>(out_.subspan(at).template first<sizeof(T)>(), value, order_);
    }

    constexpr void put(Bytes bytes)
    {
        if (const auto to = reserve(bytes.size()); !to.empty())
            copy(bytes, to);
    }

    constexpr void zero(std::size_t n)
    {
        for (auto& byte : reserve(n))
            byte = 0;
    }

    // Room for n bytes that the caller fills; empty on shortage.
    constexpr MutableBytes reserve(std::size_t n)
    {
        if (failed_ || n > out_.size() - used_) {
            failed_ = true;
            return {};
        }
        const auto room = out_.subspan(used_, n);
        used_ += n;
        return room;
    }

    constexpr void align(std::size_t unit) { zero((unit - used_ % unit) % unit); }
    constexpr std::size_t size() const { return used_; }
    constexpr bool ok() const { return !failed_; }
    constexpr Bytes written() const { return out_.first(used_); }

private:
    static constexpr void copy(Bytes from, MutableBytes to)
    {
        if (std::is_constant_evaluated())
            for (std::size_t i = 0; i < from.size(); ++i)
                to[i] = from[i];
        else
            std::memcpy(to.data(), from.data(), from.size());
    }

    MutableBytes out_;
    std::size_t used_ = 0;
    Order order_;
    bool failed_ = false;
};

}  // namespace wire
}  // namespace latchkey
