// SPDX-License-Identifier: BSD-2-Clause
// The runner against a real key engine in the same process, and against a host that misbehaves on purpose.
#include "script.hpp"

#include "pfkey/engine.hpp"
#include "setkey/runner.hpp"

#include <cerrno>
#include <cstdlib>
#include <deque>
#include <sys/socket.h>
#include <unistd.h>

using namespace latchkey;
using namespace latchkey::setkey;
using namespace latchkey::setkey::test;

namespace {

constexpr std::uint32_t our_pid = 4711;

class CountingRng : public Rng {
public:
    void fill(MutableBytes out) override
    {
        for (auto& byte : out)
            byte = next_++;
    }

private:
    std::uint8_t next_ = 1;
};

// A key socket of an engine. Like a bare descriptor: what is malformed comes back as sadb_msg_errno.
class EngineChannel : public KeyChannel {
public:
    explicit EngineChannel(Engine& engine) : engine_(engine), id_(*engine.open_key_socket()) {}

    int send(Bytes record) override
    {
        sent.emplace_back(record.begin(), record.end());
        engine_.handle_unsupervised(id_, record, now);
        most_queued = std::max(most_queued, engine_.stats(id_).queued_bytes);
        return 0;
    }

    std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds) override
    {
        const auto front = engine_.front(id_);
        if (front.empty())
            return -EAGAIN;
        REQUIRE(front.size() <= room.size());
        std::ranges::copy(front, room.begin());
        const auto size = static_cast<std::ptrdiff_t>(front.size());
        engine_.pop(id_, now);
        return size;
    }

    Time now = std::chrono::seconds(1000);
    std::vector<Record> sent;
    std::size_t most_queued = 0;

private:
    Engine& engine_;
    KeySocketId id_;
};

