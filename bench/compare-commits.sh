#!/usr/bin/env bash
# Compares two commits by their benchmarks, in interleaved pairs:
#
#	bench/compare-commits.sh OLD NEW [REGEXP [PAIRS]]
#
# OLD and NEW are anything that git rev-parse takes; either may be "." for the
# working tree as it is. REGEXP is as for go test -bench (Stream), and PAIRS is
# 10. Both test binaries are built in a temporary folder. Then each benchmark
# that both have is run by one and, right after it, by the other, the order
# changing from pair to pair, with the cache-line floor before, between and after.
#
# What is printed for each benchmark and metric: the median of the pairs' ratios,
# new to old, with the middle half of them in brackets. Metrics that never differ
# are left out. What benchstat reads stays in the two files named at the end.
#
# From the environment: PACKAGE (./bench); BENCHTIME (100ms); OUT, where the two
# files go (a new folder under /tmp); STATE=near or far, to count only pairs with
# all three floors below 250 ns, or none of them.
#
# Needs git, go and awk. Exit status: 1 if a commit does not build or a benchmark
# fails, 2 for anything wrong with the arguments.
set -euo pipefail

usage() {
	awk 'NR > 1 && /^#/ { sub(/^# ?/, ""); print; next } NR > 1 { exit }' "$0" >&2
	exit 2
}
wrong() {
	echo "compare-commits: $1" >&2
	exit "$2"
}
[ $# -ge 2 ] && [ $# -le 4 ] || usage
old=$1 new=$2 regexp=${3:-.} pairs=${4:-10} state=${STATE:-}
[[ $pairs =~ ^[1-9][0-9]*$ ]] || wrong "$pairs is no number of pairs" 2
[[ $state =~ ^(near|far)?$ ]] || wrong "STATE is near or far, not $state" 2

top=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
package=${PACKAGE:-./bench} benchtime=${BENCHTIME:-100ms}
for commit in "$old" "$new"; do
	[ "$commit" = . ] || git -C "$top" rev-parse --verify --quiet "$commit^{commit}" >/dev/null || wrong "there is no commit $commit" 2
done
work=$(mktemp -d)
cleanup() {
	for side in old new; do
		[ ! -d "$work/$side" ] || git -C "$top" worktree remove --force "$work/$side" || true
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# build SIDE COMMIT: the test binary of that commit, in a worktree of its own.
build() {
	local tree=$work/$1
	if [ "$2" = . ]; then
		tree=$top
	else
		git -C "$top" worktree add --quiet --detach "$tree" "$2"
	fi
	(cd "$tree" && go test -c -o "$work/$1.test" "$package") && [ -x "$work/$1.test" ] || wrong "$2: $package does not build" 1
	echo "$tree/$package" >"$work/$1.dir" # tests run where their testdata is
}

# bench SIDE REGEXP TIME: what go test prints.
bench() {
	(cd "$(cat "$work/$1.dir")" && "$work/$1.test" -test.run '^$' -test.bench "$2" -test.benchtime "$3") >"$work/$1.run" 2>&1 ||
		{ cat "$work/$1.run" >&2; wrong "$1: benchmark $2 failed" 1; }
	cat "$work/$1.run"
}

# names SIDE: the benchmarks that match, without the number of processors.
names() { bench "$1" "$regexp" 1x | awk '/^Benchmark.*\t/ { sub(/-[0-9]+$/, "", $1); print $1 }'; }

# exactly NAME: a -bench regexp for that benchmark alone.
exactly() { echo "^${1//\//\$\/^}\$"; }

# floor: the cache lines' round trip in ns, 0 where it is not measured.
floor() {
	"$floortest" -test.run '^$' -test.bench '^BenchmarkFloor$' -test.benchtime 1x | awk '/^BenchmarkFloor/ { for (i = 3; i < NF; i++) if ($(i + 1) == "floor-ns") f = $i } END { print f + 0 }'
}

# run SIDE NAME PAIR FLOORS: one half of a pair, for benchstat's file and for ours.
run() {
	bench "$1" "$(exactly "$2")" "$benchtime" >"$work/run"
	cat "$work/run" >>"$out/$1.txt"
	awk -v name="$2" -v side="$1" -v pair="$3" '/^Benchmark.*\t/ {
		for (i = 3; i < NF; i += 2) if ($(i + 1) != "MB/s") print name, $(i + 1), pair, side, $i
	}' "$work/run" >>"$work/figures"
}

build old "$old"
build new "$new"
floortest=$work/new.test
if [ "$package" != ./bench ]; then # which has the floor
	floortest=$work/floor.test
	(cd "$top" && go test -c -o "$floortest" ./bench) || wrong "./bench does not build" 1
fi
names old >"$work/old.names"
names new >"$work/new.names"
mapfile -t all < <(awk 'FILENAME == ARGV[1] { old[$1]; next } $1 in old' "$work/old.names" "$work/new.names")
[ "${#all[@]}" -gt 0 ] || wrong "no benchmark of both commits matches $regexp" 2

out=${OUT:-$(mktemp -d /tmp/compare-commits.XXXXXX)}
mkdir -p "$out"
: >"$out/old.txt"
: >"$out/new.txt"
: >"$work/floors"
: >"$work/figures"
for ((pair = 1; pair <= pairs; pair++)); do
	for i in "${!all[@]}"; do
		name=${all[$i]} first=old second=new
		((pair % 2)) || { first=new second=old; }
		[ ! -t 2 ] || printf '\rpair %d of %d, benchmark %d of %d ' "$pair" "$pairs" $((i + 1)) "${#all[@]}" >&2
		before=$(floor)
		run "$first" "$name" "$pair"
		between=$(floor)
		run "$second" "$name" "$pair"
		echo "$name $pair $before $between $(floor)" >>"$work/floors"
	done
done
[ ! -t 2 ] || printf '\r\033[K' >&2

echo "new ($new) to old ($old), $benchtime each: median of the pairs' ratios (middle half), and the medians of both"
awk -v want="$state" '
	function sort(a, n,   i, j, x) {
		for (i = 2; i <= n; i++) {
			x = a[i]
			for (j = i; j > 1 && a[j - 1] > x; j--) a[j] = a[j - 1]
			a[j] = x
		}
	}
	function quantile(a, n, q,   at, i) {
		at = 1 + q * (n - 1); i = int(at)
		return i >= n ? a[n] : a[i] + (at - i) * (a[i + 1] - a[i])
	}
	FILENAME ~ /floors$/ {
		s = $3 == 0 ? "unknown" : $3 < 250 && $4 < 250 && $5 < 250 ? "near" : $3 >= 250 && $4 >= 250 && $5 >= 250 ? "far" : "mixed"
		state[$1, $2] = s; states[s]++
		next
	}
	{
		if (!($1 in seen)) { seen[$1] = 1; names[++nn] = $1 }
		if (!(($1, $2) in known)) { known[$1, $2] = 1; units[$1] = units[$1] " " $2 }
		value[$1, $2, $3, $4] = $5
		if ($3 > pairs) pairs = $3
	}
	END {
		for (k = 1; k <= nn; k++) {
			name = names[k]; said = 0
			m = split(units[name], unit, " ")
			for (u = 1; u <= m; u++) {
				n = 0; differ = 0
				for (p = 1; p <= pairs; p++) {
					if (want != "" && state[name, p] != want) continue
					if (!((name, unit[u], p, "old") in value) || !((name, unit[u], p, "new") in value)) continue
					x = value[name, unit[u], p, "old"]; y = value[name, unit[u], p, "new"]
					if (x != y) differ = 1
					if (x == 0) continue
					n++; ratio[n] = y / x; a[n] = x; b[n] = y
				}
				if (!differ || !n) continue
				sort(ratio, n); sort(a, n); sort(b, n)
				if (!said++) print name
				printf "  %-22s %7.3f (%.3f–%.3f, n=%d)   %.4g → %.4g\n", unit[u], quantile(ratio, n, 0.5),
					quantile(ratio, n, 0.25), quantile(ratio, n, 0.75), n, quantile(a, n, 0.5), quantile(b, n, 0.5)
			}
		}
		line = "pairs by the floor around them:"
		for (s in states) line = line " " states[s] " " s
		print line (want != "" ? "; counted: " want : "")
	}' "$work/floors" "$work/figures"
echo "benchstat $out/old.txt $out/new.txt"
