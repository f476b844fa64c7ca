// SPDX-License-Identifier: BSD-2-Clause
// The `latchkey` tool as a program: what it prints, its exit status, and which programs `run` refuses.
#include "tests/stack/fake_host.hpp"

#include <doctest/doctest.h>

#include <elf.h>
#include <regex.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>

using latchkey::test::FakeHost;

namespace {

struct Outcome {
    int status = -1;
    std::string out;   // both streams, in order
    bool says(const std::string& pattern) const   // an extended regular expression
    {
        regex_t compiled{};
        if (::regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
            return false;
        const bool found = ::regexec(&compiled, out.c_str(), 0, nullptr, 0) == 0;
        ::regfree(&compiled);
        return found;
    }
};

Outcome latchkey_tool(std::vector<std::string> words, const std::function<void()>& before = {})
{
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) < 0)
        return {};
    const pid_t child = ::fork();
    if (child == 0) {
        ::dup2(ends[1], STDOUT_FILENO);
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        if (before)
            before();
        words.insert(words.begin(), "latchkey");
        std::vector<char*> raw;
        for (auto& word : words)
            raw.push_back(word.data());
        raw.push_back(nullptr);
        ::execv(LATCHKEY_TOOL, raw.data());
        ::_exit(99);
    }
    ::close(ends[1]);
    Outcome outcome;
    std::array<char, 65536> room{};
    for (ssize_t got = 0; (got = ::read(ends[0], room.data(), room.size())) > 0;)
        outcome.out.append(room.data(), static_cast<std::size_t>(got));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
}

// A copy of an ordinary dynamic program, changed.
class Program {
public:
    Program(const FakeHost& fake, const std::string& name, const std::function<void(std::string&)>& change = {})
        : path(fake.directory() + "/" + name)
    {
        std::ifstream in("/bin/true", std::ios::binary);
        std::string image((std::istreambuf_iterator<char>(in)), {});
        if (change)
            change(image);
        std::ofstream(path, std::ios::binary) << image;
        ::chmod(path.c_str(), 0755);
    }
    ~Program() { ::unlink(path.c_str()); }
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    const std::string path;
};

// Calls change(segment) for each program header of a 64-bit image and stores it back.
void for_each_segment(std::string& image, const std::function<void(Elf64_Phdr&)>& change)
{
    Elf64_Ehdr header{};
    std::memcpy(&header, image.data(), sizeof header);
    for (unsigned i = 0; i < header.e_phnum; ++i) {
        char* at = image.data() + header.e_phoff + std::size_t{i} * header.e_phentsize;
        Elf64_Phdr segment{};
        std::memcpy(&segment, at, sizeof segment);
        change(segment);
        std::memcpy(at, &segment, sizeof segment);
    }
}

void no_interpreter(std::string& image)
{
    for_each_segment(image, [](Elf64_Phdr& segment) {
        if (segment.p_type == PT_INTERP)
            segment.p_type = PT_NULL;
    });
}

void become_nobody()
{
    if (::setgid(65534) < 0 || ::setuid(65534) < 0)
        ::_exit(98);
}

}  // namespace

TEST_CASE("help, version, words that do not exist")
{
    CHECK(latchkey_tool({"--help"}).status == 0);
    CHECK(latchkey_tool({"--version"}).says("^latchkey [0-9]+\\.[0-9]+"));
    CHECK(latchkey_tool({}).status == 2);
    for (const char* name : {"run", "ping", "stat", "address", "route", "link", "sysctl", "algs", "monitor"}) {
        CAPTURE(name);
        CHECK(latchkey_tool({"--help"}).says("\n  " + std::string(name) + " "));
        const auto help = latchkey_tool({name, "--help"});
        CHECK(help.status == 0);
        CHECK(help.says("^usage: latchkey " + std::string(name)));
        CHECK(help.says("--socket PATH"));
    }
    const auto typo = latchkey_tool({"pign"});
    CHECK(typo.status == 2);
    CHECK(typo.says("did you mean `ping`"));
    CHECK(latchkey_tool({"route", "ad", "x"}).says("did you mean `add`"));
    CHECK(latchkey_tool({"ping", "--sokcet", "x"}).says("did you mean `--socket`"));
    CHECK(latchkey_tool({"ping"}).status == 2);
    CHECK(latchkey_tool({"ping", "example.org"}).status == 2);
    CHECK(latchkey_tool({"ping", "-c", "0", "192.0.2.1"}).status == 2);
    CHECK(latchkey_tool({"ping", "-c"}).status == 2);
    CHECK(latchkey_tool({"ping", "-q=1", "192.0.2.1"}).status == 2);
    CHECK(latchkey_tool({"stat", "x"}).status == 2);
    CHECK(latchkey_tool({"route", "add"}).status == 2);
}

