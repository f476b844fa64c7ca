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
    Output to(out.file());
    Runner runner(channel, std::move(options), to, err.file());
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

// Without the host's reasons, "(...)" at the ends of lines: what they say is not the runner's business.
std::string traditional(const std::string& text)
{
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        const auto line = text.substr(at, end - at);
        const bool ends_with_stop = line.ends_with(").");
        const auto reason = line.ends_with(')') || ends_with_stop ? line.rfind(" (") : line.npos;
        out += line.substr(0, reason) + (ends_with_stop ? ".\n" : "\n");
        at = end + 1;
    }
    return out;
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
    CHECK(got.err.starts_with("setkey: f:2:3: add 10.0.0.1 10.0.0.2 esp 0x100: File exists ("));
    CHECK(traditional(got.err) ==
                     "setkey: f:2:3: add 10.0.0.1 10.0.0.2 esp 0x100: File exists\n"
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
    const auto got = run(host.channel, "add 10.0.0.1 10.0.0.2 esp 0x100 -E twofish-cbc \"1234567890123456\";");
    CHECK(got.refused == 1);
    CHECK(got.err.starts_with("setkey: f:1:1: add 10.0.0.1 10.0.0.2 esp 0x100: "));
    CHECK(got.err.ends_with(" (this host does not offer twofish-cbc)\n"));
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
    CHECK(got.err.starts_with("setkey: f:1:8: 'tagged' is not supported"));
    CHECK(count(got.err, "\n") == 1);
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
    CHECK(traditional(got.out) ==
                     "f:1:1: syntax error: expected a command, got 'bogus'.\n"
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

TEST_CASE("a replay window that does not fit the old field is dumped as it is")
{
    Host host;
    const auto got = run(host.channel, "add 10.0.0.1 10.0.0.2 esp 0x100 -r 1000 -E aes-cbc \"1234567890123456\"; dump;");
    CHECK(got.err == "");
    CHECK(count(got.out, "\tseq=0x00000000 replay=1000 flags=") == 1);
}

TEST_CASE("--json: one array, whatever the number of entries")
{
    Host host;
    auto options = runner_options(Style::script);
    options.json = true;
    CHECK(run(host.channel, "dump;", options, false).out == "[]\n");
    CHECK(run(host.channel, "spddump;", options, false).out == "[]\n");
    run(host.channel, add_100 + "add 10.0.0.1 10.0.0.2 esp 0x101 -E aes-cbc \"ABCDEFGHIJKLMNOP\";"
                                "spdadd 10.0.0.1 10.0.0.2 any -P out none;");
    const auto sas = run(host.channel, "dump;", options, false);
    CHECK(sas.out.starts_with("[\n {\"source\": {\"address\": \"10.0.0.1\""));
    CHECK(count(sas.out, "},\n {") == 1);
    CHECK(sas.out.ends_with("}\n]\n"));
    CHECK(count(sas.out, "31323334") == 0);
    CHECK(sas.err == "");
    options.with.keys = true;
    CHECK(count(run(host.channel, "dump;", options, false).out, "\"key\": \"31323334353637383930313233343536\"") == 1);
    CHECK(run(host.channel, "spddump;", options, false).out.starts_with("[\n {\"direction\": \"out\""));
}

TEST_CASE("-DPt: no policies of interfaces, in the words of an empty table")
{
    Host host;
    for (const bool json : {false, true}) {
        Capture out, err;
        Output to(out.file());
        auto options = runner_options(json ? Style::script : Style::line);
        options.json = json;
        Runner runner(host.channel, options, to, err.file());
        runner.show_nothing(Verb::spd_dump);
        CHECK(out.text() == (json ? "[]\n" : "No SPD entries.\n"));
        CHECK(host.channel.sent.empty());
    }
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
    CHECK(traditional(got.err) == expected);
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

TEST_CASE("the first message asks for reasons and wide windows; a host that knows neither is asked again without")
{
    ScriptedChannel channel;
    std::vector<Message> seen;
    bool modern = true;
    channel.host = [&](const Message& request, std::deque<Record>& answers) {
        const bool asks = request.reason && request.sa_replay;
        seen.push_back({});
        seen.back().type = request.type;
        seen.back().satype = asks;
        answers.push_back(echo(request, asks && !modern ? EINVAL : 0));
    };
    CHECK(run(channel, "flush;").err == "");
    REQUIRE(seen.size() == 2);
    CHECK(seen[0].type == SADB_REGISTER);
    CHECK(seen[0].satype == 1);

    modern = false;
    seen.clear();
    CHECK(run(channel, "flush;").err == "");
    REQUIRE(seen.size() == 3);
    CHECK(seen[1].type == SADB_REGISTER);
    CHECK(seen[1].satype == 0);
}

TEST_CASE("the host's reason stands behind the traditional words")
{
    ScriptedChannel channel;
    channel.host = [](const Message& request, std::deque<Record>& answers) {
        Message answer;
        answer.type = request.type;
        answer.seq = request.seq;
        answer.pid = request.pid;
        if (request.type != SADB_REGISTER) {
            answer.error = EINVAL;
            answer.reason = "the SPI is\treserved";
        }
        answers.push_back(answer.bytes());
    };
    CHECK(run(channel, "flush;").err == "setkey: f:1:1: flush: Invalid argument (the SPI is.reserved)\n");
    CHECK(run(channel, "spddelete 10.0.0.1 10.0.0.2 any -P out;").err ==
          "setkey: f:1:1: spddelete 10.0.0.1 10.0.0.2 any -P out: Invalid argument (the SPI is.reserved)\n");
    CHECK(run(channel, "flush;", Style::line).out == "f:1:1: flush: Invalid argument (the SPI is.reserved).\n");
}

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

TEST_CASE("output that cannot be written is remembered")
{
    std::FILE* full = std::fopen("/dev/full", "w");
    REQUIRE(full != nullptr);
    Output out(full);
    Capture err;
    Host host;
    Runner runner(host.channel, runner_options(Style::line), out, err.file());
    CHECK(runner.run(Source("f", "dump;")));
    CHECK(out.error() == ENOSPC);
    CHECK(err.text() == "");
    std::fclose(full);
}

// ---- --atomic -------------------------------------------------------------------------------------------------------

namespace {

// A host with batches: what it keeps, and what it does with the commit.
class BatchHost : public KeyChannel {
public:
    std::vector<Message> kept, applied;      // type, seq and error only
    std::optional<std::size_t> fails;        // this message of the batch, at the commit
    std::optional<std::size_t> refuses;      // this one at once
    std::uint8_t error = EEXIST;
    bool knows_batches = true, dies = false;
    std::size_t batches = 0, abandoned = 0, most_waiting = 0;

    int send(Bytes record) override
    {
        const auto request = Message::parse(record);
        REQUIRE(request.has_value());
        if (request->type == SADB_X_BATCH) {
            control(*request);
        } else if (!open_) {
            answers_.push_back(echo(*request));
        } else {
            Message known;
            known.type = request->type;
            known.seq = request->seq;
            known.pid = request->pid;
            if (refuses == kept.size())
                answers_.push_back(echo(known, ENOBUFS));
            kept.push_back(known);
        }
        most_waiting = std::max(most_waiting, answers_.size());
        return 0;
    }

    std::ptrdiff_t receive(MutableBytes room, std::chrono::milliseconds) override
    {
        if (answers_.empty())
            return dies && batches != 0 && !open_ ? 0 : -EAGAIN;
        const auto record = answers_.front();
        answers_.pop_front();
        std::ranges::copy(record, room.begin());
        return static_cast<std::ptrdiff_t>(record.size());
    }

private:
    void control(const Message& request)
    {
        if (!knows_batches)
            return answers_.push_back(echo(request, EINVAL));
        open_ = request.satype == SADB_X_BATCH_BEGIN;
        batches += open_;
        abandoned += request.satype == SADB_X_BATCH_ABANDON;
        if (open_)
            kept.clear();
        if (dies && !open_)
            return;
        int result = 0;
        if (request.satype == SADB_X_BATCH_COMMIT && fails && *fails < kept.size()) {
            Message answer = kept[*fails];
            answer.error = error;
            answer.reason = "so it is";
            answers_.push_back(answer.bytes());
            result = ECANCELED;
        } else if (request.satype == SADB_X_BATCH_COMMIT) {
            applied = kept;
        }
        answers_.push_back(echo(request, result));
    }

    bool open_ = false;
    std::deque<Record> answers_;
};

Outcome run_as_one(KeyChannel& channel, const std::string& script)
{
    Capture out, err;
    Output to(out.file());
    Runner runner(channel, runner_options(Style::script), to, err.file());
    CHECK(runner.greet());
    runner.run_as_one(Source("f", script));
    return {out.text(), err.text(), runner.refused(), runner.unreadable(), runner.lost(), true};
}

}  // namespace

TEST_CASE("--atomic: everything goes out unanswered, between a begin and a commit")
{
    BatchHost host;
    std::string script = "flush; spdflush;\n";
    for (int i = 0; i < 10'000; ++i)
        script += "add 10.0.0.1 10.0.0.2 esp " + std::to_string(0x1000 + i) + " -E null;\n";
    const auto got = run_as_one(host, script);
    CHECK(got.err == "");
    CHECK(got.refused == 0);
    CHECK(host.applied.size() == 10'002);
    CHECK(host.batches == 1);
    CHECK(host.most_waiting == 1);
    for (std::size_t i = 1; i < host.applied.size(); ++i)
        REQUIRE(host.applied[i].seq == host.applied[i - 1].seq + 1);
}

TEST_CASE("--atomic: the line that failed is told, with its reason, and that nothing is applied")
{
    BatchHost host;
    host.fails = 2;
    auto got = run_as_one(host, "flush;\nspdadd 10.0.0.1 10.0.0.2 any -P in none;\n" + add_100);
    CHECK(got.err == "setkey: f:2:1: spdadd 10.0.0.1 10.0.0.2 any -P fwd: File exists (so it is)\n"
                     "setkey: nothing is applied\n");
    CHECK(got.refused == 1);

    host.fails = 3;
    got = run_as_one(host, "flush;\nspdadd 10.0.0.1 10.0.0.2 any -P in none;\n  " + add_100);
    CHECK(got.err == "setkey: f:3:3: add 10.0.0.1 10.0.0.2 esp 0x100: File exists (so it is)\n"
                     "setkey: nothing is applied\n");

    SUBCASE("at once: the rest is not even sent")
    {
        host.fails.reset();
        host.refuses = 0;
        std::string script;
        for (int i = 0; i < 1000; ++i)
            script += "flush;\n";
        got = run_as_one(host, script);
        CHECK(got.err == "setkey: f:1:1: flush: No buffer space available\nsetkey: nothing is applied\n");
        CHECK(host.kept.size() == Runner::window);
        CHECK(host.abandoned == 1);
    }
}

TEST_CASE("--atomic: what cannot be part of a batch, or cannot be read, is told before anything is sent")
{
    BatchHost host;
    const auto got = run_as_one(host, "flush;\nget 10.0.0.1 10.0.0.2 esp 1;\nbogus;\ngetspi 10.0.0.1 10.0.0.2 esp 1;\n"
                                      "dump; spddump;\n");
    CHECK(got.err == "setkey: f:2:1: 'get' shows something: it cannot be part of an atomic file\n"
                     "setkey: f:3:1: syntax error: expected a command, got 'bogus'\n"
                     "setkey: f:4:1: 'getspi' shows something: it cannot be part of an atomic file\n"
                     "setkey: f:5:1: 'dump' shows something: it cannot be part of an atomic file\n"
                     "setkey: f:5:7: 'spddump' shows something: it cannot be part of an atomic file\n"
                     "setkey: nothing is applied\n");
    CHECK(got.unreadable == 5);
    CHECK(host.batches == 0);
    CHECK(run_as_one(host, "flush; exit; dump;").err == "");   // what is behind `exit` is not there
    CHECK(host.applied.size() == 1);
}

TEST_CASE("--atomic: a companion that never was there does not stop the rest")
{
    BatchHost host;
    host.fails = 1;
    host.error = ENOENT;
    const auto got = run_as_one(host, "spddelete 10.0.0.1 10.0.0.2 any -P in;");
    CHECK(got.err == "");
    CHECK(got.refused == 0);
    CHECK(host.batches == 2);
    CHECK(host.applied.size() == 1);

    host.fails = 0;   // the policy itself
    CHECK(run_as_one(host, "spddelete 10.0.0.1 10.0.0.2 any -P in;").err ==
          "setkey: f:1:1: spddelete 10.0.0.1 10.0.0.2 any -P in: No entry (so it is)\nsetkey: nothing is applied\n");
}

TEST_CASE("--atomic: a host without batches, and one that dies")
{
    BatchHost host;
    host.knows_batches = false;
    auto got = run_as_one(host, "flush;");
    CHECK(got.err == "setkey: this host does not apply a file as a whole: nothing is applied\n");
    CHECK(got.refused == 1);

    host.knows_batches = true;
    host.dies = true;
    got = run_as_one(host, "flush;");
    CHECK(got.err == "setkey: the host closed the key socket\nsetkey: whether the file is applied is not known\n");
    CHECK(got.lost);
}

TEST_CASE("--atomic on a real engine: all or nothing")
{
    Host host;
    run(host.channel, add_100 + "spdadd 10.0.0.1 10.0.0.2 any -P out none;");
    const auto before = run(host.channel, "dump; spddump;").out;
    const std::string file = "flush; spdflush;\nadd 10.0.0.1 10.0.0.2 esp 0x200 -E aes-cbc \"1234567890123456\";\n"
                             "spdadd 10.0.0.1 10.0.0.2 any -P in none;\n";
    auto got = run_as_one(host.channel, file + add_100 + add_100);
    CHECK(got.err.starts_with("setkey: f:5:1: add 10.0.0.1 10.0.0.2 esp 0x100: File exists ("));
    CHECK(got.err.ends_with(")\nsetkey: nothing is applied\n"));
    CHECK(count(got.err, "\n") == 2);
    CHECK(run(host.channel, "dump; spddump;").out == before);

    got = run_as_one(host.channel, file + add_100);
    CHECK(got.err == "");
    CHECK(got.refused == 0);
    const auto after = run(host.channel, "dump; spddump;");
    CHECK(count(after.out, "state=mature") == 2);
    CHECK(count(after.out, "spid=") == 2);   // `in` and its companion

    got = run_as_one(host.channel, "spddelete 10.0.0.1 10.0.0.2 any -P in; flush;");
    CHECK(got.err == "");
    CHECK(run(host.channel, "dump; spddump;", Style::line).out == "No SAD entries.\nNo SPD entries.\n");
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

TEST_CASE("FdChannel: something else ends the waiting, but no record is lost by it")
{
    int ends[2], stop[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    REQUIRE(pipe(stop) == 0);
    FdChannel channel(ends[0], stop[0]);
    Record room(8);
    CHECK(channel.receive(room, std::chrono::milliseconds(1)) == -EAGAIN);
    REQUIRE(write(stop[1], "", 1) == 1);
    CHECK(channel.receive(room, std::chrono::hours(1)) == -ECANCELED);
    REQUIRE(send(ends[1], "abc", 3, 0) == 3);
    CHECK(channel.receive(room, std::chrono::hours(1)) == 3);
    close(ends[1]);
    close(stop[0]);
    close(stop[1]);
}
