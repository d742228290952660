#!/usr/bin/env bash
# Makes the pictures in this directory from runs of its own: a screen of shmctl top, and a report, light and dark, of some
# ten seconds of stress. Needs Go, and for the report Chromium (or what CHROMIUM names); with ImageMagick those files become
# a third as large. Arguments are those of the report's run.
set -euo pipefail
cd "$(dirname "$0")"
docs=$PWD

(cd ../cmd/clitest && go test -count=1 -run '^TestPicture$' -picture "$docs/top.svg" .)

browser=${CHROMIUM:-}
for name in chromium chromium-browser google-chrome; do
	[ -n "$browser" ] || browser=$(command -v "$name" || true)
done
[ -n "$browser" ] || { echo "pictures.sh: no Chromium; CHROMIUM says where one is" >&2; exit 1; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
(cd .. && go build -o "$dir/shmdemo" ./cmd/shmdemo)
(cd "$dir" && ./shmdemo --report report.html "$@")

options=(--headless --disable-gpu --hide-scrollbars --force-color-profile=srgb --user-data-dir="$dir/browser" --window-size=1100,2360)
[ "$(id -u)" != 0 ] || options+=(--no-sandbox) # the browser's own rule for root

# The colour scheme by the browser's number of it.
picture() {
	"$browser" "${options[@]}" --blink-settings=preferredColorScheme="$2" --screenshot="$dir/$1" "file://$dir/report.html" 2>"$dir/log" ||
		{ cat "$dir/log" >&2; exit 1; }
	if command -v convert >/dev/null; then
		convert "$dir/$1" +dither -colors 64 "png8:$dir/small.png"
		mv "$dir/small.png" "$dir/$1"
	fi
	mv "$dir/$1" "$docs/$1"
}
picture report-light.png 1
picture report-dark.png 0
ls -l report-light.png report-dark.png
