#!/usr/bin/env bash
# Joins the coverage of the unit tests and of the real binary in the end-to-end
# tests, prints it by package, and fails below the percentage given.
# What only tests use is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
least=$1
[ -n "$(ls .coverage/unit 2>/dev/null)" ] || { echo "nothing is measured yet: run make test"; exit 1; }
dirs=.coverage/unit
[ -n "$(ls .coverage/e2e 2>/dev/null)" ] && dirs=$dirs,.coverage/e2e
go tool covdata textfmt -i="$dirs" -o .coverage/all.txt
grep -v -e /internal/pgtest/ -e /internal/app/apptest/ -e /internal/store/storetest/ -e /internal/limit/limittest/ -e /internal/redistest/ -e /internal/porttest/ -e /internal/verify/verifytest/ .coverage/all.txt > .coverage/product.txt
awk -v least="$least" '
  NR > 1 {
    split($0, part, ":"); package = part[1]; sub("/[^/]*$", "", package)
    key = $1; statements[key] = $2; of[key] = package; if ($3 > 0) hit[key] = 1
  }
  END {
    for (key in statements) {
      all[of[key]] += statements[key]; total += statements[key]
      if (key in hit) { seen[of[key]] += statements[key]; covered += statements[key] }
    }
    for (p in all) printf "%6.1f %%  %s\n", 100 * seen[p] / all[p], p | "sort -k3"
    close("sort -k3")
    printf "%6.1f %%  of all hand-written code; at least %d %% is asked\n", 100 * covered / total, least
    exit (100 * covered / total < least)
  }' .coverage/product.txt
