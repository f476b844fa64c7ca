// SPDX-License-Identifier: BSD-2-Clause
#include "stack/wire/wire.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace latchkey;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

using Frame = std::vector<std::uint8_t>;
using Frames = std::vector<Frame>;
constexpr std::uint8_t everyone = 0xff;

struct TempDir {
    TempDir()
    {
        char name[] = "/tmp/latchkey-wire-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~TempDir() { fs::remove_all(path); }
    std::string segment() const { return path + "/lan"; }
    std::string path;
};

// A frame from host `from` to host `to` (or everyone), with its number in the payload.
Frame frame(std::uint8_t to, std::uint8_t from, unsigned number = 0, std::size_t size = 60)
{
    Frame bytes(size, 0xa5);
    for (std::size_t i = 0; i < 6; ++i)
        bytes[i] = to == everyone ? 0xff : i == 5 ? to : i == 0 ? 2 : 0;
    for (std::size_t i = 6; i < 12; ++i)
        bytes[i] = i == 11 ? from : i == 6 ? 2 : 0;
    wire::set_field<std::uint16_t>(bytes, 12, 0x88b5);
    if (size >= 18)
        wire::set_field<std::uint32_t>(bytes, 14, number);
    return bytes;
}

unsigned number_of(const Frame& bytes)
{
    return wire::field<std::uint32_t>(bytes, 14);
}

Frames take(Wire& wire, Time now = 1s, std::size_t budget = 1u << 20)
{
    Frames frames;
    wire.receive([&](MutableBytes bytes) { frames.emplace_back(bytes.begin(), bytes.end()); }, budget, now);
    return frames;
}

std::unique_ptr<Wire> join(const std::string& directory)
{
    auto wire = open_segment(directory);
    REQUIRE_MESSAGE(wire.has_value(), wire.error());
    return std::move(*wire);
}

std::size_t sockets_in(const std::string& directory)
{
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(directory), {}));
}

bool readable(const Wire& wire)
{
    for (const auto& watch : wire.watches()) {
        pollfd p{watch.fd, POLLIN, 0};
        if (::poll(&p, 1, 0) > 0)
            return true;
    }
    return false;
}

// Remembers what was sent, gives what was put in.
struct Recorder final : Wire {
    Frames& sent;
    Frames waiting;
    explicit Recorder(Frames& log) : sent(log) {}
    void send(Bytes bytes, Time) override { sent.emplace_back(bytes.begin(), bytes.end()); }
    std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t, Time) override
    {
        for (auto& one : waiting)
            sink(one);
        const auto n = waiting.size();
        waiting.clear();
        return n;
    }
    std::string name() const override { return "recorder"; }
};

}  // namespace

TEST_CASE("a wire is described by kind, target and options")
{
    const auto spec = parse_wire_spec(
        "unix:/run/lan:1,pcap=a b.pcap,loss=12.5,duplicate=0,reorder=100,corrupt=1e-1,seed=18446744073709551615");
    REQUIRE(spec.has_value());
    CHECK(spec->kind == "unix");
    CHECK(spec->target == "/run/lan:1");
    CHECK(spec->pcap == "a b.pcap");
    CHECK(spec->loss == 0.125);
    CHECK(spec->duplicate == 0);
    CHECK(spec->reorder == 1);
    CHECK(spec->corrupt == doctest::Approx(0.001));
    CHECK(spec->seed == 18446744073709551615u);

    const auto plain = parse_wire_spec("tap:lk0");
    REQUIRE(plain.has_value());
    CHECK(plain->kind == "tap");
    CHECK(plain->target == "lk0");
    CHECK(plain->seed == 1);
    CHECK(plain->pcap.empty());
}

