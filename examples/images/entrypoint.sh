#!/bin/sh
set -eu
echo "preparing"
"$@"