// Captures a FILE.
class Capture {
public:
    Capture() : file_(open_memstream(&text_, &size_)) {}
    ~Capture()
    {
        std::fclose(file_);
        std::free(text_);
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    std::FILE* file() { return file_; }
    std::string text()
    {
        std::fflush(file_);
        return {text_, size_};
    }

private:
    char* text_ = nullptr;
    std::size_t size_ = 0;
    std::FILE* file_;
};

RunnerOptions runner_options(Style style)
{
    RunnerOptions out;
    out.style = style;
    out.parse = options();
    out.pid = our_pid;
    out.patience = std::chrono::milliseconds(50);
    out.now = [] { return std::int64_t{1'700'000'000}; };
    return out;
}

struct Host {
    CountingRng rng;
    Engine engine{rng, 1'699'999'000};
    EngineChannel channel{engine};
};

struct Outcome {
    std::string out, err;
    std::size_t refused, unreadable;
    bool lost, more;
};

Outcome run(KeyChannel& channel, const std::string& script, RunnerOptions options, bool greet = true)
{
    Capture out, err;
    Runner runner(channel, std::move(options), out.file(), err.file());
    if (greet)
        CHECK(runner.greet());
    const bool more = runner.run(Source("f", script));
    return {out.text(), err.text(), runner.refused(), runner.unreadable(), runner.lost(), more};
}

Outcome run(KeyChannel& channel, const std::string& script, Style style = Style::script)
{
    return run(channel, script, runner_options(style));
}

const std::string add_100 = "add 10.0.0.1 10.0.0.2 esp 0x100 -E aes-cbc \"1234567890123456\";\n";

std::size_t count(const std::string& text, std::string_view part)
{
    std::size_t n = 0;
    for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1))
        ++n;
    return n;
}

std::uint32_t seq_of(const Record& record)
{
    return peek_header(record)->seq;
}

}  // namespace

TEST_CASE("a script is applied; silence is success")
{
    Host host;
    const auto got = run(host.channel, "flush; spdflush;\n" + add_100 +
                                           "spdadd 10.0.0.1 10.0.0.2 any -P out ipsec esp/transport//require;\n");
    CHECK(got.out == "");
    CHECK(got.err == "");
    CHECK(got.refused == 0);
    CHECK(got.more);
    CHECK(host.engine.inbound(ip_proto::esp, *Address::parse("10.0.0.2"), 0x100) != nullptr);
    CHECK_FALSE(host.engine.no_policies());
}

TEST_CASE("the first message is a REGISTER that registers nothing; requests carry pid and rising seq")
{
    Host host;
    run(host.channel, "flush; spdflush; flush;");
    REQUIRE(host.channel.sent.size() == 4);
    CHECK(host.channel.sent[0][1] == SADB_REGISTER);
    CHECK(host.channel.sent[0][3] == SADB_SATYPE_UNSPEC);
    for (const auto& record : host.channel.sent)
        CHECK(peek_header(record)->pid == our_pid);
    CHECK(seq_of(host.channel.sent[2]) == seq_of(host.channel.sent[1]) + 1);
    CHECK(seq_of(host.channel.sent[1]) >= 0x80000000u);   // away from the seqs of ACQUIREs
}

TEST_CASE("refusals are told at their line, and the rest still runs")
{
    Host host;
    const auto got = run(host.channel, add_100 + "  " + add_100 +
                                           "delete 10.0.0.1 10.0.0.9 esp 5000;\n"
                                           "spddelete 10.0.0.0/24 10.0.1.0/24[80] tcp -P out;\n"
                                           "get 10.0.0.1 10.0.0.2 esp 0x101;\n"
                                           "add 10.0.0.1 10.0.0.2 esp 0x200 -E null -A hmac-sha1 "
                                           "\"12345678901234567890\";\n");
    CHECK(got.err == "setkey: f:2:3: add 10.0.0.1 10.0.0.2 esp 0x100: File exists\n"
                     "setkey: f:3:1: delete 10.0.0.1 10.0.0.9 esp 0x1388: No entry\n"
                     "setkey: f:4:1: spddelete 10.0.0.0/24 10.0.1.0/24[80] tcp -P out: No entry\n"
                     "setkey: f:5:1: get 10.0.0.1 10.0.0.2 esp 0x101: No entry\n");
    CHECK(got.out == "");
    CHECK(got.refused == 4);
    CHECK(got.unreadable == 0);
    CHECK(host.engine.inbound(ip_proto::esp, *Address::parse("10.0.0.2"), 0x200) != nullptr);
}

TEST_CASE("an algorithm that the host lacks is named")
{
    Host host;
    const auto got = run(host.channel, "add 10.0.0.1 10.0.0.2 esp 0x100 -E camellia-cbc \"1234567890123456\";");
    CHECK(got.refused == 1);
    CHECK(got.err.starts_with("setkey: f:1:1: add 10.0.0.1 10.0.0.2 esp 0x100: "));
    CHECK(got.err.ends_with(" (this host does not offer camellia-cbc)\n"));
}

TEST_CASE("-f ends at what it cannot read: what is above is applied, what is below is not")
{
    Host host;
    const auto got = run(host.channel, add_100 + "add 10.0.0.1 10.0.0.2 esp oops;\n"
                                                 "add 10.0.0.1 10.0.0.2 esp 0x200 -E null;\n");
    CHECK(got.err == "setkey: f:2:27: syntax error: expected an SPI, got 'oops'\n"
                     "setkey: f:2:27: parse failed: the commands above are applied, this one and the rest are not\n");
    CHECK(got.unreadable == 1);
    CHECK(host.engine.inbound(ip_proto::esp, *Address::parse("10.0.0.2"), 0x100) != nullptr);
    CHECK(host.engine.inbound(ip_proto::esp, *Address::parse("10.0.0.2"), 0x200) == nullptr);
}

TEST_CASE("-f goes on behind what is understood and not supported")
{
    Host host;
    const auto got = run(host.channel, "spdadd tagged \"x\" -P out none;\n" + add_100);
    CHECK(got.err == "setkey: f:1:8: 'tagged' is not supported: this host has no packet tags\n");
    CHECK(got.refused == 1);
    CHECK(got.unreadable == 0);
    CHECK(host.engine.inbound(ip_proto::esp, *Address::parse("10.0.0.2"), 0x100) != nullptr);
}

TEST_CASE("-c skips what it cannot read, and talks on stdout in the words that scripts look for")
{
    Host host;
    const auto got = run(host.channel,
                         "bogus a b;\nadd 10.0.0.1 10.0.0.2 esp 0x100 -E aes-cbc \"short\";\n" + add_100 + add_100 +
                             "dump ah;spddump;",
                         Style::line);
    CHECK(got.out == "f:1:1: syntax error: expected a command, got 'bogus'.\n"
                     "f:2:44: Invalid key length: aes-cbc wants 128, 192 or 256 bits, got 40.\n"
                     "f:4:1: add 10.0.0.1 10.0.0.2 esp 0x100: File exists.\n"
                     "No SAD entries.\n"
                     "No SPD entries.\n");
    CHECK(got.err == "");
    CHECK(got.unreadable == 2);
    CHECK(got.refused == 1);
}

TEST_CASE("an empty table is told and is no failure; -f tells it on stderr")
{
    Host host;
    const auto got = run(host.channel, "dump;\nspddump;\n");
    CHECK(got.out == "");
    CHECK(got.err == "setkey: f:1:1: No SAD entries\nsetkey: f:2:1: No SPD entries\n");
    CHECK(got.refused == 0);
}

TEST_CASE("dump and get print what is there")
{
    Host host;
    const auto got = run(host.channel, add_100 + "get 10.0.0.1 10.0.0.2 esp 0x100; dump; dump esp;");
    CHECK(got.err == "");
    CHECK(count(got.out, "10.0.0.1 10.0.0.2 \n\tesp mode=any spi=256(0x00000100) reqid=0(0x00000000)\n"
                         "\tE: aes-cbc  31323334 35363738 39303132 33343536\n") == 3);
    CHECK(count(got.out, "state=mature ") == 3);
}

TEST_CASE("policies go round: what was read is what is dumped")
{
    Host host;
    const auto got = run(host.channel,
                         "spdadd 10.0.1.0/24[any] 10.0.2.0/24[80] tcp "
                         "  -P out ipsec esp/tunnel/20.0.0.1-20.0.0.2/require;"
                         "spdadd 10.0.2.0/24 10.0.1.0/24 any -P in ipsec esp/transport//unique:7; spddump;");
    CHECK(got.err == "");
    CHECK(got.out.find("10.0.1.0/24[any] 10.0.2.0/24[80] tcp\n\tout prio def ipsec\n"
                       "\tesp/tunnel/20.0.0.1-20.0.0.2/require\n") != got.out.npos);
    CHECK(got.out.find("\tin prio def ipsec\n\tesp/transport//unique:7\n") != got.out.npos);
    CHECK(got.out.find("\tfwd prio def ipsec\n\tesp/transport//require\n") != got.out.npos);
    CHECK(count(got.out, "spid=") == 3);
}

TEST_CASE("spddelete takes the companion along, and does not mind when there is none")
{
    Host host;
    run(host.channel, "spdadd 10.0.0.1 10.0.0.2 any -P in none;");
    auto got = run(host.channel, "spddelete 10.0.0.1 10.0.0.2 any -P in;");
    CHECK(got.refused == 0);
    CHECK(host.engine.no_policies());

    auto alone = runner_options(Style::script);
    alone.build.forward_copies = false;
    run(host.channel, "spdadd 10.0.0.1 10.0.0.2 any -P in none;", std::move(alone));
    got = run(host.channel, "spddelete 10.0.0.1 10.0.0.2 any -P in;");
    CHECK(got.err == "");
    CHECK(got.refused == 0);
    CHECK(host.engine.no_policies());
}

TEST_CASE("getspi and update belong together")
{
    Host host;
    const auto got = run(host.channel, "getspi 10.0.0.1 10.0.0.2 esp 0x1000;\n"
                                       "update 10.0.0.1 10.0.0.2 esp 0x1000 -E aes-cbc \"1234567890123456\";\n"
                                       "dump;");
    CHECK(got.err == "");
    CHECK(got.out.starts_with("spi=4096(0x00001000)\n"));
    CHECK(count(got.out, "state=mature") == 1);
}

TEST_CASE("deleteall removes every SA of the pair, and no other")
{
    Host host;
    const auto got = run(host.channel, add_100 + "add 10.0.0.1 10.0.0.2 esp 0x101 -E aes-cbc \"1234567890123456\";"
                                                 "add 10.0.0.1 10.0.0.3 esp 0x102 -E aes-cbc \"1234567890123456\";"
                                                 "deleteall 10.0.0.1 10.0.0.2 esp; dump;");
    CHECK(got.err == "");
    CHECK(count(got.out, "spi=") == 1);
    CHECK(count(got.out, "spi=258") == 1);
}

TEST_CASE("exit ends the script")
{
    Host host;
    const auto got = run(host.channel, "exit;\n" + add_100);
    CHECK_FALSE(got.more);
    CHECK(host.channel.sent.size() == 1);
}

TEST_CASE("thousands of requests: a bounded number is under way, each error at its own line")
{
    Host host;
    std::string script, expected;
    for (int i = 0; i < 3000; ++i) {
        const bool again = i % 97 == 96;   // the SPI of the line before
        const int spi = 0x1000 + (again ? i - 1 : i);
        script += "add 10.0.0.1 10.0.0.2 esp " + std::to_string(spi) + " -E aes-cbc \"1234567890123456\";\n";
        char hex[16];
        std::snprintf(hex, sizeof hex, "0x%x", static_cast<unsigned>(spi));
        if (again)
            expected += "setkey: f:" + std::to_string(i + 1) + ":1: add 10.0.0.1 10.0.0.2 esp " + hex +
                        ": File exists\n";
    }
    auto got = run(host.channel, script);
    CHECK(got.err == expected);
    CHECK(got.refused == 30);
    CHECK(host.channel.most_queued > 32 * 100);     // pipelined
    CHECK(host.channel.most_queued < 64 * 1024);    // and bounded, far below what a key socket queues
    got = run(host.channel, "dump;");
    CHECK(count(got.out, "\n\tesp mode=any") == 2970);
    CHECK(got.out.find("sadb_seq=0 pid=") != got.out.npos);
}

TEST_CASE("-v shows what goes and comes")
{
    Host host;
    auto options = runner_options(Style::script);
    options.verbose = true;
    const auto got = run(host.channel, "flush;", std::move(options), false);
    CHECK(count(got.out, "sadb_msg{ version=2 type=9 errno=0 satype=0\n  len=2 reserved=0") == 2);
}

TEST_CASE("-l: one line per SA")
{
    Host host;
    run(host.channel, add_100);
    auto options = runner_options(Style::line);
    options.brief = true;
    const auto got = run(host.channel, "dump;", std::move(options), false);
    CHECK(count(got.out, "\n") == 2);
    CHECK(got.out.find(" esp  M 00000100 ") != got.out.npos);
}

// ---- hosts that misbehave -------------------------------------------------------------------------------------------

namespace {

// Answers each request as it is told to.
class ScriptedChannel : public KeyChannel {
public:
    std::function<void(const Message& request, std::deque<Record>& answers)> host;
    int error = 0;
    std::size_t refuse_first = 0;   // EAGAIN so many times
    bool closed = false;

