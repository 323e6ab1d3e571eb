/* SPDX-License-Identifier: Apache-2.0 */
/* What verify found, for people and for machines. */
#include "cli/report_verify.h"

#include "cli/colour.h"
#include "cli/json.h"
#include "cli/text.h"

/* Notes that are listed without --verbose. */
enum { MAX_NOTES = 8 };

static const char *const severities[] = {
    [UZ_SEVERITY_NOTE] = "note",
    [UZ_SEVERITY_WARNING] = "warning",
    [UZ_SEVERITY_ERROR] = "error",
};

/* ---- Text ---- */

static void print_place(const struct uz_finding *f)
{
    if (f->file) {
        fputs("  ", stdout);
        text_print(stdout, f->file);
        if (f->offset != UZ_NO_OFFSET)
            printf(": at byte %llu", (unsigned long long)f->offset);
        putchar('\n');
    }
    if (f->tensor)
        printf("  tensor %s\n", f->tensor);
}

static void print_finding(const struct uz_finding *f)
{
    static const enum colour colours[] = {
        [UZ_SEVERITY_NOTE] = COLOUR_CYAN,
        [UZ_SEVERITY_WARNING] = COLOUR_YELLOW,
        [UZ_SEVERITY_ERROR] = COLOUR_RED,
    };
    printf("%s%s%s %s (%s)", colour_on(colours[f->severity]), severities[f->severity], colour_off(),
           f->code, f->name);
    if (f->dp_rank >= 0)
        printf(", dp rank %lld", (long long)f->dp_rank);
    if (f->mp_rank >= 0)
        printf(", mp rank %lld", (long long)f->mp_rank);
    putchar('\n');
    print_place(f);
    printf("  %s\n", f->message);
    printf("  -> %s\n", f->advice);
}

static void print_findings(const struct report_verify *report)
{
    size_t n_notes = 0;
    for (size_t i = 0; i < report->found->n_findings; i++) {
        const struct uz_finding *f = &report->found->findings[i];
        bool is_note = f->severity == UZ_SEVERITY_NOTE;
        n_notes += is_note;
        if (is_note && (report->quiet || (!report->verbose && n_notes > MAX_NOTES)))
            continue;
        print_finding(f);
    }
    if (!report->quiet && !report->verbose && n_notes > MAX_NOTES)
        printf("%zu more notes (--verbose lists them)\n", n_notes - MAX_NOTES);
}

static void print_manifest(const struct report_verify *report)
{
    const struct uz_verify_report *found = report->found;
    if (report->manifest_mode == UZ_MANIFEST_NONE)
        return;
    fputs("manifest ", stdout);
    text_print(stdout, report->manifest);
    printf(": %s, %s %s\n", text_count(found->n_manifest_tensors, "tensor").text,
           text_count(found->n_manifest_files, "file").text,
           report->manifest_mode == UZ_MANIFEST_WRITE ? "written" : "as it says");
}

static void print_subject(const struct report_verify *report)
{
    static const char *const kinds[] = {
        [UZ_INPUT_UNIVERSAL] = "universal checkpoint",
        [UZ_INPUT_TORCH] = "PyTorch file",
        [UZ_INPUT_SAFETENSORS] = "safetensors file",
        [UZ_INPUT_FOLDER] = "folder of weights",
    };
    const struct uz_verify_report *found = report->found;
    text_print(stdout, report->path);
    if (*found->tag) {
        fputs(": ", stdout);
        text_print(stdout, found->tag);
    }
    if (found->kind != UZ_INPUT_ZERO)
        printf(", %s", kinds[found->kind]);
    if (found->zero_stage >= 0)
        printf(", ZeRO stage %d, %llu data-parallel x %llu model-parallel", found->zero_stage,
               (unsigned long long)found->dp_world_size,
               (unsigned long long)(found->mp_world_size));
    printf(", %s, %s\n", text_count(found->n_files, "file").text,
           text_nbytes(found->file_nbytes).text);
    if (report->data)
        printf("data: %s fit their checksums, %llu values looked at, %llu compared with their "
               "copies\n",
               text_nbytes(found->n_checked_nbytes).text, (unsigned long long)found->n_values,
               (unsigned long long)found->n_compared);
    print_manifest(report);
}

