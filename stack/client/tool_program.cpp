// SPDX-License-Identifier: BSD-2-Clause
// Whether the preload library reaches into a program. The dynamic linker ignores it, silently, for programs that gain
// privilege (ld.so(8), secure-execution mode); a static program has no dynamic linker.
#include "stack/client/tool.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace latchkey::tool {

namespace {

constexpr int deepest_script = 4;   // the kernel allows about as many interpreters of interpreters

class File {
public:
    explicit File(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~File()
    {
        if (fd_ >= 0)
            ::close(fd_);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    std::string read(std::uint64_t at, std::size_t size) const
    {
        std::string text(size, '\0');
        const auto got = fd_ < 0 ? -1 : ::pread(fd_, text.data(), size, static_cast<off_t>(at));
        text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return text;
    }

    template <class Format> std::optional<Format> read_as(std::uint64_t at) const
    {
        Format format{};
        const auto raw = read(at, sizeof format);
        if (raw.size() != sizeof format)
            return std::nullopt;
        std::memcpy(&format, raw.data(), sizeof format);
        return format;
    }

private:
    int fd_;
};

std::string base_name(const std::string& path)
{
    return path.substr(path.rfind('/') + 1);
}

// ping(8) is what people meet first.
std::string copy_remedy(const std::string& path)
{
    const auto name = base_name(path);
    const auto copy = "run a copy, which gains none: cp " + path + " " + name + " && latchkey run ./" + name;
    return name == "ping" ? "use `latchkey ping`, or " + copy : copy;
}

std::optional<Refusal> gains_privilege(const std::string& path)
{
    struct stat info{};
    if (::stat(path.c_str(), &info) < 0)
        return std::nullopt;
    const bool ids_change = ((info.st_mode & S_ISUID) != 0 && info.st_uid != ::geteuid())
        || ((info.st_mode & S_ISGID) != 0 && (info.st_mode & S_IXGRP) != 0 && info.st_gid != ::getegid());
    if (ids_change && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return Refusal{"is a set-id program", copy_remedy(path)};
    // For root the kernel does not count a program's capabilities as a gain.
    if (::getuid() != 0 && ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
        return Refusal{"has file capabilities", copy_remedy(path)};
    return std::nullopt;
}

// The kind of machine that this tool, and so the preload library, is made for.
bool same_machine(const Elf64_Ehdr& header)
{
    const auto own = File("/proc/self/exe").read_as<Elf64_Ehdr>(0);
    return !own || (own->e_ident[EI_CLASS] == header.e_ident[EI_CLASS] && own->e_machine == header.e_machine);
}

// The dynamic linker that an ELF file names; empty: none. Nothing: the file is damaged, which exec will tell better.
template <class Header, class Segment> std::optional<std::string> interpreter_of(const File& file)
{
    const auto header = file.read_as<Header>(0);
    for (unsigned i = 0; header && i < header->e_phnum; ++i) {
        const auto segment = file.read_as<Segment>(header->e_phoff + std::uint64_t{i} * header->e_phentsize);
        if (!segment)
            return std::nullopt;
        if (segment->p_type != PT_INTERP)
            continue;
        const auto size = std::min<std::size_t>(segment->p_filesz, 4096);
        const auto path = file.read(segment->p_offset, size);
        return path.size() == size ? std::optional(std::string(path.c_str())) : std::nullopt;
    }
    return header ? std::optional(std::string()) : std::nullopt;
}

std::optional<Refusal> check_elf(const File& file)
{
    const auto header = file.read_as<Elf64_Ehdr>(0);
    if (!header)
        return std::nullopt;
    const bool wide = header->e_ident[EI_CLASS] == ELFCLASS64;
    const auto interpreter = wide ? interpreter_of<Elf64_Ehdr, Elf64_Phdr>(file)
                                  : interpreter_of<Elf32_Ehdr, Elf32_Phdr>(file);
    if (!interpreter)
        return std::nullopt;
    if (interpreter->empty())
        return Refusal{"is statically linked", "link it dynamically, or with the client library (<latchkey/socket.h>)"};
    if (!same_machine(*header))
        return Refusal{"is made for another kind of machine than the preload library",
                       "build Latchkey for it, or the program for this machine"};
    if (base_name(*interpreter).starts_with("ld-musl"))
        return Refusal{"is linked with musl, the preload library with glibc", "build it with glibc"};
    return std::nullopt;
}

// The program that a "#!" line starts; "/usr/bin/env NAME" is looked through.
std::optional<std::string> script_interpreter(const std::string& head)
{
    const auto line = head.substr(2, head.find('\n') - 2);
    const auto word = [&](std::size_t& at) {
        const auto start = std::min(line.find_first_not_of(" \t", at), line.size());
        at = std::min(line.find_first_of(" \t", start), line.size());
        return line.substr(start, at - start);
    };
    std::size_t at = 0;
    const auto interpreter = word(at);
    if (interpreter.empty())
        return std::nullopt;
    auto argument = word(at);
    if (base_name(interpreter) != "env")
        return interpreter;
    while (argument.starts_with("-") || argument.find('=') != argument.npos)
        argument = word(at);
    return argument.empty() ? interpreter : find_program(argument);
}

std::optional<Refusal> check(const std::string& path, int depth)
{
    const File file(path);
    const auto head = file.read(0, 256);
    if (head.starts_with("#!")) {
        // The set-id bits of a script do nothing on Linux: its interpreter is what counts.
        const auto interpreter = script_interpreter(head);
        if (!interpreter || depth >= deepest_script)
            return std::nullopt;
        auto refusal = check(*interpreter, depth + 1);
        if (refusal)
            refusal->reason = "is run by " + *interpreter + ", which " + refusal->reason;
        return refusal;
    }
    if (auto refusal = gains_privilege(path))
        return refusal;
    return head.starts_with(ELFMAG) ? check_elf(file) : std::nullopt;
}

}  // namespace

std::optional<Refusal> why_not_preload(const std::string& path)
{
    return check(path, 0);
}

std::optional<std::string> find_program(std::string_view name)
{
    const auto runnable = [](const std::string& path) {
        struct stat info{};
        return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(path.c_str(), X_OK) == 0;
    };
    if (name.find('/') != name.npos)
        return runnable(std::string(name)) ? std::optional(std::string(name)) : std::nullopt;
    const char* raw = std::getenv("PATH");
    std::string_view rest = raw != nullptr ? raw : "/bin:/usr/bin";
    for (;;) {
        const auto directory = rest.substr(0, rest.find(':'));
        auto path = (directory.empty() ? "." : std::string(directory)) + "/" + std::string(name);
        if (runnable(path))
            return path;
        if (directory.size() == rest.size())
            return std::nullopt;
        rest.remove_prefix(directory.size() + 1);
    }
}

}  // namespace latchkey::tool
