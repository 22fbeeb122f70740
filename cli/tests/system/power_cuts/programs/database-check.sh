#!/bin/sh
# database-check.sh STATE: the database is whole, has whole transactions, and all that were promised.
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
e2fsck -y -E journal_only "$1" > "$out/e2fsck" 2>&1
printf 'dump /db %s/db\ndump /db-journal %s/db-journal\n' "$out" "$out" | debugfs -f - "$1" > "$out/debugfs" 2>&1
[ "$DMSIM_MARKS" != 0 ] || [ -s "$out/db" ] || exit 0
promised=0
case $DMSIM_MARK in
commit*) promised=${DMSIM_MARK#commit } ;;
dm-log-writes-end) promised=$((DMSIM_MARKS - 1)) ;;
esac
# Each transaction changes the row 20, and so the others of its kind.
said=$(sqlite3 "$out/db" "pragma integrity_check; select count(distinct n), max(n) from t where id % 20 = 0;" 2>&1)
case $said in
"ok
1|"*) [ "${said##*|}" -ge "$promised" ] || { echo "transaction ${said##*|}, of $promised promised"; exit 1; } ;;
*) [ "$promised" = 0 ] && [ "${said#*no such table}" != "$said" ] || { echo "damaged: $said"; exit 1; } ;;
esac
