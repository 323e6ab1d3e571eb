#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs every example of README, the manual pages and each command's --help, each in a folder of its
# own where the names that examples use exist. All must succeed. (What follows a pipe is left out:
# it is there to show what may be done with the output.)
set -eu

case $UNZERO in
/*) ;;
*) UNZERO=$PWD/$UNZERO ;;
esac
pages=$(cd "${srcdir:-.}/docs/man" && pwd)
fixtures=$(cd "${srcdir:-.}/fixtures" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/unzero-examples.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 99' HUP INT TERM

# The program under the name by which examples call it; the disk need not be waited for.
mkdir "$scratch/bin"
cat >"$scratch/bin/unzero" <<EOF
#!/bin/sh
exec "$UNZERO" "\$@"
EOF
chmod +x "$scratch/bin/unzero"
PATH=$scratch/bin:$PATH

# checkpoint DIR TAG...: a Llama of two ranks
checkpoint()
{
    mkdir -p "$1"
    cp "$fixtures/good-z2-bf16-w2-llama/config.json" "$fixtures/good-z2-bf16-w2-llama/latest" "$1"
    checkpoint_dir=$1
    shift
    for tag in global_step3 "$@"; do
        cp -R "$fixtures/good-z2-bf16-w2-llama/global_step3" "$checkpoint_dir/$tag"
    done
    chmod -R u+w "$checkpoint_dir" # what is unpacked for a release test is not
}

# What examples read. Those that write find none of their outputs there.
make_world()
{
    mkdir "$scratch/world" "$scratch/read"
    cd "$scratch/world"
    checkpoint checkpoint-500 global_step400
    checkpoint ckpt global_step400 global_step500
    checkpoint node0/checkpoint-500
    mkdir -p node1/checkpoint-500/global_step3
    mv node0/checkpoint-500/global_step3/*rank_1*optim* node1/checkpoint-500/global_step3
    echo '{"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3},
        "bf16": {"enabled": true}}' >z3.json
    unzero get -q ckpt lm_head.weight -o w.npy
    unzero get -q ckpt lm_head.weight --state exp_avg -o zeros.npy

    cd "$scratch/read" # beside these: what consolidate and others made before
    cp -R ../world/. .
    mkdir run1 zero2 zero3 models
    checkpoint run1/checkpoint-500
    cp -R run1 run2
    cp -R run1/checkpoint-500 zero2
    unzero reshard -q --sync none checkpoint-500 zero3/checkpoint-500 --dp 2 --stage 3
    unzero consolidate -q --sync none checkpoint-500 out
    unzero consolidate -q --sync none --dtype bf16 checkpoint-500 out-bf16
    unzero consolidate -q --sync none --strip-prefix model. checkpoint-500 renamed.safetensors
    cp -R out models/llama
    cp -R out model
    unzero verify --manifest write step500.json checkpoint-500 >/dev/null
    cp step500.json m.json
}

# examples COMMAND | README: of its help and its page, one a line
examples()
{
    if [ "$1" = README ]; then
        sed -n 's/^    \(unzero .*\)/\1/p' "$pages/../../README.md"
        return
    fi
    unzero "$1" --help | sed -n 's/^  \(unzero .*\)/\1/p'
    sed -n '/^\.EX/,/^\.EE/p' "$pages/unzero-$1.1" |
        sed -n "s/\\\\(aq/'/g; s/\\\\-/-/g; s/\\\\e/\\\\/g; /^unzero /p"
}

# As the names in the Llama, and paths below the folder, want it.
fit()
{
    sed 's/ | .*//; s|/node|node|g; s/model\\.\(vision\|language\)/model\\.layers/'
}

make_world
n=0
failed=0
for command in README $(unzero --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  .*/\1/p'); do
    examples "$command" | fit | sort -u >"$scratch/list"
    [ -s "$scratch/list" ] || {
        echo "$command has no examples"
        failed=1
    }
    while IFS= read -r example; do
        n=$((n + 1))
        rm -rf "$scratch/here"
        case $example in
        "unzero diff "* | "unzero inspect "* | "unzero verify "*) cp -R "$scratch/read" "$scratch/here" ;;
        *) cp -R "$scratch/world" "$scratch/here" ;;
        esac
        cd "$scratch/here"
        case $example in
        *"-o w.npy"*) rm w.npy ;;
        esac
        sh -c "$example" >"$scratch/stdout" 2>"$scratch/stderr" || {
            printf 'fails: %s\n%s\n' "$example" "$(cat "$scratch/stdout" "$scratch/stderr")"
            failed=1
        }
    done <"$scratch/list"
done
echo "$n examples were run"
exit $failed
