// SPDX-License-Identifier: BSD-2-Clause
// latchkey run: a program with the preload library.
#include "stack/client/tool.hpp"

#include <unistd.h>

#include <cstdlib>

namespace latchkey::tool {

namespace {

// As env(1), nice(1) and their like have it, so that the program's own statuses stay apart.
enum RunExit : int { run_failed = 125, run_refused = 126, run_not_found = 127 };

constexpr std::string_view library_name = "liblatchkey-preload.so";

// Where the library is: beside the tool in a build tree and in most installations, else where it was installed to.
std::optional<std::string> preload_library()
{
    std::array<char, 4096> raw{};
    const auto size = ::readlink("/proc/self/exe", raw.data(), raw.size());
    const std::string self(raw.data(), size < 0 ? 0 : static_cast<std::size_t>(size));
    const auto directory = self.substr(0, std::min(self.rfind('/'), self.size()));
    const auto parent = directory.substr(0, std::min(directory.rfind('/'), directory.size()));
    for (const auto& place : {parent + "/lib", std::string(LATCHKEY_LIBDIR), directory}) {
        auto path = place + "/" + std::string(library_name);
        if (::access(path.c_str(), R_OK) == 0)
            return path;
    }
    return std::nullopt;
}

// What $LD_PRELOAD already names comes first: a sanitizer's run time has to.
std::string with_library(const char* before, const std::string& library)
{
    const std::string list = before == nullptr ? "" : before;
    if (list.find(library) != list.npos)
        return list;
    return list.empty() ? library : list + ":" + library;
}

}  // namespace

int run_program(const Command& self, Words words)
{
    std::string socket;
    const std::array options{socket_option(socket)};
    if (const auto done = take_options(self, options, words))
        return *done == 0 ? 0 : run_failed;
    if (words.empty()) {
        fail_usage(self, "which program?");
        return run_failed;
    }
    const std::string name = words.front();
    const auto program = find_program(name);
    if (!program) {
        fail("run: there is no program " + name);
        return run_not_found;
    }
    if (const auto refusal = why_not_preload(*program)) {
        fail("run: " + *program + " " + refusal->reason + ", so that its sockets would not be the host's; "
             + refusal->remedy);
        return run_refused;
    }
    const auto library = preload_library();
    if (!library || library->find_first_of(" :") != std::string::npos) {
        fail(library ? "run: the path of the preload library, " + *library + ", has a space or colon in it"
                     : "run: " + std::string(library_name) + " is not installed beside this tool");
        return run_failed;
    }
    client::Host host;
    if (!open_host(host, socket))
        return run_failed;
    ::setenv("LATCHKEY", host.path(), 1);
    ::setenv("LD_PRELOAD", with_library(std::getenv("LD_PRELOAD"), *library).c_str(), 1);
    host.close();
    // The words end with the null pointer of main's argv. Not execvp(3), which would have a shell read any file that
    // the kernel cannot run.
    ::execv(program->c_str(), words.data());
    const int error = errno;
    fail("run: " + *program + ": " + std::strerror(error));
    return error == ENOENT ? run_not_found : run_refused;
}

}  // namespace latchkey::tool
