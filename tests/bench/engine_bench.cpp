// SPDX-License-Identifier: BSD-2-Clause
// PF_KEY messages per second through the engine alone (parse, check, store, answer, read the answer), against copying
// the same bytes in and out, in the same run; and a dump of everything. In seconds of CPU.
#include "pfkey/engine.hpp"

#include <cstdio>
#include <ctime>
#include <functional>
#include <malloc.h>

using namespace latchkey;

namespace {

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr bool meaningful = true;
#else
constexpr bool meaningful = false;   // the times would say nothing: the test is skipped
#endif

class CountingRng : public Rng {
public:
    void fill(MutableBytes out) override
    {
        for (auto& byte : out)
            byte = static_cast<std::uint8_t>(mix(++state_));
    }

private:
    std::uint64_t state_ = 0;
};

constexpr Time now = std::chrono::seconds(1);
constexpr std::uint32_t count = 100'000;

AddressExt end_point(std::uint32_t i)
{
    return {255, 32,
            {Address::v4(10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
                         static_cast<std::uint8_t>(i)),
             0, 0}};
}

std::vector<std::uint8_t> add_sa(std::uint32_t i)
{
    static const std::vector<std::uint8_t> key(32, 7);
    Message m;
    m.type = SADB_ADD;
    m.satype = SADB_SATYPE_ESP;
    m.seq = i;
    m.pid = 1;
    m.sa = SaExt{.spi = 1000 + i, .replay = 64, .state = SADB_SASTATE_MATURE, .auth = SADB_AALG_SHA1HMAC,
                 .encrypt = SADB_X_EALG_AESCBC};
    m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 1 + i % 1000};
    m.cipher_key = KeyExt{128, Bytes(key).first(16)};
    m.auth_key = KeyExt{160, Bytes(key).first(20)};
    m.hard = Lifetime{0, 0, 3600, 0};
    m.soft = Lifetime{0, 0, 3000, 0};
    m.source = end_point(0);
    m.destination = end_point(i);
    return m.bytes();
}

std::vector<std::uint8_t> add_policy(std::uint32_t i)
{
    Message m;
    m.type = SADB_X_SPDADD;
    m.seq = i;
    m.pid = 1;
    m.source = end_point(0);
    m.destination = end_point(i);
    m.policy = PolicyExt{IPSEC_POLICY_IPSEC, IPSEC_DIR_OUTBOUND, 0, 0, {Request{}}};
    return m.bytes();
}

double seconds_of(const std::function<void()>& work)
{
    const auto cpu = [] {
        timespec spent{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
        return static_cast<double>(spent.tv_sec) + static_cast<double>(spent.tv_nsec) * 1e-9;
    };
    const double start = cpu();
    work();
    return cpu() - start;
}

std::size_t heap_bytes()
{
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

void run(const char* what, Engine& engine, KeySocketId id, std::uint8_t dump_type,
         std::vector<std::uint8_t> (*message)(std::uint32_t))
{
    std::vector<std::vector<std::uint8_t>> records;
    for (std::uint32_t i = 0; i < count; ++i)
        records.push_back(message(i));
    std::vector<std::uint8_t> in(4096), out(4096);
    const double copying = seconds_of([&] {
        for (const auto& record : records) {
            std::memcpy(in.data(), record.data(), record.size());
            std::vector<std::uint8_t> reply(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(record.size()));
            std::memcpy(out.data(), reply.data(), reply.size());
        }
    });
    const std::size_t before = heap_bytes();
    const double adding = seconds_of([&] {
        for (const auto& record : records) {
            (void)engine.handle(id, record, now);
            const Bytes reply = engine.front(id);
            std::memcpy(out.data(), reply.data(), reply.size());
            engine.pop(id, now);
        }
    });
    const std::size_t each = (heap_bytes() - before) / count;
    std::size_t dumped = 0;
    Message request;
    request.type = dump_type;
    const auto request_bytes = request.bytes();
    const double dumping = seconds_of([&] {
        (void)engine.handle(id, request_bytes, now);
        for (; !engine.front(id).empty(); ++dumped)
            engine.pop(id, now);
    });
    std::printf("%-8s %8.0f /s  %5.2f us each, %5.1f x copying; %zu bytes each; dump of %zu: %.0f ms\n", what,
                count / adding, adding / count * 1e6, adding / copying, each, dumped, dumping * 1e3);
}

}  // namespace

int main()
{
    if (!meaningful)
        return 77;
    CountingRng rng;
    Engine engine(rng, 0);
    const KeySocketId id = *engine.open_key_socket();
    run("ADD", engine, id, SADB_DUMP, add_sa);
    run("SPDADD", engine, id, SADB_X_SPDDUMP, add_policy);
    const double flushing = seconds_of([&] {
        Message flush;
        flush.type = SADB_FLUSH;
        (void)engine.handle(id, flush.bytes(), now);
    });
    std::printf("FLUSH of %u SAs: %.1f ms\n", count, flushing * 1e3);
    return engine.sad().size() == 0 ? 0 : 1;
}