    int send(Bytes record) override
    {
        if (refuse_first != 0)
            return --refuse_first, EAGAIN;
        if (error != 0)
            return error;
        const auto message = Message::parse(record);
        REQUIRE(message.has_value());
        host(*message, answers_);
        return 0;
    }

    std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds wait) override
    {
        if (answers_.empty()) {
            if (closed)
                return 0;
            usleep(static_cast<useconds_t>(wait.count()) * 1000);
            return -EAGAIN;
        }
        const auto record = answers_.front();
        answers_.pop_front();
        std::ranges::copy(record, room.begin());
        return static_cast<std::ptrdiff_t>(record.size());
    }

private:
    std::deque<Record> answers_;
};

Record echo(const Message& request, int error = 0)
{
    Message answer;
    answer.type = request.type;
    answer.satype = request.satype;
    answer.seq = request.seq;
    answer.pid = request.pid;
    answer.error = static_cast<std::uint8_t>(error);
    return answer.bytes();
}

}  // namespace

TEST_CASE("no answer: an error after some patience, not a hang")
{
    ScriptedChannel channel;
    channel.host = [](const Message&, std::deque<Record>&) {};
    const auto got = run(channel, "flush;", runner_options(Style::script), false);
    CHECK(got.lost);
    CHECK(got.err == "setkey: the host does not answer\n");
}

