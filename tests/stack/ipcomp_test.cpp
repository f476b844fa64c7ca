// SPDX-License-Identifier: BSD-2-Clause
// Truth from elsewhere: RFC 1951 (a stored block and a block of fixed codes, by hand), zlib's one-call functions, and
// streams with the parameters of other hosts (Linux: window 11; KAME: window 12).
#include "stack/ipcomp.hpp"

#include "tests/stack/esp_support.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <zlib.h>

using namespace latchkey;
using namespace latchkey::test;

namespace {

Buffer text_of(std::size_t n)
{
    static constexpr std::string_view words = "the quick brown fox jumps over the lazy dog and 12 others; ";
    Buffer bytes(n);
    for (std::size_t i = 0; i < n; ++i)
        bytes[i] = static_cast<std::uint8_t>(words[(i + i / 97) % words.size()]);
    return bytes;
}

Buffer noise(std::size_t n)
{
    std::mt19937 generator(static_cast<unsigned>(n));
    Buffer bytes(n);
    for (auto& byte : bytes)
        byte = static_cast<std::uint8_t>(generator() >> 24);
    return bytes;
}

// What a peer with this window sends.
Buffer deflated(const Buffer& in, int window, int memory = 8, int level = Z_DEFAULT_COMPRESSION)
{
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, level, Z_DEFLATED, -window, memory, Z_DEFAULT_STRATEGY) == Z_OK);
    Buffer out(in.size() * 2 + 1000);
    stream.next_in = const_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<unsigned>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<unsigned>(out.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

// What a peer with this window reads.
Buffer inflated(const Buffer& in, int window)
{
    z_stream stream{};
    REQUIRE(inflateInit2(&stream, -window) == Z_OK);
    Buffer out(70000);
    stream.next_in = const_cast<Bytef*>(in.data());
    stream.avail_in = static_cast<unsigned>(in.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<unsigned>(out.size());
    CHECK(inflate(&stream, Z_FINISH) == Z_STREAM_END);
    CHECK(stream.avail_in == 0);
    out.resize(stream.total_out);
    inflateEnd(&stream);
    return out;
}

struct Restored {
    Drop result;
    Buffer bytes;
    bool operator==(const Restored&) const = default;
};

Restored restore(Compressor& compressor, const Buffer& in, std::size_t room = 65535)
{
    Buffer out(room + 16, 0xee);
    std::size_t size = 1;
    const auto result = compressor.decompress(in, MutableBytes(out).first(room), size);
    CHECK(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(room), out.end(), [](auto b) { return b == 0xee; }));
    if (result != Drop::none)
        CHECK(size == 0);
    out.resize(size);
    return {result, out};
}

Buffer squeezed(Compressor& compressor, const Buffer& in, std::size_t room = 65535)
{
    Buffer out(room);
    out.resize(compressor.compress(in, out));
    return out;
}

}  // namespace

TEST_CASE("RFC 1951: a stored block and fixed codes, by hand")
{
    Compressor compressor;
    // Final, stored: length 3, its complement, the bytes.
    CHECK(restore(compressor, from_hex("010300fcff616263")) == Restored{Drop::none, {'a', 'b', 'c'}});
    // Final, fixed codes: the literal 'a' is 10010001, end of block 0000000.
    CHECK(restore(compressor, from_hex("4b0400")) == Restored{Drop::none, {'a'}});
    CHECK(restore(compressor, from_hex("0300")) == Restored{Drop::none, {}});
}

TEST_CASE("what is compressed is shorter, peers with small windows read it, and it comes back")
{
    Compressor compressor;
    for (const std::size_t n : {90u, 100u, 576u, 1400u, 1480u, 4000u, 9000u, 40000u, 65000u}) {
        CAPTURE(n);
        const auto plain = text_of(n);
        for (int again = 0; again < 2; ++again) {
            const auto packed = squeezed(compressor, plain);
            REQUIRE(!packed.empty());
            CHECK(packed.size() + ipcomp_header < plain.size());
            CHECK(inflated(packed, 12) == plain);
            CHECK(inflated(packed, 15) == plain);
            CHECK(restore(compressor, packed) == Restored{Drop::none, plain});
        }
    }
}

TEST_CASE("streams of other hosts: every window, memory and level")
{
    Compressor compressor;
    for (const auto& plain : {text_of(90), text_of(1400), text_of(65000), noise(1400), noise(40000)})
        for (const int window : {9, 11, 12, 15})
            for (const int memory : {1, 8, 9})
                for (const int level : {0, 1, 6, 9})
                    CHECK(restore(compressor, deflated(plain, window, memory, level)) == Restored{Drop::none, plain});
}

TEST_CASE("what does not shrink is left alone")
{
    Compressor compressor;
    for (const std::size_t n : {0u, 1u, 4u, 5u, 6u, 20u, 90u, 1400u, 65000u}) {
        CAPTURE(n);
        CHECK(squeezed(compressor, noise(n)).empty());
    }
    CHECK(squeezed(compressor, Buffer(65536)).empty());   // more than a packet can be
    const auto plain = text_of(1400);
    const auto packed = squeezed(compressor, plain);
    CHECK(squeezed(compressor, plain, packed.size()) == packed);
    CHECK(squeezed(compressor, plain, packed.size() - 1).empty());   // no room
    CHECK(squeezed(compressor, plain, 0).empty());
    CHECK(squeezed(compressor, plain) == packed);                    // a stream given up leaves nothing behind
}

TEST_CASE("exactly at the edge: the result with its header is one byte shorter, or not sent")
{
    Compressor compressor;
    int shrunk = 0, kept = 0;
    for (std::size_t tail = 0; tail < 200; ++tail) {
        auto plain = noise(300);
        plain.insert(plain.end(), tail, 'x');
        const auto packed = squeezed(compressor, plain);
        if (packed.empty()) {
            // A peer's stream with these parameters would not have been shorter either.
            CHECK(deflated(plain, 12, 6).size() + ipcomp_header >= plain.size());
            ++kept;
        } else {
            CHECK(packed.size() + ipcomp_header < plain.size());
            ++shrunk;
        }
    }
    CHECK(shrunk > 0);
    CHECK(kept > 0);
}

TEST_CASE("bad streams: truncated, followed by more, empty, not DEFLATE, too big; the next one is read all the same")
{
    Compressor compressor;
    const auto plain = text_of(1400);
    const auto good = deflated(plain, 11);
    const auto expect_bad = [&](const Buffer& stream, std::size_t room = 65535) {
        CHECK(restore(compressor, stream, room) == Restored{Drop::in_decompress, {}});
        CHECK(restore(compressor, good) == Restored{Drop::none, plain});
    };
    for (std::size_t n = 0; n < good.size(); ++n)
        expect_bad(Buffer(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)));
    expect_bad(joined({good, {0}}));
    expect_bad(from_hex("07"));                   // a block of the reserved type
    expect_bad(from_hex("010300ffff616263"));     // the complement does not match
    expect_bad(from_hex("789c4b0400"));           // a zlib header, which does not belong here
    expect_bad(good, plain.size() - 1);
    expect_bad(good, 1);
    expect_bad(good, 0);
    CHECK(restore(compressor, good, plain.size()) == Restored{Drop::none, plain});
    expect_bad(deflated(Buffer(65536), 15));      // more than a packet can hold, from 80 bytes
    expect_bad(deflated(Buffer(10'000'000), 15));
    CHECK(restore(compressor, deflated(Buffer(65535), 15)) == Restored{Drop::none, Buffer(65535)});
    expect_bad(Buffer(65536));
}