TEST_CASE("every command and option of --help is in the man page")
{
    std::ifstream in(LATCHKEY_MAN_PAGE);
    const std::string page((std::istreambuf_iterator<char>(in)), {});
    REQUIRE(!page.empty());
    for (const std::string name : {"run", "ping", "stat", "address", "route", "link", "sysctl", "algs"}) {
        CHECK(page.find("\n.Cm " + name + "\n") != page.npos);
        std::istringstream help(latchkey_tool({name, "--help"}).out);
        int options = 0;
        for (std::string line; std::getline(help, line);) {
            if (!line.starts_with("  -"))
                continue;
            const auto word = line.substr(3, line.find(' ', 3) - 3);
            CAPTURE(word);
            CHECK(page.find("Fl " + (word[0] == '-' ? "\\" + word : word)) != page.npos);
            ++options;
        }
        CHECK(options >= 2);
    }
}

TEST_CASE("no host, another version, no name for it")
{
    const auto absent = latchkey_tool({"stat", "--socket", "/nonexistent/host"});
    CHECK(absent.status == 1);
    CHECK(absent.says("no host answers at /nonexistent/host: No such file"));
    CHECK(latchkey_tool({"ping", "--socket=/nonexistent/host", "192.0.2.1"}).status == 2);
    CHECK(latchkey_tool({"run", "--socket", "/nonexistent/host", "/bin/true"}).status == 125);
    const auto nameless = latchkey_tool({"stat"}, [] {
        ::unsetenv("LATCHKEY");
        ::unsetenv("XDG_RUNTIME_DIR");
        if (::geteuid() == 0)
            become_nobody();
    });
    CHECK(nameless.status == 1);
    CHECK(nameless.says("which host"));
}

TEST_CASE("stat, address, route, link pass text on, and the host's reason or errno")
{
    FakeHost fake;
    CHECK(latchkey_tool({"stat", "--socket", fake.path()}).out == std::string(latchkey::test::stat_size, 's'));
    CHECK(latchkey_tool({"address", "--socket", fake.path()}).out == "192.0.2.7/24 dev lk0\n");
    CHECK(latchkey_tool({"addr", "--socket", fake.path(), "show"}).out == "192.0.2.7/24 dev lk0\n");
    const auto twice = latchkey_tool({"address", "--socket", fake.path(), "add", "192.0.2.7/24", "dev", "lk0"});
    CHECK(twice.status == 1);
    CHECK(twice.out == "latchkey: address add 192.0.2.7/24 dev lk0: it has that one\n");
    CHECK(latchkey_tool({"route", "--socket", fake.path(), "del", "default"}).out
          == "latchkey: route delete default: Network is unreachable\n");
    const auto set = latchkey_tool({"link", "--socket", fake.path(), "set", "lk0", "up"});
    CHECK(set.status == 0);
    CHECK(set.out.empty());
}

