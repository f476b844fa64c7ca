#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# fetch-lwip.sh DIR: puts lwIP's source, as Debian packages it, into DIR/source.
#
# apt does the work and checks the signatures, from the mirrors and keys that this machine's apt already trusts, with
# lists, caches and options of its own in DIR: nothing of the system's apt changes, and root is not needed. When
# DIR/source is there already, nothing is done and no network is used.
set -eu

main() {
    [ $# -eq 1 ] || die "usage: fetch-lwip.sh DIR"
    mkdir -p "$1" || die "cannot make the directory $1"
    dir=$(cd "$1" && pwd)
    is_complete && exit 0

    need apt-get apt
    need apt-config apt
    need dpkg-source dpkg-dev
    need flock util-linux
    # Two configure runs at a time: the second one waits and finds the work done.
    exec 9>"$dir/.lock"
    flock 9
    is_complete && exit 0

    work=$dir/.apt
    rm -rf "$work"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    mkdir -p "$work/sources.list.d" "$work/lists/partial" "$work/cache/archives/partial" "$work/source"

    echo "Fetching lwIP's source through apt into $dir"
    write_sources
    write_options
    update
    download
}

is_complete() { [ -f "$dir/source/src/include/lwip/init.h" ]; }

# ---- Where from: this machine's own Debian entries, as deb-src ----

write_sources() {
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    for file in "${list:-}" "${parts:-}"/*.list; do
        [ -f "$file" ] && one_line "$file"
    done >"$work/sources.list.d/latchkey.list"
    for file in "${parts:-}"/*.sources; do
        [ -f "$file" ] && deb822 "$file"
    done >"$work/sources.list.d/latchkey.sources"
    if ! [ -s "$work/sources.list.d/latchkey.list" ] && ! [ -s "$work/sources.list.d/latchkey.sources" ]; then
        die "apt has no entry for Debian's main component (looked in ${list:-?} and ${parts:-?})"
    fi
}

# A suite is Debian's when it is named after this release or a class of releases, with or without a pocket. Other
# archives that sit beside Debian (their suites are named otherwise) are never asked.
suite_test='
function is_debian(suite) {
    sub(/(-updates|-security|-backports|-proposed-updates|\/updates)$/, "", suite)
    return suite != "" && (suite == codename || suite ~ /^(oldoldstable|oldstable|stable|testing|unstable|sid)$/)
}'

# deb [options] uri suite component...
one_line() {
    awk -v codename="$codename" "$suite_test"'
        { sub(/#.*/, "") }
        $1 == "deb" || $1 == "deb-src" {
            options = ""
            rest = $0
            sub(/^[ \t]*deb(-src)?[ \t]+/, "", rest)
            if (rest ~ /^\[/) {
                options = substr(rest, 1, index(rest, "]")) " "
                rest = substr(rest, index(rest, "]") + 1)
            }
            count = split(rest, word, /[ \t]+/)
            first = word[1] == "" ? 2 : 1
            for (i = first + 2; i <= count; ++i)
                if (word[i] == "main" && is_debian(word[first + 1]))
                    line["deb-src " options word[first] " " word[first + 1] " main"] = 1
        }
        END { for (each in line) print each }' "$1"
}

# Stanzas of fields; lines that begin with a blank continue a field (a key may be embedded that way).
deb822() {
    awk -v codename="$codename" "$suite_test"'
        function flush_stanza(    i, count, word, suites, name) {
            count = split(value["suites"], word, /[ \t\n]+/)
            for (i = 1; i <= count; ++i)
                if (is_debian(word[i]))
                    suites = suites " " word[i]
            if (value["uris"] != "" && suites != "" && value["types"] ~ /(^|[ \t\n])deb(-src)?([ \t\n]|$)/ &&
                value["components"] ~ /(^|[ \t\n])main([ \t\n]|$)/ &&
                tolower(value["enabled"]) !~ /^[ \t]*(no|false|0|off)/) {
                print "Types: deb-src\nSuites:" suites "\nComponents: main"
                for (name in value)
                    if (name !~ /^(types|suites|components|enabled|architectures)$/)
                        print name ":" value[name]
                print ""
            }
            split("", value)
            field = ""
        }
        /^[ \t]*#/ { next }
        /^[ \t]*$/ { flush_stanza(); next }
        /^[ \t]/ { if (field != "") value[field] = value[field] "\n" $0; next }
        {
            field = tolower(substr($0, 1, index($0, ":") - 1))
            value[field] = substr($0, index($0, ":") + 1)
        }
        END { flush_stanza() }' "$1"
}

# ---- How ----

write_options() {
    # Read last, so it wins over the system's settings. The hooks are cleared because they would refresh the system's
    # own catalogues; the sandbox user could not write here.
    cat >"$work/apt.conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$work/sources.list.d";
Dir::State::lists "$work/lists";
Dir::Cache "$work/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
END
}

apt_get() { apt-get -c "$work/apt.conf" -q "$@"; }

# One broken mirror among several is no reason to give up: whether lwip can be had decides.
update() {
    apt_get update >"$work/log" 2>&1 || true
    if [ -z "$(apt-cache -c "$work/apt.conf" showsrc lwip 2>/dev/null)" ]; then
        cat "$work/log" >&2
        die "apt found no source package lwip (its messages stand above)"
    fi
}

download() {
    if ! (cd "$work/source" && apt_get source --only-source lwip) >"$work/log" 2>&1; then
        cat "$work/log" >&2
        die "apt-get source lwip failed (its messages stand above)"
    fi
    set -- "$work"/source/lwip-*/
    [ -f "${1}src/include/lwip/init.h" ] || die "the source package has no src/include/lwip/init.h"
    rm -rf "$dir/source"
    mv "$1" "$dir/source"
    echo "Fetched lwip $(cd "$dir/source" && dpkg-parsechangelog -S Version)"
}

need() { command -v "$1" >/dev/null || die "$1 is needed to fetch lwIP's source: install the package $2"; }

die() {
    echo "fetch-lwip.sh: $*" >&2
    exit 1
}

main "$@"
