#!/bin/sh
# Install Debian's rabbitmq-server for the tests where it is missing and this user may do so.
set -eu
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # the tests start a private node of their own: the packaged service stays off
    RUNLEVEL=1 apt-get install -y -qq --no-install-recommends rabbitmq-server && exit 0
fi
echo "rabbitmq-server is missing: its tests will be skipped; install it with: apt-get install rabbitmq-server" >&2
[ "${CI:-}" != true ]