void report_verify_text(const struct report_verify *report)
{
    const struct uz_verify_report *found = report->found;
    print_findings(report);
    if (report->quiet)
        return;
    print_subject(report);
    const char *verdict = !report->sound         ? "NOT sound"
                          : found->fully_checked ? "sound"
                                                 : "sound so far, but not fully checked";
    printf("%s: %s, %s, %s (%s)\n", verdict,
           text_count(found->n_by_severity[UZ_SEVERITY_ERROR], "error").text,
           text_count(found->n_by_severity[UZ_SEVERITY_WARNING], "warning").text,
           text_count(found->n_by_severity[UZ_SEVERITY_NOTE], "note").text,
           text_seconds(report->seconds).text);
}

/* ---- JSON ---- */

static void put_rank(struct json *b, cJSON *to, const char *key, int64_t rank)
{
    if (rank >= 0)
        json_put_number(b, to, key, (uint64_t)rank);
    else
        json_put(b, to, key, cJSON_CreateNull());
}

static cJSON *make_finding(struct json *b, const struct uz_finding *f)
{
    cJSON *item = cJSON_CreateObject();
    json_put_text(b, item, "code", f->code);
    json_put_text(b, item, "name", f->name);
    json_put_text(b, item, "severity", severities[f->severity]);
    json_put_text(b, item, "file", f->file);
    json_put_text(b, item, "tensor", f->tensor);
    put_rank(b, item, "dp_rank", f->dp_rank);
    put_rank(b, item, "mp_rank", f->mp_rank);
    put_rank(b, item, "offset", f->offset > INT64_MAX ? -1 : (int64_t)f->offset);
    json_put_text(b, item, "message", f->message);
    json_put_text(b, item, "advice", f->advice);
    return item;
}

static void put_manifest(struct json *b, cJSON *root, const struct report_verify *report)
{
    cJSON *manifest =
        report->manifest_mode == UZ_MANIFEST_NONE ? cJSON_CreateNull() : cJSON_CreateObject();
    if (report->manifest_mode != UZ_MANIFEST_NONE) {
        json_put_text(b, manifest, "mode",
                      report->manifest_mode == UZ_MANIFEST_WRITE ? "write" : "check");
        json_put_text(b, manifest, "file", report->manifest);
        json_put_number(b, manifest, "tensors", report->found->n_manifest_tensors);
        json_put_number(b, manifest, "files", report->found->n_manifest_files);
    }
    json_put(b, root, "manifest", manifest);
}

static void put_summary(struct json *b, cJSON *root, const struct report_verify *report)
{
    const struct uz_verify_report *found = report->found;
    json_put_text(b, root, "path", report->path);
    json_put_text(b, root, "kind", uz_input_kind_name(found->kind));
    json_put_text(b, root, "tag", *found->tag ? found->tag : NULL);
    json_put_text(b, root, "ds_version", *found->ds_version ? found->ds_version : NULL);
    put_rank(b, root, "zero_stage", found->zero_stage);
    json_put_number(b, root, "dp_world_size", found->dp_world_size);
    json_put_number(b, root, "mp_world_size", found->mp_world_size);
    json_put_number(b, root, "files", found->n_files);
    json_put_number(b, root, "file_bytes", found->file_nbytes);
    json_put_number(b, root, "tensors", found->n_tensors);
    json_put_bool(b, root, "joined", found->joined);
    json_put_bool(b, root, "fully_checked", found->fully_checked);
    json_put_bool(b, root, "data", report->data);
    json_put_number(b, root, "checked_bytes", found->n_checked_nbytes);
    json_put_number(b, root, "values", found->n_values);
    json_put_number(b, root, "compared_values", found->n_compared);
    put_manifest(b, root, report);
    json_put_bool(b, root, "sound", report->sound);
    json_put_number(b, root, "errors", found->n_by_severity[UZ_SEVERITY_ERROR]);
    json_put_number(b, root, "warnings", found->n_by_severity[UZ_SEVERITY_WARNING]);
    json_put_number(b, root, "notes", found->n_by_severity[UZ_SEVERITY_NOTE]);
}

