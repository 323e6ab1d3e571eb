#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Where several ranks keep a tensor, all copies are set; setting the old values gives the old bytes.

# check FOLDER TENSOR FILE...: these files of the tag folder change, and back again, no others
check()
{
    check_folder=$1 check_tensor=$2
    shift 2
    rm -rf new back old.npy new.npy
    "$UNZERO" get "$check_folder" "$check_tensor" -o old.npy
    # its header, then values of another file: all bytes 3f are normal numbers in every dtype
    head -c 128 old.npy >new.npy
    head -c $(($(size old.npy) - 128)) /dev/zero | tr '\0' '?' >>new.npy
    "$UNZERO" set -q "$check_folder" "$check_tensor" new.npy --output new
    "$UNZERO" get new "$check_tensor" -o got.npy -f
    cmp got.npy new.npy
    for check_file in "$check_folder"/global_step*/*.pt; do
        check_name=${check_file##*/}
        case " $* " in
        *" $check_name "*) check_want=1 ;;
        *) check_want=0 ;;
        esac
        expect $check_want cmp -s "$check_file" new/global_step*/"$check_name"
    done
    "$UNZERO" verify -q --data new
    "$UNZERO" set -q new "$check_tensor" old.npy --output back
    for check_file in "$check_folder"/global_step*/*.pt; do
        cmp "$check_file" back/global_step*/"${check_file##*/}"
    done
}

# ZeRO 3: each rank reads buffers back from its own file
check "$FIXTURES/good-z3-bf16-w2-tiny" blocks.0.steps \
    zero_pp_rank_0_mp_rank_00_model_states.pt zero_pp_rank_1_mp_rank_00_model_states.pt
check "$FROZEN" blocks.0.scale \
    zero_pp_rank_0_mp_rank_00_model_states.pt zero_pp_rank_1_mp_rank_00_model_states.pt
# tensor ranks: each keeps a master and a low-precision copy of what is not cut
check "$FIXTURES/good-z1-bf16-tp2" model.norm.weight \
    bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt bf16_zero_pp_rank_0_mp_rank_01_optim_states.pt \
    mp_rank_00_model_states.pt mp_rank_01_model_states.pt

# A layer that pipeline stages share stands in several layer files; which is recorded nowhere.
pipeline=$FIXTURES/good-z1-bf16-pp2-dp2-tied
"$UNZERO" get "$pipeline" tied_modules.emb.weight -o tied.npy
expect 3 "$UNZERO" set "$pipeline" tied_modules.emb.weight tied.npy --output tied 2>err
has err 'tied_modules.emb.weight cannot be set' 'pipeline stages share'
absent tied
