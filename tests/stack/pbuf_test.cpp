// SPDX-License-Identifier: BSD-2-Clause
#include "stack/pbuf.hpp"

#include "lwip/pbuf.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <numeric>
#include <vector>

using namespace latchkey;

namespace {

std::vector<std::uint8_t> counted(std::size_t n)
{
    std::vector<std::uint8_t> out(n);
    std::iota(out.begin(), out.end(), std::uint8_t{1});
    return out;
}

}  // namespace

TEST_CASE("a pool gives contiguous buffers of every size and takes them back")
{
    PacketPool pool;
    for (const std::size_t size : {0u, 1u, 40u, 1500u, 1984u, 1985u, 9000u, 9728u, 9729u, 65535u}) {
        CAPTURE(size);
        const auto data = counted(size);
        auto p = pool.copy(data);
        REQUIRE(p);
        CHECK(p.contiguous());
        CHECK(p.size() == size);
        CHECK(std::ranges::equal(p.bytes(), data));
        CHECK(pool.in_use() >= size);
        // lwIP may put headers in front, up to the room that was left for them.
        if (size + PacketPool::headroom <= 0xffff) {
            REQUIRE(pbuf_add_header(p.get(), PacketPool::headroom) == 0);
            std::ranges::fill(p.bytes(), std::uint8_t{0xaa});
            REQUIRE(pbuf_remove_header(p.get(), PacketPool::headroom) == 0);
        }
        p.reset();
        CHECK(pool.in_use() == 0);
    }
    CHECK(!pool.allocate(65536));
}

TEST_CASE("the limit is kept, and is of what is out, not of what was ever used")
{
    PacketPool pool(10'000);
    std::vector<Pbuf> out;
    for (;;) {
        auto p = pool.allocate(1500);
        if (!p)
            break;
        out.push_back(std::move(p));
    }
    CHECK(out.size() >= 3);
    CHECK(out.size() <= 6);
    CHECK(pool.in_use() <= 10'000);
    CHECK(!pool.copy(counted(1500)));
    out.pop_back();
    CHECK(pool.copy(counted(1500)));
    out.clear();
    CHECK(pool.in_use() == 0);
    CHECK(!pool.allocate(60'000));
}

TEST_CASE("whoever frees last gives the buffer back: an owner, a sharer, or lwIP")
{
    PacketPool pool;
    auto p = pool.copy(counted(100));
    auto second = Pbuf::share(p.get());
    p.reset();
    CHECK(pool.in_use() > 0);
    CHECK(second.bytes()[99] == 100);
    pbuf* for_lwip = second.release();
    CHECK(!second);
    CHECK(pool.in_use() > 0);
    CHECK(pbuf_free(for_lwip) == 1);
    CHECK(pool.in_use() == 0);

    Pbuf a = pool.copy(counted(10)), b = pool.copy(counted(20));
    a = std::move(b);
    CHECK(a.size() == 20);
    a = std::move(a);
    CHECK(a.size() == 20);
}

TEST_CASE("a chain is gathered, a part is cut out")
{
    PacketPool pool;
    const auto data = counted(200);
    pbuf* chain = pool.copy(Bytes(data).first(70)).release();
    pbuf_cat(chain, pool.copy(Bytes(data).subspan(70, 1)).release());
    pbuf_cat(chain, pool.copy(Bytes(data).subspan(71)).release());
    const Pbuf owned(chain);
    CHECK(!owned.contiguous());
    CHECK(owned.size() == 200);
    auto whole = pool.gather(chain);
    REQUIRE(whole);
    CHECK(whole.contiguous());
    CHECK(std::ranges::equal(whole.bytes(), data));
    whole.narrow(50, 100);
    CHECK(whole.size() == 100);
    CHECK(std::ranges::equal(whole.bytes(), Bytes(data).subspan(50, 100)));
    whole.narrow(10, 0);
    CHECK(whole.size() == 0);
}
