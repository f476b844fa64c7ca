// SPDX-License-Identifier: BSD-2-Clause
// Writes what passes a wire, in both directions, to a capture file (the classic format, nanoseconds, Ethernet).
#include "stack/wire/fd.hpp"
#include "stack/wire/wire.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include <fcntl.h>
#include <unistd.h>

namespace latchkey {

namespace {

constexpr std::size_t buffer_limit = 64 * 1024;
constexpr Time idle_flush = std::chrono::milliseconds(100);

class Pcap final : public Wire {
public:
    Pcap(std::unique_ptr<Wire> inner, Fd file, std::int64_t wall_offset)
        : inner_(std::move(inner)), file_(std::move(file)), wall_offset_(wall_offset)
    {
        write_file_header();
    }
    ~Pcap() override { flush(); }

    void send(Bytes frame, Time now) override
    {
        record(frame, now);
        inner_->send(frame, now);
    }

    // A round of receiving ends with a flush, so a killed process leaves whole records and at most the frames since its
    // last round are missing.
    std::size_t receive(const std::function<void(MutableBytes)>& sink, std::size_t budget, Time now) override
    {
        const auto taken = inner_->receive(
            [&](MutableBytes frame) {
                record(frame, now);
                sink(frame);
            },
            budget, now);
        flush();
        return taken;
    }

    std::vector<Watch> watches() const override { return inner_->watches(); }
    unsigned generation() const override { return inner_->generation(); }
    Time next_deadline() const override { return std::min(flush_at_, inner_->next_deadline()); }
    std::string name() const override { return inner_->name(); }
    WireStats stats() const override { return inner_->stats(); }

private:
    void write_file_header()
    {
        wire::Writer header(room(24), wire::Order::host);
        header.put<std::uint32_t>(0xa1b23c4d);   // times in nanoseconds, byte order of this host
        header.put<std::uint16_t>(2);
        header.put<std::uint16_t>(4);
        header.put<std::uint32_t>(0);
        header.put<std::uint32_t>(0);
        header.put<std::uint32_t>(max_frame);
        header.put<std::uint32_t>(1);   // LINKTYPE_ETHERNET
        flush();
    }

    void record(Bytes frame, Time now)
    {
        if (!file_ || frame.size() < min_frame || frame.size() > max_frame)
            return;
        const auto size = static_cast<std::uint32_t>(frame.size());
        const auto seconds = std::chrono::floor<std::chrono::seconds>(now);
        wire::Writer entry(room(16 + frame.size()), wire::Order::host);
        entry.put<std::uint32_t>(static_cast<std::uint32_t>(seconds.count() + wall_offset_));
        entry.put<std::uint32_t>(static_cast<std::uint32_t>((now - seconds).count()));
        entry.put<std::uint32_t>(size);
        entry.put<std::uint32_t>(size);
        entry.put(frame);
        flush_at_ = std::min(flush_at_, now + idle_flush);
    }

    // The next n bytes of the buffer, which only ever holds whole records.
    MutableBytes room(std::size_t n)
    {
        if (used_ + n > buffer_.size())
            flush();
        const auto at = used_;
        used_ += n;
        return MutableBytes(buffer_).subspan(at, n);
    }

    // A capture that cannot be written (disk full) ends; the wire goes on.
    void flush()
    {
        flush_at_ = Time::max();
        std::size_t done = 0;
        while (file_ && done < used_) {
            const auto wrote = ::write(file_.get(), buffer_.data() + done, used_ - done);
            if (wrote > 0)
                done += static_cast<std::size_t>(wrote);
            else if (wrote == 0 || errno != EINTR)
                file_.reset();
        }
        used_ = 0;
    }

    std::unique_ptr<Wire> inner_;
    Fd file_;
    std::int64_t wall_offset_;
    std::vector<std::uint8_t> buffer_ = std::vector<std::uint8_t>(buffer_limit + max_frame + 16);
    std::size_t used_ = 0;
    Time flush_at_ = Time::max();
};

}  // namespace

std::expected<std::unique_ptr<Wire>, std::string> add_pcap(std::unique_ptr<Wire> inner, const std::string& file,
                                                           std::int64_t wall_offset_seconds)
{
    // Readable by the owner only: a capture holds other people's traffic.
    Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd)
        return system_failure("pcap=" + file);
    return std::make_unique<Pcap>(std::move(inner), std::move(fd), wall_offset_seconds);
}

}  // namespace latchkey
