// SPDX-License-Identifier: BSD-2-Clause
// The engine alone at 10,000 and at 100,000 entries: what adding, deleting, flushing and dumping one SA or policy costs
// (parse, check, store, answer, read the answer), as a ratio to copying the same bytes in and out in the same run, and
// what an entry weighs. Flat means: the second line of a pair is not much above the first. In seconds of CPU.
#include "pfkey/engine.hpp"
#include "tests/support/rng.hpp"

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

constexpr Time now = std::chrono::seconds(1);

AddressExt end_point(std::uint32_t i)
{
    return {255, 32,
            {Address::v4(10, static_cast<std::uint8_t>(i >> 16), static_cast<std::uint8_t>(i >> 8),
                         static_cast<std::uint8_t>(i)),
             0, 0}};
}

Message message_of(std::uint8_t type, std::uint8_t satype, std::uint32_t i)
{
    Message m;
    m.type = type;
    m.satype = satype;
    m.seq = i;
    m.pid = 1;
    m.source = end_point(0);
    m.destination = end_point(i);
    return m;
}

Message add_sa(std::uint32_t i)
{
    static const std::vector<std::uint8_t> key(32, 7);
    Message m = message_of(SADB_ADD, SADB_SATYPE_ESP, i);
    m.sa = SaExt{.spi = 1000 + i, .replay = 64, .state = SADB_SASTATE_MATURE, .auth = SADB_AALG_SHA1HMAC,
                 .encrypt = SADB_X_EALG_AESCBC};
    m.sa2 = Sa2Ext{IPSEC_MODE_TUNNEL, 0, 1 + i % 1000};
    m.cipher_key = KeyExt{128, Bytes(key).first(16)};
    m.auth_key = KeyExt{160, Bytes(key).first(20)};
    m.hard = Lifetime{0, 0, 3600, 0};
    m.soft = Lifetime{0, 0, 3000, 0};
    return m;
}

Message delete_sa(std::uint32_t i)
{
    Message m = message_of(SADB_DELETE, SADB_SATYPE_ESP, i);
    m.sa = SaExt{.spi = 1000 + i};
    return m;
}

Message add_policy(std::uint32_t i)
{
    Message m = message_of(SADB_X_SPDADD, SADB_SATYPE_UNSPEC, i);
    m.policy = PolicyExt{IPSEC_POLICY_IPSEC, IPSEC_DIR_OUTBOUND, 0, 0, {Request{}}};
    return m;
}

