// SPDX-License-Identifier: BSD-2-Clause
#include "setkey/monitor.hpp"

#include "setkey/print.hpp"
#include "setkey/text.hpp"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <ctime>

namespace latchkey::setkey {

namespace {

constexpr std::size_t largest_record = 128 * 1024;
constexpr std::size_t most_backlog = std::size_t{64} << 20;
constexpr std::size_t shown_at_once = 64;   // records, until the key socket is looked at again

// "22:13:20.123456" in local time, or the number of seconds since 1970.
std::string stamp(std::int64_t microseconds, bool raw)
{
    const auto seconds = static_cast<std::time_t>(microseconds / 1'000'000);
    const auto rest = microseconds % 1'000'000;
    std::tm fields{};
    std::string out;
    if (raw || localtime_r(&seconds, &fields) == nullptr)
        put(out, "%" PRId64 ".%06" PRId64, microseconds / 1'000'000, rest);
    else
        put(out, "%02d:%02d:%02d.%06" PRId64, fields.tm_hour, fields.tm_min, fields.tm_sec, rest);
    return out;
}

}  // namespace

Monitor::Monitor(KeyChannel& channel, MonitorOptions options, Output& out, std::FILE* err)
    : channel_(channel), options_(std::move(options)), out_(out), err_(err), incoming_(largest_record)
{
}

// The queue of a key socket is short, and the host does not wait for a slow terminal: records are taken in first, and
// shown when there are no more, or a few at a time between two looks at the socket.
bool Monitor::run()
{
    if (!ask())
        return false;
    while (!stopped()) {
        const bool idle = backlog_.empty();
        if (idle)
            out_.flush();
        const auto size = take_in(idle ? std::chrono::hours(1) : std::chrono::hours(0));
        if (size <= 0 && size != -EAGAIN && size != -ECANCELED) {
            show_all();
            return lose(size == 0 ? "the host closed the key socket"
                                  : std::string("the key socket failed: ") + std::strerror(static_cast<int>(-size)));
        }
        show_some();
    }
    show_all();
    return true;
}

// What the key socket has; waits for the first record only. The result is that of the last try, or positive.
std::ptrdiff_t Monitor::take_in(std::chrono::milliseconds wait)
{
    std::ptrdiff_t size = 1;
    while (size > 0 && backlog_bytes_ < most_backlog) {
        size = channel_.receive(incoming_, wait);
        wait = std::chrono::milliseconds(0);
        if (size == -EMSGSIZE)
            size = 1;   // a record that is longer than any message is skipped
        else if (size > 0) {
            const auto record = Bytes(incoming_).first(static_cast<std::size_t>(size));
            backlog_.push_back({options_.now ? options_.now() : 0, {record.begin(), record.end()}});
            backlog_bytes_ += record.size();
        }
    }
    return size;
}

void Monitor::show_some()
{
    for (std::size_t i = 0; i < shown_at_once && !backlog_.empty(); ++i) {
        show(backlog_.front());
        backlog_bytes_ -= backlog_.front().record.size();
        backlog_.pop_front();
    }
    out_.flush_if_large();
}

void Monitor::show_all()
{
    while (!backlog_.empty() && out_.error() == 0)
        show_some();
    out_.flush();
}

bool Monitor::ask()
{
    Message request;
    request.type = SADB_X_PROMISC;
    request.satype = 1;   // on
    request.pid = options_.pid;
    const auto record = request.bytes();
    int error = 0;
    while ((error = channel_.send(record)) == EAGAIN && !stopped())
        ;
    return error == 0 || lose(std::string("the host does not take requests: ") + std::strerror(error));
}

// A promiscuous socket gets a copy of everything, and of what is addressed to it the message as well, next to the copy.
bool Monitor::seen_before(Bytes record)
{
    const auto inner = unwrapped(record);
    const bool wrapped = inner.size() != record.size();
    if (wrapped != last_was_wrapped_ && std::ranges::equal(inner, last_)) {
        last_.clear();
        return true;
    }
    last_.assign(inner.begin(), inner.end());
    last_was_wrapped_ = wrapped;
    return false;
}

void Monitor::show(const Arrival& arrival)
{
    const Bytes record(arrival.record);
    if (seen_before(record))
        return;
    auto& text = out_.text;
    if (options_.json) {
        append_json_record(text, record, arrival.microseconds, options_.with);
        text += '\n';
        return;
    }
    text += stamp(arrival.microseconds, options_.raw_time) + ' ';
    append_summary(text, record);
    if (options_.one_line)
        return;
    if (options_.hex)
        append_hex_dump(text, record);
    append_record(text, record);
    text += '\n';
}

bool Monitor::lose(const std::string& text)
{
    std::fprintf(err_, "setkey: %s\n", text.c_str());
    return false;
}

}  // namespace latchkey::setkey