TEST_CASE("sysctl prints, lists and sets in the ways of sysctl(8)")
{
    FakeHost fake;
    const auto sysctl = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {"sysctl", "--socket", fake.path()});
        return latchkey_tool(words);
    };
    CHECK(sysctl({"net.key.debug"}).out == "net.key.debug: 0\n");
    CHECK(sysctl({"-n", "net.key.debug", "net.inet.ipsec.used"}).out == "0\n1\n");
    CHECK(sysctl({"-e", "net.key.debug"}).out == "net.key.debug=0\n");
    CHECK(sysctl({"-x", "net.key.spi_maxval"}).out == "net.key.spi_maxval: 0xfffffff\n");
    CHECK(sysctl({"-nx", "net.key.spi_maxval"}).out == "0xfffffff\n");
    CHECK(sysctl({"net.key"}).out == "net.key.debug: 0\nnet.key.spi_maxval: 268435455\n");
    CHECK(sysctl({"net.key."}).out == sysctl({"net.key"}).out);
    CHECK(sysctl({"-a"}).out == "net.inet.ipsec.ecn: 0\nnet.inet.ipsec.used: 1\n" + sysctl({"net.key"}).out);
    CHECK(sysctl({"-d", "net.key.debug"}).out == "net.key.debug: about net.key.debug (0 to 2147483647, default 0)\n");
    CHECK(sysctl({"-dx", "net.key"}).out
          == "net.key.debug: about net.key.debug (0x0 to 0x7fffffff, default 0x0)\n"
             "net.key.spi_maxval: about net.key.spi_maxval (0x100 to 0xffffffff, default 0x0)\n");
    CHECK(sysctl({"-da"}).says("used \\(read only\\)"));

    CHECK(sysctl({"net.key.debug=0x10"}).out == "net.key.debug: 0 -> 16\n");
    CHECK(sysctl({"-w", "net.key.debug = 7", "net.inet.ipsec.ecn=-1"}).out
          == "net.key.debug: 16 -> 7\nnet.inet.ipsec.ecn: 0 -> -1\n");
    CHECK(sysctl({"-x", "net.inet.ipsec.ecn"}).out == "net.inet.ipsec.ecn: 0xffffffff\n");
    CHECK(sysctl({"-q", "net.key.debug=8"}).out.empty());
    CHECK(sysctl({"-n", "net.key.debug=9"}).out == "8 -> 9\n");
}

TEST_CASE("sysctl: one refusal stops nothing, is explained, and is the exit status")
{
    FakeHost fake;
    const auto sysctl = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {"sysctl", "--socket", fake.path()});
        return latchkey_tool(words);
    };
    const auto mixed = sysctl({"net.key.debgu=1", "net.key.debug=-1", "net.inet.ipsec.used=0", "net.key.debug=2"});
    CHECK(mixed.status == 1);
    CHECK(mixed.says("sysctl: net.key.debgu: the host has no tunable of this name; did you mean `net.key.debug`\\?"));
    CHECK(mixed.says("sysctl: net.key.debug=-1: outside the range \\(0 to 2147483647\\)\n"));
    CHECK(mixed.says("sysctl: net.inet.ipsec.used=0: only to be read\n"));
    CHECK(mixed.says("net.key.debug: 0 -> 2\n"));
    CHECK(sysctl({"ipsec.ecn"}).says("did you mean `net.inet.ipsec.ecn`"));
    CHECK(sysctl({"kern.hostname"}).out == "latchkey: sysctl: kern.hostname: the host has no tunable of this name\n");
    CHECK(sysctl({"-w", "net.key.debug"}).says("expected NAME=VALUE"));
    CHECK(sysctl({"-w", "net.key.debug"}).status == 1);
    CHECK(sysctl({}).status == 2);
    CHECK(sysctl({"-a", "net.key"}).status == 2);
    CHECK(sysctl({"-z", "net.key"}).status == 2);
    CHECK(sysctl({"-az"}).says("no option -z"));
    CHECK(sysctl({"-f"}).status == 2);

    const auto file = fake.directory() + "/sysctl.conf";
    std::ofstream(file) << "# what this host is like\n\n  net.key.debug = 3   # more\n"
                           "net.inet.ipsec.ecn=\"1\"\nnonsense\nnet.key.nothing=1\nnet.key.spi_maxval=0xffff\n";
    const auto done = sysctl({"-f", file});
    CHECK(done.status == 1);
    CHECK(done.says(file + ":5: nonsense: expected NAME=VALUE"));
    CHECK(done.says(file + ":6: net.key.nothing: the host has no tunable"));
    CHECK(sysctl({"-na"}).out == "1\n1\n3\n65535\n");
    ::unlink(file.c_str());
    const auto missing = sysctl({"-f", file});
    CHECK(missing.status == 1);
    CHECK(missing.says("sysctl: " + file + ": No such file or directory"));
    CHECK(latchkey_tool({"sysctl", "-a", "--socket", "/nonexistent/sock"}).says("no host answers at /nonexistent"));
}