TEST_CASE("messages of others do not count as answers, however many there are")
{
    ScriptedChannel channel;
    channel.host = [](const Message& request, std::deque<Record>& answers) {
        auto other = request;
        other.pid = 1;
        for (int i = 0; i < 100; ++i)
            answers.push_back(echo(other, EEXIST));
        other = request;
        other.type = SADB_X_SPDFLUSH;
        answers.push_back(echo(other, EEXIST));   // ours, but an answer to something else
        answers.push_back(Record(3, 0));          // no message at all
        answers.push_back(echo(request));
    };
    const auto got = run(channel, "flush; flush;", runner_options(Style::script), false);
    CHECK_FALSE(got.lost);
    CHECK(got.refused == 0);
}

TEST_CASE("an answer that was dropped is told at its line, and the others are not mixed up")
{
    ScriptedChannel channel;
    int n = 0;
    channel.host = [&](const Message& request, std::deque<Record>& answers) {
        ++n;
        if (n != 2)
            answers.push_back(echo(request, n == 3 ? EPERM : 0));
    };
    const auto got = run(channel, "flush;\nflush ah;\nflush esp;\nflush;", runner_options(Style::script), false);
    CHECK(got.err == "setkey: f:2:1: flush: the answer was lost\n"
                     "setkey: f:3:1: flush: Operation not permitted\n");
    CHECK(got.refused == 2);
}

