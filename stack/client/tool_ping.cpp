// SPDX-License-Identifier: BSD-2-Clause
// latchkey ping: echo requests through an ICMP datagram socket of the host; prints and exits as ping(8) does.
#include "stack/client/calls.hpp"
#include "stack/client/tool.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>

namespace latchkey::tool {

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;
using Seconds = std::chrono::duration<double>;

constexpr std::size_t echo_header = 8;
constexpr long most_data = 65'507 - 20;   // with room for an IPv4 header with options
enum PingExit : int { some_reply = 0, no_reply = 1, ping_failed = 2 };

volatile std::sig_atomic_t interrupted = 0;

struct Options {
    long count = 0;         // 0: until interrupted
    long size = 56;
    double interval = 1;
    double linger = 10;     // seconds to wait for the last reply, if there was none at all
    bool linger_given = false;
    bool quiet = false;
    std::string socket;
};

class Ping {
public:
    Ping(client::Host& host, const Options& options, const Address& target)
        : host_(host), options_(options), target_(target), sent_at_(window)
    {
    }
    ~Ping()
    {
        if (fd_ >= 0)
            ::close(fd_);
    }
    Ping(const Ping&) = delete;
    Ping& operator=(const Ping&) = delete;

    int run();

private:
    static constexpr std::size_t window = 4096;   // requests whose replies are told apart

    struct Sent {
        Clock::time_point at;
        long sequence = 0;   // 0: none
        bool answered = false;
    };

    void send();
    bool receive();
    void take_reply(Bytes reply, std::size_t size, unsigned ttl, Clock::time_point now);
    Clock::duration linger() const;
    void summarise(Clock::duration took) const;

    client::Host& host_;
    const Options& options_;
    Address target_;
    int fd_ = -1;
    std::vector<Sent> sent_at_;
    long transmitted_ = 0, received_ = 0, duplicates_ = 0, errors_ = 0, tries_ = 0;
    double least_ = 0, most_ = 0, sum_ = 0, squares_ = 0;
};

int Ping::run()
{
    const bool v4 = target_.is_v4();
    fd_ = client::open_socket(host_, v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC,
                              v4 ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6));
    if (fd_ < 0) {
        fail("ping: socket: " + std::string(std::strerror(-fd_)));
        return ping_failed;
    }
    if (v4)
        std::printf("PING %s (%s) %ld(%ld) bytes of data.\n", target_.text().c_str(), target_.text().c_str(),
                    options_.size, options_.size + 28);
    else
        std::printf("PING %s(%s) %ld data bytes\n", target_.text().c_str(), target_.text().c_str(), options_.size);

    const auto start = Clock::now();
    const auto interval = std::chrono::duration_cast<Clock::duration>(Seconds(options_.interval));
    auto next = start;
    bool alive = true;
    while (alive && !interrupted) {
        const bool more = options_.count == 0 || tries_ < options_.count;
        auto now = Clock::now();
        if (more && now >= next) {
            send();
            next = std::max(next + interval, now);
            if (options_.count != 0 && tries_ == options_.count)
                next = now + linger();
            continue;
        }
        if (!more && (received_ + errors_ >= tries_ || now >= next))
            break;
        pollfd wait{fd_, POLLIN, 0};
        const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(next - now).count();
        const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
        if (::ppoll(&wait, 1, &timeout, nullptr) > 0)
            alive = receive();
        std::fflush(stdout);
    }
    summarise(Clock::now() - start);
    if (!alive)
        fail("ping: the host is gone");
    return !alive ? ping_failed : received_ > 0 ? some_reply : no_reply;
}

// How long to wait after the last request: as long as replies took at most, twice, if there were any.
Clock::duration Ping::linger() const
{
    const double seconds = options_.linger_given || received_ == 0 ? options_.linger
                                                                   : std::max(2 * most_ / 1000, options_.interval);
    return std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
}

void Ping::send()
{
    ++tries_;
    std::vector<std::uint8_t> echo(echo_header + static_cast<std::size_t>(options_.size));
    wire::Writer out(echo);
    out.put<std::uint8_t>(target_.is_v4() ? 8 : 128);
    out.put<std::uint8_t>(0);
    out.put<std::uint16_t>(0);   // checksum and identifier are the host's
    out.put<std::uint16_t>(0);
    out.put<std::uint16_t>(static_cast<std::uint16_t>(tries_));
    for (std::size_t i = echo_header; i < echo.size(); ++i)
        echo[i] = static_cast<std::uint8_t>(i);
    const iovec piece{echo.data(), echo.size()};
    std::array<std::uint8_t, control::max_socket_address> raw;
    const auto address = Bytes(raw).first(control::put_socket_address(raw, {target_}));

    sent_at_[static_cast<std::size_t>(tries_) % window] = {Clock::now(), tries_, false};
    // Decided by the host at once: a policy that refuses it and a missing route are known now.
    const auto sent = client::send_decided(host_, fd_, address, client::Pieces(&piece, 1), nullptr);
    ++transmitted_;
    if (sent < 0) {
        ++errors_;
        fail("ping: sendmsg: " + std::string(std::strerror(static_cast<int>(-sent))));
    }
}

