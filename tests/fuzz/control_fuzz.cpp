// SPDX-License-Identifier: BSD-2-Clause
// A client without manners against the door of a whole host. Input: steps of a three-byte head (what to do; which
// channel or descriptor; length of what follows, in one byte, times 4 if the step's top bit is set) and bytes. Whatever
// a client does, the host goes on, and nothing is left once its descriptors are closed.
#include "stack/door.hpp"
#include "stack/host.hpp"
#include "stack/unix_socket.hpp"
#include "tests/support/rng.hpp"

#include <cstdlib>
#include <filesystem>
#include <sys/socket.h>
#include <unistd.h>

using namespace latchkey;

namespace {

void expect(bool ok)
{
    if (!ok)
        std::abort();
}

class Target {
public:
    Target()
    {
        HostConfig config;
        config.interfaces.resize(1);
        config.interfaces[0].addresses = {*Prefix::parse("10.0.0.1/24"), *Prefix::parse("fd00::1/64")};
        auto made = Host::create(config, rng_, now_);
        expect(made.has_value());
        host_ = std::move(*made);
        std::string directory = (std::filesystem::temp_directory_path() / "latchkey-fuzz-XXXXXX").string();
        expect(mkdtemp(directory.data()) != nullptr);
        auto door = Door::open(directory + "/host.sock", host_->sockets(), *host_);
        expect(door.has_value());
        door_ = std::move(*door);
        path_ = directory;
    }
    ~Target()
    {
        door_.reset();
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    void run(Bytes input)
    {
        channels_.clear();
        for (int i = 0; i < 2; ++i)
            open_channel();
        wire::Reader in(input);
        for (int steps = 0; in.left() >= 3 && steps < 64; ++steps)
            step(in);
        channels_.clear();
        fds_.clear();
        for (int i = 0; i < 2000 && host_->sockets().size() != 0; ++i)
            turn();
        expect(host_->sockets().size() == 0);
    }

private:
    void step(wire::Reader& in)
    {
        const auto what = in.get<std::uint8_t>(), which = in.get<std::uint8_t>(), length = in.get<std::uint8_t>();
        const auto body = in.take(std::min<std::size_t>(in.left(), (what & 0x80) != 0 ? length * 4u : length));
        const auto& channel = channels_[which % channels_.size()];
        const int fd = fds_.empty() ? -1 : fds_[(which / channels_.size()) % fds_.size()].get();
        switch (what & 0x07) {
        case 0:
        case 1: (void)send_pieces(channel.get(), {&body, 1}, fd); break;       // a request about a socket
        case 2: (void)send_pieces(channel.get(), {&body, 1}); break;
        case 3: (void)send_pieces(fd, {&body, 1}); break;                      // data
        case 4: take(fd); break;
        case 5: shutdown(fd, length % 3); break;
        case 6:
            if (!fds_.empty())
                fds_.erase(fds_.begin() + which % static_cast<std::ptrdiff_t>(fds_.size()));
            break;
        case 7: now_ += std::chrono::milliseconds(length * 20); break;
        }
        turn();
        for (const auto& c : channels_)
            take(c.get());
    }

    void take(int fd)
    {
        auto record = receive_record(fd, room_);
        if (record && record->passed && fds_.size() < 24)
            fds_.push_back(std::move(record->passed));
    }

    void open_channel()
    {
        std::array<int, 2> ends{};
        expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
        if (!trunk_) {
            trunk_ = connect_trunk();
            turn();
        }
        std::array<std::uint8_t, 24> raw{};
        wire::Writer out(raw, wire::Order::host);
        control::Request{.op = control::Op::new_channel}.emit(out);
        const Bytes bytes(raw);
        expect(send_pieces(trunk_.get(), {&bytes, 1}, ends[1]).has_value());
        ::close(ends[1]);
        channels_.emplace_back(ends[0]);
        turn();
    }

    Fd connect_trunk() const;

    void turn()
    {
        now_ += std::chrono::milliseconds(1);
        door_->run(now_, 64);
        host_->step(now_);
    }

    test::SequenceRng rng_;
    Time now_{1'000'000'000};
    std::unique_ptr<Host> host_;
    std::unique_ptr<Door> door_;
    std::string path_;
    Fd trunk_;
    std::vector<Fd> channels_, fds_;
    std::vector<std::uint8_t> room_ = std::vector<std::uint8_t>(128 * 1024);
};

Fd Target::connect_trunk() const
{
    auto fd = connect_to_path(path_ + "/host.sock");
    expect(fd.has_value());
    return std::move(*fd);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static Target target;
    const Bytes input(data, size);
    (void)control::Request::parse(input);
    (void)control::Reply::parse(input);
    (void)control::parse_socket_address(input);
    target.run(input);
    return 0;
}