TEST_CASE("the host goes away")
{
    ScriptedChannel channel;
    channel.host = [](const Message&, std::deque<Record>&) {};
    channel.closed = true;
    auto got = run(channel, "flush; flush;", runner_options(Style::script), false);
    CHECK(got.lost);
    CHECK(got.err == "setkey: the host closed the key socket\n");

    channel.error = EPIPE;
    got = run(channel, "flush; flush;", runner_options(Style::script), false);
    CHECK(got.lost);
    CHECK(got.err == "setkey: the host does not take requests: Broken pipe\n");
}

TEST_CASE("a full socket is waited for; a send that is refused at once is told")
{
    ScriptedChannel channel;
    channel.host = [](const Message& request, std::deque<Record>& answers) { answers.push_back(echo(request)); };
    channel.refuse_first = 5;
    auto got = run(channel, "flush;", runner_options(Style::script), false);
    CHECK(got.err == "");

    channel.refuse_first = SIZE_MAX;
    got = run(channel, "flush;", runner_options(Style::script), false);
    CHECK(got.lost);
    CHECK(got.err.starts_with("setkey: the host does not take requests: "));

    channel.refuse_first = 0;
    channel.error = EINVAL;
    got = run(channel, "flush;\n" + add_100, runner_options(Style::script), false);
    CHECK(got.err == "setkey: f:1:1: flush: Invalid argument\n"
                     "setkey: f:2:1: add 10.0.0.1 10.0.0.2 esp 0x100: Invalid argument\n");
    CHECK(got.refused == 2);
    CHECK_FALSE(got.lost);
}

