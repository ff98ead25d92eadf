#!/bin/sh
# As many images have it: something to prepare, then the service. Without `exec` the shell stays, as PID 1.
set -e
mkdir -p "${TMPDIR:-/tmp}"
"$@"