TEST_CASE("an error in a wire's description says where and what was expected")
{
    const std::string options = "expected one of the options pcap, loss, duplicate, reorder, corrupt, seed";
    const std::pair<std::string, std::string> cases[] = {
        {"", "\"\": expected tap:NAME or unix:DIRECTORY"},
        {"tap", "\"tap\": expected tap:NAME or unix:DIRECTORY"},
        {"udp:1.2.3.4", "\"udp:1.2.3.4\": expected tap:NAME or unix:DIRECTORY"},
        {":x", "\":x\": expected tap:NAME or unix:DIRECTORY"},
        {"tap:", "\"tap:\": expected the name of an interface after the colon"},
        {"unix:,loss=1", "\"unix:\": expected the path of a directory after the colon"},
        {"tap:a,", "\"\": " + options},
        {"tap:a,,loss=1", "\"\": " + options},
        {"tap:a,lose=1", "\"lose=1\": " + options},
        {"tap:a,Loss=1", "\"Loss=1\": " + options},
        {"tap:a,loss", "\"loss\": expected loss=VALUE"},
        {"tap:a,loss=", "loss=: expected a percentage from 0 to 100"},
        {"tap:a,loss=-1", "loss=-1: expected a percentage from 0 to 100"},
        {"tap:a,corrupt=100.1", "corrupt=100.1: expected a percentage from 0 to 100"},
        {"tap:a,reorder=nan", "reorder=nan: expected a percentage from 0 to 100"},
        {"tap:a,duplicate=5%", "duplicate=5%: expected a percentage from 0 to 100"},
        {"tap:a,loss=1,seed=2,loss=3", "loss is given twice"},
        {"tap:a,seed=-1", "seed=-1: expected a number from 0 to 18446744073709551615"},
        {"tap:a,seed=18446744073709551616",
         "seed=18446744073709551616: expected a number from 0 to 18446744073709551615"},
        {"tap:a,pcap=", "pcap=: expected the name of a file"},
    };
    for (const auto& [text, expected] : cases) {
        CAPTURE(text);
        const auto spec = parse_wire_spec(text);
        REQUIRE(!spec.has_value());
        CHECK(spec.error() == expected);
    }
}

TEST_CASE("names that no interface can have are refused before the kernel is asked")
{
    CHECK(open_tap("0123456789abcdef").error() == "an interface name has 1 to 15 characters, this one has 16");
    CHECK(open_tap("").error() == "an interface name has 1 to 15 characters, this one has 0");
    for (const auto* name : {"a/b", "a b", "tap%d", "a:1", ".."})
        CHECK(open_tap(name).error() == "an interface name has no slash, colon, percent sign or blank in it");
}

TEST_CASE("segment: a path that cannot be a segment is refused with the reason")
{
    TempDir temp;
    std::ofstream(temp.path + "/file") << "x";
    CHECK(open_segment(temp.path + "/file").error() == "this is not a directory");
    CHECK(open_segment(temp.path + "/none/lan").error() == "cannot make the directory: No such file or directory");
    const auto longest = temp.path + "/" + std::string(107 - 22 - temp.path.size() - 1, 'x');
    CHECK(open_segment(longest + "y").error() == "the path has 86 characters, a socket's directory 85 at most");
    CHECK(open_segment(longest).has_value());
}

TEST_CASE("segment: the directory is made for its owner alone and is empty again when all have gone")
{
    TempDir temp;
    {
        const auto a = join(temp.segment()), b = join(temp.segment());
        struct stat info{};
        REQUIRE(::stat(temp.segment().c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0700);
        CHECK(sockets_in(temp.segment()) == 2);
        CHECK(a->name() == "unix:" + temp.segment());
    }
    CHECK(sockets_in(temp.segment()) == 0);
}

TEST_CASE("segment: two hosts exchange frames of every size, in order")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment());
    CHECK(take(*a).empty());
    for (const std::size_t size : {14, 60, 1514, 9216, 65535}) {
        CAPTURE(size);
        a->send(frame(2, 1, 7, size), 1s);
        CHECK(readable(*b));
        CHECK((take(*b) == Frames{frame(2, 1, 7, size)}));
        b->send(frame(1, 2, 8, size), 1s);
        CHECK((take(*a) == Frames{frame(1, 2, 8, size)}));
    }
    for (unsigned i = 0; i < 100; ++i)
        a->send(frame(2, 1, i), 1s);
    const auto got = take(*b);
    REQUIRE(got.size() == 100);
    for (unsigned i = 0; i < 100; ++i)
        CHECK(number_of(got[i]) == i);
    CHECK(!readable(*b));
    CHECK(a->stats().sent == 105);
    CHECK(b->stats().received == 105);
}

