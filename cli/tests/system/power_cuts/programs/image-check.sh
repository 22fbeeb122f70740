#!/bin/sh
# image-check.sh STATE: each file is one version, whole, and none older than what was promised.
e2fsck -y -E journal_only "$1" > /dev/null 2>&1
promised=0
case $DMSIM_MARK in
version*) promised=${DMSIM_MARK#version } ;;
dm-log-writes-end) promised=$((DMSIM_MARKS - 1)) ;;
esac
printf 'cat /image1\ncat /image2\ncat /image3\n' | debugfs -f - "$1" 2> /dev/null | awk -v promised="$promised" '
    /^debugfs: cat/ { files++; lines[files] = 0; next }
    lines[files]++ == 0 { version[files] = $0 }
    $0 != version[files] { print "file " files ": other lines than `" substr(version[files], 1, 20) "`"; bad = 1; exit }
    END {
        for (file = 1; file <= 3 && !bad; file++) {
            split(version[file], words, " ")
            if (lines[file] != 1000 && (lines[file] > 0 || promised > 0)) {
                print "file " file ": " lines[file] " lines, where `version " promised "` was promised"; bad = 1
            } else if (words[2] + 0 < promised + 0) {
                print "file " file ": `" version[file] "`, where `version " promised "` was promised"; bad = 1
            }
        }
        exit bad
    }'
