// SPDX-License-Identifier: BSD-2-Clause
// A door over the looped-back lwIP, and a client that speaks the control protocol by hand. Everything runs in one
// thread: a call of the client gives the host turns until the answer is there.
#pragma once

#include "stack/door.hpp"

#include "tests/stack/lwip_stubs.hpp"

#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <net/pfkeyv2.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace latchkey::test {

class PlainControl : public HostControl {
public:
    const std::string& name() const override { return name_; }
    std::string stat(int style) override { return style == 1 ? long_text : "for people\n"; }
    Result<std::string> address(int verb, std::string_view text) override
    {
        if (verb != 0)
            last = std::string(text);
        return verb == 2 ? Result<std::string>(fail(Errc::not_found, "no such address", EADDRNOTAVAIL))
                         : "10.0.0.1/24 dev net0\n";
    }
    Result<std::string> route(int, std::string_view) override { return "default via 10.0.0.254\n"; }
    Result<std::string> link(int, std::string_view) override { return "net0 up\n"; }
    Result<std::string> sysctl(int verb, std::string_view text) override
    {
        if (verb == 2)
            last = std::string(text);
        return verb == 1 ? "2" : "net.inet.ipsec.dfbit=2\n";
    }
    std::string long_text, last;

private:
    std::string name_ = "test host";
};

inline Endpoint at(const char* address, unsigned port)
{
    return {*Address::parse(address), static_cast<std::uint16_t>(port), 0};
}

inline Bytes bytes_of(std::string_view text)
{
    return {static_cast<const std::uint8_t*>(static_cast<const void*>(text.data())), text.size()};
}

inline std::string text_of(Bytes bytes)
{
    return std::string(bytes.begin(), bytes.end());
}

inline std::size_t open_descriptors()
{
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
        ++n;
    return n;
}

struct DoorFixture {
    explicit DoorFixture(DoorOptions options = {}, SocketLimits limits = {}) : sockets(index, engine, geteuid(), limits)
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "latchkey-door-XXXXXX").string();
        REQUIRE(mkdtemp(pattern.data()) != nullptr);
        directory = pattern;
        path = directory + "/host.sock";
        auto opened = Door::open(path, sockets, control, options);
        REQUIRE_MESSAGE(opened, (opened ? "" : opened.error()));
        door = std::move(*opened);
    }
    ~DoorFixture()
    {
        lo.lose = nullptr;
        door.reset();
        std::error_code ignored;
        std::filesystem::remove_all(directory, ignored);
    }

    bool turn()
    {
        const bool more = door->run(lo.now(), 64);
        lo.pump();
        return more;
    }
    void settle(int turns = 30)
    {
        for (int i = 0; i < turns; ++i)
            turn();
    }

    test::Loopback& lo = test::Loopback::instance();
    PinnedRng rng;
    SocketIndex index;
    Engine engine{rng, 0};
    Sockets sockets;
    PlainControl control;
    std::string directory, path;
    std::unique_ptr<Door> door;
};

struct HeldReply {
    std::int32_t result = -9999;
    std::uint32_t id = 0;
    std::vector<std::uint8_t> address, payload;
    Fd fd;
};

inline Fd connect_channel(const std::string& path)
{
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), name.sun_path);
    Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto* generic = static_cast<const sockaddr*>(static_cast<const void*>(&name));
    return ::connect(fd.get(), generic, sizeof name) == 0 ? std::move(fd) : Fd{};
}

inline void send_request(int channel, const control::Request& request, int passed = -1)
{
    std::vector<std::uint8_t> raw(request.size());
    wire::Writer out(raw, wire::Order::host);
    request.emit(out);
    REQUIRE(out.ok());
    const Bytes bytes(raw);
    REQUIRE(send_pieces(channel, {&bytes, 1}, passed).has_value());
}

// Waits up to two seconds when another process is the host.
inline HeldReply take_reply(int channel, int wait_ms = 0)
{
    HeldReply held;
    if (pollfd p{channel, POLLIN, 0}; poll(&p, 1, wait_ms) <= 0)
        return held;
    std::vector<std::uint8_t> room(control::max_record);
    auto record = receive_record(channel, room);
    if (!record)
        return held;
    const auto reply = control::Reply::parse(record->bytes);
    if (!reply)
        return held;
    held.result = reply->result;
    held.id = reply->id;
    held.address.assign(reply->address.begin(), reply->address.end());
    held.payload.assign(reply->payload.begin(), reply->payload.end());
    held.fd = std::move(record->passed);
    return held;
}

class RawClient {
public:
    explicit RawClient(DoorFixture& host) : host_(host), channel_(connect_channel(host.path)) { REQUIRE(channel_); }

