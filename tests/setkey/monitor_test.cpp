// SPDX-License-Identifier: BSD-2-Clause
#include "script.hpp"

#include "setkey/monitor.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

constexpr std::int64_t noon = 1'700'049'600'000'042;   // 12:00:00.000042 UTC

struct Utc {
    Utc()
    {
        setenv("TZ", "UTC", 1);
        tzset();
    }
};
const Utc utc;

class RecordedChannel : public KeyChannel {
public:
    std::deque<Record> records;
    std::vector<Record> sent;
    std::ptrdiff_t then = 0;   // behind the records
    int refuse_first = 0;

    int send(Bytes record) override
    {
        if (refuse_first != 0)
            return --refuse_first, EAGAIN;
        sent.emplace_back(record.begin(), record.end());
        return 0;
    }

    std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds wait) override
    {
        if (records.empty())
            return wait.count() == 0 ? -EAGAIN : then;
        const auto record = records.front();
        records.pop_front();
        std::ranges::copy(record, room.begin());
        return static_cast<std::ptrdiff_t>(record.size());
    }
};

Record wrapped(const Record& record)
{
    Message out;
    out.type = SADB_X_PROMISC;
    out.wrapped = record;
    return out.bytes();
}

Record flush(std::uint32_t pid)
{
    Message out;
    out.type = SADB_FLUSH;
    out.satype = SADB_SATYPE_ESP;
    out.pid = pid;
    return out.bytes();
}

struct Seen {
    bool clean;
    std::string out, err;
};

std::ptrdiff_t lines(const std::string& text)
{
    return std::count(text.begin(), text.end(), '\n');
}

MonitorOptions with(bool MonitorOptions::*option)
{
    MonitorOptions out;
    out.*option = true;
    return out;
}

Seen watch(RecordedChannel& channel, MonitorOptions options = {})
{
    char *out = nullptr, *err = nullptr;
    std::size_t out_size = 0, err_size = 0;
    std::FILE* to = open_memstream(&out, &out_size);
    std::FILE* complaints = open_memstream(&err, &err_size);
    options.pid = 7;
    if (!options.now)
        options.now = [] { return noon; };
    Output output(to);
    Seen seen;
    seen.clean = Monitor(channel, std::move(options), output, complaints).run();
    std::fclose(to);
    std::fclose(complaints);
    seen.out = std::string(out, out_size);
    seen.err = std::string(err, err_size);
    std::free(out);
    std::free(err);
    return seen;
}

}  // namespace

TEST_CASE("asks for everything, and shows it until the host is gone")
{
    RecordedChannel channel;
    channel.refuse_first = 3;
    channel.records = {flush(1)};
    const auto seen = watch(channel);
    REQUIRE(channel.sent.size() == 1);
    const auto request = Message::parse(channel.sent[0]);
    REQUIRE(request.has_value());
    CHECK(request->type == SADB_X_PROMISC);
    CHECK(request->satype == 1);
    CHECK(request->pid == 7);
    CHECK(seen.out == "12:00:00.000042 FLUSH esp seq=0 pid=1\n"
                      "sadb_msg{ version=2 type=9 errno=0 satype=3\n"
                      "  len=2 reserved=0 seq=0 pid=1 }\n"
                      "\n");
    CHECK_FALSE(seen.clean);
    CHECK(seen.err == "setkey: the host closed the key socket\n");
}

TEST_CASE("-xx, --oneline, -h and --json")
{
    RecordedChannel channel;
    channel.records = {flush(1)};
    auto raw = with(&MonitorOptions::one_line);
    raw.raw_time = true;
    CHECK(watch(channel, raw).out == "1700049600.000042 FLUSH esp seq=0 pid=1\n");
    channel.records = {flush(1)};
    CHECK(watch(channel, with(&MonitorOptions::hex)).out.find("\n00000000: 02 09 00 03 02 00 00 00 00 00 00 00 01 00 00 00 \n") !=
          std::string::npos);
    channel.records = {flush(1), flush(2)};
    CHECK(watch(channel, with(&MonitorOptions::json)).out ==
          "{\"time\": 1700049600.000042, \"message\": \"FLUSH\", \"type\": 9, \"satype\": \"esp\", \"errno\": 0, "
          "\"seq\": 0, \"pid\": 1}\n"
          "{\"time\": 1700049600.000042, \"message\": \"FLUSH\", \"type\": 9, \"satype\": \"esp\", \"errno\": 0, "
          "\"seq\": 0, \"pid\": 2}\n");
}

TEST_CASE("a message and the copy of it are one, whichever comes first; two messages are two")
{
    RecordedChannel channel;
    channel.records = {wrapped(flush(1)), flush(1), wrapped(flush(1)), flush(1), flush(2), wrapped(flush(2)),
                       wrapped(flush(3)), wrapped(flush(3)), flush(4), flush(4)};
    const auto out = watch(channel, with(&MonitorOptions::one_line)).out;
    CHECK(lines(out) == 7);
    for (const auto& [pid, times] : {std::pair{1, 2}, {2, 1}, {3, 2}, {4, 2}}) {
        const auto line = "FLUSH esp seq=0 pid=" + std::to_string(pid) + "\n";
        int n = 0;
        for (auto at = out.find(line); at != out.npos; at = out.find(line, at + 1))
            ++n;
        CHECK(n == times);
    }
}

TEST_CASE("a burst is taken in before it is shown, and nothing of it is lost")
{
    RecordedChannel channel;
    for (std::uint32_t pid = 1; pid <= 5000; ++pid)
        channel.records.push_back(wrapped(flush(pid)));
    const auto out = watch(channel, with(&MonitorOptions::one_line)).out;
    CHECK(lines(out) == 5000);
}

TEST_CASE("records that are none are shown, too")
{
    RecordedChannel channel;
    channel.records = {Record(3, 0), Record(16, 0xff)};
    auto seen = watch(channel, with(&MonitorOptions::one_line));
    CHECK(seen.out.starts_with("12:00:00.000042 a record of 3 bytes is no PF_KEY message\n12:00:00.000042 ? "));
    channel.records = {Record(3, 0xab)};
    auto everything = with(&MonitorOptions::json);
    everything.with.keys = true;
    seen = watch(channel, everything);
    CHECK(seen.out.starts_with("{\"time\": 1700049600.000042, \"malformed\": \""));
    CHECK(seen.out.ends_with("\", \"size\": 3, \"hex\": \"ababab\"}\n"));
}

TEST_CASE("the user ends it: what was taken in is written first")
{
    RecordedChannel channel;
    channel.records = {flush(1), flush(2)};
    channel.then = -ECANCELED;
    MonitorOptions options;
    options.one_line = true;
    options.stopped = [&] { return channel.records.empty(); };
    const auto seen = watch(channel, std::move(options));
    CHECK(seen.clean);
    CHECK(seen.err == "");
    CHECK(lines(seen.out) == 2);
}

TEST_CASE("an output that takes nothing ends it")
{
    std::FILE* full = std::fopen("/dev/full", "w");
    REQUIRE(full != nullptr);
    Output out(full);
    RecordedChannel channel;
    channel.records = {flush(1)};
    channel.then = -EAGAIN;
    MonitorOptions options;
    CHECK(Monitor(channel, options, out, stderr).run());
    CHECK(out.error() == ENOSPC);
    std::fclose(full);
}
