#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every recipe of docs/ci.md says yes to a sound checkpoint and no to a damaged one.
page=$FIXTURES/../docs/ci.md
mkdir bin
ln -s "$UNZERO" bin/unzero
PATH=$PWD/bin:$PATH
cp -R "$TINY" sound
cp -R "$FIXTURES/bad-missing-optim-rank" damaged
chmod -R u+w sound damaged

# section TITLE: the first fenced block below that heading
section()
{
    awk -v title="## $1" '
        $0 == title { found = 1; next }
        found && /^```/ { if (inside) exit; inside = 1; next }
        inside { print }' "$page"
}

section 'GitHub Actions' | sed -n '/run: |/,$p' | sed '1d; s/^    //' >github.sh
section 'GitLab' | sed -n 's/^    - //p' >gitlab.sh
section 'Slurm, at the end of a job' >slurm.sh
section 'Before a checkpoint is deleted' >delete.sh
section 'With jq' >jq.sh
for recipe in github gitlab slurm delete jq; do
    grep -q 'unzero verify' "$recipe.sh" || fail "docs/ci.md: no recipe for $recipe"
    CHECKPOINT=sound expect 0 sh -eu "$recipe.sh" >stdout 2>stderr
done
absent damaged/latest_verified
for recipe in github gitlab slurm delete; do
    CHECKPOINT=damaged expect 1 sh -eu "$recipe.sh" >stdout 2>stderr
done
absent damaged/latest_verified
[ -e sound/latest_verified ] || fail "a sound checkpoint is not marked"
has unzero-verify.xml '<failure' 'UZV010 missing-shard'
has damaged/unzero-verify.txt UZV010
CHECKPOINT=damaged sh -eu jq.sh
has unzero-verify.json '"code":"UZV010"'