// False: the host is gone.
bool Ping::receive()
{
    std::vector<std::uint8_t> reply(control::max_record);
    for (;;) {
        const iovec piece{reply.data(), reply.size()};
        client::Datagram datagram;
        const auto got = client::receive_datagram(fd_, client::Pieces(&piece, 1), MSG_DONTWAIT, datagram);
        if (got == -ENETDOWN)
            return false;
        if (got < 0)
            return true;
        const auto size = static_cast<std::size_t>(got);
        if (datagram.header.remote.address == target_ || target_.is_multicast())
            take_reply(Bytes(reply).first(size), size, datagram.header.ttl, Clock::now());
    }
}

void Ping::take_reply(Bytes reply, std::size_t size, unsigned ttl, Clock::time_point now)
{
    wire::Reader in(reply);
    const auto type = in.get<std::uint8_t>();
    in.skip(5);
    const auto sequence = in.get<std::uint16_t>();
    if (!in.ok() || type != (target_.is_v4() ? 0 : 129))
        return;
    auto& sent = sent_at_[sequence % window];
    if (sent.sequence == 0 || static_cast<std::uint16_t>(sent.sequence) != sequence)
        return;
    const double took = Milliseconds(now - sent.at).count();
    const bool duplicate = sent.answered;
    sent.answered = true;
    if (duplicate) {
        ++duplicates_;
    } else {
        ++received_;
        least_ = received_ == 1 ? took : std::min(least_, took);
        most_ = std::max(most_, took);
        sum_ += took;
        squares_ += took * took;
    }
    if (!options_.quiet)
        std::printf("%zu bytes from %s: icmp_seq=%u ttl=%u time=%.3f ms%s\n", size, target_.text().c_str(),
                    unsigned{sequence}, ttl, took, duplicate ? " (DUP!)" : "");
}

void Ping::summarise(Clock::duration took) const
{
    std::printf("\n--- %s ping statistics ---\n%ld packets transmitted, %ld received, ", target_.text().c_str(),
                transmitted_, received_);
    if (duplicates_ > 0)
        std::printf("+%ld duplicates, ", duplicates_);
    if (errors_ > 0)
        std::printf("+%ld errors, ", errors_);
    const double lost = transmitted_ == 0 ? 0 : 100.0 * static_cast<double>(transmitted_ - received_)
            / static_cast<double>(transmitted_);
    std::printf("%g%% packet loss, time %.0fms\n", lost, Milliseconds(took).count());
    if (received_ > 0) {
        const double n = static_cast<double>(received_), mean = sum_ / n;
        std::printf("rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", least_, mean, most_,
                    std::sqrt(std::max(0.0, squares_ / n - mean * mean)));
    }
    std::fflush(stdout);
}

// Ctrl-C ends with the statistics.
void catch_interrupt()
{
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = 1; };
    ::sigaction(SIGINT, &action, nullptr);
    ::sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

int run_ping(const Command& self, Words words)
{
    Options given;
    const std::array options{
        Option{"-c", "N", "number of requests, 1 or more (without: until interrupted)",
               [&](std::string_view v) { return parse_number(v, 1L, 1'000'000'000L, given.count); }},
        Option{"-s", "SIZE", "data bytes of a request, 0 to 65487 (default 56)",
               [&](std::string_view v) { return parse_number(v, 0L, most_data, given.size); }},
        Option{"-i", "SEC", "seconds between requests, 0 to 3600 (default 1)",
               [&](std::string_view v) { return parse_number(v, 0.0, 3600.0, given.interval); }},
        Option{"-W", "SEC", "seconds to wait for the last reply, 0.001 to 3600 (default 10)",
               [&](std::string_view v) { return given.linger_given = parse_number(v, 0.001, 3600.0, given.linger); }},
        Option{"-q", "", "print the summary only", [&](std::string_view) { return given.quiet = true; }},
        socket_option(given.socket)};
    if (const auto done = take_options(self, options, words))
        return *done;
    std::string_view target = words.empty() ? "" : words.front();
    if (!words.empty())
        words = words.subspan(1);
    if (const auto done = take_options(self, options, words))
        return *done;
    if (target.empty() || !words.empty())
        return fail_usage(self, target.empty() ? "which address?"
                                               : "unexpected word `" + std::string(words.front()) + "`");
    const auto address = Address::parse(target);
    if (!address)
        return fail_usage(self, "`" + std::string(target) + "` is no IPv4 or IPv6 address (names are not resolved)");
    client::Host host;
    if (!open_host(host, given.socket))
        return ping_failed;
    catch_interrupt();
    return Ping(host, given, *address).run();
}

}  // namespace latchkey::tool
