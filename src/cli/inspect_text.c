/* SPDX-License-Identifier: Apache-2.0 */
/* The summary of an inspection as text. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/colour.h"
#include "cli/inspect_report.h"
#include "cli/text.h"

static void label(const char *text)
{
    printf("%s%-16s%s", colour_on(COLOUR_BOLD), text, colour_off());
}

static void print_kind(const struct uz_inspect_summary *s)
{
    static const char *const words[] = {
        [UZ_INPUT_ZERO] = "ZeRO checkpoint",
        [UZ_INPUT_UNIVERSAL] = "universal checkpoint",
        [UZ_INPUT_TORCH] = "PyTorch file",
        [UZ_INPUT_SAFETENSORS] = "safetensors file",
        [UZ_INPUT_FOLDER] = "folder of weight files",
    };
    label("kind");
    fputs(words[s->kind], stdout);
    if (s->zero_stage >= 0)
        printf(", stage %d", s->zero_stage);
    if (s->ds_version) {
        fputs(", DeepSpeed ", stdout);
        text_print(stdout, s->ds_version);
    }
    putchar('\n');
    if (s->tag) {
        label("tag");
        text_print(stdout, s->tag);
        putchar('\n');
    }
}

static void print_degree(const char *name, uint64_t degree)
{
    if (degree > 0)
        printf("  %s %" PRIu64, name, degree);
    else
        printf("  %s ?", name);
}

static void print_world(const struct uz_inspect_summary *s)
{
    if (s->kind != UZ_INPUT_ZERO)
        return;
    label("world");
    printf("dp %" PRIu64, s->dp);
    print_degree("tp", s->tp);
    print_degree("pp", s->pp);
    print_degree("ep", s->ep);
    putchar('\n');
    if (s->has_steps) {
        label("step");
        printf("%" PRId64 ", of which %" PRId64 " skipped\n", s->global_steps, s->skipped_steps);
    }
}

static void print_group(const struct uz_param_group *group, size_t number)
{
    label(number ? "" : "groups");
    for (size_t i = 0; i < group->n_values; i++) {
        fputs(i ? ", " : "", stdout);
        text_print(stdout, group->values[i].name);
        putchar(' ');
        text_print(stdout, group->values[i].json);
    }
    putchar('\n');
}

static void print_optimizer(const struct uz_inspect_summary *s)
{
    if (s->optimizer) {
        label("optimizer");
        text_print(stdout, s->optimizer);
        putchar('\n');
    }
    for (size_t g = 0; g < s->n_groups; g++)
        print_group(&s->groups[g], g);
}

static void print_count(const char *what, const struct uz_tensor_count *count, bool *first)
{
    if (count->n_tensors == 0)
        return;
    printf("%s%s %s, %" PRIu64 " elements", *first ? "" : "; ", what,
           text_count(count->n_tensors, "tensor").text, count->n_elems);
    *first = false;
}

static void print_counts(const struct uz_inspect_summary *s)
{
    bool whole = s->kind != UZ_INPUT_ZERO, first = !whole;
    label(whole ? "tensors" : "parameters");
    if (!s->joined && s->n_tensors > 0)
        fputs("(as files list them) ", stdout);
    if (whole)
        printf("%s, %" PRIu64 " elements", text_count(s->trainable.n_tensors, "tensor").text,
               s->trainable.n_elems);
    else
        print_count("trained", &s->trainable, &first);
    print_count("frozen", &s->frozen, &first);
    print_count("buffers", &s->buffers, &first);
    if (s->n_tied > 0)
        printf("; tied names %" PRIu64, s->n_tied);
    putchar('\n');
}

static void print_contents(const struct uz_inspect_summary *s)
{
    for (size_t i = 0; i < s->n_contents; i++) {
        const struct uz_stored *c = &s->contents[i];
        char state[80];
        label(i ? "" : "stored");
        printf("%-22s %-8s %10s  in %s\n",
               text_escape(state, sizeof state, c->state ? c->state : uz_stored_kind_name(c->kind)),
               uz_dtype_name(c->dtype), text_nbytes(c->nbytes).text,
               text_count(c->n_tensors, "tensor").text);
    }
    label("files");
    printf("%s, %s", text_count(s->n_files, "file").text, text_nbytes(s->file_nbytes).text);
    if (s->has_padding)
        printf("; padding %s", text_nbytes(s->padding_nbytes).text);
    printf("; dead %s\n", text_nbytes(s->dead_nbytes).text);
}

static void print_texts(const char *what, const char *const *texts, size_t n)
{
    if (n == 0)
        return;
    label(what);
    for (size_t i = 0; i < n; i++) {
        fputs(i ? ", " : "", stdout);
        text_print(stdout, texts[i]);
    }
    putchar('\n');
}

static void print_classes(const struct uz_inspect_summary *s)
{
    for (size_t i = 0; i < s->n_classes; i++) {
        const struct uz_named_class *class = &s->classes[i];
        bool foreign = class->origin == UZ_CLASS_FOREIGN;
        label(i ? "" : "classes");
        fputs(foreign ? colour_on(COLOUR_RED) : "", stdout);
        text_print(stdout, class->name);
        printf("  %s, in %s%s%s\n", uz_class_origin_name(class->origin),
               text_count(class->n_files, "file").text,
               foreign ? ": unpickling would import it" : "", foreign ? colour_off() : "");
    }
}

static void print_troubles(const struct uz_inspect_summary *s)
{
    for (size_t i = 0; i < s->n_faults; i++) {
        label("damaged");
        text_print(stdout, s->faults[i].file);
        fputs(": ", stdout);
        text_print(stdout, s->faults[i].message);
        putchar('\n');
    }
    for (size_t i = 0; i < s->n_warnings; i++) {
        label("warning");
        text_print(stdout, s->warnings[i]);
        putchar('\n');
    }
    if (!s->refusal)
        return;
    label("refused");
    fputs(colour_on(COLOUR_YELLOW), stdout);
    fputs(s->kind == UZ_INPUT_ZERO || s->kind == UZ_INPUT_UNIVERSAL ? "consolidate would refuse: "
                                                                    : "no weights are read: ",
          stdout);
    text_print(stdout, s->refusal);
    printf("%s\n", colour_off());
}

static void print_tensors(const struct uz_inspect_summary *s)
{
    printf("\n%s%-8s %-9s %-9s %10s  %-20s %s%s\n", colour_on(COLOUR_BOLD), "kind", "dtype", "lp",
           "size", "shape", "name", colour_off());
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct uz_inspect_tensor *tensor = &s->tensors[i];
        char shape[320];
        text_shape(shape, sizeof shape, tensor->ndim, tensor->shape);
        printf("%-8s %-9s %-9s %10s  %-20s ", uz_stored_kind_name(tensor->kind),
               tensor->dtype ? uz_dtype_name(tensor->dtype) : "-",
               tensor->lp_dtype ? uz_dtype_name(tensor->lp_dtype) : "-",
               tensor->tied_to ? "-" : text_nbytes(tensor->nbytes).text, shape);
        text_print(stdout, tensor->name);
        if (tensor->tied_to) {
            fputs(" = ", stdout);
            text_print(stdout, tensor->tied_to);
        }
        if (tensor->file) {
            fputs("  in ", stdout);
            text_print(stdout, tensor->file);
        }
        putchar('\n');
    }
}

void inspect_text(const char *path, const struct uz_inspect_summary *s, bool tensors)
{
    label("path");
    text_print(stdout, path);
    putchar('\n');
    print_kind(s);
    print_world(s);
    print_optimizer(s);
    print_counts(s);
    print_contents(s);
    print_texts("client state", s->client_keys, s->n_client_keys);
    print_classes(s);
    print_troubles(s);
    if (tensors)
        print_tensors(s);
}
