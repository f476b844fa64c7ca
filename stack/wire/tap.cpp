// SPDX-License-Identifier: BSD-2-Clause
// A TAP interface of the kernel: one frame per read and write.
#include "stack/wire/fd.hpp"
#include "stack/wire/wire.hpp"

#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace latchkey {

namespace {

class Tap final : public Wire {
public:
    Tap(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)), buffer_(max_frame) {}

    void send(Bytes frame, Time) override
    {
        if (frame.size() < min_frame || frame.size() > max_frame)
            ++stats_.refused;
        else if (::write(fd_.get(), frame.data(), frame.size()) >= 0)
            ++stats_.sent;
        else
            ++stats_.dropped;   // EAGAIN: its queue is full; EIO: the interface is down
    }

    std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time) override
    {
        std::size_t taken = 0;
        while (taken < budget && fd_) {
            const auto got = ::read(fd_.get(), buffer_.data(), buffer_.size());
            if (got < 0) {
                if (errno == EINTR)
                    continue;
                if (errno != EAGAIN)
                    note_error(errno);
                break;
            }
            ++taken;
            if (static_cast<std::size_t>(got) < min_frame) {
                ++stats_.refused;
                continue;
            }
            ++stats_.received;
            sink(MutableBytes(buffer_).first(static_cast<std::size_t>(got)));
        }
        return taken;
    }

    std::vector<Watch> watches() const override
    {
        return fd_ ? std::vector<Watch>{{fd_.get(), true, false}} : std::vector<Watch>{};
    }
    unsigned generation() const override { return generation_; }
    std::string name() const override { return "tap:" + name_; }
    WireStats stats() const override { return stats_; }

private:
    // Somebody deleted the interface: its descriptor would be ready for ever and give nothing.
    void note_error(int error)
    {
        if (error == EBADFD) {
            fd_.reset();
            ++generation_;
        }
    }

    Fd fd_;
    std::string name_;
    std::vector<std::uint8_t> buffer_;
    WireStats stats_;
    unsigned generation_ = 0;
};

std::string refusal(const std::string& name, int error)
{
    switch (error) {
    case EPERM:
    case EACCES:
        return "no permission: run with CAP_NET_ADMIN, or have the interface made for this user: "
               "ip tuntap add dev " + name + " mode tap user USER";
    case EBUSY: return "another process uses this interface";
    case EINVAL: return "an interface of this name exists and is not a TAP interface with one queue";
    default: return std::strerror(error);
    }
}

std::expected<void, std::string> check_name(const std::string& name)
{
    if (name.empty() || name.size() >= IFNAMSIZ)
        return std::unexpected("an interface name has 1 to " + std::to_string(IFNAMSIZ - 1) +
                               " characters, this one has " + std::to_string(name.size()));
    // A percent sign would make the kernel choose a number.
    if (name == "." || name == ".." || name.find_first_of("/:% \t\n") != name.npos)
        return std::unexpected("an interface name has no slash, colon, percent sign or blank in it");
    return {};
}

}  // namespace

std::expected<std::unique_ptr<Wire>, std::string> open_tap(const std::string& name)
{
    if (const auto good = check_name(name); !good)
        return std::unexpected(good.error());
    Fd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd && (errno == ENOENT || errno == ENODEV))
        return std::unexpected("/dev/net/tun is missing: load the kernel module tun");
    if (!fd)
        return std::unexpected(refusal(name, errno));

    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(fd.get(), TUNSETIFF, &request) < 0)
        return std::unexpected(refusal(name, errno));
    return std::make_unique<Tap>(std::move(fd), name);
}

}  // namespace latchkey