    HeldReply call(const control::Request& request, int passed = -1)
    {
        send_request(channel_.get(), request, passed);
        for (int i = 0; i < 50; ++i) {
            host_.turn();
            if (auto reply = take_reply(channel_.get()); reply.result != -9999)
                return reply;
        }
        return {};
    }
    Fd socket(int domain, int type, int protocol = 0, int expect = 0)
    {
        auto reply = call({.op = control::Op::socket, .id = ++id_, .arg = {domain, type, protocol}});
        CHECK(reply.result == expect);
        CHECK(reply.id == id_);
        CHECK(static_cast<bool>(reply.fd) == (expect == 0));
        return std::move(reply.fd);
    }
    int name_call(control::Op op, const Fd& fd, const Endpoint& e, int flags = 0)
    {
        const auto raw = control::socket_address(e);
        return call({.op = op, .id = ++id_, .arg = {flags, 0, 0}, .address = raw}, fd.get()).result;
    }
    int bind(const Fd& fd, const Endpoint& e) { return name_call(control::Op::bind, fd, e); }
    int connect(const Fd& fd, const Endpoint& e, bool no_wait = false)
    {
        return name_call(control::Op::connect, fd, e, no_wait ? 1 : 0);
    }
    int listen(const Fd& fd, int backlog = 8)
    {
        return call({.op = control::Op::listen, .id = ++id_, .arg = {backlog, 0, 0}}, fd.get()).result;
    }
    Endpoint name(control::Op op, const Fd& fd)
    {
        const auto reply = call({.op = op, .id = ++id_}, fd.get());
        CHECK(reply.result == 0);
        return control::parse_socket_address(reply.address).value_or(Endpoint{});
    }
    int set(const Fd& fd, int level, int option, int value)
    {
        std::array<std::uint8_t, 4> raw{};
        std::memcpy(raw.data(), &value, 4);
        return call({.op = control::Op::setsockopt, .id = ++id_, .arg = {level, option, 0}, .payload = raw}, fd.get())
            .result;
    }
    int get(const Fd& fd, int level, int option)
    {
        const auto reply = call({.op = control::Op::getsockopt, .id = ++id_, .arg = {level, option, 4}}, fd.get());
        int value = -1;
        if (reply.payload.size() == 4)
            std::memcpy(&value, reply.payload.data(), 4);
        return reply.result < 0 ? reply.result : value;
    }
    HeldReply send(const Fd& fd, Bytes payload, const Endpoint& to = {})
    {
        const auto raw =
            to.address.family() == Family::none ? std::vector<std::uint8_t>{} : control::socket_address(to);
        return call({.op = control::Op::send, .id = ++id_, .address = raw, .payload = payload}, fd.get());
    }
    Fd accept(const Fd& listener, Endpoint* from = nullptr)
    {
        for (int i = 0; i < 20; ++i) {
            std::array<std::uint8_t, control::data_header_size> raw;
            auto record = receive_record(listener.get(), raw);
            if (record && record->bytes.size() == raw.size() && record->passed) {
                wire::Reader in(record->bytes, wire::Order::host);
                if (from != nullptr)
                    *from = control::DataHeader::parse(in)->remote;
                return std::move(record->passed);
            }
            host_.turn();
        }
        return {};
    }
    struct Tcp {
        Fd listener, client, server;
    };
    Tcp connected(unsigned port)
    {
        Tcp t{socket(AF_INET, SOCK_STREAM), socket(AF_INET, SOCK_STREAM), {}};
        CHECK(set(t.listener, SOL_SOCKET, SO_REUSEADDR, 1) == 0);
        REQUIRE(bind(t.listener, at("10.0.0.1", port)) == 0);
        REQUIRE(listen(t.listener) == 0);
        REQUIRE(connect(t.client, at("10.0.0.1", port)) == 0);
        t.server = accept(t.listener);
        REQUIRE(t.server);
        return t;
    }

    int channel() const { return channel_.get(); }
    std::uint32_t last_id() const { return id_; }

private:
    DoorFixture& host_;
    Fd channel_;
    std::uint32_t id_ = 0;
};

// One datagram through a UDP or ping descriptor.
inline bool send_datagram(const Fd& fd, const Endpoint& to, std::string_view text)
{
    std::array<std::uint8_t, control::data_header_size> raw;
    wire::Writer out(raw, wire::Order::host);
    control::DataHeader header;
    header.remote = to;
    header.emit(out);
    const std::array<Bytes, 2> pieces{Bytes(raw), bytes_of(text)};
    return send_pieces(fd.get(), pieces).has_value();
}

inline std::string take_datagram(const Fd& fd, control::DataHeader* header = nullptr)
{
    std::vector<std::uint8_t> room(70'000);
    const auto record = receive_record(fd.get(), room);
    if (!record)
        return "(none)";
    wire::Reader in(record->bytes, wire::Order::host);
    const auto parsed = control::DataHeader::parse(in);
    if (!parsed)
        return "(malformed)";
    if (header != nullptr)
        *header = *parsed;
    return text_of(in.rest());
}

inline std::string take_bytes(const Fd& fd, std::size_t most = 65536)
{
    std::string out(most, '\0');
    const auto n = ::recv(fd.get(), out.data(), most, MSG_DONTWAIT);
    if (n < 0)
        return std::string("error ") + std::strerror(errno);
    out.resize(static_cast<std::size_t>(n));
    return n == 0 ? "(end)" : out;
}

inline short poll_now(const Fd& fd, short events)
{
    pollfd p{fd.get(), events, 0};
    return poll(&p, 1, 0) > 0 ? p.revents : short{0};
}

}  // namespace latchkey::test
