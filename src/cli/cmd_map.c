/* SPDX-License-Identifier: Apache-2.0 */
/* unzero map: which part of which tensor lies where. */
#include <unzero/map.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/json.h"
#include "cli/map_text.h"
#include "cli/message.h"
#include "cli/opts.h"
#include "cli/opts_input.h"

enum option_id { OPT_PARAM = OPTS_NO_LETTER, OPT_RANK, OPT_STATE };

static const struct opts_row rows[] = {
    {OPT_PARAM, "param", "NAME", "this tensor, or those that a regular expression fits"},
    {OPT_RANK, "rank", "N", "a picture of what data-parallel rank N holds"},
    {OPT_STATE, "state", "NAME",
     "an optimizer state, such as exp_avg, instead of the\n"
     "weights (fp32, the default)"},
};

/* What the command line asks for. */
struct request {
    struct opts_input input;
    struct opts_talk talk;
    struct uz_map_options options; /* complete when the line has been read */
    const char *checkpoint;
    bool param_is_regex; /* or is not given; else it can only be a name */
    bool one_rank;
    unsigned rank;
};

static int take(void *to, const struct opts_command *cmd, int id, const char *value)
{
    struct request *request = to;
    switch (id) {
    case OPT_PARAM:
        request->options.param = value;
        return 0;
    case OPT_RANK:
        request->one_rank = true;
        return opts_read_number(cmd, "rank", value, UZ_MAP_NO_RANK - 1, &request->rank);
    default:
        request->options.state = opts_state(value);
        return 0;
    }
}

static const struct opts_group group = {
    .heading = "Tensors",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .take = take,
};

static const struct opts_group *const groups[] = {&group, &opts_input_group, &opts_source_group,
                                                  &opts_talk_group};

static const struct opts_command command = {
    .name = "map",
    .intro =
        "usage: unzero map [OPTION]... CHECKPOINT\n"
        "\n"
        "Shows which file and which bytes hold which part of each tensor, as the readers of\n"
        "this tool see it: the mapping from parameters to fragments of the ranks' partitions.\n"
        "\n"
        "Examples:\n"
        "  unzero map checkpoint-500\n"
        "      every tensor with its fragments\n"
        "  unzero map checkpoint-500 --param 'layers\\.0\\.' --state exp_avg\n"
        "      where the first layer's first moments are\n"
        "  unzero map checkpoint-500 --rank 1\n"
        "      a picture of rank 1's partitions: who is where, and what is cut\n",
    .outro =
        "\n"
        "Elements count row-major. A strided fragment is a block of the tensor whose elements\n"
        "do not follow one another; its ends are shown.\n"
        "\n"
        "Exit codes: 0 done; 2 wrong usage; 3 trouble: no such tensor, state or rank, or a\n"
        "checkpoint that is unreadable, damaged or not supported.\n",
    .groups = groups,
    .n_groups = sizeof groups / sizeof groups[0],
};

static int read_options(struct request *request, int argc, char **argv)
{
    void *const targets[] = {request, &request->input, &request->input, &request->talk};
    _Static_assert(sizeof targets / sizeof targets[0] == sizeof groups / sizeof groups[0],
                   "a target for each group");
    uz_fragment_map_options_default(&request->options);
    opts_input_init(&request->input);
    int rc = opts_parse(&command, argc, argv, targets);
    request->options.input = request->input.options;
    return rc;
}

static bool is_regex(const char *text)
{
    struct uz_name_rules rules = {.includes = &text, .n_includes = 1};
    return !text || uz_name_rules_check(&rules, NULL) == UZ_OK;
}

static int read_arguments(struct request *request, int argc, char **argv)
{
    int n = argc - optind;
    if (n == 0)
        return message_usage(command.name, "CHECKPOINT is missing");
    if (n > 1)
        return message_usage(command.name, "one argument too many: '%s'", argv[optind + 1]);
    request->checkpoint = argv[optind];
    request->param_is_regex = is_regex(request->options.param);
    return 0;
}

/* ---- JSON ---- */

static void put_rank(struct json *b, cJSON *to, const char *key, uint32_t rank)
{
    if (rank == UZ_MAP_NO_RANK)
        json_put(b, to, key, cJSON_CreateNull());
    else
        json_put_number(b, to, key, rank);
}

static bool is_shown(const struct request *request, const struct uz_map_partition *partition)
{
    return !request->one_rank || partition->dp_rank == request->rank;
}