TEST_CASE("segment: frames shorter than a header or longer than a packet buffer are refused")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment());
    take(*a);
    a->send(Frame(13), 1s);
    a->send(Frame(65536), 1s);
    a->send({}, 1s);
    CHECK(take(*b).empty());
    CHECK(a->stats().refused == 3);
    CHECK(a->stats().sent == 0);
}

TEST_CASE("segment: unknown and group addresses go to all, a learned address to its host only")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment()), c = join(temp.segment());
    take(*a), take(*b);

    a->send(frame(everyone, 1), 1s);
    CHECK(take(*b).size() == 1);
    CHECK(take(*c).size() == 1);
    a->send(frame(9, 1), 1s);   // nobody knows host 9
    CHECK(take(*b).size() == 1);
    CHECK(take(*c).size() == 1);
    auto multicast = frame(5, 1);
    multicast[0] = 0x33;
    a->send(multicast, 1s);
    CHECK(take(*b).size() == 1);
    CHECK(take(*c).size() == 1);

    b->send(frame(1, 2), 1s);   // b learned where 1 is, so c sees nothing; a learns where 2 is
    CHECK(take(*c).empty());
    CHECK(take(*a).size() == 1);
    a->send(frame(2, 1), 2s);
    CHECK(take(*b, 2s).size() == 1);
    CHECK(take(*c, 2s).empty());

    a->send(frame(2, 1), 302s);   // too long ago
    CHECK(take(*b, 302s).size() == 1);
    CHECK(take(*c, 302s).size() == 1);

    c->send(frame(1, 2), 303s);   // host 2's address has moved
    CHECK(take(*a, 303s).size() == 1);
    a->send(frame(2, 1), 303s);
    CHECK(take(*b, 303s).empty());
    CHECK(take(*c, 303s).size() == 1);
}

TEST_CASE("segment: made-up source addresses fill a table of fixed size and break nothing")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment());
    take(*a);
    for (unsigned i = 0; i < 6000; ++i) {
        auto forged = frame(everyone, 1);
        wire::set_field<std::uint32_t>(forged, 8, i + 1);
        a->send(forged, 1s);
        take(*b);
    }
    a->send(frame(2, 1), 1s);
    CHECK(take(*b).size() == 1);
    b->send(frame(1, 2), 1s);   // not learned, so flooded
    CHECK(take(*a).size() == 1);
    CHECK(b->stats().received == 6001);
}

TEST_CASE("segment: receive() keeps to its budget and serves all peers in turn")
{
    TempDir temp;
    const auto sink = join(temp.segment());
    std::vector<std::unique_ptr<Wire>> sources;
    for (std::uint8_t i = 0; i < 3; ++i) {
        sources.push_back(join(temp.segment()));
        for (unsigned n = 0; n < 100; ++n)
            sources.back()->send(frame(everyone, static_cast<std::uint8_t>(10 + i), n), 1s);
        for (auto& source : sources)
            take(*source);
    }
    std::size_t from[3] = {}, total = 0;
    for (int round = 0; round < 6; ++round) {
        const auto got = take(*sink, 1s, 32);
        CHECK(got.size() <= 32);
        total += got.size();
        for (const auto& one : got)
            ++from[one[11] - 10];
    }
    for (const auto n : from)
        CHECK(n >= 16);
    while (total < 300) {
        const auto got = take(*sink, 1s, 32);
        REQUIRE(!got.empty());
        total += got.size();
    }
    CHECK(total == 300);
    CHECK(take(*sink).empty());
}

