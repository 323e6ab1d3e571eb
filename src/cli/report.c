/* SPDX-License-Identifier: Apache-2.0 */
/* The summary for people. */
#include "cli/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/text.h"

/* OUT/NAME if there is one file, else the folder. */
static void print_target(const struct uz_consolidate_summary *summary)
{
    size_t n = strlen(summary->out_dir);
    text_print(stdout, summary->out_dir);
    if (summary->n_files == 1) {
        if (n == 0 || summary->out_dir[n - 1] != '/')
            putchar('/');
        text_print(stdout, summary->files[0].name);
    }
}

static void print_files(const struct uz_consolidate_summary *summary)
{
    for (size_t i = 0; i < summary->n_files; i++) {
        const struct uz_output_file *file = &summary->files[i];
        printf("%9s  ", text_nbytes(file->nbytes).text);
        text_print(stdout, file->name);
        if (file->n_tensors > 0)
            printf("  %s", text_count(file->n_tensors, "tensor").text);
        putchar('\n');
    }
}

static void print_tied(const struct uz_consolidate_summary *summary)
{
    for (size_t i = 0; i < summary->n_tied; i++) {
        fputs("  ", stdout);
        text_print(stdout, summary->tied[2 * i]);
        fputs(" is ", stdout);
        text_print(stdout, summary->tied[2 * i + 1]);
        putchar('\n');
    }
}

/* "left out: 3 names, by --include or --exclude", and which. */
static void print_left_out(const struct report *report, enum uz_left_out why, const char *reason)
{
    const struct uz_consolidate_summary *summary = report->summary;
    uint64_t n = 0;
    for (size_t i = 0; i < summary->n_left_out; i++)
        n += summary->left_out[i].why == why;
    if (n == 0)
        return;
    printf("left out: %s%s\n", text_count(n, "name").text, reason);
    for (size_t i = 0; report->verbose && i < summary->n_left_out; i++) {
        if (summary->left_out[i].why != why)
            continue;
        fputs("  ", stdout);
        text_print(stdout, summary->left_out[i].name);
        putchar('\n');
    }
}

static void print_renamed(const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    if (summary->n_renamed == 0)
        return;
    printf("renamed: %s\n", text_count(summary->n_renamed, "name").text);
    for (size_t i = 0; report->verbose && i < summary->n_renamed; i++) {
        fputs("  ", stdout);
        text_print(stdout, summary->renamed[2 * i]);
        fputs(" -> ", stdout);
        text_print(stdout, summary->renamed[2 * i + 1]);
        putchar('\n');
    }
}

static void print_notes(const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    if (summary->n_tied > 0) {
        printf("left out: %s, stored under another name\n",
               text_count(summary->n_tied, "tied name").text);
        if (report->verbose || report->dry_run)
            print_tied(summary);
    }
    print_left_out(report, UZ_LEFT_OUT_FROZEN, " of frozen parameters");
    print_left_out(report, UZ_LEFT_OUT_BY_RULES, ", by --include or --exclude");
    print_left_out(report, UZ_LEFT_OUT_STATELESS, " without that state, as of buffers");
    print_renamed(report);
    if (summary->n_config_left > 0)
        printf("not copied: %s for loaders, such as config.json (--copy-config)\n",
               text_count(summary->n_config_left, "file").text);
    if (summary->n_warnings > 0)
        printf("%s\n", text_count(summary->n_warnings, "warning").text);
}

/* "out/model.safetensors: 12 tensors" or "out: 3 files, 12 tensors" */
static void print_result(const struct uz_consolidate_summary *summary)
{
    print_target(summary);
    fputs(": ", stdout);
    if (summary->n_files > 1)
        printf("%s, ", text_count(summary->n_files, "file").text);
    fputs(text_count(summary->n_tensors, "tensor").text, stdout);
}

static void print_dry_run(const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    fputs("would write ", stdout);
    print_result(summary);
    printf(", %s, %s (%" PRIu64 " bytes)\n", report->dtype, text_nbytes(summary->file_nbytes).text,
           summary->file_nbytes);
    print_files(summary);
    printf("memory: at most %s, %s\n", text_nbytes(summary->memory_nbytes).text,
           text_count(summary->threads, "thread").text);
    print_notes(report);
}

void report_text(const struct report *report)
{
    const struct uz_consolidate_summary *summary = report->summary;
    if (report->dry_run) {
        print_dry_run(report);
        return;
    }
    print_result(summary);
    printf(", %s in %s (%s)\n", text_nbytes(summary->file_nbytes).text,
           text_seconds(report->seconds).text,
           text_rate(summary->file_nbytes, report->seconds).text);
    if (report->verbose)
        print_files(summary);
    print_notes(report);
}
