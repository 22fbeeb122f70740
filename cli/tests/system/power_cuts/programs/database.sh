#!/bin/sh
# database.sh MODE TRANSACTIONS: SQLite on an ext4 commits transactions that each change rows all over a table, and
# marks each commit. MODE: `pragma synchronous`.
set -eu
mode=$1 transactions=$2
dir=$(mktemp -d)
mount -o loop "$DMSIM_DEVICE" "$dir"
trap 'umount "$dir"; rmdir "$dir"' EXIT
sqlite3 "$dir/db" 'begin; create table t (id integer primary key, n, text);
    with recursive ids(id) as (select 1 union all select id + 1 from ids where id < 400)
    insert into t select id, 0, hex(randomblob(300)) from ids; commit;'
sync "$dir/db" "$dir"
n=0
while [ $n -lt "$transactions" ]; do
    n=$((n + 1))
    sqlite3 "$dir/db" "pragma synchronous = $mode; update t set n = $n where id * $n % 37 < 5 or id % 20 = 0;"
    echo "commit $n" > "$DMSIM_MARKER"
done