TEST_CASE("algs: by name and kind, without a host, as JSON")
{
    const auto no_host = [] {
        ::setenv("LATCHKEY", "/nonexistent/host.sock", 1);
    };
    const auto all = latchkey_tool({"algs"}, no_host);
    CHECK(all.status == 0);
    CHECK(all.says("aead +aes-gcm-16 +20 +20 +128 192 256 \\+32 +8 +16 +\\? +aes-gcm16 aes-gcm gcm"));
    CHECK(all.says("auth +hmac-sha256 +5 +12 +256 +- +16 "));
    CHECK(all.says("cipher +blowfish-cbc +7 +7 +40-448 +8 +- +\\? +blowfish \\(legacy\\)"));
    CHECK(all.says("No host answers at /nonexistent/host.sock"));
    const auto null = latchkey_tool({"algs", "NULL"}, no_host);
    CHECK(null.says("cipher +null +11"));
    CHECK(null.says("auth +null +251"));
    CHECK(!null.says("aes"));
    CHECK(latchkey_tool({"algs", "rijndael-cbc"}, no_host).says("cipher +aes-cbc +12 +12 "));
    const auto kind = latchkey_tool({"algs", "compression"}, no_host);
    CHECK(kind.says("deflate"));
    CHECK(!kind.says("null"));
    const auto wrong = latchkey_tool({"algs", "aes-cbx"}, no_host);
    CHECK(wrong.status == 1);
    CHECK(wrong.out == "latchkey: algs: there is no algorithm or kind `aes-cbx`; did you mean `aes-cbc`?\n");
    CHECK(latchkey_tool({"algs", "--json", "aes-cbc"}, no_host).out
          == "[{\"kind\": \"cipher\", \"name\": \"aes-cbc\", \"aliases\": [\"rijndael-cbc\", \"aes\"], \"sadb\": 12, "
             "\"ikev2\": 12, \"key_bits_min\": 128, \"key_bits_max\": 256, \"key_bits_step\": 64, \"salt_bits\": 0, "
             "\"iv_bytes\": 16, \"icv_bytes\": 0, \"block_bytes\": 16, \"legacy\": false, \"available\": null}]\n");
    CHECK(latchkey_tool({"algs", "--socket", "/nonexistent/host.sock"}).status == 1);
}

