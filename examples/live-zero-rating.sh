#!/usr/bin/env bash
# A DASH stream over HTTP between two hosts. In mid-stream its Media Session Handler activates a (conditional)
# zero-rating policy at the AF, and the UPF polices what flows from then on.
#
#   examples/live-zero-rating.sh [--mode police|monitor] [--rate "20 Mbps"] [--segments N] [--json]
#
# It needs no root where user namespaces are allowed. Everything (the two hosts, the tun devices, all processes, the
# files) is in a castcore lab, which ends with this script, however that ends.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
castcore=$here/../.venv/bin/castcore
[ -x "$castcore" ] || castcore=$(command -v castcore) || { echo "castcore is not installed: 'make install'" >&2; exit 1; }
python=$(dirname "$castcore")/python
[ -x "$python" ] || python=python3

segments=10
in_lab=no
player_options=()
while [ $# -gt 0 ]; do
    case $1 in
    --in-lab) in_lab=yes ;;
    --segments)
        segments=${2:-}
        [ $# -eq 1 ] || shift
        ;;
    -h | --help) sed -n '2,/^set/{s/^# \?//p}' "$0" && exit ;;
    *) player_options+=("$1") ;;
    esac
    shift
done
if ! [[ $segments =~ ^[1-9][0-9]?$ ]]; then
    echo "option '--segments': found '$segments', expected 1 to 99" >&2
    exit 1
fi
if [ $in_lab = no ]; then
    exec "$castcore" lab --bare -- "$0" --in-lab --segments "$segments" "${player_options[@]}"
fi
work=/run/castcore/live-zero-rating
ue=10.45.0.2
server=198.51.100.7

# The media: segments of two seconds at 5 Mbit/s, after their manifest.
mkdir -p "$work/media"
for number in $(seq "$segments"); do
    head -c 1250000 /dev/urandom >"$work/media/video-$number.m4s"
done
cat >"$work/media/manifest.mpd" <<MPD
<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="urn:mpeg:dash:profile:isoff-live:2011"
     minBufferTime="PT2S" mediaPresentationDuration="PT$((2 * segments))S">
  <Period>
    <AdaptationSet mimeType="video/mp4">
      <SegmentTemplate media="video-\$Number\$.m4s" startNumber="1" timescale="1" duration="2"/>
      <Representation id="video" bandwidth="5000000"/>
    </AdaptationSet>
  </Period>
</MPD>
MPD

# The core, with its UPF between the hosts. It tells by a line when it serves.
exec {core}< <(exec "$castcore" up --dir "$work/state" --json --access ue0@ue --core n6@dn \
    --address "access=$ue/24" --route access=default --address "core=$server/24" --route core=10.45.0.0/24 \
    2>"$work/core.log")
read -r ready <&"$core" || { cat "$work/core.log" >&2; exit 1; }

# The server, in the host behind N6: it, too, says when it serves.
exec {http}< <(exec ip netns exec dn "$python" -u -m http.server --bind "$server" --protocol HTTP/1.1 \
    --directory "$work/media" 80 2>"$work/http.log")
read -r _ <&"$http" || { cat "$work/http.log" >&2; exit 1; }

"$python" "$here/live_zero_rating.py" "$ready" "http://$server/manifest.mpd" --ue "$ue" "${player_options[@]}"
