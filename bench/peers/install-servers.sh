#!/bin/sh
# Install Debian's servers for the comparison where they are missing and this user may do so.
set -eu
missing=""
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"
[ -x /usr/sbin/mosquitto ] || missing="$missing mosquitto"
[ -x /usr/bin/redis-server ] || missing="$missing redis-server"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # the comparison starts private servers of its own: the packaged services stay off
    # shellcheck disable=SC2086 # a list of words
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $missing && exit 0
fi
echo "missing:$missing; install with: apt-get install$missing" >&2
echo "or leave out what needs them: make bench-peers BENCH='--only relay,relay-50,nats,nats-always,sqlite,memory'" >&2
