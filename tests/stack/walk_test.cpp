// SPDX-License-Identifier: BSD-2-Clause
// The walk by itself, for what no script and no wire can bring about: sequence numbers near their end, ciphers that
// fail.
#include "stack/walk.hpp"

#include "setkey/build.hpp"
#include "setkey/parser.hpp"
#include "support/lab.hpp"

#include <doctest/doctest.h>

using namespace latchkey;
using namespace latchkey::sim;
using namespace std::chrono_literals;

namespace {

class CountingRng : public Rng {
public:
    void fill(MutableBytes out) override
    {
        for (auto& byte : out)
            byte = next_++;
    }

private:
    std::uint8_t next_ = 1;
};

class BrokenCipher : public CipherBackend {
public:
    void seal(std::span<SealJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = Drop::out_crypto;
    }
    void open(std::span<OpenJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = Drop::in_integrity;
    }
    void seal(std::span<AhSealJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = Drop::out_crypto;
    }
    void open(std::span<AhOpenJob> jobs) override
    {
        for (auto& job : jobs)
            job.result = Drop::in_integrity;
    }
    Engine::AlgorithmSet available() const override { return {}; }
};

struct Fixture {
    static constexpr Time now = 1000s;
    CountingRng rng;
    Engine engine{rng, 0};
    std::unique_ptr<CipherBackend> cipher = make_openssl_backend(rng);
    PacketPool pool;
    Walk walk;
    Endpoint from{ip("10.0.0.1"), 4444, 0}, to{ip("10.0.0.2"), 4444, 0};

    explicit Fixture(std::size_t packet_bytes = 1 << 20, std::unique_ptr<CipherBackend> other = {})
        : pool(packet_bytes), walk(engine, other ? *(cipher = std::move(other)) : *cipher, pool, rng)
    {
    }

    void script(std::string_view text)
    {
        const Source source("script", text);
        setkey::Parser parser(source, {});
        const auto socket = *engine.open_key_socket();
        for (;;) {
            auto command = parser.next();
            REQUIRE(command.has_value());
            if (!*command)
                break;
            setkey::build(**command, {}, [&](const Message& message, bool) {
                REQUIRE(engine.handle(socket, message.bytes(), now).has_value());
                for (; !engine.front(socket).empty(); engine.pop(socket, now))
                    REQUIRE(peek_header(engine.front(socket))->error == 0);
            });
        }
        engine.close_key_socket(socket);
    }
    Walk::Outbound send(std::size_t size = 100)
    {
        const auto packet = udp_packet(from, to, marked(size));
        return walk.outbound(packet, *parse_packet(packet), 0, now);
    }
    Sa& sa(std::uint32_t spi) { return *engine.inbound(ip_proto::esp, to.address, spi); }
};

const std::string rule = "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require;";

std::string add(std::string_view algorithm, std::string_view more = "", std::string_view spi = "0x1001")
{
    return "add 10.0.0.1 10.0.0.2 esp " + std::string(spi) + " -m transport " + std::string(more) + " " +
           std::string(algorithm) + ";\n";
}
const char* const gcm = "-E aes-gcm-16 0x000102030405060708090a0b0c0d0e0f10111213";
const char* const cbc =
    "-E aes-cbc 0x000102030405060708090a0b0c0d0e0f -A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213";

}  // namespace

TEST_CASE("an SA whose sequence numbers are used up sends nothing more")
{
    for (const char* algorithm : {gcm, cbc}) {
        CAPTURE(algorithm);
        Fixture f;
        f.script(add(algorithm, "-f nocyclic-seq") + rule);
        f.sa(0x1001).sequence = 0xfffffffe;
        auto last = f.send();
        REQUIRE(last.outcome == Walk::Outcome::sealed);
        CHECK(wire::field<std::uint32_t>(last.packet.bytes(), 24) == 0xffffffff);
        CHECK(f.engine.inbound(ip_proto::esp, f.to.address, 0x1001) == nullptr);  // it ended with its last number
        CHECK(f.send().outcome == Walk::Outcome::held);
        f.script(add(algorithm, "-f nocyclic-seq"));
        f.sa(0x1001).sequence = 0xffffffff;
        for (int i = 0; i < 2; ++i) {
            const auto next = f.send();
            CHECK(next.outcome == Walk::Outcome::dropped);
            CHECK(next.drop == Drop::out_sequence_exhausted);
        }
    }
}

