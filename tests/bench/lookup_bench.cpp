// SPDX-License-Identifier: BSD-2-Clause
// Does a lookup cost more when the tables grow? SAD by SPI and by peer, SPD by exact hosts, prefixes, ports and port
// ranges, at 10, 1,000 and 100,000 entries; as a ratio to a std::unordered_map lookup with as many entries in the same
// run. Memory per entry comes from the allocator (mallinfo2).
#include "pfkey/sad.hpp"
#include "pfkey/spd.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <malloc.h>
#include <unordered_map>

using namespace latchkey;

namespace {

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool meaningful = true;
#else
constexpr bool meaningful = false;   // the times would say nothing: the test is skipped
#endif

constexpr int rounds = 200'000;
volatile std::uintptr_t sink;

std::size_t heap_bytes()
{
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// Indices that hop about the table, so that the cache sees what a busy gateway's does.
std::uint32_t hop(int round, std::uint32_t count)
{
    return static_cast<std::uint32_t>(mix(static_cast<std::uint64_t>(round)) % count);
}

double thread_ns()
{
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

template <class F> double nanoseconds(F&& one)
{
    double best = 1e9;
    for (int attempt = 0; attempt < 5; ++attempt) {
        const double start = thread_ns();
        for (int i = 0; i < rounds; ++i)
            sink = one(i);
        best = std::min(best, (thread_ns() - start) / rounds);
    }
    return best;
}

// A map to objects of the size of an SA, so that the cache misses are of the same kind.
double baseline(std::uint32_t count)
{
    struct Object {
        std::uint64_t number;
        std::array<std::uint8_t, sizeof(Sa)> rest;
    };
    std::unordered_map<std::uint64_t, std::unique_ptr<Object>> map;
    for (std::uint32_t i = 0; i < count; ++i)
        map[mix(i + 1)] = std::make_unique<Object>(Object{i, {}});
    return nanoseconds([&](int i) { return map.find(mix(hop(i, count) + 1))->second->number; });
}

Address host(std::uint32_t i)
{
    return Address::v4(10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
                       static_cast<std::uint8_t>(i));
}

Flow flow_to(std::uint32_t i)
{
    return {host(0), host(i), 1000, static_cast<std::uint16_t>(i), ip_proto::udp, true};
}

void print(const char* what, std::uint32_t count, double ns, double base, std::size_t bytes)
{
    std::printf("%-34s %8u %9.1f ns %6.2f x map", what, count, ns, ns / base);
    if (bytes != 0)
        std::printf(" %6zu bytes each", bytes);
    std::printf("\n");
}

void bench_sad(std::uint32_t count, double base)
{
    const std::size_t before = heap_bytes();
    Sad sad;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto sa = std::make_unique<Sa>();
        sa->spi = 1000 + i;
        sa->source = host(0);
        sa->destination = host(i);
        sa->state = SaState::mature;
        sa->replay = ReplayWindow(64);
        const std::array<std::uint8_t, 32> key{};
        sa->cipher_key = SecretBytes(key);
        sa->auth_key = SecretBytes(key);
        (void)sad.insert(std::move(sa));
    }
    const std::size_t each = (heap_bytes() - before) / count;
    const auto pointer = [](const Sa* sa) { return sa == nullptr ? std::uintptr_t{0} : std::uintptr_t{sa->spi}; };
    print("SAD by SPI", count, nanoseconds([&](int i) {
              const auto n = hop(i, count);
              return pointer(sad.find(ip_proto::esp, host(n), 1000 + n));
          }), base, count >= 1000 ? each : 0);
    print("SAD outbound by peer", count, nanoseconds([&](int i) {
              return pointer(sad.outbound(ip_proto::esp, Mode::transport, host(0), host(hop(i, count)), 0, true));
          }), base, 0);
}

void bench_spd(const char* what, std::uint32_t count, double base,
               const std::function<Selector(std::uint32_t)>& selector)
{
    const std::size_t before = heap_bytes();
    Spd spd;
    for (std::uint32_t i = 0; i < count; ++i) {
        Policy policy;
        policy.id = i + 1;
        policy.selector = selector(i);
        policy.action = Action::ipsec;
        policy.requests.resize(1);
        spd.insert(std::move(policy));
    }
    const std::size_t each = (heap_bytes() - before) / count;
    print(what, count, nanoseconds([&](int i) {
              const Policy* policy = spd.lookup(Direction::out, flow_to(hop(i, count)));
              return policy == nullptr ? std::uintptr_t{0} : std::uintptr_t{policy->id};
          }), base, count >= 1000 ? each : 0);
}

}  // namespace

int main()
{
    if (!meaningful)
        return 77;
    const Prefix everything{Address::any(Family::v4), 0};
    const Prefix ten{Address::v4(10, 0, 0, 0), 8};
    for (const std::uint32_t count : {10u, 1'000u, 100'000u}) {
        const double base = baseline(count);
        print("std::unordered_map", count, base, base, 0);
        bench_sad(count, base);
        bench_spd("SPD exact hosts", count, base, [&](std::uint32_t i) {
            return Selector{{host(0), 32}, {host(i), 32}, {}, {}, ip_proto::any};
        });
        bench_spd("SPD prefixes, 16 lengths", count, base, [&](std::uint32_t i) {
            const auto length = 17 + i % 16;
            return Selector{ten, {host(i).masked(length), static_cast<std::uint8_t>(length)}, {}, {}, ip_proto::any};
        });
        bench_spd("SPD ports only", std::min(count, 65'535u), base, [&](std::uint32_t i) {
            const auto port = static_cast<std::uint16_t>(i);
            return Selector{everything, everything, {}, {port, port}, ip_proto::any};
        });
        bench_spd("SPD hosts and a port range", count, base, [&](std::uint32_t i) {
            return Selector{{host(0), 32}, {host(i), 32}, {}, {1024, 65535}, ip_proto::any};
        });
        bench_spd("SPD miss", count, base, [&](std::uint32_t i) {
            return Selector{{host(1), 32}, {host(i), 32}, {}, {}, ip_proto::tcp};
        });
    }
    return 0;
}