TEST_CASE("ping prints and exits as ping(8)")
{
    FakeHost fake;
    const auto good = latchkey_tool({"ping", "-c", "3", "-i", "0.01", "-s100", "--socket", fake.path(), "192.0.2.1"});
    CHECK(good.status == 0);
    CHECK(good.says("^PING 192\\.0\\.2\\.1 \\(192\\.0\\.2\\.1\\) 100\\(128\\) bytes of data\\.\n"
                    "108 bytes from 192\\.0\\.2\\.1: icmp_seq=1 ttl=61 time=[0-9.]+ ms\n"
                    "108 bytes from 192\\.0\\.2\\.1: icmp_seq=2 ttl=61 time=[0-9.]+ ms\n"
                    "108 bytes from 192\\.0\\.2\\.1: icmp_seq=2 ttl=61 time=[0-9.]+ ms \\(DUP!\\)\n"
                    "108 bytes from 192\\.0\\.2\\.1: icmp_seq=3 ttl=61 time=[0-9.]+ ms\n\n"
                    "--- 192\\.0\\.2\\.1 ping statistics ---\n"
                    "3 packets transmitted, 3 received, \\+1 duplicates, 0% packet loss, time [0-9]+ms\n"
                    "rtt min/avg/max/mdev = [0-9.]+/[0-9.]+/[0-9.]+/[0-9.]+ ms\n$"));
    const auto six = latchkey_tool({"ping", "fd00::1", "-qc1", "--socket", fake.path()});
    CHECK(six.status == 0);
    CHECK(six.out.starts_with("PING fd00::1(fd00::1) 56 data bytes\n\n---"));
    const auto quiet = latchkey_tool({"ping", "fd00::1", "-q", "-c1", "--socket", fake.path()});
    CHECK(quiet.status == 0);
    CHECK(quiet.says("^PING fd00::1\\(fd00::1\\) 56 data bytes\n\n---"));
    const auto lost = latchkey_tool({"ping", "-c2", "-i0", "-W", "0.05", "--socket", fake.path(), "192.0.2.99"});
    CHECK(lost.status == 1);
    CHECK(lost.says("2 packets transmitted, 0 received, 100% packet loss"));
    const auto refused = latchkey_tool({"ping", "-c1", "--socket", fake.path(), "192.0.2.66"});
    CHECK(refused.status == 1);
    CHECK(refused.says("sendmsg: Operation not permitted"));
    CHECK(refused.says("1 packets transmitted, 0 received, \\+1 errors, 100% packet loss"));
}

TEST_CASE("run: the program's environment, arguments and exit status")
{
    FakeHost fake;
    const auto shell = latchkey_tool({"run", "--socket", fake.path(), "--", "sh", "-c",
                                      "echo \"$LATCHKEY|$LD_PRELOAD|$1\"; exit 7", "sh", "--socket"},
                                     [] { ::setenv("LD_PRELOAD", "/nonexistent/first.so", 1); });
    CHECK(shell.status == 7);
    CHECK(shell.says(std::string(fake.path()) + "\\|/nonexistent/first\\.so:/.*/liblatchkey-preload\\.so\\|--socket\n"));
    CHECK(latchkey_tool({"run", "--socket", fake.path(), "no-such-program"}).status == 127);
    CHECK(latchkey_tool({"run", "--socket", fake.path(), "/etc/passwd"}).status == 127);
    CHECK(latchkey_tool({"run"}).status == 125);

    // A relative path names the same host wherever the program goes.
    const auto relative = latchkey_tool({"run", "--socket", "host.sock", "sh", "-c", "echo $LATCHKEY"}, [&] {
        if (::chdir(fake.directory().c_str()) < 0)
            ::_exit(97);
    });
    CHECK(relative.out == std::string(fake.path()) + "\n");
}

