#!/bin/sh
# Install Dapr's official SDKs for the tests: Python's in .venv-dapr, JavaScript's in build/dapr-js.
# `dapr[grpc]` needs cloudevents < 2, so it can't share the broker's environment.
set -eu
cd "$(dirname "$0")/../.."
python="${1:-python3}"
missing=""

python_sdk() {
    stamp=.venv-dapr/.installed
    [ "$stamp" -nt tests/dapr/requirements.txt ] && return
    "$python" -m venv .venv-dapr &&
        .venv-dapr/bin/python -m pip install --quiet --disable-pip-version-check \
            -r tests/dapr/requirements.txt &&
        touch "$stamp"
}

node() {
    command -v node >/dev/null && command -v npm >/dev/null && return
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm
}

javascript_sdk() {
    stamp=build/dapr-js/.installed
    [ "$stamp" -nt tests/dapr/js/package-lock.json ] && return
    mkdir -p build/dapr-js &&
        cp tests/dapr/js/package.json tests/dapr/js/package-lock.json build/dapr-js &&
        npm ci --prefix build/dapr-js --ignore-scripts --no-audit --no-fund --loglevel=error &&
        touch "$stamp"
}

python_sdk || missing="Dapr's Python SDK"
{ node && javascript_sdk; } || missing="${missing:+$missing and }Dapr's JavaScript SDK"
[ -z "$missing" ] && exit 0
echo "$missing could not be installed: their tests will be skipped" >&2
[ "${CI:-}" != true ]
