#!/usr/bin/perl
# log.pl KIND RECORDS: a home-made log on the bare device: appends records, makes some at once durable, and marks that.
# A record is its length, in KIND `checksum` a sum of its payload, and the payload.
use strict;
use IO::Handle;
use bytes;

my ($kind, $records) = @ARGV;
open(my $device, '+<', $ENV{DMSIM_DEVICE}) or die "$ENV{DMSIM_DEVICE}: $!";
for my $n (1 .. $records) {
    my $payload = join(' ', ("record $n") x (20 + $n * 7 % 100));
    my $record = pack('V', length $payload);
    $record .= pack('V', unpack('%32C*', $payload) ^ 0x5a5a5a5a) if $kind eq 'checksum';
    syswrite($device, $record . $payload) or die "write: $!";
    next unless $n % 12 == 0 || $n == $records;
    $device->sync or die "sync: $!";
    open(my $marker, '>', $ENV{DMSIM_MARKER}) or die "$ENV{DMSIM_MARKER}: $!";
    syswrite($marker, "record $n") or die "mark: $!";
}