TEST_CASE("segment: what a slow peer does not take waits in a bounded queue, then is dropped and counted")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment());
    take(*a);
    constexpr unsigned count = 20000;   // of 1000 bytes: five times the queue
    for (unsigned i = 0; i < count; ++i)
        a->send(frame(everyone, 1, i, 1000), 1s);
    const auto dropped = a->stats().dropped;
    CHECK(dropped > count / 2);
    CHECK(dropped < count);
    CHECK(!readable(*a));   // waiting for room must not keep the host awake

    unsigned expected = 0;
    while (expected < count - dropped) {
        const auto got = take(*b);
        REQUIRE(!got.empty());
        for (const auto& one : got)
            CHECK(number_of(one) == expected++);
        CHECK((expected == count - dropped || readable(*a)));
        take(*a);   // sends what waited
    }
    CHECK(take(*b).empty());
    CHECK(expected * std::size_t{1000} > 4'000'000);

    a->send(frame(everyone, 1, count, 1000), 1s);   // and the link works as before
    CHECK(take(*b).size() == 1);
    CHECK(a->stats().dropped == dropped);
}

TEST_CASE("segment: a peer's end is noticed, its last frames still arrive, a successor takes its place")
{
    TempDir temp;
    const auto a = join(temp.segment());
    auto b = join(temp.segment());
    take(*a);
    b->send(frame(everyone, 2, 1), 1s);
    CHECK(take(*a).size() == 1);   // a knows where 2 is
    a->send(frame(2, 1), 1s);      // unread by b when it ends
    b->send(frame(everyone, 2, 2), 1s);
    b.reset();
    const auto last = take(*a);
    REQUIRE(last.size() == 1);
    CHECK(number_of(last[0]) == 2);
    CHECK(!readable(*a));
    a->send(frame(2, 1), 1s);

    b = join(temp.segment());
    a->send(frame(2, 1, 3), 1s);
    take(*a);                      // greets b only now
    a->send(frame(2, 1, 4), 1s);
    const auto got = take(*b);
    REQUIRE(got.size() == 1);
    CHECK(number_of(got[0]) == 4);
}

TEST_CASE("segment: a peer that dies while a host sends costs that frame at most")
{
    TempDir temp;
    const auto a = join(temp.segment());
    auto b = join(temp.segment());
    const auto c = join(temp.segment());
    take(*a), take(*b);
    b.reset();
    for (unsigned i = 0; i < 3; ++i)
        a->send(frame(everyone, 1, i), 1s);   // without a receive() in between
    CHECK(take(*c).size() == 3);
    CHECK(a->stats().dropped == 1);
}

