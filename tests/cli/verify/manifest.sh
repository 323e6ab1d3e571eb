#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Digests of a checkpoint are those of what was made of it; one bit more or less is told.
expect 0 "$UNZERO" verify --manifest write m.json "$TINY" >text
has text "manifest m.json: 29 tensors, 3 files written"
expect 0 "$UNZERO" verify --strict "$TINY" --manifest=check m.json >text
has text "manifest m.json: 29 tensors, 3 files as it says"
for format in safetensors pt; do
    for dtype in fp32 bf16; do
        rm -rf out
        consolidate --max-shard-size 200 --format "$format" --dtype "$dtype" "$TINY" out >text 2>&1
        expect 0 "$UNZERO" verify --strict --manifest check m.json out >text
        has text "manifest m.json: 11 tensors, 0 files as it says" "UZV078" "UZV079"
    done
done
has text "note UZV075 (other-dtype)" "is bf16 here, fp32 in the manifest"

# one bit of one shard
rm -rf out
consolidate --max-shard-size 200 "$TINY" out >text 2>&1
expect 0 "$UNZERO" verify --quiet --manifest write child.json out
shard=out/model-00002-of-00004.safetensors
place=$(($(wc -c <"$shard") - 4))
printf '\001' | dd "of=$shard" bs=1 "seek=$place" conv=notrunc 2>dd.txt
expect 1 "$UNZERO" verify --manifest check m.json out >text
has text "error UZV071 (values-differ)" "NOT sound: 1 error"
expect 1 "$UNZERO" verify --json --manifest check child.json out >json
has json '"code":"UZV071"' '"code":"UZV077"' 'model-00002-of-00004.safetensors' \
    '"manifest":{"mode":"check","file":"child.json","tensors":10,"files":4}'

# what is not sound gets none; what cannot be written leaves nothing
expect 1 "$UNZERO" verify --manifest write none.json "$FIXTURES/bad-missing-optim-rank" >text
has text "UZV070 (manifest-undone)" "the manifest was not written"
absent none.json
expect 3 "$UNZERO" verify --manifest write absent/m.json "$TINY" >text 2>&1
absent absent
expect 3 "$UNZERO" verify --manifest check absent.json "$TINY" >text 2>&1
echo '{"format": "unzero-manifest", "version": 9}' >later.json
expect 3 "$UNZERO" verify --manifest check later.json "$TINY" >text 2>&1
has text "version 9"
expect 2 "$UNZERO" verify --manifest write 2>text
expect 2 "$UNZERO" verify --manifest keep m.json "$TINY" 2>text
has text "write" "check"
[ "$(ls)" = "$(printf '%s\n' child.json dd.txt json later.json m.json out text)" ] || fail "left behind: $(ls)"