int report_verify_json(const struct report_verify *report)
{
    struct json b = {0};
    cJSON *root = json_start(&b, "verify");
    put_summary(&b, root, report);
    cJSON *findings = cJSON_CreateArray();
    for (size_t i = 0; i < report->found->n_findings; i++)
        json_put(&b, findings, NULL, make_finding(&b, &report->found->findings[i]));
    json_put(&b, root, "findings", findings);
    json_put_real(&b, root, "seconds", report->seconds, 3);
    return json_finish(&b, root);
}

/* ---- GitHub ---- */

/* Text of an annotation: the characters that end or separate its parts are %XX. */
static void print_annotated(const char *text, bool property)
{
    for (const char *p = text; *p; p++)
        if (*p == '%' || *p == '\r' || *p == '\n' || (property && (*p == ':' || *p == ',')))
            printf("%%%02X", (unsigned)(unsigned char)*p);
        else
            putchar(*p);
}

void report_verify_github(const struct report_verify *report)
{
    static const char *const levels[] = {
        [UZ_SEVERITY_NOTE] = "notice",
        [UZ_SEVERITY_WARNING] = "warning",
        [UZ_SEVERITY_ERROR] = "error",
    };
    for (size_t i = 0; i < report->found->n_findings; i++) {
        const struct uz_finding *f = &report->found->findings[i];
        printf("::%s ", levels[f->severity]);
        if (f->file) {
            fputs("file=", stdout);
            print_annotated(f->file, true);
            putchar(',');
        }
        printf("title=%s %s::", f->code, f->name);
        if (f->tensor) {
            print_annotated(f->tensor, false);
            fputs(": ", stdout);
        }
        print_annotated(f->message, false);
        fputs("; ", stdout);
        print_annotated(f->advice, false);
        putchar('\n');
    }
}

/* ---- JUnit ---- */

static void print_xml(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        switch (*p) {
        case '<':
            fputs("&lt;", stdout);
            break;
        case '>':
            fputs("&gt;", stdout);
            break;
        case '&':
            fputs("&amp;", stdout);
            break;
        case '"':
            fputs("&quot;", stdout);
            break;
        default:
            putchar(*p);
        }
}

/* Errors fail, and with --strict warnings do; the others are cases that pass with a word. */
static void print_case(const struct uz_finding *f, bool fails)
{
    printf("    <testcase classname=\"unzero.verify\" name=\"%s %s", f->code, f->name);
    if (f->file) {
        fputs(": ", stdout);
        print_xml(f->file);
    }
    printf("\">\n      <%s%s", fails ? "failure message=\"" : "system-out>", fails ? f->name : "");
    fputs(fails ? "\">" : "", stdout);
    if (f->tensor) {
        print_xml(f->tensor);
        fputs(": ", stdout);
    }
    print_xml(f->message);
    fputs("; ", stdout);
    print_xml(f->advice);
    printf("</%s>\n    </testcase>\n", fails ? "failure" : "system-out");
}

void report_verify_junit(const struct report_verify *report)
{
    const struct uz_verify_report *found = report->found;
    size_t n_failures = found->n_by_severity[UZ_SEVERITY_ERROR];
    bool strict = !report->sound && n_failures == 0;
    if (strict)
        n_failures = found->n_by_severity[UZ_SEVERITY_WARNING];
    printf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
           "  <testsuite name=\"unzero verify\" tests=\"%zu\" failures=\"%zu\" time=\"%.3f\">\n",
           found->n_findings + 1, n_failures + !report->sound, report->seconds);
    printf("    <testcase classname=\"unzero.verify\" name=\"sound\">");
    if (!report->sound)
        printf("<failure message=\"not sound\"/>");
    printf("</testcase>\n");
    for (size_t i = 0; i < found->n_findings; i++)
        print_case(&found->findings[i],
                   found->findings[i].severity == UZ_SEVERITY_ERROR ||
                       (strict && found->findings[i].severity == UZ_SEVERITY_WARNING));
    printf("  </testsuite>\n</testsuites>\n");
}
