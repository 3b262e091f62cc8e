#!/usr/bin/env bash
# Archives of three files, by hash, in every environment that this machine can give.
#
#   benchmarks/portability.sh [ENVIRONMENT ...]     all of them by default; an hour or more
#
# Fetches other Pythons (Debian's packages, wheels of PyPI) into build/portability as files:
# nothing is installed and no rights are needed.  What can't be had is skipped, and said so.
# portability.py beside this file runs the environments and writes results/portability.json.
# Exit status 1: an archive differs, or does not come back.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
work=$PWD/build/portability
packages=(numpy numba sentencepiece zstandard)  # no constriction: coding does not import it, and
                                                # it has no wheel for Linux on aarch64

# fetch NAME SUITE DEBIAN_ARCH PYTHON WHEEL_ARCH: a Python of Debian with our packages
fetch() {
    local into=$work/$1 suite=$2 arch=$3 version=$4 wheels=$5 platforms=(manylinux2014) options mirror deb
    [[ -e $into/complete ]] && return
    rm -rf "$into"
    mkdir -p "$into"/apt/{lists,archives}/partial "$into/root"
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '!/security/ { print $1; exit }')
    echo "deb $mirror $suite main" >"$into/apt/sources.list"
    : >"$into/apt/status"
    options=(
        -q -o "Dir::Etc::sourcelist=$into/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$into/apt/lists" -o "Dir::State::status=$into/apt/status"
        -o "Dir::Cache=$into/apt" -o "Dir::Cache::archives=$into/apt/archives"
        -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
        -o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=true
    )
    apt-get "${options[@]}" update
    apt-get "${options[@]}" -y --download-only install python3 libstdc++6
    for deb in "$into"/apt/archives/*.deb; do dpkg-deb -x "$deb" "$into/root"; done
    for glibc in 17 24 26 27 28 31 34; do platforms+=("manylinux_2_$glibc"); done
    "$python" -m pip install -q --target "$into/packages" --only-binary=:all: \
        "${platforms[@]/#/--platform=}" --python-version "$version" --implementation cp \
        -c constraints.txt "${packages[@]}"
    touch "$into/complete"
}

try() {
    mkdir -p "$work"
    echo "portability: $1 (Debian $2, $3, Python $4)"
    fetch "$@" >"$work/$1.log" 2>&1 &  # in `fetch || true` a failure would not end it
    wait $! || echo "portability: $1 can't be had, see $work/$1.log"
}

if [[ $(uname -sm) == "Linux x86_64" ]] && command -v apt-get dpkg-deb >/dev/null; then
    try python-3.13 trixie amd64 3.13 x86_64
    try aarch64 bookworm arm64 3.11 aarch64
fi
exec nice -n 5 "$python" benchmarks/portability.py "$work" "$@"
