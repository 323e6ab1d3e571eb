#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What loaders want beside the weights comes along, whole and with them, if it is asked for.
cp -r "$TINY" ckpt
chmod -R u+w ckpt
consolidate ckpt bare >text
holds bare model.safetensors
if grep -q 'copy-config' text; then fail "there is nothing to copy: $(cat text)"; fi
consolidate --copy-config ckpt none 2>stderr
has stderr 'ckpt holds no config.json to be copied'
expect 3 consolidate --strict --copy-config ckpt strict 2>stderr
absent strict

echo '{"model_type": "tiny"}' >ckpt/config.json
echo '{}' >ckpt/tokenizer.json
: >ckpt/merges.txt
echo 'exit()' >ckpt/modeling_tiny.py
echo '{}' >ckpt/trainer_state.json
echo '{}' >ckpt/adapter_config.json
consolidate ckpt out >text
has text 'not copied: 3 files for loaders, such as config.json (--copy-config)'
holds out model.safetensors
consolidate ckpt one.safetensors >text
consolidate ckpt ckpt >>text # it is there already
if grep -q 'copy-config' text; then fail "$(cat text)"; fi

consolidate --copy-config --dry-run ckpt new >text
has text '  config.json' '  tokenizer.json'
absent new
consolidate --copy-config --max-shard-size 300 ckpt new
holds new config.json merges.txt model-00001-of-00002.safetensors model-00002-of-00002.safetensors \
    model.safetensors.index.json tokenizer.json
cmp new/config.json ckpt/config.json
[ ! -s new/merges.txt ] || fail "merges.txt is not empty"
consolidate --copy-config ckpt/global_step4 tagged # found above a tag folder, too
cmp tagged/config.json ckpt/config.json

# A user's own file is not lost, and not a byte is written.
mkdir mine
echo mine >mine/config.json
expect 3 consolidate --copy-config ckpt mine 2>stderr
has stderr 'already holds config.json; --force replaces it'
holds mine config.json
consolidate ckpt mine >text
if grep -q 'copy-config' text; then fail "it has one: $(cat text)"; fi
consolidate --copy-config --force ckpt mine
cmp mine/config.json ckpt/config.json