TEST_CASE("64-bit sequence numbers go on where 32 bits end, and a receiver follows")
{
    for (const auto* algorithm : {gcm, cbc})
        for (const auto* protocol : {"esp", "ah"}) {
            const bool ah = std::string_view(protocol) == "ah";
            if (ah && algorithm == gcm)
                continue;
            CAPTURE(algorithm);
            CAPTURE(protocol);
            Fixture f;
            const auto number = ah ? ip_proto::ah : ip_proto::esp;
            f.script("add 10.0.0.1 10.0.0.2 " + std::string(protocol) + " 0x1001 -m transport -r 64 -f esn " +
                     (ah ? "-A hmac-sha1 0x000102030405060708090a0b0c0d0e0f10111213" : std::string(algorithm)) +
                     "; spdadd 10.0.0.1 10.0.0.2 any -P out ipsec " + protocol + "/transport//require;");
            Sa& sa = *f.engine.inbound(number, f.to.address, 0x1001);
            sa.sequence = 0xffff'fffd;
            sa.replay.accept(sa.sequence);
            for (std::uint64_t next = 0xffff'fffe; next < 0x1'0000'0003; ++next) {
                CAPTURE(next);
                auto sent = f.send();
                REQUIRE(sent.outcome == Walk::Outcome::sealed);
                CHECK(sa.sequence == next);
                const auto low = wire::field<std::uint32_t>(sent.packet.bytes(), ah ? 28 : 24);
                CHECK(low == static_cast<std::uint32_t>(next));
                History history;
                const auto parsed = *parse_packet(sent.packet.bytes());
                const auto wrapping = f.walk.wrapping(sent.packet.bytes(), parsed);
                CHECK(f.walk.open(wrapping, sent.packet, parsed, history, Fixture::now) == Drop::none);
                CHECK(sa.replay.highest() == next);
            }
            sa.sequence = ~std::uint64_t{0};   // and these do not come round, whatever the flags say
            CHECK(f.send().drop == Drop::out_sequence_exhausted);
        }
}

TEST_CASE("cyclic sequence numbers begin again with 1, but never with a counter mode")
{
    Fixture f;
    f.script(add(cbc) + rule);  // cyclic is what setkey asks for unless told otherwise
    f.sa(0x1001).sequence = 0xffffffff;
    auto next = f.send();
    REQUIRE(next.outcome == Walk::Outcome::sealed);
    CHECK(wire::field<std::uint32_t>(next.packet.bytes(), 24) == 1);

    Fixture counter_mode;  // a repeated number is a repeated nonce: RFC 4106 §2
    counter_mode.script(add(gcm) + rule);
    counter_mode.sa(0x1001).sequence = 0xffffffff;
    CHECK(counter_mode.send().drop == Drop::out_sequence_exhausted);
}

TEST_CASE("a cipher that fails and a pool that is empty drop the packet")
{
    Fixture broken(1 << 20, std::make_unique<BrokenCipher>());
    broken.script(add(gcm) + rule);
    CHECK(broken.send().drop == Drop::out_crypto);
    CHECK(broken.pool.in_use() == 0);

    Fixture empty(1000);
    empty.script(add(gcm) + rule);
    CHECK(empty.send().drop == Drop::out_no_buffer);
}

TEST_CASE("one SA named twice in a bundle may end with its first use")
{
    Fixture f;
    f.script(add(gcm, "-bh 150") +
             "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require esp/transport//require;");
    CHECK(f.send(92).drop == Drop::out_lifetime);  // 100 bytes of UDP, then 136 of ESP
    CHECK(f.pool.in_use() == 0);
    // The same, but the first use is exactly the last: the SA is gone before its second.
    Fixture exact;
    exact.script(add(gcm, "-bh 100") +
                 "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require esp/transport//require;");
    CHECK(exact.send(92).drop == Drop::out_lifetime);
    CHECK(exact.engine.inbound(ip_proto::esp, exact.to.address, 0x1001) == nullptr);
}

TEST_CASE("the flow cache holds for one generation")
{
    Fixture f;
    CHECK(f.send().outcome == Walk::Outcome::clear);
    CHECK(f.send().outcome == Walk::Outcome::clear);
    CHECK(f.walk.counters.flow_hits == 1);  // no policy is an answer worth keeping
    CHECK(f.walk.counters.flow_misses == 1);
    f.script(add(gcm) + rule);
    for (int i = 0; i < 3; ++i)
        CHECK(f.send().outcome == Walk::Outcome::sealed);
    CHECK(f.walk.counters.flow_misses == 2);
    f.script("spdflush; spdadd 10.0.0.1 10.0.0.2 any -P out discard;");
    CHECK(f.send().drop == Drop::out_discard);
    f.script("spdflush;");
    CHECK(f.send().outcome == Walk::Outcome::clear);
}

TEST_CASE("the input is not written to, and room() is exact")
{
    for (const char* algorithm : {gcm, cbc}) {
        CAPTURE(algorithm);
        Fixture f;
        f.script(add(algorithm) + rule);
        const auto mtu = [](const Address&) -> std::size_t { return 1500; };
        const Flow flow{f.from.address, f.to.address, 4444, 4444, ip_proto::udp, true};
        const auto room = f.walk.room(flow, mtu, Fixture::now);
        CHECK(f.walk.missing(flow, Fixture::now) == 0);
        const auto packet = udp_packet(f.from, f.to, marked(room - 28)), before = packet;
        auto fits = f.walk.outbound(packet, *parse_packet(packet), 0, Fixture::now);
        REQUIRE(fits.outcome == Walk::Outcome::sealed);
        CHECK(fits.packet.size() <= 1500);
        CHECK(packet == before);
        CHECK(f.send(room - 28 + 1).packet.size() > 1500);
        f.script("flush;");
        CHECK(f.walk.room(flow, mtu, Fixture::now) <= room);  // what any SA leaves
        CHECK(f.walk.missing(flow, Fixture::now) == 1);
    }
}
