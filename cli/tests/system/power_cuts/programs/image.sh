#!/bin/sh
# image.sh KIND VERSIONS: replaces three files on an ext4 by new versions, again and again: written beside the old, then
# renamed over it. KIND `careful` makes the new one durable before it is renamed; `hasty` leaves that to the file
# system, which is mounted so that it knows nothing of that habit.
set -eu
kind=$1 versions=$2
dir=$(mktemp -d)
mount -o loop,noauto_da_alloc "$DMSIM_DEVICE" "$dir"
trap 'umount "$dir"; rmdir "$dir"' EXIT
n=0
while [ $n -lt "$versions" ]; do
    n=$((n + 1))
    for image in image1 image2 image3; do
        yes "version $n" | head -n 1000 > "$dir/$image.new"
    done
    [ "$kind" = hasty ] || sync "$dir"/image?.new
    for image in image1 image2 image3; do
        mv "$dir/$image.new" "$dir/$image"
    done
    # Somebody else, who makes names durable.
    echo "$n" > "$dir/other"
    sync "$dir/other"
    echo "version $n" > "$DMSIM_MARKER"
done