Message delete_policy(std::uint32_t i)
{
    Message m = add_policy(i);
    m.type = SADB_X_SPDDELETE;
    return m;
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

using Records = std::vector<std::vector<std::uint8_t>>;

Records records_of(std::uint32_t count, Message (*message)(std::uint32_t))
{
    Records records;
    for (std::uint32_t i = 0; i < count; ++i)
        records.push_back(message(i).bytes());
    return records;
}

double copying(const Records& records)
{
    std::vector<std::uint8_t> in(4096), out(4096);
    return seconds_of([&] {
        for (const auto& record : records) {
            std::memcpy(in.data(), record.data(), record.size());
            std::vector<std::uint8_t> reply(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(record.size()));
            std::memcpy(out.data(), reply.data(), reply.size());
        }
    });
}

class Bench {
public:
    // What it costs to send every record, with the answers read at once; and that each is accepted.
    double sending(const Records& records)
    {
        std::vector<std::uint8_t> out(4096);
        return seconds_of([&] {
            for (const auto& record : records) {
                (void)engine_.handle(id_, record, now);
                const Bytes reply = engine_.front(id_);
                std::memcpy(out.data(), reply.data(), reply.size());
                refused_ += peek_header(reply)->error != 0;
                engine_.pop(id_, now);
            }
        });
    }

    double asking(std::uint8_t type, std::uint8_t satype = 0)
    {
        Message request;
        request.type = type;
        request.satype = satype;
        const auto bytes = request.bytes();
        return seconds_of([&] {
            (void)engine_.handle(id_, bytes, now);
            while (!engine_.front(id_).empty())
                engine_.pop(id_, now);
        });
    }

    // All records as one batch.
    double batch(const Records& records)
    {
        asking(SADB_X_BATCH, SADB_X_BATCH_BEGIN);
        return seconds_of([&] {
            for (const auto& record : records)
                (void)engine_.handle(id_, record, now);
            asking(SADB_X_BATCH, SADB_X_BATCH_COMMIT);
        });
    }

    // What a flush left to be freed later.
    double burying()
    {
        return seconds_of([&] {
            while (engine_.next_deadline() <= now)
                engine_.tick(now);
        });
    }

    Engine& engine() { return engine_; }
    bool all_accepted() const { return refused_ == 0; }

private:
    test::SequenceRng rng_;
    Engine engine_{rng_, 0};
    KeySocketId id_ = *engine_.open_key_socket();
    std::size_t refused_ = 0;
};

struct Kind {
    const char* name;
    Message (*add)(std::uint32_t);
    Message (*remove)(std::uint32_t);
    std::uint8_t dump, flush;
    std::size_t weight_limit;   // bytes, the project's own
};

constexpr Kind kinds[] = {
    {"SA", add_sa, delete_sa, SADB_DUMP, SADB_FLUSH, 1024},
    {"policy", add_policy, delete_policy, SADB_X_SPDDUMP, SADB_X_SPDFLUSH, 512},
};

bool run(const Kind& kind, std::uint32_t count)
{
    Bench bench;
    const Records adds = records_of(count, kind.add), removes = records_of(count, kind.remove);
    const double bound = copying(adds);
    const auto per = [&](double seconds) { return seconds / count * 1e6; };

    const std::size_t before = heap_bytes();
    const double adding = bench.sending(adds);
    const std::size_t weight = (heap_bytes() - before) / count;
    const double dumping = bench.asking(kind.dump), deleting = bench.sending(removes);
    const bool emptied = bench.engine().sad().size() == 0 && bench.engine().no_policies();
    const double batching = bench.batch(adds);
    const bool filled = bench.engine().sad().size() + bench.engine().spd().size() == count;
    const double flushing = bench.asking(kind.flush), burying = bench.burying();

    std::printf("%-7s %7u: add %5.2f us (%5.1f x copying), %8.0f /s; in a batch %5.2f us; delete %5.2f us; dump %5.2f us; "
                "flush %6.3f ms, then freeing %5.2f us each; %4zu bytes each (limit %zu)\n",
                kind.name, count, per(adding), adding / bound, count / adding, per(batching), per(deleting), per(dumping),
                flushing * 1e3, per(burying), weight, kind.weight_limit);
    return bench.all_accepted() && emptied && filled && bench.engine().sad().size() == 0 &&
           bench.engine().no_policies() && weight <= kind.weight_limit;
}

// FLUSH of one SA type must take out its SAs one by one: in proportion to them, not to the others.
bool run_flush_of_one_type(std::uint32_t count)
{
    Bench bench;
    Records records = records_of(count, add_sa);
    bench.sending(records);
    const Message other = [] {
        Message m = add_sa(7);
        m.satype = SADB_SATYPE_AH;
        m.sa->encrypt = 0;
        m.cipher_key.reset();
        return m;
    }();
    bench.sending({other.bytes()});
    const double few = bench.asking(SADB_FLUSH, SADB_SATYPE_AH);
    bench.sending({other.bytes()});
    const double many = bench.asking(SADB_FLUSH, SADB_SATYPE_ESP) + bench.burying();
    std::printf("FLUSH of one type, %u SAs: of the only AH SA %.3f ms, of the ESP SAs beside it %.2f us each\n", count,
                few * 1e3, many / count * 1e6);
    return bench.all_accepted() && bench.engine().sad().size() == 1;
}

}  // namespace

int main()
{
    if (!meaningful)
        return 77;
    bool sound = true;
    for (const auto& kind : kinds)
        for (const std::uint32_t count : {10'000u, 100'000u})
            sound &= run(kind, count);
    for (const std::uint32_t count : {10'000u, 100'000u})
        sound &= run_flush_of_one_type(count);
    return sound ? 0 : 1;
}
