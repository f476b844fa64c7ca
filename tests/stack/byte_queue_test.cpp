// SPDX-License-Identifier: BSD-2-Clause
#include "stack/byte_queue.hpp"

#include <deque>
#include <doctest/doctest.h>
#include <random>
#include <vector>

using namespace latchkey;

TEST_CASE("a ring of bytes behaves like a deque, through wraps and growth")
{
    std::mt19937 random(7);
    ByteQueue queue;
    std::deque<std::uint8_t> model;
    std::uint8_t next = 0;
    for (int step = 0; step < 20'000; ++step) {
        const std::size_t n = random() % (step % 100 == 0 ? 9000 : 700);
        if (random() % 2 == 0 && model.size() < 200'000) {
            std::vector<std::uint8_t> data(n);
            for (auto& byte : data)
                byte = next++;
            queue.push(data);
            model.insert(model.end(), data.begin(), data.end());
        } else {
            const auto take = std::min(n, model.size());
            std::vector<std::uint8_t> got(take);
            queue.peek(0, got);
            REQUIRE(std::equal(got.begin(), got.end(), model.begin()));
            queue.pop(take);
            model.erase(model.begin(), model.begin() + static_cast<std::ptrdiff_t>(take));
        }
        REQUIRE(queue.size() == model.size());
        if (!model.empty()) {
            const auto at = random() % model.size();
            const auto pieces = queue.view(at, model.size() - at);
            REQUIRE(pieces[0].size() + pieces[1].size() == model.size() - at);
            REQUIRE(pieces[0].front() == model[at]);
        }
    }
    queue.pop(queue.size());
    CHECK(queue.empty());
    CHECK(queue.view(0, 0)[0].empty());
}

TEST_CASE("extend gives room in place, in two pieces where the ring ends")
{
    ByteQueue queue;
    queue.push(std::vector<std::uint8_t>(4000, 1));
    queue.pop(3000);
    const auto room = queue.extend(2000);
    CHECK(room[0].size() == 96);
    CHECK(room[1].size() == 1904);
    CHECK(queue.size() == 3000);
}
