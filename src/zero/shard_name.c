/* SPDX-License-Identifier: Apache-2.0 */
/* Matches file names against a table of patterns. */
#include "zero/shard_name.h"

#include <string.h>

/* D, M, L stand for decimal numbers: data-parallel (or expert), model-parallel rank, and layer. */
static const struct {
    enum uz_shard_kind kind;
    const char *pattern;
} patterns[] = {
    {UZ_SHARD_MODEL, "mp_rank_M_model_states.pt"},
    {UZ_SHARD_MODEL_Z3, "zero_pp_rank_D_mp_rank_M_model_states.pt"},
    {UZ_SHARD_MODEL_Z3, "bf16_zero_pp_rank_D_mp_rank_M_model_states.pt"},
    {UZ_SHARD_MODEL_Z3, "fp16_zero_pp_rank_D_mp_rank_M_model_states.pt"},
    {UZ_SHARD_OPTIM, "zero_pp_rank_D_mp_rank_M_optim_states.pt"},
    {UZ_SHARD_OPTIM, "bf16_zero_pp_rank_D_mp_rank_M_optim_states.pt"},
    {UZ_SHARD_OPTIM, "fp16_zero_pp_rank_D_mp_rank_M_optim_states.pt"},
    {UZ_SHARD_LAYER, "layer_L-model_states.pt"},
    {UZ_SHARD_LAYER, "layer_L-model_M-model_states.pt"},
    {UZ_SHARD_EXPERT, "layer_L_expert_D_mp_rank_M_model_states.pt"},
    {UZ_SHARD_EXPERT, "expert_D_mp_rank_M_model_states.pt"},
    {UZ_SHARD_EXPERT_OPTIM, "expp_rank_D_mp_rank_M_optim_states.pt"},
};

/* Reads one or more digits; false if there is none or the number is absurd. */
static bool take_number(const char **text, uint32_t *number)
{
    const char *p = *text;
    uint32_t value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (value > 99999999)
            return false;
        value = value * 10 + (uint32_t)(*p - '0');
    }
    *text = p;
    *number = value;
    return true;
}

/* Takes what the pattern stands for off *name. */
static bool match(const char *pattern, const char **rest, struct uz_shard_file *shard)
{
    const char *name = *rest;
    for (; *pattern; pattern++) {
        bool ok;
        switch (*pattern) {
        case 'D':
            ok = take_number(&name, &shard->dp);
            break;
        case 'M':
            ok = take_number(&name, &shard->mp);
            break;
        case 'L':
            ok = take_number(&name, &shard->layer);
            break;
        default:
            ok = *name == *pattern;
            name += ok;
        }
        if (!ok)
            return false;
    }
    *rest = name;
    return true;
}

bool uz_parse_shard_name(const char *name, struct uz_shard_file *shard)
{
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct uz_shard_file found = {.kind = patterns[i].kind};
        const char *rest = name;
        if (!match(patterns[i].pattern, &rest, &found))
            continue;
        found.zst = !strcmp(rest, ".zst");
        if (*rest && !found.zst)
            continue;
        *shard = found;
        return true;
    }
    return false;
}

bool uz_is_writer_part(const char *name)
{
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct uz_shard_file found;
        uint32_t number;
        const char *rest = name;
        if (match(patterns[i].pattern, &rest, &found) && *rest++ == '-' &&
            take_number(&rest, &number) && *rest++ == '.' && take_number(&rest, &number) && !*rest)
            return true;
    }
    return false;
}
