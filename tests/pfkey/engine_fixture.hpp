// SPDX-License-Identifier: BSD-2-Clause
// An engine with a pinned clock and random source, and PF_KEY clients that speak to it in messages.
#pragma once

#include "pfkey/engine.hpp"
#include "tests/support/rng.hpp"

#include <algorithm>
#include <doctest/doctest.h>
#include <string_view>

namespace latchkey::test {

inline constexpr std::int64_t epoch = 1'700'000'000;

inline Time seconds(std::int64_t n)
{
    return std::chrono::seconds(n);
}

struct Reply {
    std::vector<std::uint8_t> record;
    Message message;   // views into record
};

class Client {
public:
    Client(Engine& engine, const Time& now) : engine_(engine), now_(now), id_(*engine.open_key_socket()) {}

    KeySocketId id() const { return id_; }

    Result<void> send(const Message& message) { return engine_.handle(id_, message.bytes(), now_); }

    std::vector<Reply> receive()
    {
        std::vector<Reply> replies;
        while (!engine_.front(id_).empty())
            replies.push_back(receive_one());
        return replies;
    }

    Reply receive_one()
    {
        const Bytes front = engine_.front(id_);
        Reply reply{{front.begin(), front.end()}, {}};
        engine_.pop(id_, now_);
        auto parsed = Message::parse(reply.record);
        REQUIRE_MESSAGE(parsed.has_value(), "the engine sent a malformed message");
        reply.message = std::move(*parsed);
        return reply;
    }

    // One request, which must be well-formed, and its one answer.
    Reply ask(Message message)
    {
        message.pid = 4711;
        message.seq = message.seq == 0 ? ++seq_ : message.seq;
        REQUIRE(send(message).has_value());
        auto replies = receive();
        REQUIRE(replies.size() == 1);
        CHECK(replies[0].message.type == message.type);
        CHECK(replies[0].message.seq == message.seq);
        CHECK(replies[0].message.pid == 4711);
        return std::move(replies[0]);
    }

    int error_of(const Message& message)
    {
        const Reply reply = ask(message);
        if (reply.message.error != 0) {
            CHECK(reply.record.size() == 16);   // as Linux: the bare header
            CHECK(!engine_.last_error(id_).empty());
        }
        return reply.message.error;
    }

private:
    Engine& engine_;
    const Time& now_;
    KeySocketId id_;
    std::uint32_t seq_ = 100;
};

struct Host {
    explicit Host(EngineLimits limits = {}) : engine(rng, epoch, limits) {}

    void advance(std::int64_t n)
    {
        now += seconds(n);
        engine.tick(now);
    }

    Time now = seconds(10);
    SequenceRng rng{1};
    Engine engine;
};

inline Address address(std::string_view text)
{
    return *Address::parse(text);
}

inline AddressExt end_point(std::string_view text, std::uint16_t port = 0, std::uint8_t protocol = 255)
{
    const auto prefix = *Prefix::parse(text);
    return {protocol, prefix.length, {prefix.address, port, 0}};
}

inline const std::vector<std::uint8_t> cipher_key(16, 0x11), auth_key(32, 0x22);

// A message about an ESP SA; no SPI: without an SA extension.
inline Message sa_message(std::uint8_t type, std::optional<std::uint32_t> spi, std::string_view source = "10.0.0.1",
                          std::string_view destination = "10.0.0.2")
{
    Message m;
    m.type = type;
    m.satype = SADB_SATYPE_ESP;
    m.source = end_point(source);
    m.destination = end_point(destination);
    if (spi)
        m.sa = SaExt{.spi = *spi, .replay = 32};
    return m;
}

// ADD or UPDATE with AES-CBC and HMAC-SHA-256.
inline Message keyed(std::uint8_t type, std::uint32_t spi, std::string_view source = "10.0.0.1",
                     std::string_view destination = "10.0.0.2")
{
    Message m = sa_message(type, spi, source, destination);
    m.sa->state = SADB_SASTATE_MATURE;
    m.sa->encrypt = SADB_X_EALG_AESCBC;
    m.sa->auth = SADB_X_AALG_SHA2_256HMAC;
    m.cipher_key = KeyExt{128, cipher_key};
    m.auth_key = KeyExt{256, auth_key};
    return m;
}

inline Message bare(std::uint8_t type, std::uint8_t satype = SADB_SATYPE_UNSPEC)
{
    Message m;
    m.type = type;
    m.satype = satype;
    return m;
}

inline Request esp_request(Level level = Level::require, std::uint32_t reqid = 0)
{
    Request request;
    request.level = level;
    request.reqid = reqid;
    return request;
}

inline Request esp_tunnel(std::string_view source, std::string_view destination, Level level = Level::require)
{
    Request request = esp_request(level);
    request.mode = Mode::tunnel;
    request.tunnel_source = address(source);
    request.tunnel_destination = address(destination);
    return request;
}

inline Message policy_message(std::uint8_t type, Direction direction, std::string_view source,
                              std::string_view destination, std::vector<Request> requests = {esp_request()},
                              std::uint16_t action = IPSEC_POLICY_IPSEC)
{
    Message m;
    m.type = type;
    m.source = end_point(source);
    m.destination = end_point(destination);
    m.policy = PolicyExt{action, static_cast<std::uint8_t>(direction), 0, 0, std::move(requests)};
    return m;
}

// X_SPDGET or X_SPDDELETE2.
inline Message by_id(std::uint8_t type, std::uint32_t id)
{
    Message m = bare(type);
    m.policy.emplace().id = id;
    return m;
}

inline Flow flow(std::string_view source, std::string_view destination, std::uint8_t protocol = 17)
{
    return {address(source), address(destination), 1000, 2000, protocol, true};
}

}  // namespace latchkey::test
