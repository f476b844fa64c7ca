// SPDX-License-Identifier: BSD-2-Clause
#include "pfkey/wire.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <vector>

using namespace latchkey;
using namespace latchkey::wire;

namespace {

constexpr std::array<std::uint8_t, 8> eight{1, 2, 3, 4, 5, 6, 7, 8};

// The whole of it works at compile time, which also proves the absence of undefined behaviour there.
constexpr bool round_trip()
{
    std::array<std::uint8_t, 15> room{};
    Writer out(room);
    out.put<std::uint64_t>(0x0102030405060708u);
    out.put<std::uint32_t>(0x090a0b0cu);
    out.put<std::uint16_t>(0x0d0e);
    out.put<std::uint8_t>(0x0f);
    for (std::size_t i = 0; i < room.size(); ++i)
        if (room[i] != i + 1)
            return false;
    Reader in(room);
    return in.get<std::uint64_t>() == 0x0102030405060708u && in.get<std::uint32_t>() == 0x090a0b0cu &&
           in.get<std::uint16_t>() == 0x0d0e && in.get<std::uint8_t>() == 0x0f && in.done();
}
static_assert(round_trip());

}  // namespace

TEST_CASE("network order is that of htonl, host order that of memcpy")
{
    std::uint32_t memory = 0;
    std::memcpy(&memory, eight.data(), 4);
    CHECK(Reader(eight, Order::host).get<std::uint32_t>() == memory);
    CHECK(Reader(eight).get<std::uint32_t>() == ntohl(memory));
    CHECK(field<std::uint16_t>(eight, 6) == 0x0708);
    std::array<std::uint8_t, 4> out{};
    set_field<std::uint16_t>(out, 1, 0xabcd);
    CHECK(out == std::array<std::uint8_t, 4>{0, 0xab, 0xcd, 0});
    std::array<std::uint8_t, 4> host{};
    Writer(host, Order::host).put<std::uint32_t>(memory);
    CHECK(std::equal(host.begin(), host.end(), eight.begin()));
}

TEST_CASE("a reader that ran short stays failed and gives zeros")
{
    Reader in(Bytes(eight).first(3));
    CHECK(in.get<std::uint16_t>() == 0x0102);
    CHECK(in.ok());
    CHECK(in.get<std::uint16_t>() == 0);
    CHECK_FALSE(in.ok());
    CHECK(in.get<std::uint8_t>() == 0);   // the third byte is there, but the reader has failed
    CHECK(in.take(0).empty());
    CHECK_FALSE(in.done());
    CHECK(in.left() == 1);
}

TEST_CASE("a reader gives parts from both ends")
{
    Reader in(eight);
    CHECK(in.take_back(2)[0] == 7);
    in.skip(1);
    CHECK(in.take(2).data() == eight.data() + 1);
    CHECK(in.left() == 3);
    CHECK(in.rest()[0] == 4);
    CHECK_FALSE(in.done());
    in.skip(3);
    CHECK(in.done());
    CHECK(in.take_back(1).empty());
    CHECK_FALSE(in.ok());

    Reader huge(eight);
    huge.skip(~std::size_t{0});
    CHECK_FALSE(huge.ok());
}

TEST_CASE("a sub-reader ends where it was told, keeps the order and inherits failure")
{
    Reader in(eight, Order::host);
    auto body = in.sub(4);
    CHECK(in.left() == 4);
    CHECK(body.get<std::uint16_t>() == load<std::uint16_t>(Bytes(eight).first<2>(), Order::host));
    body.skip(2);
    CHECK(body.done());
    body.skip(1);
    CHECK_FALSE(body.ok());
    CHECK(in.ok());
    auto beyond = in.sub(5);
    CHECK_FALSE(in.ok());
    CHECK_FALSE(beyond.ok());
    CHECK_FALSE(in.sub(0).ok());
    Reader failed(eight);
    failed.fail();
    CHECK_FALSE(failed.ok());
}

TEST_CASE("a writer that ran short stays failed and writes nothing more")
{
    std::array<std::uint8_t, 4> room{9, 9, 9, 9};
    Writer out(room);
    out.put<std::uint16_t>(1);
    out.put<std::uint32_t>(2);
    CHECK_FALSE(out.ok());
    out.put<std::uint8_t>(3);
    CHECK(out.size() == 2);
    CHECK(room == std::array<std::uint8_t, 4>{0, 1, 9, 9});
    CHECK(out.reserve(0).empty());

    Writer bytes(room);
    bytes.put(Bytes(eight).first(5));
    CHECK_FALSE(bytes.ok());
    CHECK(room == std::array<std::uint8_t, 4>{0, 1, 9, 9});
    Writer reserve(room);
    CHECK(reserve.reserve(~std::size_t{0}).empty());
    CHECK_FALSE(reserve.ok());
}

TEST_CASE("a writer patches, aligns and lends room")
{
    std::vector<std::uint8_t> room(16, 0xff);
    Writer out(room);
    out.put<std::uint16_t>(0);
    out.put(Bytes(eight).first(3));
    out.align(8);
    CHECK(out.size() == 8);
    out.align(8);
    CHECK(out.size() == 8);
    out.put_at<std::uint16_t>(0, 0x1234);
    const auto lent = out.reserve(2);
    REQUIRE(lent.size() == 2);
    lent[0] = 0xaa;
    CHECK(std::vector<std::uint8_t>(out.written().begin(), out.written().end()) ==
          std::vector<std::uint8_t>{0x12, 0x34, 1, 2, 3, 0, 0, 0, 0xaa, 0xff});
    out.put_at<std::uint32_t>(13, 0);
    CHECK_FALSE(out.ok());
    Writer far(room);
    far.put_at<std::uint8_t>(~std::size_t{0}, 0);
    CHECK_FALSE(far.ok());
}
