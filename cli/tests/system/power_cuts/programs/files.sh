#!/bin/sh
# files.sh OPTIONS ROUNDS: writes, renames and removes files of an ext4 that is mounted with these options, and
# marks what it has made durable.
set -eu
options=$1 rounds=$2
dir=$(mktemp -d)
mount -o "loop,$options" "$DMSIM_DEVICE" "$dir"
trap 'umount "$dir"; rmdir "$dir"' EXIT
n=0
while [ $n -lt "$rounds" ]; do
    n=$((n + 1))
    mkdir "$dir/dir$n"
    head -c $((n * 700)) /dev/zero | tr '\0' x > "$dir/dir$n/new"
    mv "$dir/dir$n/new" "$dir/dir$n/file"
    [ $((n % 3)) = 0 ] && rm -r "$dir/dir$((n - 1))"
    sync "$dir/dir$n/file" "$dir/dir$n"
    echo "file $n" > "$DMSIM_MARKER"
done
