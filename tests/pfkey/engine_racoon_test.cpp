// SPDX-License-Identifier: BSD-2-Clause
// The PF_KEY traffic of two unmodified racoon daemons (IKEv1, quick mode), replayed: every message they sent gets the
// answer they got, in type, errno, numbering and, where the host is free to choose, in kind.
#include "tests/pfkey/engine_fixture.hpp"
#include "tests/pfkey/records.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <string>

using namespace latchkey;
using namespace latchkey::test;

namespace {

struct Line {
    char kind;   // '>' to the host, '<' from it
    std::vector<std::uint8_t> record;
};

std::vector<Line> read_log(const std::string& name)
{
    std::ifstream in(std::string(LATCHKEY_TEST_DATA) + "/pfkey/" + name);
    REQUIRE(in.good());
    std::vector<Line> lines;
    for (std::string line; std::getline(in, line);) {
        if (line[0] == '>' || line[0] == '<')   // 'S': setsockopt
            lines.push_back({line[0], unhex(std::string_view(line).substr(line.find(' ') + 1))});
    }
    return lines;
}

// The policies of the recording: host to host, 10.99.1.1 is `local` on one side and the peer on the other.
void install_policies(Client& client, std::string_view local, std::string_view peer)
{
    REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::out, local, peer)) == 0);
    REQUIRE(client.error_of(policy_message(SADB_X_SPDADD, Direction::in, peer, local)) == 0);
}

struct Installed {
    std::vector<std::uint8_t> cipher_key, auth_key;
    const Algorithm* cipher;
    const Algorithm* auth;
    Address source, destination;
    bool operator==(const Installed&) const = default;
};

class Replay {
public:
    Replay(Host& host, Client& racoon) : host_(host), racoon_(racoon) {}

    // What racoon says is sent as it is, with its garbage in sin_zero and reserved fields; only our SPIs and ACQUIRE
    // numbers take the place of the recorded ones.
    void to_host(std::vector<std::uint8_t> record)
    {
        const auto message = *Message::parse(record);
        const auto recorded = message.sa ? message.sa->spi : 0;
        if (acquires_.contains(message.seq))
            wire::Writer(record, wire::Order::host).put_at<std::uint32_t>(8, acquires_.at(message.seq));
        if (spis_.contains(recorded))
            for (const auto& extension : extensions_of(record))
                if (extension.type == SADB_EXT_SA)
                    wire::Writer(record).put_at<std::uint32_t>(extension.at + 4, spis_.at(recorded));
        REQUIRE(host_.engine.handle(racoon_.id(), record, host_.now).has_value());
        if (message.type == SADB_ADD || message.type == SADB_UPDATE)
            remember(recorded, message.destination->endpoint.address);
    }

    // The SAs that racoon made, by the SPI of the recording.
    std::map<std::uint32_t, Installed> installed;

    void from_host(std::vector<std::uint8_t> record)
    {
        const auto expected = *Message::parse(record);
        CAPTURE(std::string(message_name(expected.type)));
        if ((expected.type == SADB_DUMP || expected.type == SADB_X_SPDDUMP) && expected.error == 0)
            return compare_dump(expected);
        if (expected.type == SADB_ACQUIRE && host_.engine.front(racoon_.id()).empty())
            send_packet(*expected.source, *expected.destination);
        if (expected.type == SADB_ACQUIRE && host_.engine.front(racoon_.id()).empty())
            return;   // the recorder's stub repeated it after the SA was there; this host has no reason to
        const Reply reply = racoon_.receive_one();
        const Message& got = reply.message;
        CHECK(got.type == expected.type);
        CHECK(got.error == expected.error);
        CHECK(got.satype == expected.satype);
        CHECK(got.pid == expected.pid);
        if (expected.type == SADB_ACQUIRE)
            acquires_[expected.seq] = got.seq;
        else
            CHECK(got.seq == (acquires_.contains(expected.seq) ? acquires_.at(expected.seq) : expected.seq));
        if (expected.type == SADB_GETSPI)
            spis_[expected.sa->spi] = got.sa->spi;
        CHECK(got.sa.has_value() == expected.sa.has_value());
        CHECK(got.source.has_value() == expected.source.has_value());
        CHECK(got.policy.has_value() == expected.policy.has_value());
        CHECK(got.supported_auth.has_value() == expected.supported_auth.has_value());
        if (expected.source) {
            CHECK(got.source->endpoint.address == expected.source->endpoint.address);
            CHECK(got.destination->endpoint.address == expected.destination->endpoint.address);
        }
        if (expected.policy)
            CHECK(got.policy->direction == expected.policy->direction);
    }

private:
    void remember(std::uint32_t recorded, const Address& destination)
    {
        const std::uint32_t spi = spis_.contains(recorded) ? spis_.at(recorded) : recorded;
        const Sa* sa = host_.engine.inbound(ip_proto::esp, destination, spi);
        REQUIRE(sa != nullptr);
        const auto copy = [](Bytes key) { return std::vector<std::uint8_t>(key.begin(), key.end()); };
        installed[recorded] = {copy(sa->cipher_key.bytes()), copy(sa->auth_key.bytes()), sa->cipher, sa->auth,
                               sa->source, sa->destination};
    }