TEST_CASE("run refuses what the preload library cannot reach, by name and with the remedy")
{
    FakeHost fake;
    const auto run = [&](const std::string& path, const std::function<void()>& before = {}) {
        return latchkey_tool({"run", "--socket", fake.path(), path}, before);
    };
    CHECK(run(Program(fake, "plain").path).status == 0);

    const Program fixed(fake, "fixed", no_interpreter);
    const auto refused = run(fixed.path);
    CHECK(refused.status == 126);
    CHECK(refused.says("run: " + fixed.path + " is statically linked.*; link it dynamically"));

    const Program narrow(fake, "narrow", [](std::string& image) {
        Elf32_Ehdr header{};
        std::memcpy(header.e_ident, ELFMAG, SELFMAG);
        header.e_ident[EI_CLASS] = ELFCLASS32;
        header.e_machine = EM_386;
        header.e_phoff = sizeof header;
        header.e_phentsize = sizeof(Elf32_Phdr);
        header.e_phnum = 1;
        const std::string interpreter = "/lib/ld-linux.so.2";
        Elf32_Phdr segment{};
        segment.p_type = PT_INTERP;
        segment.p_offset = sizeof header + sizeof segment;
        segment.p_filesz = static_cast<Elf32_Word>(interpreter.size());
        image.assign(sizeof header + sizeof segment, '\0');
        std::memcpy(image.data(), &header, sizeof header);
        std::memcpy(image.data() + sizeof header, &segment, sizeof segment);
        image += interpreter;
    });
    CHECK(run(narrow.path).status == 126);
    CHECK(run(narrow.path).says("another kind of machine"));

    const Program musl(fake, "musl", [](std::string& image) {
        for_each_segment(image, [&](Elf64_Phdr& segment) {
            const std::string other("/lib/ld-musl-x86_64.so.1\0", 25);
            if (segment.p_type == PT_INTERP && segment.p_filesz >= other.size())
                image.replace(segment.p_offset, other.size(), other);
        });
    });
    CHECK(run(musl.path).says("linked with musl"));

    const Program script(fake, "script", [&](std::string& image) { image = "#! " + fixed.path + " -x\n"; });
    CHECK(run(script.path).says("script is run by " + fixed.path + ", which is statically linked"));
    const Program by_env(fake, "by-env", [](std::string& image) { image = "#!/usr/bin/env -S fixed -x\n"; });
    CHECK(run(by_env.path, [&] { ::setenv("PATH", fake.directory().c_str(), 1); }).status == 126);
    const Program good(fake, "good-script", [](std::string& image) { image = "#!/bin/sh\nexit 5\n"; });
    CHECK(run(good.path).status == 5);
    // Cut anywhere, a file is not misread.
    for (std::size_t size = 0; size < 200; ++size) {
        const Program cut(fake, "cut", [&](std::string& image) { image.resize(size); });
        const auto outcome = run(cut.path);
        CHECK(outcome.status == 126);   // by the kernel, and nobody else tries
        CHECK(outcome.says("cut: (Exec format error|Input/output error|Invalid argument)"));
    }
}

TEST_CASE("run refuses programs that gain privilege")
{
    if (::geteuid() != 0) {
        MESSAGE("skipped: needs root");
        return;
    }
    FakeHost fake;
    ::chmod(fake.path(), 0666);
    const auto run = [&](const std::string& path, const std::function<void()>& before = {}) {
        return latchkey_tool({"run", "--socket", fake.path(), path}, before);
    };
    const Program set_id(fake, "set-id");
    CHECK(::chmod(set_id.path.c_str(), 04755) == 0);
    CHECK(run(set_id.path).status == 0);   // root's own: nothing is gained, and the library is loaded
    const auto refused = run(set_id.path, become_nobody);
    CHECK(refused.status == 126);
    CHECK(refused.says(set_id.path + " is a set-id program.*run a copy"));
    CHECK(::chown(set_id.path.c_str(), 4321, 0) == 0);
    CHECK(::chmod(set_id.path.c_str(), 04755) == 0);
    CHECK(run(set_id.path).status == 126);

    const Program group(fake, "set-gid");
    CHECK(::chown(group.path.c_str(), 0, 4321) == 0);
    CHECK(::chmod(group.path.c_str(), 02755) == 0);
    CHECK(run(group.path).status == 126);

    const Program ping(fake, "ping");
    const std::array<std::uint32_t, 5> net_raw{0x02000001, 1u << 13, 0, 0, 0};   // VFS_CAP_REVISION_2, effective
    if (::setxattr(ping.path.c_str(), "security.capability", net_raw.data(), sizeof net_raw, 0) < 0) {
        MESSAGE("skipped: no file capabilities here");
        return;
    }
    CHECK(run(ping.path).status == 0);
    const auto gains = run(ping.path, become_nobody);
    CHECK(gains.status == 126);
    CHECK(gains.says("has file capabilities.*use `latchkey ping`"));
}
