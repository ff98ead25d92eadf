#!/bin/sh
# The same as it should be: the shell hands its place to the service.
set -e
mkdir -p "${TMPDIR:-/tmp}"
exec "$@"