TEST_CASE("segment: a killed host's socket is removed by the next one, a foreign file is left alone")
{
    TempDir temp;
    const auto child = ::fork();
    if (child == 0) {
        const auto wire = open_segment(temp.segment());
        ::_exit(wire ? 0 : 1);   // without destructors, like a kill
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(status == 0);
    REQUIRE(sockets_in(temp.segment()) == 1);
    std::ofstream(temp.segment() + "/notes.sock") << "x";
    const auto forgotten = temp.segment() + "/0123456789abcdef.new", fresh = temp.segment() + "/0123456789abcdee.new";
    std::ofstream{forgotten}, std::ofstream{fresh};
    fs::last_write_time(forgotten, fs::file_time_type::clock::now() - 2min);

    const auto a = join(temp.segment());
    CHECK(sockets_in(temp.segment()) == 3);
    CHECK(!fs::exists(forgotten));
    CHECK(fs::exists(fresh));
    const auto b = join(temp.segment());
    a->send(frame(everyone, 1), 1s);
    take(*a);
    a->send(frame(everyone, 1), 1s);
    CHECK(take(*b).size() == 1);
}

TEST_CASE("segment: who does not say the greeting gets no frames and is shown the door")
{
    TempDir temp;
    const auto a = join(temp.segment());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    fs::directory_iterator(temp.segment())->path().string().copy(address.sun_path, sizeof address.sun_path - 1);
    const auto connect = [&] {
        const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        REQUIRE(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        return fd;
    };
    char byte;

    for (const std::string words :
         {"hello", "latchkey segment 1", "latchkey segment 1 12345678", "latchkey segment 212345678"}) {
        const int fd = connect();
        REQUIRE(::send(fd, words.data(), words.size(), 0) > 0);
        take(*a);
        a->send(frame(everyone, 1), 1s);
        CHECK(::recv(fd, &byte, 1, MSG_DONTWAIT) == 0);   // closed, nothing was sent
        ::close(fd);
    }
    std::vector<int> silent;
    for (int i = 0; i < 100; ++i)
        silent.push_back(connect());
    take(*a, 1s);
    CHECK(::recv(silent[99], &byte, 1, MSG_DONTWAIT) == 0);    // one too many
    CHECK(::recv(silent[0], &byte, 1, MSG_DONTWAIT) == -1);    // may still greet
    silent.push_back(connect());
    take(*a, 10s);
    CHECK(::recv(silent[0], &byte, 1, MSG_DONTWAIT) == 0);     // had its time
    CHECK(::recv(silent[100], &byte, 1, MSG_DONTWAIT) == -1);
    for (const int fd : silent)
        ::close(fd);
}

TEST_CASE("segment: hosts that start at the same moment see every frame of each other exactly once")
{
    for (int attempt = 0; attempt < 5; ++attempt) {
        TempDir temp;
        constexpr std::size_t hosts = 8;
        std::vector<std::unique_ptr<Wire>> wires(hosts);
        {
            std::vector<std::jthread> starts;
            for (auto& wire : wires)
                starts.emplace_back([&] {
                    if (auto opened = open_segment(temp.segment()))
                        wire = std::move(*opened);
                });
        }
        std::vector<Frames> got(hosts);
        const auto receive_all = [&] {
            for (std::size_t i = 0; i < hosts; ++i)
                for (auto& one : take(*wires[i]))
                    got[i].push_back(std::move(one));
        };
        for (auto& wire : wires)
            REQUIRE(wire);
        for (auto& wire : wires)   // everybody accepts; in a host this happens on the first turn of its loop
            take(*wire);
        for (unsigned n = 0; n < 3; ++n) {
            for (std::size_t i = 0; i < hosts; ++i)
                wires[i]->send(frame(everyone, static_cast<std::uint8_t>(i), n), 1s);
            receive_all();
        }
        receive_all();
        for (std::size_t i = 0; i < hosts; ++i) {
            CHECK(got[i].size() == 3 * (hosts - 1));
            for (std::size_t from = 0; from < hosts; ++from)
                for (unsigned n = 0; n < 3; ++n)
                    CHECK(std::ranges::count(got[i], frame(everyone, static_cast<std::uint8_t>(from), n)) ==
                          (from == i ? 0 : 1));
        }
    }
}

TEST_CASE("segment: frames sent right after opening reach a host that has not run yet")
{
    TempDir temp;
    const auto a = join(temp.segment()), b = join(temp.segment());
    b->send(frame(everyone, 2, 1), 1s);
    CHECK(take(*a).size() == 1);
}

TEST_CASE("pcap: the file is what the format says, in both directions, and whole after every round")
{
    TempDir temp;
    const auto file = temp.path + "/a.pcap";
    Frames sent;
    auto inner = std::make_unique<Recorder>(sent);
    inner->waiting = {frame(1, 2, 0, 15)};
    auto wire = add_pcap(std::move(inner), file, 1'700'000'000);
    REQUIRE(wire.has_value());
    (*wire)->send(frame(2, 1, 0, 14), 5s + 123456789ns);
    CHECK((sent == Frames{frame(2, 1, 0, 14)}));
    CHECK((*wire)->next_deadline() ==
          5s + 223456789ns);  // the frame must reach the disk soon, even if nothing comes in
    CHECK(take(**wire, 6s).size() == 1);
    CHECK((*wire)->next_deadline() == Time::max());

    std::ifstream in(file, std::ios::binary);
    const Frame bytes{std::istreambuf_iterator<char>(in), {}};
    const Frame expected{
        0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0,
        0x05, 0xf1, 0x53, 0x65, 0x15, 0xcd, 0x5b, 0x07, 14, 0, 0, 0, 14, 0, 0, 0,
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5,
        0x06, 0xf1, 0x53, 0x65, 0, 0, 0, 0, 15, 0, 0, 0, 15, 0, 0, 0,
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 0xa5};
    CHECK((bytes == expected));
    struct stat info{};
    REQUIRE(::stat(file.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);

    // Somebody else's reading of it.
    if (auto* const dump = ::popen(("tcpdump -r " + file + " -e -n --nano -tt 2>/dev/null").c_str(), "r")) {
        std::string text(4096, '\0');
        text.resize(std::fread(text.data(), 1, text.size(), dump));
        if (::pclose(dump) == 0) {
            CHECK(text.find("1700000005.123456789 02:00:00:00:00:01 > 02:00:00:00:00:02") != text.npos);
            CHECK(text.find("1700000006.000000000 02:00:00:00:00:02 > 02:00:00:00:00:01") != text.npos);
        } else {
            MESSAGE("tcpdump is not installed: its reading of the capture was not compared");
        }
    }
}

TEST_CASE("pcap: more than its buffer, and a file that cannot be made")
{
    TempDir temp;
    const auto file = temp.path + "/a.pcap";
    Frames sent;
    auto wire = add_pcap(std::make_unique<Recorder>(sent), file, 0);
    REQUIRE(wire.has_value());
    for (int i = 0; i < 10; ++i)
        (*wire)->send(frame(2, 1, 0, 65535), 1s);
    wire->reset();
    CHECK(fs::file_size(file) == 24 + 10 * (16 + 65535));
    CHECK(sent.size() == 10);

    const auto failed = add_pcap(std::make_unique<Recorder>(sent), temp.path + "/none/a.pcap", 0);
    REQUIRE(!failed.has_value());
    CHECK(failed.error() == "pcap=" + temp.path + "/none/a.pcap: No such file or directory");
}

TEST_CASE("pcap: a full disk ends the capture, not the wire")
{
    Frames sent;
    auto wire = add_pcap(std::make_unique<Recorder>(sent), "/dev/full", 0);
    REQUIRE(wire.has_value());
    (*wire)->send(frame(2, 1), 1s);
    CHECK(sent.size() == 1);
    CHECK((*wire)->next_deadline() == Time::max());
}

namespace {

Frames through_faults(const WireSpec& spec, unsigned count, bool flush = true)
{
    Frames sent;
    const auto wire = add_faults(std::make_unique<Recorder>(sent), spec);
    for (unsigned i = 0; i < count; ++i)
        wire->send(frame(2, 1, i, 200), 1s);
    if (flush)
        take(*wire, 10s);
    return sent;
}

}  // namespace

TEST_CASE("faults: the same seed gives the same wire, another seed another one")
{
    WireSpec spec{.loss = 0.1, .duplicate = 0.1, .reorder = 0.1, .corrupt = 0.1, .seed = 7};
    const auto first = through_faults(spec, 2000);
    CHECK((first == through_faults(spec, 2000)));
    spec.seed = 8;
    CHECK((first != through_faults(spec, 2000)));
}

TEST_CASE("faults: each strikes at its rate, and nothing else changes")
{
    constexpr unsigned count = 20000;
    const auto near = [](std::size_t n, unsigned expected) { return n * 10 > expected * 9 && n * 10 < expected * 11; };

    CHECK(through_faults({}, 100).size() == 100);

    const auto lossy = through_faults({.loss = 0.1}, count);
    CHECK(near(count - lossy.size(), count / 10));
    CHECK(std::ranges::is_sorted(lossy, {}, number_of));

    const auto doubled = through_faults({.duplicate = 0.1}, count);
    CHECK(near(doubled.size() - count, count / 10));
    CHECK(std::ranges::is_sorted(doubled, {}, number_of));

    const auto spoilt = through_faults({.corrupt = 0.1}, count);
    REQUIRE(spoilt.size() == count);
    std::size_t changed = 0;
    for (unsigned i = 0; i < count; ++i) {
        const auto good = frame(2, 1, i, 200);
        int bits = 0;
        for (std::size_t at = 0; at < good.size(); ++at)
            bits += std::popcount(static_cast<unsigned>(good[at] ^ spoilt[i][at]));
        CHECK(bits <= 1);
        changed += static_cast<std::size_t>(bits);
        CHECK(std::equal(good.begin(), good.begin() + 14, spoilt[i].begin()));
    }
    CHECK(near(changed, count / 10));

    auto shuffled = through_faults({.reorder = 0.1}, count);
    REQUIRE(shuffled.size() == count);
    std::size_t late = 0;
    for (unsigned i = 0; i < count; ++i) {
        const auto number = number_of(shuffled[i]);
        if (number < i)
            CHECK(i - number <= 3);
        late += number < i;
    }
    CHECK(near(late, count / 10));
    std::ranges::sort(shuffled, {}, number_of);
    for (unsigned i = 0; i < count; ++i)
        CHECK(number_of(shuffled[i]) == i);
}

TEST_CASE("faults: an option does not move where the others strike")
{
    const auto numbers = [](const Frames& frames) {
        std::vector<unsigned> all;
        for (const auto& one : frames)
            all.push_back(number_of(one));
        return all;
    };
        auto with_more = numbers(through_faults({.loss = 0.2, .duplicate = 0.5, .reorder = 0.3}, 500));
    std::ranges::sort(with_more);
    with_more.erase(std::ranges::unique(with_more).begin(), with_more.end());
    CHECK((with_more == numbers(through_faults({.loss = 0.2}, 500))));
}

TEST_CASE("faults: a held frame leaves after a while when nothing overtakes it")
{
    Frames sent;
    const auto wire = add_faults(std::make_unique<Recorder>(sent), {.reorder = 1});
    CHECK(wire->next_deadline() == Time::max());
    wire->send(frame(2, 1), 1s);
    CHECK(sent.empty());
    CHECK(wire->next_deadline() == 1s + 20ms);
    take(*wire, 1s + 19ms);
    CHECK(sent.empty());
    take(*wire, 1s + 20ms);
    CHECK(sent.size() == 1);
    CHECK(wire->next_deadline() == Time::max());
}

TEST_CASE("faults: what they drop is counted")
{
    Frames sent;
    const auto wire = add_faults(std::make_unique<Recorder>(sent), {.loss = 1});
    for (int i = 0; i < 5; ++i)
        wire->send(frame(2, 1), 1s);
    CHECK(sent.empty());
    CHECK(wire->stats().dropped == 5);
}

TEST_CASE("a capture shows the wire after the faults")
{
    TempDir temp;
    const auto spec = parse_wire_spec("unix:" + temp.segment() + ",loss=100,pcap=" + temp.path + "/a.pcap");
    REQUIRE(spec.has_value());
    auto wire = open_wire(*spec);
    REQUIRE_MESSAGE(wire.has_value(), wire.error());
    (*wire)->send(frame(everyone, 1), 1s);
    wire->reset();
    CHECK(fs::file_size(temp.path + "/a.pcap") == 24);
    CHECK(open_wire({.kind = "udp", .target = "x"}).error() == "\"udp\": expected tap:NAME or unix:DIRECTORY");
}