    // The recording's stub listed out before in, and one SA of two: what it listed must be in our dump.
    void compare_dump(const Message& expected)
    {
        if (dump_.empty())
            dump_ = racoon_.receive();
        const auto listed = std::ranges::find_if(dump_, [&](const Reply& reply) {
            const Message& m = reply.message;
            return m.type == expected.type && m.satype == expected.satype && m.pid == expected.pid &&
                   m.source->endpoint.address == expected.source->endpoint.address &&
                   m.destination->endpoint.address == expected.destination->endpoint.address &&
                   (!m.policy || m.policy->direction == expected.policy->direction) &&
                   (!m.sa || m.sa->encrypt == expected.sa->encrypt);
        });
        CHECK(listed != dump_.end());
        CHECK(dump_.back().message.seq == 0);
        if (expected.seq == 0)
            dump_.clear();
    }

    void send_packet(const AddressExt& source, const AddressExt& destination)
    {
        const Flow packet{source.endpoint.address, destination.endpoint.address, 0, 0, ip_proto::icmp, false};
        const Policy* policy = host_.engine.match(Direction::out, packet, host_.now);
        REQUIRE(policy != nullptr);
        host_.engine.outbound(*policy, policy->requests[0], packet, packet.source, packet.destination, host_.now);
    }

    Host& host_;
    Client& racoon_;
    std::vector<Reply> dump_;
    std::map<std::uint32_t, std::uint32_t> spis_, acquires_;
};

}  // namespace

TEST_CASE("racoon's initiator and responder, in two engines, end up with the same keys under the same SPIs")
{
    std::map<std::uint32_t, Installed> sides[2];
    for (const int side : {0, 1}) {
        Host host;
        Client admin(host.engine, host.now);
        const std::string_view hosts[] = {"10.99.1.1", "10.99.1.2"};
        install_policies(admin, hosts[side], hosts[1 - side]);
        Client racoon(host.engine, host.now);
        Replay replay(host, racoon);
        for (const auto& line : read_log(side == 0 ? "racoon-initiator.pfkey.log" : "racoon-responder.pfkey.log"))
            line.kind == '>' ? replay.to_host(line.record) : replay.from_host(line.record);
        sides[side] = replay.installed;
    }
    CHECK(sides[0].size() == 2);
    CHECK(sides[0] == sides[1]);
}

TEST_CASE("racoon's initiator and responder get the answers that they got when they were recorded")
{
    Host host;
    Client admin(host.engine, host.now);
    std::string log;
    SUBCASE("initiator")
    {
        log = "racoon-initiator.pfkey.log";
        install_policies(admin, "10.99.1.1", "10.99.1.2");
    }
    SUBCASE("responder")
    {
        log = "racoon-responder.pfkey.log";
        install_policies(admin, "10.99.1.2", "10.99.1.1");
    }
    Client racoon(host.engine, host.now);
    Replay replay(host, racoon);
    for (const auto& line : read_log(log)) {
        if (line.kind == '>')
            replay.to_host(line.record);
        else
            replay.from_host(line.record);
    }
    CHECK(racoon.receive().empty());
    CHECK(host.engine.sad().size() == 0);   // both end with FLUSH
}
