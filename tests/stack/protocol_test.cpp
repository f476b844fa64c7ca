// SPDX-License-Identifier: BSD-2-Clause
// The control protocol's formats: fixed bytes, round trips, every truncation; socket addresses against <netinet/in.h>.
#include "stack/client/protocol.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

using namespace latchkey;
using namespace latchkey::control;

namespace {

template <class T> std::vector<std::uint8_t> emitted(const T& value, wire::Order order = wire::Order::host)
{
    std::vector<std::uint8_t> raw(value.size());
    wire::Writer out(raw, order);
    value.emit(out);
    CHECK(out.ok());
    CHECK(out.size() == raw.size());
    return raw;
}

template <class T> std::vector<std::uint8_t> raw_bytes(const T& value)
{
    std::vector<std::uint8_t> raw(sizeof value);
    std::memcpy(raw.data(), &value, sizeof value);
    return raw;
}

const std::vector<std::uint8_t> payload{'d', 'a', 't', 'a'};
const std::vector<std::uint8_t> address{2, 0, 0, 80, 10, 0, 0, 1};

bool same(Bytes a, Bytes b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

TEST_CASE("request: golden bytes (little-endian hosts) and a round trip")
{
    const Request request{
        .op = Op::connect, .id = 0x01020304, .arg = {1, -1, 7}, .address = address, .payload = payload};
    const auto raw = emitted(request);
    if constexpr (std::endian::native == std::endian::little)
        CHECK(raw == std::vector<std::uint8_t>{5, 0, 8, 0, 4, 3, 2, 1, 1, 0,  0,  0, 0xff, 0xff, 0xff, 0xff, 7,   0,
                                               0, 0, 4, 0, 0, 0, 2, 0, 0, 80, 10, 0, 0,    1,    'd',  'a',  't', 'a'});
    const auto parsed = Request::parse(raw);
    REQUIRE(parsed);
    CHECK(parsed->op == Op::connect);
    CHECK(parsed->id == request.id);
    CHECK(parsed->arg == request.arg);
    CHECK(same(parsed->address, address));
    CHECK(same(parsed->payload, payload));
    CHECK(emitted(request, wire::Order::network) == raw);   // the order is the protocol's, not the Writer's
}

TEST_CASE("reply: golden bytes (little-endian hosts) and a round trip")
{
    const Reply reply{.id = 9, .result = -EINPROGRESS, .address = address, .payload = payload};
    const auto raw = emitted(reply);
    if constexpr (std::endian::native == std::endian::little)
        CHECK(raw == std::vector<std::uint8_t>{9, 0, 0, 0, 0x8d, 0xff, 0xff, 0xff, 8, 0, 0, 0, 4, 0, 0, 0,
                                               2, 0, 0, 80, 10, 0, 0, 1, 'd', 'a', 't', 'a'});
    const auto parsed = Reply::parse(raw);
    REQUIRE(parsed);
    CHECK(parsed->id == 9);
    CHECK(parsed->result == -EINPROGRESS);
    CHECK(same(parsed->address, address));
    CHECK(same(parsed->payload, payload));
}

TEST_CASE("every prefix is truncated, every extra byte malformed, a long address refused")
{
    const auto request = emitted(Request{.op = Op::bind, .address = address, .payload = payload});
    const auto reply = emitted(Reply{.id = 1, .address = address, .payload = payload});
    for (std::size_t n = 0; n < request.size(); ++n)
        CHECK(Request::parse(Bytes(request).first(n)).error().code == Errc::truncated);
    for (std::size_t n = 0; n < reply.size(); ++n)
        CHECK(Reply::parse(Bytes(reply).first(n)).error().code == Errc::truncated);
    auto longer = request;
    longer.push_back(0);
    CHECK(Request::parse(longer).error().code == Errc::malformed);
    longer = reply;
    longer.push_back(0);
    CHECK(Reply::parse(longer).error().code == Errc::malformed);
    const std::vector<std::uint8_t> much(129);
    CHECK(Request::parse(emitted(Request{.op = Op::bind, .address = much})).error().code == Errc::malformed);
    CHECK(Reply::parse(emitted(Reply{.id = 1, .address = much})).error().code == Errc::malformed);
    CHECK(Request::parse(emitted(Request{.op = Op::bind, .address = Bytes(much).first(128)})).has_value());
    std::vector<std::uint8_t> boundless = request;   // sizes that would wrap around
    for (std::size_t i = 20; i < 24; ++i)
        boundless[i] = 0xff;
    CHECK_FALSE(Request::parse(boundless));
    std::vector<std::uint8_t> small(10);
    wire::Writer out(small, wire::Order::host);
    Request{.op = Op::bind}.emit(out);
    CHECK_FALSE(out.ok());
}

TEST_CASE("datagram header: always 32 bytes, both families and none")
{
    for (const char* text : {"10.1.2.3", "fd00::77", "fe80::1"}) {
        CAPTURE(text);
        const DataHeader header{{*Address::parse(text), 4500, 3}, 1, 0xb8, 61};
        std::array<std::uint8_t, data_header_size> raw;
        wire::Writer out(raw);
        header.emit(out);
        REQUIRE(out.size() == data_header_size);
        wire::Reader in{Bytes(raw)};
        CHECK(*DataHeader::parse(in) == header);
        CHECK(in.done());
        for (std::size_t n = 0; n < raw.size(); ++n) {
            wire::Reader brief{Bytes(raw).first(n)};
            CHECK(DataHeader::parse(brief).error().code == Errc::truncated);
        }
    }
    std::array<std::uint8_t, data_header_size> raw{};
    wire::Reader none{Bytes(raw)};
    CHECK(*DataHeader::parse(none) == DataHeader{});
    raw[0] = 99;
    wire::Reader odd{Bytes(raw)};
    CHECK(DataHeader::parse(odd).error().code == Errc::bad_family);
}

TEST_CASE("socket addresses are the system's structures")
{
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = htons(4500);
    REQUIRE(inet_pton(AF_INET, "10.1.2.3", &four.sin_addr) == 1);
    const Endpoint endpoint4{Address::v4(10, 1, 2, 3), 4500, 0};
    CHECK(socket_address(endpoint4) == raw_bytes(four));
    CHECK(*parse_socket_address(raw_bytes(four)) == endpoint4);

    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(500);
    six.sin6_scope_id = 7;
    REQUIRE(inet_pton(AF_INET6, "fe80::1:2", &six.sin6_addr) == 1);
    const Endpoint endpoint6{*Address::parse("fe80::1:2"), 500, 7};
    CHECK(socket_address(endpoint6) == raw_bytes(six));
    six.sin6_flowinfo = 0x12345678;   // has no place in an Endpoint
    CHECK(*parse_socket_address(raw_bytes(six)) == endpoint6);
    CHECK(parse_socket_address(Bytes(raw_bytes(six)).first(24))->scope == 0);
    CHECK(parse_socket_address(Bytes(raw_bytes(six)).first(23)).error().code == Errc::malformed);
    CHECK(parse_socket_address(Bytes(raw_bytes(four)).first(15)).error().code == Errc::malformed);

    const sockaddr_storage nothing{};
    CHECK(*parse_socket_address(raw_bytes(nothing)) == Endpoint{});
    CHECK(socket_address({}) == std::vector<std::uint8_t>{0, 0});
    CHECK(parse_socket_address({}).error().code == Errc::malformed);
    sockaddr_storage unix_one{};
    unix_one.ss_family = AF_UNIX;
    CHECK(parse_socket_address(raw_bytes(unix_one)).error().code == Errc::bad_family);
    const std::vector<std::uint8_t> large = [&] {   // longer is fine, as for the system
        auto raw = raw_bytes(four);
        raw.resize(sizeof(sockaddr_storage));
        return raw;
    }();
    CHECK(*parse_socket_address(large) == endpoint4);
}
