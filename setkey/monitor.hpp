// SPDX-License-Identifier: BSD-2-Clause
// setkey -x: shows every message that any key socket of the host sends or receives, with the time. main() owns one.
#pragma once

#include "setkey/channel.hpp"
#include "setkey/json.hpp"
#include "setkey/output.hpp"

#include <deque>
#include <functional>

namespace latchkey::setkey {

struct MonitorOptions {
    std::uint32_t pid = 0;               // for sadb_msg_pid
    bool raw_time = false;               // -xx
    bool hex = false;                    // -h, -H
    bool one_line = false;               // --oneline: no fields
    bool json = false;                   // --json: an object per line
    JsonOptions with;
    std::function<std::int64_t()> now;   // microseconds since 1970
    std::function<bool()> stopped;       // the user has seen enough; none: never
};

class Monitor {
public:
    Monitor(KeyChannel& channel, MonitorOptions options, Output& out, std::FILE* err);

    // Until the user or the output ends it: true; or the host is gone: false, as told on err.
    bool run();

private:
    // A record and when it came.
    struct Arrival {
        std::int64_t microseconds;
        std::vector<std::uint8_t> record;
    };

    bool ask();
    std::ptrdiff_t take_in(std::chrono::milliseconds wait);
    void show_some();
    void show_all();
    bool stopped() const { return out_.error() != 0 || (options_.stopped && options_.stopped()); }
    bool seen_before(Bytes record);
    void show(const Arrival& arrival);
    bool lose(const std::string& text);

    KeyChannel& channel_;
    MonitorOptions options_;
    Output& out_;
    std::FILE* err_;
    std::vector<std::uint8_t> incoming_;
    std::deque<Arrival> backlog_;
    std::size_t backlog_bytes_ = 0;
    std::vector<std::uint8_t> last_;     // the message shown last
    bool last_was_wrapped_ = false;
};

}  // namespace latchkey::setkey
