#!/bin/sh
# Whether pairs on one GPU find what is there and nothing else: `truth.sh OUT same` measures twenty pairs of each of eight kernels against
# themselves, `one` adds 1 % of real work (minor 0.5 %), `three` adds 3 % (default thresholds). Each writes OUT/WHAT.json; the database is
# OUT/truth.sqlite. From the repository's root; REGRADE names the program. Needs git; up to ten minutes each.
set -eu
out=$1
what=$2
here=$PWD/reports/hardware/h100/bars
regrade=${REGRADE:-$PWD/target/release/regrade}
# Two commits of nothing but the suite: both arms run this program.
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
git init -q
commit() { git -c user.name=truth -c user.email=truth@example.invalid commit -q "$@"; }
# A commit's program: this one.
printf '[build]\ncommand = ["cp", "%s", "worker"]\nworker = "worker"\n\n' "$regrade" >build
sed '/^\[sampling\]/e cat build' "$here/truth.toml" >truth.toml
rm build
# The same at the default thresholds: without the table of thresholds.
sed -e '/^\[thresholds\]/,/^$/d' -e 's/^name = "h100-truth"/name = "h100-truth-defaults"/' truth.toml >defaults.toml
git add .
commit -m base
commit --allow-empty -m head
pairs="HEAD~1..HEAD --all-pairs --budget 420s --format json --db $out/truth.sqlite"
# shellcheck disable=SC2086 # words
case $what in
# As one tree: no build.
same) "$regrade" calibrate "$here/truth.toml" --pairs 20 --no-proof --format json --db "$out/truth.sqlite" >"$out/same.json" ;;
# Exit code 1: a regression was found, as it should be.
one) "$regrade" compare truth.toml $pairs --inject '*=1%' >"$out/one.json" || test $? = 1 ;;
three) "$regrade" compare defaults.toml $pairs --inject '*=3%' >"$out/three.json" || test $? = 1 ;;
*) echo "truth.sh: same, one or three, not $what" >&2 && exit 2 ;;
esac
