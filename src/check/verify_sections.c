/* SPDX-License-Identifier: Apache-2.0 */
/* Lists what is to be read of each file. */
#include "check/verify_sections.h"

#include <stdlib.h>
#include <string.h>

#include "check/verify_spans.h"
#include "layout/split.h"
#include "torch/content.h"
#include "torch/zip.h"

static int add(struct uz_sections *sections, struct uz_section section, const char *name,
               struct uz_error *err)
{
    struct uz_section *slot;
    bool stored = section.packing == UZ_PACKED_STORED;
    UZ_TRY(UZ_APPEND(sections->items, sections->n, sections->cap, &slot, err));
    section.first_job = sections->n_jobs;
    section.n_jobs = stored ? uz_ceil_div(section.nbytes, UZ_SECTION_CHUNK) : 1;
    section.name = NULL;
    if (name)
        section.name = strdup(name);
    *slot = section;
    sections->n_jobs += section.n_jobs;
    sections->nbytes += section.nbytes;
    return name && !section.name ? uz_fail_nomem(err, strlen(name)) : UZ_OK;
}

static int add_zip_entry(struct uz_sections *sections, struct uz_zip *zip, uint64_t index,
                         size_t record, struct uz_error *err)
{
    struct uz_zip_entry entry;
    uint64_t offset;
    UZ_TRY(uz_zip_stat(zip, index, &entry, err));
    UZ_TRY(uz_zip_offset(zip, index, &offset, err));
    if (entry.packed_nbytes == 0)
        return UZ_OK;
    struct uz_section section = {
        .record = record,
        .packing = entry.deflated ? UZ_PACKED_DEFLATE : UZ_PACKED_STORED,
        .storage = entry.deflated ? index : offset,
        .nbytes = entry.packed_nbytes,
        .has_crc = !entry.deflated, /* of a stream, whoever inflates it compares */
        .crc = entry.crc,
    };
    return add(sections, section, uz_zip_name(zip, index), err);
}

/* An entry that cannot be placed is a finding; the others are read. */
static int add_zip(struct uz_sections *sections, struct uz_verify_run *run,
                   struct uz_content *content, size_t record, struct uz_error *err)
{
    struct uz_zip *zip;
    struct uz_error why = {0};
    struct uz_where where = uz_record_where(&run->records[record]);
    if (uz_zip_open(&zip, content, &run->options->input.limits, &why) < 0)
        return uz_find_failure(&run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
    int rc = UZ_OK;
    for (uint64_t i = 0; i < uz_zip_count(zip) && rc == UZ_OK; i++)
        if (add_zip_entry(sections, zip, i, record, &why) < 0)
            rc = uz_find_failure(&run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
    uz_zip_close(zip);
    return rc;
}

/* The older container has no directory: what values were found in is read. */
static int add_storages(struct uz_sections *sections, size_t record, const struct uz_spans *spans,
                        struct uz_error *err)
{
    for (size_t first = 0, end; first < spans->n; first = end) {
        uz_spans_of(spans, spans->items[first].storage, &first, &end);
        struct uz_section section = {
            .record = record,
            .storage = spans->items[first].storage,
            .nbytes = spans->ends[end - 1],
        };
        UZ_TRY(add(sections, section, NULL, err));
    }
    return UZ_OK;
}

static int add_content(struct uz_sections *sections, struct uz_verify_run *run,
                       struct uz_content *content, size_t record, const struct uz_spans *spans,
                       struct uz_error *err)
{
    static const uint8_t zip_magic[] = {'P', 'K', 3, 4};
    uint8_t head[sizeof zip_magic];
    size_t n;
    if (uz_content_is_packed(content)) {
        struct uz_section section = {
            .record = record, .packing = UZ_PACKED_ZSTD, .nbytes = run->records[record].nbytes};
        return add(sections, section, NULL, err);
    }
    UZ_TRY(uz_content_read_some(content, head, sizeof head, 0, &n, err));
    if (n == sizeof head && !memcmp(head, zip_magic, sizeof head))
        return add_zip(sections, run, content, record, err);
    return add_storages(sections, record, spans, err);
}

int uz_sections_add(struct uz_sections *sections, struct uz_verify_run *run, size_t record,
                    const struct uz_spans *spans, struct uz_error *err)
{
    struct uz_content *content;
    struct uz_error why = {0};
    struct uz_where where = uz_record_where(&run->records[record]);
    int rc = uz_content_open(&content, run->records[record].path, &why);
    if (rc < 0)
        return uz_find_failure(&run->findings, UZ_FIND_DAMAGED_FILE, &where, &why, err);
    rc = add_content(sections, run, content, record, spans, err);
    uz_content_close(content);
    return rc;
}

void uz_sections_free(struct uz_sections *sections)
{
    for (size_t i = 0; i < sections->n; i++)
        free(sections->items[i].name);
    free(sections->items);
    *sections = (struct uz_sections){0};
}

struct uz_section *uz_section_of(const struct uz_sections *sections, uint64_t job)
{
    size_t low = 0, high = sections->n;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (sections->items[mid].first_job <= job)
            low = mid;
        else
            high = mid;
    }
    return &sections->items[low];
}
