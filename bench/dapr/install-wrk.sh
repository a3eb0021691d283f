#!/bin/sh
# Install Debian's wrk for the comparison where it is missing and this user may do so.
set -eu
command -v wrk >/dev/null && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends wrk && exit 0
fi
echo "missing: wrk; install with: apt-get install wrk" >&2
echo "or leave out what needs it: make bench-dapr BENCH='--measures publish,stream'" >&2