static cJSON *make_partitions(struct json *b, const struct request *request,
                              const struct uz_map_view *map)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < map->n_partitions; i++) {
        const struct uz_map_partition *partition = &map->partitions[i];
        cJSON *item = cJSON_CreateObject();
        if (!is_shown(request, partition)) {
            cJSON_Delete(item);
            continue;
        }
        json_put_number(b, item, "id", i);
        json_put_text(b, item, "file", partition->path);
        put_rank(b, item, "dp_rank", partition->dp_rank);
        put_rank(b, item, "mp_rank", partition->mp_rank);
        json_put_text(b, item, "dtype", uz_dtype_name(partition->dtype));
        json_put_number(b, item, "elements", partition->n_elems);
        if (partition->offset == UINT64_MAX)
            json_put(b, item, "offset", cJSON_CreateNull());
        else
            json_put_number(b, item, "offset", partition->offset);
        json_put_text(b, item, "packing", partition->packing);
        json_put(b, array, NULL, item);
    }
    return array;
}

static cJSON *make_fragments(struct json *b, const struct request *request,
                             const struct uz_map_view *map, const struct uz_map_tensor *tensor)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < tensor->n_fragments; i++) {
        const struct uz_map_fragment *fragment = &map->fragments[tensor->first_fragment + i];
        if (!is_shown(request, &map->partitions[fragment->partition]))
            continue;
        cJSON *item = cJSON_CreateObject();
        json_put_number(b, item, "first", fragment->first);
        json_put_number(b, item, "last", fragment->last);
        json_put_number(b, item, "elements", fragment->n_elems);
        json_put_bool(b, item, "strided", fragment->strided);
        json_put_number(b, item, "partition", fragment->partition);
        json_put_number(b, item, "partition_first", fragment->partition_first);
        json_put(b, array, NULL, item);
    }
    return array;
}

static cJSON *make_tensors(struct json *b, const struct request *request,
                           const struct uz_map_view *map)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < map->n_tensors; i++) {
        const struct uz_map_tensor *tensor = &map->tensors[i];
        cJSON *item = cJSON_CreateObject();
        json_put_text(b, item, "name", tensor->name);
        json_put_text(b, item, "role", tensor->role);
        json_put_text(b, item, "state", tensor->state);
        json_put_text(b, item, "dtype", uz_dtype_name(tensor->dtype));
        json_put_shape(b, item, "shape", tensor->ndim, tensor->shape);
        json_put_number(b, item, "elements", tensor->numel);
        json_put(b, item, "fragments", make_fragments(b, request, map, tensor));
        json_put(b, array, NULL, item);
    }
    return array;
}

static int tell_json(const struct request *request, const struct uz_map_view *map)
{
    struct json b = {0};
    cJSON *root = json_start(&b, command.name);
    json_put_text(&b, root, "checkpoint", request->checkpoint);
    json_put(&b, root, "partitions", make_partitions(&b, request, map));
    json_put(&b, root, "tensors", make_tensors(&b, request, map));
    json_put_texts(&b, root, "warnings", map->warnings, map->n_warnings);
    return json_finish(&b, root);
}

/* ---- The command ---- */

static bool has_rank(const struct request *request, const struct uz_map_view *map)
{
    for (size_t i = 0; i < map->n_partitions; i++)
        if (is_shown(request, &map->partitions[i]))
            return true;
    return !request->one_rank;
}

static int refuse_rank(const struct request *request)
{
    struct uz_error err = {.status = UZ_ARG, .offset = UZ_NO_OFFSET};
    snprintf(err.message, sizeof err.message,
             "--rank %u: no such rank holds a part of what was asked for", request->rank);
    return json_report_failure(command.name, request->talk.json, "interrupted", &err);
}

static int tell(const struct request *request, const struct uz_map_view *map)
{
    if (request->talk.verbose)
        message_source(request->checkpoint, &map->source);
    for (size_t i = 0; i < map->n_warnings; i++)
        message_warning(map->warnings[i]);
    if (!has_rank(request, map))
        return refuse_rank(request);
    if (request->talk.json)
        return tell_json(request, map);
    if (request->one_rank)
        map_text_pictures(map, request->rank);
    else
        map_text_table(map);
    return EXIT_DONE;
}

static int show(const struct request *request)
{
    struct uz_fragment_map *map;
    struct uz_error err;
    if (uz_fragment_map_new(&map, request->checkpoint, &request->options, &err) < 0)
        return err.status == UZ_ARG && !request->param_is_regex
                   ? message_usage(command.name, "--param: %s", err.message)
                   : json_report_failure(command.name, request->talk.json, "interrupted", &err);
    int code = tell(request, uz_fragment_map_view(map));
    uz_fragment_map_free(map);
    return code;
}

int cmd_map(int argc, char **argv)
{
    struct request request = {0};
    int rc = read_options(&request, argc, argv);
    if (rc == 0 && !opts_talk_help(&request.talk, &command)) {
        rc = read_arguments(&request, argc, argv);
        if (rc == 0)
            rc = opts_state_check(&request.input, request.options.state, &command);
        if (rc == 0)
            rc = show(&request);
    }
    opts_input_free(&request.input);
    return rc;
}