TEST_CASE("dead SAs are shown with -a only; policies of sockets are hidden with -N")
{
    ScriptedChannel channel;
    channel.host = [](const Message& request, std::deque<Record>& answers) {
        Message answer;
        answer.type = request.type;
        answer.pid = request.pid;
        answer.seq = 1;
        if (request.type == SADB_X_SPDDUMP) {
            answer.policy = PolicyExt{IPSEC_POLICY_BYPASS, IPSEC_DIR_INBOUND, 11, 0, {}};
        } else {
            answer.satype = SADB_SATYPE_ESP;
            answer.sa = SaExt{.spi = 256, .state = SADB_SASTATE_DEAD};
            answer.sa2 = Sa2Ext{};
            answer.current = Lifetime{};
            answer.source = answer.destination = AddressExt{255, 32, {*Address::parse("10.0.0.1")}};
        }
        answers.push_back(answer.bytes());
        answer.seq = 0;
        if (answer.sa)
            answer.sa->state = SADB_SASTATE_MATURE;
        answers.push_back(answer.bytes());
    };
    auto options = runner_options(Style::line);
    CHECK(count(run(channel, "dump;", options, false).out, "spi=") == 1);
    CHECK(count(run(channel, "spddump;", options, false).out, "(per-socket policy)") == 2);
    options.dead = options.hide_socket_policies = true;
    CHECK(count(run(channel, "dump;", options, false).out, "spi=") == 2);
    CHECK(run(channel, "spddump;", options, false).out == "");
}

TEST_CASE("the monitor shows records until the host is gone")
{
    ScriptedChannel channel;
    channel.host = [](const Message& request, std::deque<Record>& answers) {
        CHECK(request.type == SADB_X_PROMISC);
        CHECK(request.satype == 1);
        answers.push_back(echo(request));
        Message flush;
        flush.type = SADB_FLUSH;
        answers.push_back(flush.bytes());
    };
    channel.closed = true;
    Capture out, err;
    Runner runner(channel, runner_options(Style::line), out.file(), err.file());
    runner.monitor(false);
    CHECK(count(out.text(), "sadb_msg{") == 2);
    CHECK(count(out.text(), "type=9 ") == 1);
    CHECK(err.text() == "setkey: the host closed the key socket\n");
}

TEST_CASE("FdChannel: one record per message, time-outs, the end")
{
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    FdChannel channel(ends[0]);
    Record room(8);
    CHECK(channel.receive(room, std::chrono::milliseconds(1)) == -EAGAIN);
    CHECK(channel.receive(room, std::chrono::milliseconds(0)) == -EAGAIN);
    CHECK(channel.send(Record{1, 2, 3}) == 0);
    std::uint8_t byte[16];
    CHECK(recv(ends[1], byte, sizeof byte, 0) == 3);
    REQUIRE(send(ends[1], "abc", 3, 0) == 3);
    REQUIRE(send(ends[1], "0123456789", 10, 0) == 10);
    CHECK(channel.receive(room, std::chrono::seconds(1)) == 3);
    CHECK(channel.receive(room, std::chrono::seconds(1)) == -EMSGSIZE);   // longer than the room: not half of it
    int sent = 0;
    while (channel.send(Record(1024, 0)) == 0)
        ++sent;
    CHECK(sent > 0);
    CHECK(channel.send(Record(1024, 0)) == EAGAIN);
    close(ends[1]);
    CHECK(channel.receive(room, std::chrono::seconds(1)) <= 0);
    CHECK(channel.send(Record{1}) == EPIPE);
}
